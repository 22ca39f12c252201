"""The records of a comparison's arms: which are finished, and the sums of their speakers."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.evaluation import scoring
from core.registry.comparison import RecipeSet

# A speaker's sums. Of nets of phonemes the greedy errors are phonemes, and words are counted over
# the decoding graph as well.
LOSS, FRAMES, ERRORS, WORDS, GRAPH_ERRORS, GRAPH_WORDS = range(6)


def rates(record: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """{name: (errors, what they are divided by)} that a record has, the primary one first."""
    (sums, *_) = next(iter(record["sizes"].values()))["speakers"].values()
    if len(sums) <= GRAPH_WORDS:
        return {"WER": (ERRORS, WORDS)}
    return {"WER": (GRAPH_ERRORS, GRAPH_WORDS), "PER": (ERRORS, WORDS)}


def primary(record: dict[str, Any]) -> tuple[int, int]:
    """Where a record's word errors and words stand, on which claims are decided."""
    return rates(record)["WER"]


def finished(recipe_set: RecipeSet) -> dict[str, list[dict[str, Any]]]:
    """{arm: its records, one a seed}, of the arms that are finished."""
    records = {
        arm.name: [recipe_set.current(arm.name, s) for s in recipe_set.seeds]
        for arm in recipe_set.arms
    }
    return {name: trainings for name, trainings in records.items() if all(trainings)}


def sizes_of(trainings: list[dict[str, Any]]) -> list[str]:
    """The columns that an arm has for every seed: a budget may be too small for all sizes of a
    training.
    """
    return [c for c in trainings[0]["sizes"] if all(c in r["sizes"] for r in trainings)]


def noise(whole: dict[str, list[dict[str, Any]]], size: str, part: int) -> tuple[float, int] | None:
    """What trainings of a size differ by, beside arm and seed, from all arms that have it; None
    where there is but one seed or arm.
    """
    totals = np.array(
        [
            [total(r, size, part) for r in trainings]
            for trainings in whole.values()
            if size in sizes_of(trainings)
        ]
    )
    return scoring.seed_noise(totals) if min(totals.shape) > 1 else None


def by_person(
    trainings: list[dict[str, Any]],
    reference: list[dict[str, Any]],
    size: str,
    part: int,
    base: int,
    local: str = "",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums [S, P] of S seeds and P speakers of both sides, and what they are divided by [P]; of the
    size `local` of the first side.
    """
    people = sorted(reference[0]["sizes"][size]["speakers"])
    ours, theirs = (
        np.array([[r["sizes"][column]["speakers"][p][part] for p in people] for r in side])
        for side, column in ((trainings, local or size), (reference, size))
    )
    return (
        ours,
        theirs,
        np.array([reference[0]["sizes"][size]["speakers"][p][base] for p in people]),
    )


def total(record: dict[str, Any], size: str, part: int) -> float:
    return float(sum(four[part] for four in record["sizes"][size]["speakers"].values()))
