"""What the form of the Train page can start from: recipes, an empty form, the recipe of a run."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st

from core.records import as_dict
from core.registry import recipes
from core.storage import store
from dashboard.markdown import escape

SCRATCH = "An empty form"
WITHOUT_DATA = "voice_commands"  # the recipe that needs no recordings: first, so that Start works


def choices() -> dict[str, tuple[str, str]]:
    """{line in the list: (kind, name)} of everything a form can start from."""
    names = sorted(recipes.recipe_names(), key=lambda name: (name != WITHOUT_DATA, name))
    lines = {f"Recipe: {name}": ("recipe", name) for name in names}
    lines |= {SCRATCH: ("scratch", "")}
    return lines | {
        f"As run: {info.title} ({info.id})": ("run", info.id)
        for info in store.runs()
        if info.recipe
    }


@st.cache_data(show_spinner=False)
def needs_recordings(name: str) -> bool:
    """Whether a recipe names the folder of recordings, $SPEECH_ROOT."""
    try:
        return "$SPEECH_ROOT" in str(as_dict(recipes.load_recipe(name)))
    except ValueError:
        return False


def line_of(line: str, kind: str, name: str) -> str:
    """A line of the menu; a recipe whose recordings are missing says so."""
    missing = kind == "recipe" and "SPEECH_ROOT" not in os.environ and needs_recordings(name)
    return f"{line} · its recordings are not here" if missing else line


def begin(kind: str, name: str) -> dict[str, Any]:
    """The recipe a form starts from as plain tables; a damaged one is reported and an empty one
    comes.
    """
    try:
        if kind == "recipe":
            return as_dict(recipes.load_recipe(name))
        if kind == "run":
            return as_dict(recipes.recipe_from(store.recipe(name)))
    except ValueError as problem:
        st.warning(f"This start cannot be read, so the form is empty: {escape(problem)}")
    return {}
