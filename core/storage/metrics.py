"""The history of a training: rows of metrics.jsonl, and the WER over the hours of audio."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.storage import run_files, store


def append_metrics(run: str | Path, row: dict[str, Any]) -> None:
    """Add one row to metrics.jsonl; a last line torn by a crash is removed first."""
    path = store.folder_of(run) / paths.METRICS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(row, ensure_ascii=False, default=writing.plain).encode() + b"\n")


def truncate_metrics(run: str | Path, step: int) -> None:
    """Forget rows beyond this step: a resumed training computes them again."""
    rows = metrics(run)
    kept = [r for r in rows if r.get("step", 0) <= step]
    if len(kept) < len(rows):
        writing.write_lines(store.folder_of(run) / paths.METRICS, kept)


def metrics(run: str | Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, empty before the first one; a last line still being written is
    left out.
    """
    path = store.folder_of(run) / paths.METRICS
    if not path.exists():
        return []
    lines = run_files.read(path).split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):  # what follows the last line end is empty or torn
                break
            raise ValueError(f"{path} is damaged in line {number}: {error}") from None
    return rows


def curve(run: str | Path) -> list[dict[str, Any]]:
    """WER on held-out speech that this training noted: rows {"audio_hours", "wer": {pass:
    {corpus: rate}}}.
    """
    return [
        {"audio_hours": round(r["audio_hours"], 2), "wer": r["wer"]}
        for r in metrics(run)
        if r.get("wer")
    ]


def learning(run: str | Path) -> list[dict[str, Any]]:
    """The curves of all stages as one, over the hours of training audio since the first
    began; each row has its "stage", too.
    """
    rows, before = [], 0.0
    for number, stage in enumerate(stages(run), 1):
        rows += [
            {**r, "stage": number, "audio_hours": before + r["audio_hours"]}
            for r in stage.get("curve") or []
        ]
        before += stage.get("audio_hours") or 0.0
    return rows


def stages(run: str | Path) -> list[dict[str, Any]]:
    """The trainings up to a run, as far as they are here: "run", "method", "updates",
    "audio_hours", "seconds",
    "training_tmacs" (10^12 multiply-accumulates executed), "hardware", "curve".
    """
    folder = store.folder_of(run)
    if (folder / paths.CHAIN).is_file():
        return run_files.read_json(folder / paths.CHAIN)["stages"]
    recipe = store.recipe(folder)
    before = recipe.init_from
    here = [
        p
        for p in (paths.RELEASED / before, paths.runs() / before)
        if before and p != folder and (p / paths.RECIPE).is_file()
    ]
    done = (
        run_files.read_json(folder / paths.FINISHED) if (folder / paths.FINISHED).is_file() else {}
    )
    facts = {
        n: done.get(n) for n in ("updates", "audio_hours", "seconds", "training_tmacs", "hardware")
    }
    earlier = (
        stages(here[0]) if here else [{"run": before}] if before else []
    )  # gone: what it took is not known
    return [
        *earlier,
        {"run": folder.name, "method": recipe.method.name, **facts, "curve": curve(folder)},
    ]
