"""The page of a recipe set under artifacts/released/comparison/: every arm against the first, from the arms' records alone."""
from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from core import recipe_sets, scoring
from core.recipe_sets import RecipeSet
from core.release import tables

LOSS, FRAMES, ERRORS, WORDS = range(4)  # a speaker's sums


def text(recipe_set: RecipeSet) -> str:
    """Markdown; arms that are not finished for every seed are named and left out."""
    records = {arm.name: [recipe_sets.record(recipe_set.name, arm.name, s) for s in recipe_set.seeds] for arm in recipe_set.arms}
    whole = {name: found for name, found in records.items() if all(found)}
    first = recipe_set.arms[0].name
    parts = [f"# {recipe_set.title}", _opening(recipe_set, whole)]
    missing = [name for name in records if name not in whole]
    if missing:
        parts.append(f"Not finished: {', '.join(missing)}.")
    if first in whole:
        parts += ["## Words wrong", "In a hundred, and the difference to the first arm in points. p values are Holm-adjusted over the "
                  "table.", _table(whole, first, ERRORS, WORDS, 100.0, 1),
                  "## CTC loss per frame", "Finer than words where most words are wrong.", _table(whole, first, LOSS, FRAMES, 1.0, 3)]
    parts += ["## Every training", _trainings(whole)]
    return "\n\n".join(parts) + "\n"


def _opening(recipe_set: RecipeSet, whole: dict[str, list[dict[str, Any]]]) -> str:
    some = next(iter(whole.values()), None)
    lines = [f"- {arm.name}: {arm.about or 'no words'}" + (f" (`{' '.join(arm.settings)}`)" if arm.settings else "")
             for arm in recipe_set.arms]
    told = ("Small-scale: trainings of minutes on little speech. They show which way an option pushes here, not what it is worth in a long "
            "training.")
    if some:
        one = some[0]
        people, words = len(one["sizes"][next(iter(one["sizes"]))]["speakers"]), _sum(one, next(iter(one["sizes"])), WORDS)
        told += (f" Each: {one['updates']} updates, {one['audio_hours']:.2f} h heard, {one['seconds'] / 60:.1f} minutes "
                 f"({one['hardware']}, {one['threads']} threads, {one['precision']}), seeds {', '.join(map(str, recipe_set.seeds))}, "
                 f"started from `{one['recipe']['init_from'] or 'random weights'}`. Measured: uniform sizes on {people} people and voices "
                 f"held out of training ({words:.0f} words, the `{one['split']}` split), {one['chunk_ms']:g} ms chunks, greedy, no "
                 f"language model. Intervals resample seeds and speakers.")
    return told + "\n\n```sh\n" + command(recipe_set, some[0] if some else None) + "\n```\n\n" + "\n".join(lines)


def command(recipe_set: RecipeSet, one: dict[str, Any] | None) -> str:
    """What made the page."""
    start = one["recipe"]["init_from"] if one else recipe_set.recipe.init_from
    return f"python -m core compare {recipe_set.name}" + (f" --set init_from={shlex.quote(start)}" if start else "")


def _table(whole: dict[str, list[dict[str, Any]]], first: str, part: int, base: int, scale: float, digits: int) -> str:
    sizes = list(whole[first][0]["sizes"])
    cells = {(name, size): _against(whole[name], whole[first], size, part, base) for name in whole if name != first for size in sizes}
    adjusted = dict(zip(cells, scoring.holm([c[3] for c in cells.values()])))
    rows = []
    for name, found in whole.items():
        row = [name]
        for size in sizes:
            mean = scale * np.mean([_sum(r, size, part) / _sum(r, size, base) for r in found])
            text = f"{mean:.{digits}f}"
            if name != first:
                delta, low, high, _ = cells[name, size]
                text += f"; {scale * delta:+.{digits}f} ({scale * low:+.{digits}f} to {scale * high:+.{digits}f}), " \
                        f"p {tables.p_text(adjusted[name, size])}"
            row.append(text)
        rows.append(row)
    return tables.table(["arm", *(f"{s} zeros" for s in sizes)], rows)


def _against(found: list[dict[str, Any]], reference: list[dict[str, Any]], size: str, part: int, base: int):
    people = sorted(reference[0]["sizes"][size]["speakers"])
    ours, theirs = (np.array([[r["sizes"][size]["speakers"][p][part] for p in people] for r in side]) for side in (found, reference))
    return scoring.paired_seeds(ours, theirs, np.array([reference[0]["sizes"][size]["speakers"][p][base] for p in people]))


def _sum(record: dict[str, Any], size: str, part: int) -> float:
    return float(sum(four[part] for four in record["sizes"][size]["speakers"].values()))


def _trainings(whole: dict[str, list[dict[str, Any]]]) -> str:
    sizes = list(next(iter(whole.values()))[0]["sizes"]) if whole else []
    rows = [(name, str(r["seed"]), f"`{r['run']}`", f"{r['seconds'] / 60:.1f}",
             *(f"{100 * _sum(r, s, ERRORS) / _sum(r, s, WORDS):.1f}" for s in sizes), r["date"], r["code_version"])
            for name, found in whole.items() for r in found]
    return tables.table(["arm", "seed", "run", "minutes", *(f"WER % at {s}" for s in sizes), "date", "code"], rows)
