"""Test sets and streaming modes as menus call them; charts' hovers have the full condition."""

from __future__ import annotations

import re

import pandas as pd

from dashboard import data
from dashboard.measurements import CONDITION

NAMES = {
    "librispeech/test-clean": "Read books (test-clean)",
    "librispeech-noisy/test-clean-noisy": "Read books with noise",
    "speech_commands/strings": "Command words, human voices",
    "voice_commands/test": "Spoken commands, synthetic voices",
}

HASH = re.compile(r" [0-9a-f]{8}\b")  # of a language model's content: the hover has it
YOURS = "yours/"  # core/data/test_sets.py


def name(split: str) -> str:
    """A test set in a person's words; its own name where none is known."""
    if split.startswith(YOURS):
        return f"Yours: {split.removeprefix(YOURS)}"
    return NAMES.get(split, split)


def mode(condition: tuple) -> str:
    """A condition (values of data.CONDITION without the test set) in a few words."""
    chunk, _, _, decoder, model, _, precision, engine = condition
    words = ["whole recording" if chunk == 0 else f"streaming, {chunk:g} ms chunks"]
    known = "" if model in ("", "none") else HASH.sub("", model.split(",")[0])
    words.append(f"with {known}" if known and decoder == "graph" else decoder)
    if known and decoder != "graph":
        words.append(f"with {known}")
    if engine != "torch" or precision != "fp32":
        words.append(precision if engine == "torch" else f"engine {engine} {precision}")
    return ", ".join(words)


def to_compare(points: pd.DataFrame) -> list[tuple[str, tuple]]:
    """(test set, condition) of the points, the one to open a comparison on first: the run that is
    measured most is there beside as many others as can be, or, where it is always alone, most runs
    are; of equals the test set that Explore opens for that run, then the one with more sizes.
    """
    most = points["run"].value_counts().idxmax()
    first = data.default_split(most)

    def rank(item: tuple) -> tuple:
        (split, *_), runs = item
        here, many = most in set(runs), runs.nunique()
        return not (here and many > 1), -many, not here, split != first, -len(runs), split

    groups = points.groupby(list(CONDITION), dropna=False)["run"]
    return [(key[0], key[1:]) for key, _ in sorted(groups, key=rank)]
