"""Data hygiene of every recipe that ships and of every released run: what may not be trained on,
and how much of what may.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from core import paths
from core.registry import recipes
from core.storage import store

ARCTIC, MOST_ARCTIC = "cmu_arctic", 0.15  # one text, two voices: the largest part of an epoch
HELD_OUT = {
    "train-clean-100-part": 20,
    "train-clean-5": 3,
}  # speakers of each folder, for searches and tuning
SHARE_ALIKE = "fsdd"  # CC BY-SA: measured, never in released weights
RECIPES = [(name, lambda name=name: recipes.load_recipe(name)) for name in recipes.recipe_names()]
RELEASED = [
    (file.parent.name, lambda run=file.parent: store.recipe(run))
    for file in sorted(paths.RELEASED.glob(f"*/{paths.RECIPE}"))
]


def trained_on(corpus: str, options: dict[str, Any]) -> list[str]:
    """Everything that a corpus of these options would train on: the strings in its `train`
    lists.
    """
    if corpus == "mixture":
        return [
            file
            for part in options["parts"]
            for file in trained_on(part["corpus"], part.get("options", {}))
        ]
    given = options.get("train", [])
    return [given] if isinstance(given, str) else [str(file) for file in given]


def problems(recipe) -> list[str]:
    """What is wrong with a recipe's speech, in words."""
    name, options, shares = (
        recipe.corpus.name,
        recipe.corpus.options,
        recipe.training.get("shares", {}),
    )
    found = [f"trains on {file}" for file in trained_on(name, options) if SHARE_ALIKE in file]
    parts = options["parts"] if name == "mixture" else [{"corpus": name, "options": options}]
    for part in parts:
        if any(ARCTIC in file for file in trained_on(part["corpus"], part.get("options", {}))):
            prefix = part.get("prefix") or part["corpus"]
            share = shares.get(prefix, part.get("share", 1.0))
            found += [f"{prefix} may be {share:.0%} of an epoch"] if share > MOST_ARCTIC else []
        if part["corpus"] == "librispeech" and "$SPEECH_ROOT" in part["options"].get("root", ""):
            held, folders = (
                part["options"].get("search_speakers", {}),
                part["options"].get("train", []),
            )
            wanted = {folder: count for folder, count in HELD_OUT.items() if folder in folders}
            found += [] if held == wanted and held else [f"search_speakers is {held}"]
    return found


@pytest.mark.parametrize(
    ("name", "load"), RECIPES + RELEASED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_speech_of_recipes_and_released_runs(name, load):
    assert problems(load()) == []


def test_released_weights_owe_nothing_to_share_alike_speech():
    chains = sorted(paths.RELEASED.glob("*/chain.json"))
    assert RELEASED and len(chains) == len(RELEASED)
    for file in chains:
        for stage in json.loads(file.read_text())["stages"]:
            told = [corpus for corpus, _ in stage["attributions"]]
            assert told and not [
                corpus for corpus in told if SHARE_ALIKE in corpus and "measured only" not in corpus
            ], stage["run"]


@pytest.mark.parametrize(
    ("setting", "new", "words"),
    [
        ("cmu_arctic = 0.08", "cmu_arctic = 0.2", "cmu_arctic may be 20% of an epoch"),
        ("cmu_arctic.train", "fsdd.train", "trains on "),
        ("train-clean-5 = 3", "train-clean-5 = 2", "search_speakers is"),
    ],
)
def test_a_breach_would_be_seen(setting, new, words, tmp_path):
    text = (paths.RECIPES / "commands_and_books.toml").read_text()
    assert setting in text
    (tmp_path / "bad.toml").write_text(text.replace(setting, new))
    assert any(words in said for said in problems(recipes.load_recipe(str(tmp_path / "bad.toml"))))
