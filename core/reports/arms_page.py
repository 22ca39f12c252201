"""The page of a recipe set under artifacts/released/comparison/: every arm against the first, from
the arms' records alone.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from core.evaluation import scoring
from core.registry.comparison import RecipeSet
from core.reports import arms, tables

T_TEST = (
    "; p is at least that of a t test over the seeds, whose variance is estimated from all"
    " arms of a"
    " column (randomised blocks)"
)


def text(recipe_set: RecipeSet) -> str:
    """Markdown; arms that are not finished for every seed, as the set is now, are named and left
    out.
    """
    whole = arms.finished(recipe_set)
    columns = list(
        dict.fromkeys(c for trainings in whole.values() for c in arms.sizes_of(trainings))
    )
    parts = [f"# {recipe_set.title}", _opening(recipe_set, whole)]
    missing = [arm.name for arm in recipe_set.arms if arm.name not in whole]
    if missing:
        parts.append(f"Not finished: {', '.join(missing)}.")
    if whole:
        parts += [
            *_rates(whole, columns),
            "## Loss per frame",
            "Finer than WER where most words are wrong.",
            _table(whole, columns, arms.LOSS, arms.FRAMES, 1.0, 3),
            *_each_test(whole),
            *_agreement(whole),
            "## What the sizes cost",
            _costs(whole, columns),
        ]
    parts += ["## Every training", _trainings(whole)]
    return "\n\n".join(parts) + "\n"


def _rates(whole: dict[str, list[dict[str, Any]]], columns: list[str]) -> list[str]:
    """A table for each error rate that the records have."""
    (some, *_), parts = next(iter(whole.values())), list[str]()
    for name, (part, base) in arms.rates(some).items():
        parts += [
            f"## {name}",
            "In %, and the difference in points to the first arm of the column. p values are"
            " Holm-adjusted over the table.",
            _table(whole, columns, part, base, 100.0, 1),
        ]
    return parts


def _opening(recipe_set: RecipeSet, whole: dict[str, list[dict[str, Any]]]) -> str:
    some = next(iter(whole.values()), None)
    lines = [
        f"- {arm.name}: {arm.about or 'no words'}"
        + (f" (`{' '.join(arm.settings)}`)" if arm.settings else "")
        for arm in recipe_set.arms
    ]
    opening = (
        "What is compared, on which speech and for how long, stands below; elsewhere and for longer"
        " it may come out otherwise."
    )
    if some:
        run = some[0]
        size = next(iter(run["sizes"]))
        people, words = (
            len(run["sizes"][size]["speakers"]),
            arms.total(run, size, arms.primary(run)[1]),
        )
        opening += (
            f" The first arm: {run['updates']} updates, {run['audio_hours']:.2f} h of training"
            f" audio,"
            f" {run['seconds'] / 60:.1f} minutes "
            f"({run['hardware']}, {run['threads']} threads, {run['precision']}), seeds"
            f" {', '.join(map(str, recipe_set.seeds))}, "
            f"started from `{run['recipe']['init_from'] or 'random weights'}`. Measured on {people}"
            " people and voices "
            f"held out of training ({words:.0f} words, the `{run['split']}` split),"
            f" {run['chunk_ms']:g} ms chunks, {_decoding(run)}. Intervals resample"
            f" {'seeds and ' if len(recipe_set.seeds) > 1 else ''}speakers"
            f"{T_TEST if len(recipe_set.seeds) > 1 else '. One seed: no claim'}."
        )
    if recipe_set.tuning:
        opening += (
            " Trainings that options were chosen by, on other speech, are those of"
            f" {' and '.join(f'`{name}`' for name in recipe_set.tuning)}; what is not there was not"
            " tuned."
        )
    if recipe_set.instead_of:
        opening += f" It decides the claims of `{recipe_set.instead_of}`, which is smaller."
    return opening + "\n\n```sh\n" + _command(recipe_set, some) + "\n```\n\n" + "\n".join(lines)


def _decoding(record: dict[str, Any]) -> str:
    if "PER" in arms.rates(record):
        return "words over the decoding graph of open speech, phonemes greedy"
    return "greedy, no language model"


def _command(recipe_set: RecipeSet, some: list[dict[str, Any]] | None) -> str:
    """What a person types to run it, from where its records started."""
    start = some[0]["recipe"]["init_from"] if some else recipe_set.recipe.init_from
    return recipe_set.command + (
        f" --set init_from={start}" if start != recipe_set.recipe.init_from else ""
    )


def _table(
    whole: dict[str, list[dict[str, Any]]],
    columns: list[str],
    part: int,
    base: int,
    scale: float,
    digits: int,
) -> str:
    first = {
        c: next(name for name, trainings in whole.items() if c in arms.sizes_of(trainings))
        for c in columns
    }
    cells = {
        (name, c): scoring.paired_seeds(
            *arms.by_person(trainings, whole[first[c]], c, part, base),
            noise=arms.noise(whole, c, part),
        )
        for name, trainings in whole.items()
        for c in columns
        if c in arms.sizes_of(trainings) and name != first[c]
    }
    adjusted = dict(zip(cells, scoring.holm([c[3] for c in cells.values()])))
    rows = []
    for name, trainings in whole.items():
        row = [name]
        for c in columns:
            if c not in arms.sizes_of(trainings):
                row.append("-")
                continue
            mean = np.mean([arms.total(r, c, part) / arms.total(r, c, base) for r in trainings])
            text = f"{scale * mean:.{digits}f}"
            if (name, c) in cells:
                delta, low, high, _ = cells[name, c]
                text += (
                    f"; {scale * delta:+.{digits}f} ({scale * low:+.{digits}f} to"
                    f" {scale * high:+.{digits}f}), p {tables.p_text(adjusted[name, c])}"
                )
            row.append(text)
        rows.append(row)
    return tables.table(["arm", *columns], rows)


def _each_test(whole: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Words wrong in every corpus alone, of trainings that tell."""
    rows = []
    for name, trainings in whole.items():
        for c in arms.sizes_of(trainings):
            sums = [r["sizes"][c].get("corpora", {}) for r in trainings]
            part, base = arms.primary(trainings[0])
            rows += [
                (
                    name,
                    c,
                    corpus,
                    f"{100 * np.mean([s[corpus][part] / s[corpus][base] for s in sums]):.1f}",
                )
                for corpus in sums[0]
                if len(sums[0]) > 1 and all(corpus in s for s in sums)
            ]
    head = ["arm", "size", "test", "WER %"]
    return (
        [
            "## Each test set",
            "Mean of the seeds.",
            tables.table(head, rows),
        ]
        if rows
        else []
    )


def _agreement(whole: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Whether seeds keep the same residual branches, of sizes that leave some out."""
    rows = []
    for name, trainings in whole.items():
        for c in arms.sizes_of(trainings):
            sizes = [r["sizes"][c] for r in trainings]
            if len(trainings) < 2 or not all(s.get("left_out") for s in sizes):
                continue
            every, off = (
                sum(many for _, many in sizes[0]["branches"].values()),
                [set(s["left_out"]) for s in sizes],
            )
            pairs = list(itertools.combinations(off, 2))
            alike = np.mean([every - len(a | b) for a, b in pairs])
            chance = np.mean([(every - len(a)) * (every - len(b)) / every for a, b in pairs])
            rows.append(
                (
                    name,
                    c,
                    ", ".join(str(every - len(a)) for a in off),
                    str(every),
                    f"{alike:.1f}",
                    f"{chance:.1f}",
                )
            )
    head = [
        "arm",
        "size",
        "branches kept by each seed",
        "of",
        "kept by two seeds alike, mean",
        "draws would agree on",
    ]
    return (
        [
            "## Whether seeds keep the same branches",
            "A choice that another seed does not make again is hardly more than a draw.",
            tables.table(head, rows),
        ]
        if rows
        else []
    )


def _costs(whole: dict[str, list[dict[str, Any]]], columns: list[str]) -> str:
    rows = [
        (
            name,
            c,
            tables.percent(s["sparsity"]),
            f"{s['parameters'] / 1e6:.2f}",
            tables.megabytes(s["file_bytes"]),
            f"{s['mmacs_per_second']:.0f}",
        )
        for name, trainings in whole.items()
        for c in columns
        if c in arms.sizes_of(trainings)
        for s in [trainings[0]["sizes"][c]]
    ]
    head = [
        "arm",
        "size",
        "sparsity",
        "million parameters that are not zero",
        "MB file, estimated within 7 kB",
        "MMAC/s executed",
    ]
    return tables.table(head, rows)


def _trainings(whole: dict[str, list[dict[str, Any]]]) -> str:
    rows = [
        (
            name,
            str(r["seed"]),
            f"`{r['run']}`",
            f"{r['hardware']}, {r['precision']}",
            str(r["updates"]),
            f"{r['audio_hours']:.2f}",
            f"{r['seconds'] / 60:.1f}",
            f"{r.get('selection_seconds', 0.0) / 60:.1f}",
            f"{r['training_tmacs']:.2f}" if "training_tmacs" in r else "-",
            "; ".join(
                f"{100 * arms.total(r, s, part) / arms.total(r, s, base):.1f} at {s}"
                for part, base in [arms.primary(r)]
                for s in r["sizes"]
            ),
            r["date"],
            r["code_version"],
        )
        for name, trainings in whole.items()
        for r in trainings
    ]
    return tables.table(
        [
            "arm",
            "seed",
            "run",
            "on",
            "updates",
            "training audio, h",
            "minutes",
            "minutes of selection",
            "10^12 MACs",
            "WER %",
            "date",
            "code",
        ],
        rows,
    )
