"""Train: a form made from what the plug-ins say about themselves; it ends in a recipe that waits in
the queue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from core.jobs import visitors
from core.records import as_dict
from core.registry import catalog, recipes
from core.registry.cards import Card
from dashboard import data, visit
from dashboard.components import forms, links, starts
from dashboard.markdown import escape

TITLE = "Train"
ICON = ":material/school:"
ORDER = 40
PARTS = {  # field of a recipe: (heading, what it decides, what a new form starts with)
    "corpus": (
        "Speech",
        "The recordings and their words that the model learns from.",
        "voice_commands",
    ),
    "model": ("Network", "The kind of model and its dimensions.", "conformer_ctc"),
    "method": ("Way of training", "How the model learns to work at every size.", "omni_sparsity"),
}
DEVICES = {"": "a GPU where there is one", "cpu": "processors", "cuda": "a GPU"}
TABLES = {
    "training": ("Training", "How long, how fast, how much at once."),
    "tokens": ("Word pieces", "The units of text the model writes."),
    "features": ("Sound features", "What the model sees of the sound."),
    "search": ("Search for good sizes", "How the sparsity is spread over the layers."),
    "evaluation": ("Measuring", "What is measured after training."),
}


def part(field: str, start: dict[str, Any], key: str) -> tuple[dict[str, Any], list[str]]:
    """Picker and options of one choice of the recipe; its table and what is wrong in it."""
    heading, about, usual = PARTS[field]
    cards = {card.name: card for card in catalog.cards(recipes.ROOM_OF[field]) if not card.broken}
    st.subheader(heading)
    st.caption(about)
    if not cards:
        return {"name": "", "options": {}}, [f"{field}: no plug-in of this kind can be read"]
    given = start.get(
        field, {"name": usual if usual in cards else next(iter(cards)), "options": {}}
    )
    names = list(cards)
    if given["name"] not in cards:
        st.warning(
            f"This start wants “{escape(given['name'])}”, which is not here or broken; another one"
            " is shown."
        )
    index = names.index(given["name"]) if given["name"] in names else 0
    name = st.selectbox(
        heading, names, index=index, key=f"{key}.{field}", label_visibility="collapsed"
    )
    st.caption(escape(cards[name].title))
    options = given["options"] if name == given["name"] else {}
    values, problems = options_of(cards[name], options, f"{field}.options", f"{key}.{field}.{name}")
    return {"name": name, "options": values}, problems


def options_of(
    card: Card, given: dict[str, Any], where: str, key: str
) -> tuple[dict[str, Any], list[str]]:
    if not card.options and not given:
        st.caption("It has no options.")
        return {}, []
    changed = f", {len(given)} set by the start" if given else ""
    number = f"{len(card.options)} option{'s' if len(card.options) != 1 else ''}"
    with st.expander(number + changed, icon=":material/tune:"):
        return forms.fill(card, given, where, key)


def settings(start: dict[str, Any], key: str) -> tuple[dict[str, Any], list[str]]:
    """The recipe's settings tables, each folded away."""
    cards = {card.name: card for card in catalog.cards("settings")}
    tables, problems = {}, []
    st.subheader("Settings")
    st.caption("Everything has a sensible start. Open only what you want to change.")
    for field, (heading, about) in TABLES.items():
        card, given = cards.get(recipes.CARD_OF[field]), start.get(field, {})
        if card is None or card.broken or (not card.options and not given):
            tables[field] = given
            continue
        with st.expander(heading + (f" ({len(given)} set by the start)" if given else "")):
            st.caption(about)
            tables[field], wrong = forms.fill(card, given, field, f"{key}.{field}")
            problems += wrong
    return tables, problems


def plain(start: dict[str, Any], key: str) -> dict[str, Any]:
    """Title, seed and the run to continue from."""
    left, middle, right = st.columns([2, 1, 2])
    title = left.text_input(
        "Title", start.get("title", ""), key=f"{key}.title", help="For people; it changes nothing."
    )
    seed = middle.number_input(
        "Seed",
        0,
        forms.LARGEST,
        int(start.get("seed", 1)),
        step=1,
        key=f"{key}.seed",
        help=(
            "Same seed, same recipe, same machine: the same model. Another seed: a fresh "
            "roll of the dice."
        ),
    )
    runs = ["", *data.run_ids()]
    before = start.get("init_from", "")
    runs += [before] if before not in runs else []
    init = right.selectbox(
        "Continue from",
        runs,
        index=runs.index(before),
        key=f"{key}.init_from",
        format_func=lambda run: run or "nothing: start fresh",
        help="A finished run whose weights this training begins with.",
    )
    return {"title": title, "seed": int(seed), "init_from": init}


def broken() -> None:
    """Plug-in files that cannot be read, with the reason; they hide nothing else."""
    rooms = [*recipes.ROOM_OF.values(), "settings"]
    bad = [card for room in rooms for card in catalog.cards(room) if card.broken]
    if bad:
        with st.expander(
            f"{len(bad)} file{'s' if len(bad) > 1 else ''} could not be read",
            icon=":material/warning:",
        ):
            for card in bad:
                st.markdown(
                    f"**{escape(card.room)}/{escape(card.name)}.py**: {escape(card.broken)}"
                )


def place() -> tuple[dict[str, Any], list[str]]:
    """Which runner, with its options, and on which device of this machine; and what is wrong in
    them.
    """
    cards = {card.name: card for card in catalog.cards("runners") if not card.broken}
    st.subheader("Where it runs")
    st.caption("On this machine, or on machines that were joined to a cluster.")
    left, right = st.columns(2)
    names = sorted(cards, key=lambda name: (name != "local", name))
    name = left.selectbox("Runner", names, key="runner")
    device = (
        right.selectbox("Device", list(DEVICES), key="device", format_func=DEVICES.get)
        if name == "local"
        else ""
    )
    st.caption(escape(cards[name].title))
    if name == "local":
        values, problems = options_of(cards[name], {}, "runner", f"runner.{name}")
        return {"runner": name, "settings": values, "device": device}, problems
    known = visit.clusters()
    cluster = st.selectbox("Cluster", known, key=f"runner.{name}.cluster") if known else ""
    limited = tuple(option for option in cards[name].options if option.name in visitors.LIMITED)
    values, problems = options_of(
        replace(cards[name], options=limited), {}, "runner", f"runner.{name}"
    )
    if not known:
        problems = [
            *problems,
            (
                "runner: no cluster is named on this server; its operator names one in server.toml"
                " ([clusters.NAME] with address and storage), or sets RAY_API_SERVER_ADDRESS and"
                " SUPERNET_STORAGE"
            ),
        ]
    return {"runner": name, "settings": values, "cluster": cluster}, problems


def queue(recipe: dict[str, Any], where: dict[str, Any]) -> None:
    """Check the whole recipe once more from its cards, put it into the queue, wake a worker."""
    try:
        checked = recipes.recipe_from(recipe)
        number = visitors.add(visit.visitor(), "train", {"recipe": as_dict(checked)}, **where)
    except (ValueError, OSError) as problem:
        st.error(f"Not started: {escape(problem)}")
        return
    st.success(
        f"Job {number} is in the queue. It goes on when you close this page.",
        icon=":material/check_circle:",
    )
    try:
        visitors.wake_worker(visit.visitor())
    except OSError as problem:
        st.warning(
            f"The job waits, because no worker could be started ({escape(problem)}). "
            "Start one in a terminal: `python -m core.jobs.worker`."
        )
    links.to_page("jobs", "Watch it on Jobs", ":material/monitoring:")


def main() -> None:
    st.title("Train")
    st.markdown(
        "Train a model of your own. Pick the speech it learns from and how, press start, and watch"
        " it on Jobs: it runs in the background, also after you close this page."
    )
    offered = starts.choices()
    picked = st.selectbox(
        "Start from",
        list(offered),
        key="start",
        format_func=lambda line: starts.line_of(line, *offered[line]),
        help="A recipe is a saved set of choices. You can change everything below.",
    )
    kind, name = offered[picked]
    start, key = starts.begin(kind, name), f"train.{kind}.{name}"
    broken()
    recipe: dict[str, Any] = {}
    problems: list[str] = []
    for field in PARTS:
        recipe[field], wrong = part(field, start, key)
        problems += wrong
    tables, wrong = settings(start, key)
    problems += wrong
    recipe = {**plain(start, key), **recipe, **tables}
    where, wrong = place()
    problems += wrong
    st.divider()
    if problems:
        st.error(
            "Not ready to start:\n\n" + "\n".join(f"- {escape(problem)}" for problem in problems)
        )
    allowed = visit.may(visit.JOBS)
    if st.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        disabled=bool(problems) or not allowed,
        key="go",
    ):
        queue(recipe, where)
    with st.expander("The recipe as a file", icon=":material/description:"):
        st.caption(
            "The same training in a terminal: save this file and run `python -m core train"
            " recipe.toml`."
        )
        written = forms.toml(recipe)
        st.code(written, language="toml")
        st.download_button(
            "Recipe (.toml)",
            written,
            "recipe.toml",
            "application/toml",
            on_click="ignore",
            icon=":material/download:",
            disabled=bool(problems),
        )


main()
