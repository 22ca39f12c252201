"""Stored sizes of a run measured on its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core import records
from core.evaluation import conditions, sweep
from core.pipelines import build as building
from core.pipelines.resolved import ResolvedRecipe
from core.pipelines.speech import prepared_of
from core.records import ProgressCallback, Report, Subnet
from core.storage import packing, store


def evaluate(
    run_id: str,
    subnets: Sequence[str],
    splits: Sequence[str],
    progress: ProgressCallback,
    new: dict[str, Any] | None = None,
    chunk_ms: float | None = None,
    decoding: dict[str, Any] | None = None,
    spread: sweep.Spread | None = None,
    again: bool = False,
) -> list[Report]:
    """Measure stored subnets (all when none is named) and store the Reports.

    `new`: a Subnet that is stored first; `chunk_ms` and `decoding` {option of evaluation: value}:
    instead of the recipe's; `spread`: other processes that decode; `again`: also what is measured
    already. What is added to a released run goes into this machine's part of it. ValueError for
    conditions that cannot be, before any speech is prepared.
    """
    folder = store.run_folder(run_id)
    resolved = ResolvedRecipe(store.recipe(folder))
    building.check_version(folder.name, "run")
    options = changed(resolved.evaluation, splits, chunk_ms, decoding)
    building.check_splits(resolved.recipe, options.splits)
    if decoding:
        conditions.load_recognizer(packing.pack(folder, store.subnets(folder)[0]), options)
    prepared = prepared_of(folder, resolved.speech, progress, options.splits)
    chosen = [store.subnet(folder, n) for n in subnets]
    if new:
        subnet: Subnet = records.from_dict(Subnet, new)
        subnet = replace(subnet, run=folder.name, ranks_sha256=store.ranks_sha256(folder))
        store.save_subnet(folder, subnet)
        chosen.append(subnet)
    return sweep.evaluate_many(
        folder, chosen or store.subnets(folder), prepared, options, progress, again, spread
    )


def changed(
    options: conditions.Options,
    splits: Sequence[str],
    chunk_ms: float | None,
    decoding: dict[str, Any] | None,
) -> conditions.Options:
    """The recipe's way to measure, changed where something else is asked for."""
    options = replace(
        options,
        splits=list(splits) or options.splits,
        chunk_ms=options.chunk_ms if chunk_ms is None else chunk_ms,
    )
    return replace(options, **{n: v for n, v in (decoding or {}).items() if v is not None})
