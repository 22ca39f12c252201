"""The claims of all recipe sets, each confirmed, refuted or undecided with its number; from the
arms' records alone.

A claim "better" is confirmed when the arm makes fewer errors, "on par" when it makes at most 3 %
more of them, and refuted when the opposite holds, at p below 0.05 after Holm's correction over the
whole table (smaller comparisons, which another one has repeated with more speech, have a second
table). Seeds and speakers are resampled, and p is at least that of a t test over the seeds
(randomised blocks of all arms of the comparison). Where an advantage needs over 2 % more bytes, the
arm's largest size that does not is taken instead; an advantage with more bytes all the same, or a
loss with over 2 % fewer, decides nothing. A claim about every size at once is confirmed when it
holds at each that can be held against each other fairly (the largest p counts, and its size is
shown), and refuted by one size where it does not (its p times their number). "Kept most" is
confirmed when a kind of branch is kept more often than any other kind and, for every seed, more
often than a draw of as many branches would keep it (exact; the seed with the largest p counts, for
all start from one net).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core.evaluation import scoring
from core.registry import recipe_sets
from core.registry.comparison import KEPT_MOST, MARGINS, Claim, RecipeSet
from core.reports import arms

SURE = 0.05
SAME_BYTES = 0.02


def rows() -> list[dict[str, Any]]:
    """A row per claim and size over all sets of the project, in the order of the claims' numbers;
    "smaller" are those of sets in whose
    place a larger one decides. They have a correction of their own.
    """
    sets = [(a_set, arms.finished(a_set)) for a_set in map(recipe_sets.load, recipe_sets.names())]
    smaller = {a_set.instead_of for a_set, whole in sets if whole}
    created = [
        row | {"smaller": a_set.name in smaller}
        for a_set, whole in sets
        for claim in a_set.claims
        for row in _rows(a_set, whole, claim)
    ]
    for table in (False, True):
        measured = [r for r in created if r["p"] is not None and r["smaller"] == table]
        for row, adjusted in zip(measured, scoring.holm([r["p"] for r in measured])):
            row["p"] = adjusted
            if adjusted < SURE and not row["unequal"]:
                row["verdict"] = "confirmed" if row["holds"] else "refuted"
            else:
                row["verdict"] = "undecided"
    return sorted(created, key=lambda r: (r["number"], r["set"]))


def _rows(
    a_set: RecipeSet, whole: dict[str, list[dict[str, Any]]], claim: Claim
) -> list[dict[str, Any]]:
    rows = [_row(a_set, whole, claim, size) for size in claim.sizes]
    return [_every(rows)] if claim.every else rows


def _every(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for all sizes: of the size that decides it. A size that one of the two cannot have,
    or at which the arm is ahead by
    more bytes alone, says nothing; one at which it loses with fewer bytes leaves the whole
    undecided.
    """
    measured = [r for r in rows if r["p"] is not None]
    fair = [r for r in measured if not (r["holds"] and r["unequal"])] or measured
    if not fair:
        return rows[0] | {"size": f"all {len(rows)} sizes"}
    against = [r for r in fair if not r["holds"] and not r["unequal"]]
    if against:
        worst = min(against, key=lambda r: r["p"])
        worst = worst | {"p": min(1.0, len(fair) * worst["p"])}
    else:
        worst = max(fair, key=lambda r: (r["unequal"], r["p"]))
    return worst | {"size": f"{len(fair)} of {len(rows)} sizes, shown: {worst['size']}"}


def _row(
    a_set: RecipeSet, whole: dict[str, list[dict[str, Any]]], claim: Claim, size: str
) -> dict[str, Any]:
    """`whole`: the records of the set's finished arms."""
    row = _empty_row(a_set, claim, size)
    against = claim.arm if claim.kind == KEPT_MOST else claim.against
    ours, theirs = whole.get(claim.arm, []), whole.get(against, [])
    beginnings = {(r.get("speech"), r["recipe"]["init_from"]) for r in ours + theirs}
    if not ours or not theirs or len(beginnings) > 1:
        return row
    if any(size not in r["sizes"] for r in ours + theirs):
        return row | {"verdict": "no size is that small"}
    row |= {
        "split": ours[0]["split"],
        "minutes": _means(ours, theirs, "seconds", scale=60),
        "selection_minutes": _means(ours, theirs, "selection_seconds", 0.0, 60),
        "tmacs": _means(ours, theirs, "training_tmacs"),
        "selection_tmacs": _means(ours, theirs, "selection_tmacs", 0.0),
    }
    if claim.kind == KEPT_MOST:
        return row | _kept_most([r["sizes"][size]["branches"] for r in ours], claim.against)
    return row | _compared(whole, claim, size)


def _empty_row(a_set: RecipeSet, claim: Claim, size: str) -> dict[str, Any]:
    return {
        "number": claim.number,
        "text": claim.text,
        "kind": claim.kind,
        "set": a_set.name,
        "title": a_set.title,
        "arm": claim.arm,
        "against": "all other branches" if claim.kind == KEPT_MOST else claim.against,
        "size": size,
        "margin": MARGINS.get(claim.kind),  # the claim holds where "relative" is below it
        "relative": None,
        "low": None,
        "high": None,
        "p": None,
        "verdict": "not run yet",
        "holds": None,
        "seeds": [],
        "split": "",
        "minutes": [],
        "selection_minutes": [],
        "tmacs": [],
        "selection_tmacs": [],
        "megabytes": [],
        "unequal": False,
    }


def _means(
    ours: list[dict], theirs: list[dict], name: str, default: float | None = None, scale: float = 1
) -> list[float]:
    """A field's mean over the seeds of either arm; [] where a record has none."""
    sides = [[r.get(name, default) for r in side] for side in (ours, theirs)]
    if any(None in side for side in sides):
        return []
    return [round(float(np.mean(side)) / scale, 2) for side in sides]


def _bytes(side: list[dict], size: str) -> float:
    return float(np.mean([r["sizes"][size]["file_bytes"] for r in side]))


def _compared(whole: dict[str, list[dict[str, Any]]], claim: Claim, size: str) -> dict[str, Any]:
    """The test of a claim at a size. An advantage by more bytes is tested again with the largest
    size of the arm that has no more.
    """
    ours, theirs = whole[claim.arm], whole[claim.against]
    limit = (1 + SAME_BYTES) * _bytes(theirs, size)
    local, tested, label = size, _test(whole, claim, size, size), {}
    if tested["holds"] and _bytes(ours, size) > limit:
        fits = [c for c in arms.sizes_of(ours) if _bytes(ours, c) <= limit]
        if fits:
            local = max(fits, key=lambda c: _bytes(ours, c))
            tested = _test(whole, claim, size, local)
            label = {"size": f"{size} (the arm's {local})"}
    heavy = _bytes(ours, local) > limit
    light = _bytes(ours, local) < (1 - SAME_BYTES) * _bytes(theirs, size)
    megabytes = [round(n / 1e6, 2) for n in (_bytes(ours, local), _bytes(theirs, size))]
    return tested | label | {"unequal": heavy if tested["holds"] else light, "megabytes": megabytes}


def _test(
    whole: dict[str, list[dict[str, Any]]], claim: Claim, size: str, local: str
) -> dict[str, Any]:
    """The size `local` of the claim's arm against the other arm's `size`."""
    part, divisor = arms.primary(whole[claim.arm][0])
    errors, base, words = arms.by_person(
        whole[claim.arm], whole[claim.against], size, part, divisor, local
    )
    relative, low, high = scoring.relative_seeds(errors, base)
    noises = [arms.noise(whole, column, part) for column in (local, size)]
    noise = (
        None
        if None in noises
        else (float(np.mean([n[0] for n in noises])), min(n[1] for n in noises))
    )
    p = scoring.paired_seeds(errors, (1 + MARGINS[claim.kind]) * base, words, noise=noise)[3]
    shown = [
        [round(float(side[i].sum() / words.sum()), 5) for side in (errors, base)]
        for i in range(len(errors))
    ]
    return {
        "relative": relative,
        "low": low,
        "high": high,
        "p": p,
        "holds": relative < MARGINS[claim.kind],
        "seeds": shown,
    }


def _kept_most(branches: list[dict[str, list[int]]], kind: str) -> dict[str, Any]:
    """Of every seed's {kind: [kept, all]}. p (two-sided): as many branches of this kind, or fewer,
    among as many drawn at random; the
    largest of all seeds.
    """
    from scipy import stats  # a second, which every command but those on claims saves

    sides = []
    for counts in branches:
        every, many, drawn = (
            sum(n for _, n in counts.values()),
            counts[kind][1],
            sum(k for k, _ in counts.values()),
        )
        chance, kept = stats.hypergeom(every, many, drawn).pmf(np.arange(many + 1)), counts[kind][0]
        sides.append((float(chance[kept:].sum()), float(chance[: kept + 1].sum())))
    shares = {
        k: float(np.mean([counts[k][0] / counts[k][1] for counts in branches])) for k in branches[0]
    }
    others = [share for k, share in shares.items() if k != kind]
    most = shares[kind] > max(others)
    p = max(min(1.0, 2 * (above if most else below)) for above, below in sides)
    shown = [
        [
            counts[kind][0] / counts[kind][1],
            sum(counts[k][0] for k in counts if k != kind)
            / sum(counts[k][1] for k in counts if k != kind),
        ]
        for counts in branches
    ]
    return {"p": p, "holds": most, "seeds": [[round(a, 5), round(b, 5)] for a, b in shown]}
