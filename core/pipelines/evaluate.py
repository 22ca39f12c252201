"""Stored sizes of a run measured on its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import records
from core.corpora import base as corpora
from core.data import test_sets
from core.data.prepared import Prepared
from core.data.source import SpeechRecipe
from core.evaluation import conditions, sweep
from core.pipelines import build as building, exported
from core.pipelines.resolved import ResolvedRecipe
from core.pipelines.speech import prepared_of
from core.records import Choice, ProgressCallback, Report, Subnet
from core.storage import packing, store

ROLES = ("train", "search", "dev")  # splits of every corpus


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
    already. A split may be a test set of the user's own (core/data/test_sets.py). What is added to
    a released run goes into this machine's part of it. ValueError for conditions that cannot be,
    before any speech is prepared.
    """
    folder = store.run_folder(run_id)
    resolved = ResolvedRecipe(store.recipe(folder))
    building.check_version(folder.name, "run")
    options = changed(resolved.evaluation, splits, chunk_ms, decoding)
    parts = _by_corpus(resolved.speech, options.splits)
    building.check_splits(resolved.recipe, [s for s in options.splits if not test_sets.is_own(s)])
    if decoding:
        conditions.load_recognizer(packing.pack(folder, store.some_subnets(folder)[0]), options)
    chosen = [store.subnet(folder, n) for n in subnets]
    if new:
        subnet: Subnet = records.from_dict(Subnet, new)
        subnet = replace(subnet, run=folder.name, ranks_sha256=store.ranks_sha256(folder))
        store.save_subnet(folder, subnet)
        chosen.append(subnet)
    chosen = chosen or store.some_subnets(folder)
    if options.engine in conditions.EXPORTED:
        if spread:
            raise ValueError(
                f"engine {options.engine!r} decodes on this machine only: leave out the runner, or"
                " use engine 'onnx'"
            )
        spread = exported.spread(folder, chosen, options)
        options = replace(options, speed_utterances=0)  # timed: python -m core bench runtimes
    reports = list[Report]()
    for speech, names in parts:
        prepared = _prepared(folder, resolved, speech, progress, names)
        reports += sweep.evaluate_many(
            folder, chosen, prepared, replace(options, splits=names), progress, again, spread
        )
    return reports


def _prepared(
    folder: Path,
    resolved: ResolvedRecipe,
    speech: SpeechRecipe,
    progress: ProgressCallback,
    names: Sequence[str],
) -> Prepared:
    """The speech of these splits. ValueError where its corpus is not on this machine: it says what
    can be measured instead, and which split is none that is known of this run.
    """
    try:
        return prepared_of(folder, speech, progress, names)
    except ValueError as error:
        if any(map(test_sets.is_own, names)) or _can_be_made(speech.corpus):
            raise
        known = sorted({*resolved.evaluation.splits, *(r.split for r in store.reports(folder))})
        unknown = [name for name in names if name not in (*known, *ROLES)]
        what = f"split {unknown[0]!r} is none of {', '.join(known)}; " if unknown else ""
        raise ValueError(
            f"{what}the corpus of run {folder.name} is not on this machine: {error}. Recordings of"
            " your own need no corpus: python -m core evaluate RUN --recordings FOLDER"
        ) from error


def _can_be_made(corpus: Choice) -> bool:
    try:
        corpora.make(corpus)
    except ValueError:
        return False
    return True


def _by_corpus(speech: SpeechRecipe, splits: Sequence[str]) -> list[tuple[SpeechRecipe, list[str]]]:
    """The splits of the recipe's corpus, together, then each test set of the user's own."""
    own = [s for s in splits if test_sets.is_own(s)]
    others = [s for s in splits if s not in own]
    parts = [(speech, others)] if others or not own else []
    return parts + [(replace(speech, corpus=test_sets.corpus(s)), [s]) for s in own]


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
