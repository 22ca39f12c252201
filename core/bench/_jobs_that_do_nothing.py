"""In place of core.pipelines.handlers for `bench jobs`: a job that ends at once, so that only the
queue is measured.
"""

from __future__ import annotations

from typing import Any


def prepare_job(payload: dict[str, Any], report: Any) -> None:
    report(1.0, "done")


search_job = prepare_job  # on Ray there is nothing to prepare
