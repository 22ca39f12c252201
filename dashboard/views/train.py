"""Train: start a training from a preset or a recipe, and see all jobs with their stages, curves and
logs below; what runs stands above.
"""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from core.common import libraries
from core.jobs import visitors
from core.records import as_dict
from core.registry import recipes
from dashboard import visit
from dashboard.components import board, forms, recipe_form, starts, trials
from dashboard.markdown import escape

TITLE = "Train"
ICON = ":material/school:"
ORDER = 40
SUMMARY = {"corpus": "speech:", "model": "network:", "method": "method:"}
STARTED = "started"  # in the session: what the last Start said


def queue(recipe: dict[str, Any], where: dict[str, Any]) -> None:
    """Check the whole recipe once more from its cards, put it into the queue, wake a worker."""
    try:
        checked = recipes.recipe_from(recipe)
        number = visitors.add(visit.visitor(), "train", {"recipe": as_dict(checked)}, **where)
    except (ValueError, OSError) as problem:
        st.error(f"Not started: {escape(problem)}")
        return
    said = f"Job {number} is in the queue. It continues when you close this page."
    try:
        visitors.wake_worker(visit.visitor())
        st.session_state[board.WOKEN] = time.time()
    except OSError as problem:
        said = (
            f"Job {number} waits, because no worker could be started ({problem}). Start one in a"
            " terminal: python -m core.jobs.worker"
        )
    st.session_state[STARTED] = said
    st.session_state.pop(starts.RETRY, None)
    st.rerun()


def chosen_preset() -> None:
    """A click on a preset chooses its recipe."""
    if name := starts.presets().get(st.session_state.get("preset") or ""):
        st.session_state["start"] = starts.line_of_recipe(name)


def chosen_start() -> None:
    """Another choice in the menu takes the mark from the presets, or gives it to one."""
    by_line = {starts.line_of_recipe(name): preset for preset, name in starts.presets().items()}
    st.session_state["preset"] = by_line.get(st.session_state.get("start"))


def pick() -> tuple[str, str]:
    """(kind, name) of what the form starts from: a preset, or a line of the menu."""
    offered, presets = starts.choices(), starts.presets()
    retry = st.session_state.get(starts.RETRY)
    if retry and st.session_state.get("retried") != retry:
        st.session_state["retried"] = retry
        st.session_state["start"] = f"Job {retry}, which failed"
    if st.session_state.get("start") not in offered:
        st.session_state["start"] = next(iter(offered))
    chosen_start()
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    left.pills("Preset", list(presets), key="preset", on_change=chosen_preset)
    line = right.selectbox(
        "Start from",
        list(offered),
        key="start",
        format_func=lambda line: starts.line_of(line, *offered[line]),
        help="A recipe is a saved set of choices. You can change everything under Advanced.",
    )
    return offered[line]


def form() -> None:
    """Preset or recipe, Start with the time it takes, and everything else under Advanced."""
    kind, name = pick()
    start, error = starts.begin(kind, name), starts.error_of(kind, name)
    top = st.container()
    with st.expander("Advanced", icon=":material/tune:", expanded=kind in ("job", "scratch")):
        if error:
            st.error(f"It failed: {escape(error)}")
        recipe_form.broken()
        recipe, problems = recipe_form.Form(start, f"train.{kind}.{name}", error).recipe()
        where, wrong = recipe_form.place()
        problems += wrong
        if where["runner"] == "local" and (lacking := libraries.lacking("torch")):
            problems.append(lacking)
        file(recipe, bool(problems))
    with top:
        launch(recipe, where, problems, name if kind == "recipe" else "")


def launch(recipe: dict[str, Any], where: dict[str, Any], problems: list[str], name: str) -> None:
    """What would be trained, how long it takes, and the button that starts it; `name` of the recipe
    of the project that the form starts from, or "".
    """
    what = ", ".join(f"{word} {recipe[field]['name']}" for field, word in SUMMARY.items())
    st.markdown(f"**{escape(recipe['title'] or 'Untitled')}**")
    if about := recipes.about(name) if name else "":
        st.markdown(escape(about))
    st.caption(escape(what))
    missing = starts.missing(name) if name else ""
    if missing:
        st.warning(escape(missing), icon=":material/folder_off:")
    if problems:
        st.error(
            "Not ready to start:\n\n" + "\n".join(f"- {escape(problem)}" for problem in problems)
        )
    agreed = (
        not missing or starts.blocks(name) or st.checkbox("Download it, then train", key="download")
    )
    allowed = visit.may(visit.JOBS) and agreed
    left, right = st.columns([1, 2], vertical_alignment="center")
    pressed = left.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        disabled=bool(problems) or not allowed,
        key="go",
    )
    with right:
        if not problems and where["runner"] == "local":
            trials.show(recipe, where["device"])
    if pressed:
        queue(recipe, where)


def file(recipe: dict[str, Any], wrong: bool) -> None:
    """The recipe as text, to save."""
    st.subheader("The recipe as a file")
    st.caption(
        "The same training in a terminal: save this file and run `python -m core train"
        " recipe.toml`."
    )
    written = forms.toml(recipe)
    st.code(written, language=None)  # its colors have a contrast below 4.5
    st.download_button(
        "Recipe (.toml)",
        written,
        "recipe.toml",
        "application/toml",
        on_click="ignore",
        icon=":material/download:",
        disabled=wrong,
    )


def main() -> None:
    st.title("Train")
    if said := st.session_state.pop(STARTED, ""):
        st.success(escape(said), icon=":material/check_circle:")
    if board.unfinished():
        st.subheader("Start another training")
    else:
        st.markdown(
            "Train a model of your own: pick a preset and press Start. It runs in the background,"
            " also after you close this page."
        )
    form()
    board.ended()


main()
