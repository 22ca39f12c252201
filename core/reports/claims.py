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
from scipy import stats

from core import paths
from core.common.writing import write_bytes, write_json
from core.evaluation import scoring
from core.registry import recipe_sets
from core.registry.recipe_sets import KINDS, MOST, Claim, RecipeSet
from core.reports import arms_page, tables

SURE = 0.05
SAME_BYTES = 0.02
SMALLER = (
    "\n## The same claims from smaller trainings\n\nEach of these comparisons was repeated with"
    " more speech: that one, above, decides. This table is corrected by itself.\n\n"
)
COSTS = (
    ("megabytes", 2),
    ("minutes", 1),
    ("selection_minutes", 1),
    ("tmacs", 2),
    ("selection_tmacs", 2),
)  # part of a row, digits


def rows() -> list[dict[str, Any]]:
    """A row per claim and size over all sets of the project, in the order of the claims' numbers;
    "smaller" are those of sets in whose
    place a larger one decides. They have a correction of their own.
    """
    sets = [
        (a_set, arms_page.finished(a_set)) for a_set in map(recipe_sets.load, recipe_sets.names())
    ]
    smaller = {a_set.instead_of for a_set, whole in sets if whole}
    made = [
        row | {"smaller": a_set.name in smaller}
        for a_set, whole in sets
        for claim in a_set.claims
        for row in _rows(a_set, whole, claim)
    ]
    for table in (False, True):
        measured = [r for r in made if r["p"] is not None and r["smaller"] == table]
        for row, adjusted in zip(measured, scoring.holm([r["p"] for r in measured])):
            row["p"] = adjusted
            if adjusted < SURE and not row["unequal"]:
                row["verdict"] = "confirmed" if row["holds"] else "refuted"
            else:
                row["verdict"] = "undecided"
    return sorted(made, key=lambda r: (r["number"], r["set"]))


def _rows(
    a_set: RecipeSet, whole: dict[str, list[dict[str, Any]]], claim: Claim
) -> list[dict[str, Any]]:
    found = [_row(a_set, whole, claim, size) for size in claim.sizes]
    return [_every(found)] if claim.every else found


def _every(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for all sizes: of the size that decides it. A size that one of the two cannot have,
    or at which the arm is ahead by
    more bytes alone, says nothing; one at which it loses with fewer bytes leaves the whole
    undecided.
    """
    measured = [r for r in found if r["p"] is not None]
    fair = [r for r in measured if not (r["holds"] and r["unequal"])] or measured
    if not fair:
        return found[0] | {"size": f"all {len(found)} sizes"}
    against = [r for r in fair if not r["holds"] and not r["unequal"]]
    if against:
        worst = min(against, key=lambda r: r["p"])
        worst = worst | {"p": min(1.0, len(fair) * worst["p"])}
    else:
        worst = max(fair, key=lambda r: (r["unequal"], r["p"]))
    return worst | {"size": f"{len(fair)} of {len(found)} sizes, shown: {worst['size']}"}


def _row(
    a_set: RecipeSet, whole: dict[str, list[dict[str, Any]]], claim: Claim, size: str
) -> dict[str, Any]:
    """`whole`: the records of the set's finished arms."""
    ours, theirs = (
        whole.get(name, [])
        for name in (claim.arm, claim.arm if claim.kind == MOST else claim.against)
    )
    row = {
        "number": claim.number,
        "text": claim.text,
        "kind": claim.kind,
        "set": a_set.name,
        "title": a_set.title,
        "arm": claim.arm,
        "against": "all other branches" if claim.kind == MOST else claim.against,
        "size": size,
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
    if (
        not ours
        or not theirs
        or len({(r.get("speech"), r["recipe"]["init_from"]) for r in ours + theirs}) > 1
    ):
        return row
    if any(size not in r["sizes"] for r in ours + theirs):
        return row | {"verdict": "no size is that small"}

    def mean(name: str, default: float | None = None, scale: float = 1.0) -> list[float]:
        sides = [[r.get(name, default) for r in side] for side in (ours, theirs)]
        return (
            []
            if any(None in side for side in sides)
            else [round(float(np.mean(side)) / scale, 2) for side in sides]
        )

    row |= {
        "split": ours[0]["split"],
        "minutes": mean("seconds", scale=60),
        "selection_minutes": mean("selection_seconds", 0.0, 60),
        "tmacs": mean("training_tmacs"),
        "selection_tmacs": mean("selection_tmacs", 0.0),
    }
    if claim.kind == MOST:
        return row | _kept_most([r["sizes"][size]["branches"] for r in ours], claim.against)
    own, weigh = (
        size,
        lambda side, column: float(np.mean([r["sizes"][column]["file_bytes"] for r in side])),
    )
    limit = (1 + SAME_BYTES) * weigh(theirs, size)
    tested = _test(whole, claim, size, own)
    if (
        tested["holds"]
        and weigh(ours, size) > limit
        and (fits := [c for c in arms_page.sizes_of(ours) if weigh(ours, c) <= limit])
    ):
        own = max(fits, key=lambda c: weigh(ours, c))
        tested = _test(whole, claim, size, own)
        row["size"] += f" (the arm's {own})"
    heavy, light = (
        weigh(ours, own) > limit,
        weigh(ours, own) < (1 - SAME_BYTES) * weigh(theirs, size),
    )
    return (
        row
        | tested
        | {
            "unequal": heavy if tested["holds"] else light,
            "megabytes": [
                round(weigh(side, column) / 1e6, 2)
                for side, column in ((ours, own), (theirs, size))
            ],
        }
    )


def _test(
    whole: dict[str, list[dict[str, Any]]], claim: Claim, size: str, own: str
) -> dict[str, Any]:
    """The size `own` of the claim's arm against the other arm's `size`."""
    errors, base, words = arms_page.by_person(
        whole[claim.arm], whole[claim.against], size, arms_page.ERRORS, arms_page.WORDS, own
    )
    relative, low, high = scoring.relative_seeds(errors, base)
    noises = [arms_page.noise(whole, column, arms_page.ERRORS) for column in (own, size)]
    noise = (
        None
        if None in noises
        else (float(np.mean([n[0] for n in noises])), min(n[1] for n in noises))
    )
    p = scoring.paired_seeds(errors, (1 + KINDS[claim.kind]) * base, words, noise=noise)[3]
    shown = [
        [round(float(side[i].sum() / words.sum()), 5) for side in (errors, base)]
        for i in range(len(errors))
    ]
    return {
        "relative": relative,
        "low": low,
        "high": high,
        "p": p,
        "holds": relative < KINDS[claim.kind],
        "seeds": shown,
    }


def _kept_most(found: list[dict[str, list[int]]], kind: str) -> dict[str, Any]:
    """Of every seed's {kind: [kept, all]}. p (two-sided): as many branches of this kind, or fewer,
    among as many drawn at random; the
    largest of all seeds.
    """
    sides = []
    for one in found:
        every, many, drawn = (
            sum(n for _, n in one.values()),
            one[kind][1],
            sum(k for k, _ in one.values()),
        )
        chance, kept = stats.hypergeom(every, many, drawn).pmf(np.arange(many + 1)), one[kind][0]
        sides.append((float(chance[kept:].sum()), float(chance[: kept + 1].sum())))
    shares = {k: float(np.mean([one[k][0] / one[k][1] for one in found])) for k in found[0]}
    others = [share for k, share in shares.items() if k != kind]
    most = shares[kind] > max(others)
    p = max(min(1.0, 2 * (above if most else below)) for above, below in sides)
    shown = [
        [
            one[kind][0] / one[kind][1],
            sum(one[k][0] for k in one if k != kind) / sum(one[k][1] for k in one if k != kind),
        ]
        for one in found
    ]
    return {"p": p, "holds": most, "seeds": [[round(a, 5), round(b, 5)] for a, b in shown]}


def text(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        [
            (
                r["number"],
                f"{r['text']} ({r['arm']} against {r['against']}, {r['size']})",
                r["verdict"],
                (
                    "-"
                    if r["relative"] is None
                    else (
                        f"{100 * r['relative']:+.1f} % ({100 * r['low']:+.1f} to"
                        f" {100 * r['high']:+.1f})"
                    )
                ),
                "-" if r["p"] is None else tables.p_text(r["p"]),
                "; ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in r["seeds"]) or "-",
                "-" if r["kind"] == MOST else r["split"] or "-",
                *(" / ".join(f"{m:.{digits}f}" for m in r[part]) or "-" for part, digits in COSTS),
                f"[{r['set']}]({r['set']}.md)" if r["seeds"] else r["set"],
            )
            for r in found
            if r["smaller"] == table
        ]
        for table in (False, True)
    ]
    head = [
        "claim",
        "what",
        "verdict",
        "words wrong, relative",
        "p",
        "WER % of each seed",
        "tested on",
        "MB",
        "minutes a training",
        "minutes of selection",
        "10^12 MACs a training",
        "10^12 MACs of selection",
        "comparison",
    ]
    return (
        "# Claims\n\nTested on a fixed half hour of LibriSpeech test-clean and one of a seeded"
        " noisy, reverberant copy of it (not test-other), pooled, where a row does not say"
        " otherwise; of TED-LIUM v2 there are a reader, recipes and dry runs, and no numbers. Small"
        " scale: minutes of training, some hours of speech. What is confirmed or refuted here may"
        " come out otherwise with more of both: claims 1, 3, 5 and 6 stayed undecided with 12"
        " times the speech, in comparisons that are not shown because every arm was above 85 %"
        " WER.\n\n"
        + " ".join(__doc__.split("\n\n")[1].split())
        + " The relative difference stands with its 95 % interval; WER, megabytes, minutes and"
        " executed multiply-accumulates (of the training, and of choosing sizes after it) of the"
        ' arm stand before those of what it is held against; for "kept most" the share of its'
        " branches that are kept, and of the others. That an advantage by more bytes is tested"
        " again with a smaller size, and what counts at every size at once, was made the rule"
        " when claim 5's trainings of Simple-Top-k had been seen. Rows that have not been run are"
        " not in the correction yet, so verdicts may change when they are. Made by `python -m"
        " core compare SET` whenever a set is finished; each set's page has its command.\n\n"
        + tables.table(head, lines[0])
        + "\n"
        + (SMALLER + tables.table(head, lines[1]) + "\n" if lines[1] else "")
    )


def write_all() -> None:
    """The pages of all sets that have been run, here or elsewhere, and the claims, anew from the
    arms' records.
    """
    for name in recipe_sets.names():
        if (paths.COMPARED / name).is_dir():
            write_bytes(
                paths.COMPARED / f"{name}.md", arms_page.text(recipe_sets.load(name)).encode()
            )
    write()


def write() -> None:
    """Both files beside the sets' pages: CLAIMS.md for people, claims.json for the dashboard."""
    found = rows()
    paths.COMPARED.mkdir(parents=True, exist_ok=True)
    write_json(paths.COMPARED / paths.CLAIMS, found)
    write_bytes(paths.COMPARED / paths.CLAIMS_PAGE, text(found).encode())
