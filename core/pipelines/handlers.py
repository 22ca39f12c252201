"""What each kind of job does with its payload: a function `<kind>_job(payload, progress)` for every
one of core.jobs.job.JOB_KINDS.

Torch is loaded with the other modules of core.pipelines, by the kinds that need it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from core import export
from core.common import stages
from core.records import ProgressCallback, RunProgress
from core.registry import recipes
from core.storage import estimates, speeds, store


def prepare_job(payload: dict[str, Any], progress: ProgressCallback) -> None:
    from core.data.source import SpeechRecipe
    from core.pipelines import speech

    speech.prepare(SpeechRecipe.of(recipes.recipe_from(payload["recipe"])), progress)


def train_job(payload: dict[str, Any], progress: RunProgress) -> Path:
    """Training, and then the measuring that makes the run appear in the charts."""
    progress(0.0, f"{stages.STARTING}: loading the program", None)
    from core.pipelines import evaluate, train

    recipe = recipes.recipe_from(payload["recipe"])
    folder = train.train(recipe, progress, begun=progress.belongs_to)
    began, known = time.monotonic(), len(store.reports(folder))
    evaluate.evaluate(folder.name, recipe.evaluation.get("sizes", []), [], progress)
    if not known:  # else only a part of it was measured now
        speeds.note(estimates.measuring_work(recipe), 1.0, time.monotonic() - began)
    return folder


def search_job(payload: dict[str, Any], progress: ProgressCallback) -> None:
    from core.pipelines import search

    search.search(payload["run"], progress)


def evaluate_job(payload: dict[str, Any], progress: ProgressCallback) -> None:
    from core.pipelines import evaluate

    evaluate.evaluate(
        payload["run"],
        payload.get("subnets") or [],
        payload.get("splits") or [],
        progress,
        payload.get("new"),
        payload.get("chunk_ms"),
        payload.get("decoding"),
    )


def export_job(payload: dict[str, Any], progress: ProgressCallback) -> None:
    for line in export.write(
        payload["run"],
        payload.get("subnets") or [],
        payload.get("folder") or "",
        progress,
        payload.get("format") or export.USUAL,
        bool(payload.get("int8")),
    ):
        print(line, flush=True)
