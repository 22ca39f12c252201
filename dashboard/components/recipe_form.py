"""The form of a recipe, made from what the plug-ins say about themselves: choices with their
options, settings, where it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from core.jobs import visitors
from core.registry import catalog, recipes
from core.registry.cards import Card
from dashboard import data, visit
from dashboard.components import forms
from dashboard.markdown import escape

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


@dataclass(frozen=True)
class Form:
    """One form: the recipe it starts from, the beginning of its widgets' keys, and the error that a
    job of this recipe ended with.
    """

    start: dict[str, Any]
    key: str
    error: str = ""

    def recipe(self) -> tuple[dict[str, Any], list[str]]:
        """All widgets; the recipe as they are set and what is wrong in it."""
        chosen: dict[str, Any] = {}
        problems: list[str] = []
        for field in PARTS:
            chosen[field], wrong = self.part(field)
            problems += wrong
        tables, wrong = self.settings()
        recipe, problems = {**self.plain(), **chosen, **tables}, problems + wrong
        if not problems:
            try:
                recipes.recipe_from(recipe)
            except ValueError as error:
                problems.append(str(error))
        return recipe, problems

    def part(self, field: str) -> tuple[dict[str, Any], list[str]]:
        """Picker and options of one choice of the recipe; its table and what is wrong in it."""
        heading, about, usual = PARTS[field]
        room = catalog.cards(recipes.ROOM_OF[field])
        cards = {card.name: card for card in room if not card.broken}
        st.subheader(heading)
        st.caption(about)
        if not cards:
            return {"name": "", "options": {}}, [f"{field}: no plug-in of this kind can be read"]
        first = usual if usual in cards else next(iter(cards))
        given = self.start.get(field, {"name": first, "options": {}})
        names = list(cards)
        if given["name"] not in cards:
            st.warning(
                f"This start wants “{escape(given['name'])}”, which is not here or broken; another"
                " one is shown."
            )
        index = names.index(given["name"]) if given["name"] in names else 0
        name = st.selectbox(
            heading, names, index=index, key=f"{self.key}.{field}", label_visibility="collapsed"
        )
        st.caption(escape(cards[name].title))
        options = given.get("options", {}) if name == given["name"] else {}
        where, key = f"{field}.options", f"{self.key}.{field}.{name}"
        values, problems = options_of(cards[name], options, where, key, self.error)
        return {"name": name, "options": values}, problems

    def settings(self) -> tuple[dict[str, Any], list[str]]:
        """The recipe's settings tables, each folded away."""
        cards = {card.name: card for card in catalog.cards("settings")}
        tables: dict[str, Any] = {}
        problems: list[str] = []
        st.subheader("Settings")
        st.caption("Everything has a sensible start. Open only what you want to change.")
        for field, (heading, about) in TABLES.items():
            card, given = cards.get(recipes.CARD_OF[field]), self.start.get(field, {})
            if card is None or card.broken or (not card.options and not given):
                tables[field] = given
                continue
            title = heading + (f" ({len(given)} set by the start)" if given else "")
            with st.expander(title, expanded=forms.blamed(card, field, self.error)):
                st.caption(about)
                tables[field], wrong = forms.fill(
                    card, given, field, f"{self.key}.{field}", self.error
                )
                problems += wrong
        return tables, problems

    def plain(self) -> dict[str, Any]:
        """Title, seed and the run to continue from."""
        left, middle, right = st.columns([2, 1, 2])
        title = left.text_input(
            "Title",
            self.start.get("title", ""),
            key=f"{self.key}.title",
            help="For people; it changes nothing.",
        )
        seed = middle.number_input(
            "Seed",
            value=int(self.start.get("seed", 1)),
            step=1,
            key=f"{self.key}.seed",
            help=(
                "Same seed, same recipe, same machine: the same model. Another seed: a fresh "
                "roll of the dice."
            ),
        )
        runs = ["", *data.run_ids()]
        before = self.start.get("init_from", "")
        runs += [before] if before not in runs else []
        init = right.selectbox(
            "Continue from",
            runs,
            index=runs.index(before),
            key=f"{self.key}.init_from",
            format_func=lambda run: run or "nothing: start fresh",
            help="A finished run whose weights this training begins with.",
        )
        return {"title": title, "seed": 1 if seed is None else int(seed), "init_from": init}


def options_of(
    card: Card, given: dict[str, Any], where: str, key: str, error: str = ""
) -> tuple[dict[str, Any], list[str]]:
    if not card.options and not given:
        st.caption("It has no options.")
        return {}, []
    changed = f", {len(given)} set by the start" if given else ""
    number = f"{len(card.options)} option{'s' if len(card.options) != 1 else ''}"
    shown = forms.blamed(card, where, error)
    with st.expander(number + changed, icon=":material/tune:", expanded=shown):
        return forms.fill(card, given, where, key, error)


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
