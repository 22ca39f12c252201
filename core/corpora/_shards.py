"""Speech made here and kept in numbered shards of many utterances, each by a fresh child process.

A folder holds <split>-<number>.flac and its index .jsonl, written last: first {"bytes", "seconds"},
then a row per utterance, or a row with a "reason" for what could not be spoken. A shard is made
whole or not at all, so a killed process or a full disk costs the shards in the making alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.common import machine, reading, stages, writing
from core.common.writing import os_errors
from core.records import CountCallback
from core.speech import shards
from core.storage import speeds

COMPRESSION = 0.4  # of FLAC, 0..1
Row = dict[str, Any]
Work = Callable[
    [str, range], Iterable[tuple[Row, np.ndarray | None]]
]  # (split, utterances) -> (row, samples float32 [N] at 16 kHz; None where the row has a reason)


@dataclass(frozen=True)
class Shards:
    """`work` goes to other processes: a module-level function or a partial of one."""

    name: str  # of the corpus, for messages
    folder: Path
    size: int  # utterances of a shard
    work: Work
    processes: int = 0  # 0 = one per usable core

    def rows(
        self, split: str, count: int | None, limit: float | None, progress: CountCallback
    ) -> Iterator[Row]:
        """Rows of the shards from the first on, "audio" an absolute path; makes as many as `count`
        utterances or `limit` s need.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = list(range(-(-count // self.size))) if count is not None else []
        self.make_missing(split, numbers, progress)
        if limit is not None:
            numbers = self._reaching(split, limit, progress)
        for number in numbers:
            for row in self.index(split, number)[1:]:
                yield {**row, "audio": str(self.audio(split, number))}

    def _reaching(self, split: str, limit: float, progress: CountCallback) -> list[int]:
        """Shards that hold `limit` s: their length is known only when made, so guess, look and make
        more.
        """
        numbers = self.make_missing(split, [0], progress)
        while (have := sum(self._head(split, n)["seconds"] for n in numbers)) < limit:
            if not have:
                reason = next((row["reason"] for row in self.index(split, 0)[1:]), "no utterances")
                raise ValueError(f"{self.name}: nothing of {split} could be spoken: {reason}")
            more = max(1, int((limit - have) / (have / len(numbers)) + 0.5))
            numbers = self.make_missing(split, list(range(len(numbers) + more)), progress)
        return numbers

    def make_missing(self, split: str, numbers: list[int], progress: CountCallback) -> list[int]:
        """These shards, after making those that are missing."""
        missing = [n for n in numbers if not self.whole(split, n)]
        most = self.processes or machine.cores()
        files = f"{stages.SPEECH}: {{}} of {{}} files, making {split} of {self.name}"
        running: list[tuple[Any, Any]] = []  # (process, its end of the pipe)
        done = len(numbers) - len(missing)
        try:
            while missing or running:
                progress(done, len(numbers), files.format(done, len(numbers)))
                while missing and len(running) < most:
                    running.append(_start(self, split, missing.pop(0)))
                wait([process.sentinel for process, _ in running])
                for pair in [pair for pair in running if not pair[0].is_alive()]:
                    running.remove(pair)
                    _ended(split, *pair)
                    done += 1
                    progress(done, len(numbers), files.format(done, len(numbers)))
        finally:
            for process, _ in running:
                process.kill()
        return numbers

    def try_speed(self, split: str, utterances: int) -> None:
        """Make a few utterances aside and throw them away: what it cost is noted, as always."""
        with tempfile.TemporaryDirectory() as folder:
            few = replace(self, folder=Path(folder), size=utterances)
            few.make_missing(split, [0], lambda *_: None)

    def audio(self, split: str, number: int) -> Path:
        return self.folder / f"{split}-{number:05d}.flac"

    def index(self, split: str, number: int) -> list[Row]:
        """The shard's head, then its rows."""
        text = self.audio(split, number).with_suffix(".jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in reading.lines(text)]

    def _head(self, split: str, number: int) -> Row:
        with open(self.audio(split, number).with_suffix(".jsonl"), encoding="utf-8") as lines:
            return json.loads(next(lines))

    def whole(self, split: str, number: int) -> bool:
        """Marker there, and the audio as long as the marker says."""
        audio = self.audio(split, number)
        if not audio.is_file() or not audio.with_suffix(".jsonl").is_file():
            return False
        return self._head(split, number)["bytes"] == audio.stat().st_size

    def make(self, split: str, number: int) -> None:
        """One shard: audio written aside and renamed, then the index as marker. Runs in a fresh
        process. Two that make the same shard at once replace equal files by equal ones.
        """
        target = self.audio(split, number)
        for old in target.parent.glob(f"{target.name}.tmp-*"):
            if not _alive(int(old.name.rpartition("-")[2])):
                old.unlink(missing_ok=True)
        aside = target.with_name(f"{target.name}.tmp-{os.getpid()}")
        try:
            began = time.monotonic()
            rows, seconds = self._write(aside, split, number)
            head = {"bytes": aside.stat().st_size, "seconds": seconds}
            speeds.note(f"{stages.SPEECH} {self.name}", seconds, time.monotonic() - began)
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        writing.write_lines(target.with_suffix(".jsonl"), [head, *rows])

    def _write(self, aside: Path, split: str, number: int) -> tuple[list[Row], float]:
        """(rows, seconds) of a shard whose audio is now in `aside`."""
        rows: list[Row] = []
        position, rate = 0, shards.SAMPLE_RATE
        form = {"subtype": "PCM_16", "format": "FLAC", "compression_level": COMPRESSION}
        with (
            os_errors(aside, soundfile.SoundFileError),
            soundfile.SoundFile(aside, "w", rate, 1, **form) as file,
        ):
            for row, samples in self.work(
                split, range(number * self.size, (number + 1) * self.size)
            ):
                if samples is None:
                    rows.append(row)
                    continue
                file.write(samples)
                rows.append({**row, "offset": position / rate, "seconds": len(samples) / rate})
                position += len(samples)
        return rows, position / rate


def _start(shards: Shards, split: str, number: int) -> tuple[Any, Any]:
    """A fresh process that makes one shard, and the pipe which tells why if it cannot."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(theirs, shards, split, number), daemon=True)
    process.start()
    theirs.close()
    return process, pipe


def _process(pipe: Any, shards: Shards, split: str, number: int) -> None:
    try:
        shards.make(split, number)
    except Exception as error:  # a full disk is said in words by whoever catches the OSError
        expected = isinstance(error, (OSError, ValueError))
        pipe.send(error if expected else traceback.format_exc())
        raise SystemExit(1) from None


def _ended(split: str, process: Any, pipe: Any) -> None:
    """Raises what ended a process, if not its work."""
    process.join()
    if not process.exitcode:
        return
    try:
        problem = pipe.recv()
    except EOFError:  # it had no time to say anything
        problem = "it was killed: too little memory?"
    raise (
        problem
        if isinstance(problem, Exception)
        else RuntimeError(
            f"a process making {split} speech ended with {process.exitcode}: {problem}"
        )
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True
