"""What each kind of job does with its payload: a function `<kind>_job(payload, report)` for every
one of records.JOB_KINDS.

Torch is loaded with core.pipelines.experiment, by the kinds that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.registry import recipes
from core.storage import exports

Report = Callable[[float, str, float | None], bool]  # (0..1, message, seconds left) -> go on?


def prepare_job(payload: dict[str, Any], report: Report) -> None:
    from core.pipelines import experiment

    experiment.prepare(recipes.recipe_from(payload["recipe"]), report)


def train_job(payload: dict[str, Any], report: Report) -> Path:
    """Training, and then the measuring that makes the run appear in the charts."""
    from core.pipelines import experiment

    folder = experiment.train(recipes.recipe_from(payload["recipe"]), report)
    experiment.evaluate(folder.name, [], [], report)
    return folder


def search_job(payload: dict[str, Any], report: Report) -> None:
    from core.pipelines import experiment

    experiment.search(payload["run"], report)


def evaluate_job(payload: dict[str, Any], report: Report) -> None:
    from core.pipelines import experiment

    experiment.evaluate(
        payload["run"],
        payload.get("subnets") or [],
        payload.get("splits") or [],
        report,
        payload.get("new"),
        payload.get("chunk_ms"),
        payload.get("decoding"),
    )


def export_job(payload: dict[str, Any], report: Report) -> None:
    for line in exports.write(
        payload["run"], payload.get("subnets") or [], payload.get("folder") or "", report
    ):
        print(line, flush=True)
