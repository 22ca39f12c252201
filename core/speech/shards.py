"""Audio made here and kept: one file per speaker with many utterances in it, an index, a marker;
made once.

Knows nothing about how the samples come about: `work(task)` gives them. Layout of a folder: <task
name>.<flac|opus>, index.jsonl (one row per utterance: id, split, audio, offset, seconds, text,
speaker, ...; or id, split, reason for what could not be made) and made.json, written last.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.common import machine
from core.common.writing import beside, os_errors
from core.records import CountCallback

SAMPLE_RATE = 16000
INDEX, MADE = "index.jsonl", "made.json"
SPACE = SAMPLE_RATE // 10  # silence between utterances of one file: a seek never touches a neighbor
FORMATS = {
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}


@dataclass(frozen=True)
class Recording:
    """One utterance in the making: its row (id, split, text, speaker, ...) and its samples float32
    [N] at 16 kHz;
    None where it could not be made, `row["reason"]` then says why.
    """

    row: dict[str, Any]
    samples: np.ndarray | None


def digest(data: Any) -> str:
    """16 hex digits of sha256 over JSON data: the name of what is made from it."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]


def make(
    folder: Path,
    tasks: dict[str, Any],
    work: Callable[[Any], Iterable[Recording]],
    *,
    ending: str = "flac",
    processes: int = 0,
    progress: CountCallback | None = None,
    about: dict | None = None,
) -> Path:
    """`folder` filled with what `work` makes of each task {file name: task}; at once if it is
    already there.

    `work` and the tasks go to other processes: module-level functions or partials, picklable data.
    `processes` 0 means
    one per usable core. Another process making the same folder does no harm: the first one wins.
    """
    if (folder / MADE).is_file():
        return folder
    if ending not in FORMATS:
        raise ValueError(f"audio format is '{ending}'; allowed are {sorted(FORMATS)}")
    aside = beside(folder)
    aside.mkdir(parents=True)
    try:
        rows = sorted(
            _run(aside, tasks, work, ending, processes, progress, folder.name),
            key=lambda row: (row["split"], row["id"]),
        )
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (aside / INDEX).write_text(text, encoding="utf-8")
        good = [row for row in rows if "reason" not in row]
        summary = {
            "utterances": len(good),
            "dropped": len(rows) - len(good),
            "seconds": round(sum(row["seconds"] for row in good), 2),
            **(about or {}),
        }
        (aside / MADE).write_text(json.dumps(summary, indent=1), encoding="utf-8")
        _move(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def rows(folder: Path, split: str | None = None) -> Iterator[dict[str, Any]]:
    """The index, of one split or all; `audio` is an absolute path."""
    with open(folder / INDEX, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if split is None or row["split"] == split:
                if "audio" in row:
                    row["audio"] = str(folder / row["audio"])
                yield row


def safe(name: str) -> str:
    """A file name for any speaker or split: odd characters become _ and a short digest keeps them
    apart.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return plain if plain == name and len(name) <= 80 else f"{plain[:80]}-{digest(name)[:6]}"


def _run(
    aside: Path, tasks: dict[str, Any], work, ending: str, processes: int, progress, text: str
) -> list[dict]:
    """Rows of all tasks, each task's audio written to `aside`."""
    tell = progress or (lambda done, total, text: None)
    count = min(processes or machine.cores(), len(tasks))
    rows: list[dict] = []
    if count <= 1:
        for done, (name, task) in enumerate(tasks.items(), 1):
            rows += _write_file(aside, name, task, work, ending)
            tell(done, len(tasks), text)
        return rows
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_write_file, aside, name, task, work, ending)
            for name, task in tasks.items()
        ]
        for done, future in enumerate(as_completed(waiting), 1):
            rows += future.result()
            tell(done, len(tasks), text)
    return rows


def _write_file(aside: Path, name: str, task: Any, work, ending: str) -> list[dict]:
    """One file: the pieces of a task after each other with SPACE before, between and after."""
    space, rows, parts, position = np.zeros(SPACE, np.float32), [], [], SPACE
    for piece in work(task):
        if piece.samples is None:
            rows.append(piece.row)
            continue
        samples = len(piece.samples)
        rows.append(
            {
                **piece.row,
                "audio": f"{name}.{ending}",
                "offset": position / SAMPLE_RATE,
                "seconds": samples / SAMPLE_RATE,
            }
        )
        parts += [space, piece.samples]
        position += samples + SPACE
    if parts:
        file = aside / f"{name}.{ending}"
        with os_errors(file, soundfile.SoundFileError):
            soundfile.write(file, np.concatenate([*parts, space]), SAMPLE_RATE, **FORMATS[ending])
    return rows


def _move(aside: Path, folder: Path) -> None:
    """Puts the finished folder in place; a half-made one of an earlier format is replaced, a
    finished one kept.
    """
    if folder.exists() and not (folder / MADE).is_file():
        shutil.rmtree(folder)
    try:
        aside.rename(folder)
    except OSError:
        if not (folder / MADE).is_file():
            raise
