"""What the form of the Train page can start from: presets, recipes, an empty form, the recipe of a
run or of a job that failed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import streamlit as st

from core.jobs import queue
from core.records import Recipe, as_dict
from core.registry import catalog, recipes
from core.storage import store
from dashboard.components.job_access import visible
from dashboard.components.job_words import reason
from dashboard.look import once
from dashboard.markdown import escape

SCRATCH = "An empty form"
RETRY = "retry"  # in the session: number of the job whose settings are to be mended
WHERE_THEY_GO = (
    "Put them into one folder, name it with the environment variable SPEECH_ROOT and start the"
    " dashboard again (core/README.md says what lies where)"
)
FILES = (".txt", ".jsonl", ".csv", ".tsv", ".arpa")  # a text of a recipe that ends so is a file


def choices() -> dict[str, tuple[str, str]]:
    """{line in the list: (kind, name)} of everything a form can start from; presets first, so that
    Start works.
    """
    first = list(presets().values())
    names = sorted(recipes.recipe_names(), key=lambda n: (first.index(n) if n in first else 99, n))
    lines = {line_of_recipe(name): ("recipe", name) for name in names}
    lines |= {SCRATCH: ("scratch", "")}
    if job := st.session_state.get(RETRY):
        lines |= {f"Job {job}, which failed": ("job", str(job))}
    return lines | {
        f"As run: {info.title} ({info.id})": ("run", info.id)
        for info in store.runs()
        if info.recipe
    }


def presets() -> dict[str, str]:
    """{preset: recipe}, read once for each time the page is drawn."""
    return once("presets", recipes.presets)


def line_of_recipe(name: str) -> str:
    return f"Recipe: {name}"


@st.cache_data(show_spinner=False)
def _recipe(name: str) -> Recipe | None:
    try:
        return recipes.load_recipe(name)
    except ValueError:
        return None


def missing(name: str) -> str:
    """What a recipe's speech lacks here and what to do, as a sentence; "" when all is there."""
    if (recipe := _recipe(name)) is None:
        return ""
    full = catalog.defaults(catalog.card("corpora", recipe.corpus.name)) | recipe.corpus.options
    if full.get("download") and not Path(str(full.get("root", ""))).exists():
        return f"Its recordings are downloaded first, into {full['root']}: tens of gigabytes."
    absent = not_here(full)
    if not absent:
        return ""
    if any("$SPEECH_ROOT" in text for text in absent):
        return f"Its recordings are not here. {WHERE_THEY_GO}; first missing: {absent[0]}"
    return f"Its file {absent[0]} is not here: make it, or name another one under Advanced."


def not_here(options: dict[str, Any]) -> list[str]:
    """The files and folders of recordings that a corpus's options name and that are not there."""
    return [text for text in _files(options) if not Path(os.path.expandvars(text)).exists()]


def blocks(name: str) -> bool:
    """Whether a training of this recipe would fail for what is missing."""
    return missing(name).startswith(("Its recordings are not", "Its file"))


def _files(value: Any) -> Iterator[str]:
    """All texts in a recipe's options that name files or folders of recordings."""
    if isinstance(value, str):
        if value.startswith("$SPEECH_ROOT") or value.endswith(FILES):
            yield value
    elif isinstance(value, dict):
        for nested in value.values():
            yield from _files(nested)
    elif isinstance(value, (list, tuple)):
        for nested in value:
            yield from _files(nested)


def line_of(line: str, kind: str, name: str) -> str:
    """A line of the menu; a recipe whose recordings are missing says so."""
    if kind != "recipe" or not missing(name):
        return line
    return f"{line} · {'its recordings are not here' if blocks(name) else 'downloads first'}"


def begin(kind: str, name: str) -> dict[str, Any]:
    """The recipe a form starts from as plain tables; a damaged one is reported and an empty one
    comes.
    """
    try:
        if kind == "recipe":
            return as_dict(recipes.load_recipe(name))
        if kind == "run":
            return as_dict(recipes.recipe_from(store.recipe(name)))
        if kind == "job":
            return _of_job(int(name))
    except (ValueError, OSError) as problem:
        st.warning(f"This start cannot be read, so the form is empty: {escape(problem)}")
    return {}


def _of_job(number: int) -> dict[str, Any]:
    """The recipe that a job brought, also one that is wrong: that is what the form is for."""
    job = queue.get(number)
    recipe = job.payload.get("recipe")
    if not visible(job) or not isinstance(recipe, dict):
        raise ValueError(f"job {number} brings no recipe that can be shown here")
    return recipe


def error_of(kind: str, name: str) -> str:
    """Why the job that a form starts from failed; "" of other starts."""
    if kind != "job":
        return ""
    try:
        job = queue.get(int(name))
    except (ValueError, OSError):
        return ""
    return reason(job) if visible(job) else ""
