"""Features of many utterances, by several processes in order, one after another. No corpora.

Letters: F frames of 10 ms. A sound that cannot be used becomes a reason, never an exception, even
when decoding it ends the process.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.common import machine, stages
from core.data.prepared import MARKER, TRAIN, Prepared, Row, Statistics, features_file
from core.records import CountCallback, Utterance
from core.speech import audio, features
from core.speech.frontends import base as frontends
from core.storage import speeds

CHUNK = 16  # utterances per message to a process
WAITING = 4  # messages under way per process: bounds the memory
INLINE = 64  # fewer utterances are not worth starting processes for
REPORT_S = 1.0  # between two reports
NOTED_S = 60.0  # of sound: the speed of less says nothing
STD_FLOOR = 1e-3  # of a bin that never changes


@dataclass(frozen=True)
class Task:
    """A stretch of sound and the speeds its features are wanted at."""

    path: str
    offset: float
    seconds: float
    speeds: tuple[float, ...]
    kind: str = frontends.USUAL  # of features


@dataclass(frozen=True)
class Extracted:
    """Features float16 [F, 80] by speed, the length in s that was decoded, and sentences on what
    was changed in the sound.
    """

    seconds: float
    features: dict[float, np.ndarray]
    changes: tuple[str, ...] = ()


def extract_one(task: Task) -> Extracted | str:
    """The features of one stretch, or why there are none."""
    changes: list[str] = []
    try:
        samples = audio.read(task.path, task.offset, task.seconds, note=changes.append)
        frontend = frontends.load(task.kind)
        by_speed = {
            speed: frontend.in_bulk(audio.speed(samples, speed)).astype(np.float16)
            for speed in task.speeds
        }
    # one bad item must never end a preparation of hours: it is listed with its reason
    except Exception as error:
        return audio.why(task.path, error)
    return Extracted(len(samples) / audio.SAMPLE_RATE, by_speed, tuple(changes))


def _extract_many(tasks: Sequence[Task]) -> list[Extracted | str]:
    return [extract_one(task) for task in tasks]


def extract(tasks: Iterable[Task], processes: int | None = None) -> Iterator[Extracted | str]:
    """The result of every task, in order; at most `processes` (None: all cores) work at it."""
    processes = processes or machine.cores()
    tasks = iter(tasks)
    first = list(itertools.islice(tasks, INLINE))
    if len(first) < INLINE or processes == 1:
        yield from map(extract_one, itertools.chain(first, tasks))
        return
    chunks = _chunks(itertools.chain(first, tasks))
    unfinished: deque[list[Task]] = deque()
    while True:
        try:
            yield from _pooled(chunks, unfinished, processes)
            return
        except BrokenProcessPool:
            # one of them ended its process
            yield from _one_by_one(task for chunk in unfinished for task in chunk)
            unfinished.clear()


def _chunks(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    while chunk := list(itertools.islice(tasks, CHUNK)):
        yield chunk


def _pool(processes: int) -> ProcessPoolExecutor:
    # spawned, not forked: the parent may hold torch's threads and their locks; one process is one
    # thread of numpy's
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    """A killed preparation leaves no processes behind that wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a process of the pool

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _pooled(
    chunks: Iterator[list[Task]], unfinished: deque[list[Task]], processes: int
) -> Iterator[Extracted | str]:
    """Results in order; `unfinished` always holds the chunks whose results were not yielded
    whole.
    """
    with _pool(processes) as pool:
        futures: deque[Future] = deque()
        for chunk in chunks:
            unfinished.append(chunk)
            futures.append(pool.submit(_extract_many, chunk))
            if len(futures) >= WAITING * processes:
                results = futures.popleft().result()
                unfinished.popleft()
                yield from results
        while futures:
            results = futures.popleft().result()
            unfinished.popleft()
            yield from results


def _one_by_one(tasks: Iterable[Task]) -> Iterator[Extracted | str]:
    """Results of tasks of which some end their process: those become reasons, and a new process
    goes on.
    """
    pool = _pool(1)
    for task in tasks:
        try:
            yield pool.submit(extract_one, task).result()
        except BrokenProcessPool:
            pool.shutdown()
            pool = _pool(1)
            yield f"{task.path}: decoding it ended the process; the file is damaged"
    pool.shutdown()


class Writer:
    """Appends features to one file per speed; adds up the statistics of clean training speech."""

    def __init__(self, folder: Path, speeds: Iterable[float]):
        self._files = {speed: (folder / features_file(speed)).open("wb") for speed in speeds}
        self._frames = dict.fromkeys(self._files, 0)
        self._count, self._sum, self._squares = 0, np.zeros(features.BINS), np.zeros(features.BINS)

    def append(
        self, by_speed: dict[float, np.ndarray], clean_training: bool
    ) -> dict[float, tuple[int, int]]:
        """Stores features by speed; returns {speed: (first frame, frames)}."""
        places = {}
        for speed, array in by_speed.items():
            array.tofile(self._files[speed])
            places[speed] = (self._frames[speed], len(array))
            self._frames[speed] += len(array)
        if clean_training:
            clean = by_speed[1.0].astype(np.float64)
            self._count += len(clean)
            self._sum += clean.sum(axis=0)
            self._squares += np.einsum("fb,fb->b", clean, clean)
        return places

    def close(self) -> None:
        """Everything is on the disk after this."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def statistics(self) -> Statistics:
        """Mean and standard deviation of the training frames; ValueError if there were none."""
        if not self._count:
            raise ValueError(
                "no training speech to compute feature statistics from: the split 'train' is empty"
            )
        mean = self._sum / self._count
        std = np.sqrt(np.maximum(self._squares / self._count - mean**2, STD_FLOOR**2))
        return Statistics(mean.astype(np.float32), std.astype(np.float32))


class Earlier:
    """Features in folders that were prepared before with the same settings: other tokens or more
    hours need no new
    ones for what is there.
    """

    def __init__(self, prepared: Path, settings: dict[str, Any]):
        self._places: dict[tuple, tuple[Prepared, Row]] = {}
        for marker in sorted(prepared.glob(f"*/{MARKER}")):
            try:
                folder = Prepared(marker.parent)
                if folder.info["features"] == settings:
                    self._places.update(
                        {
                            _place(row): (folder, row)
                            for split in folder.splits
                            for row in folder.rows(split)
                        }
                    )
            except (ValueError, KeyError, TypeError):
                continue  # damaged or of an older version: made anew, not trusted

    def find(
        self, utterance: Utterance, stamp: str, speeds: Sequence[float]
    ) -> Callable[[], Extracted] | None:
        """A function that reads the features of the same stretch of the same file at these speeds,
        or None.
        """
        place = (utterance.audio, utterance.offset, utterance.seconds, stamp)
        if place not in self._places:
            return None
        folder, row = self._places[place]
        if not set(speeds) <= set(row.frames):
            return None
        return lambda: Extracted(
            row.seconds, {speed: folder.features(row, speed) for speed in speeds}
        )


def _place(row: Row) -> tuple:
    return row.audio, row.offset, row.asked, row.stamp


@dataclass(frozen=True)
class Extraction:
    """Features of a corpus: read from folders prepared earlier where the sound is the same, else
    computed from it.
    """

    speeds: tuple[float, ...]
    stamps: dict[str, str]  # {audio file: its fingerprint}
    progress: CountCallback
    processes: int | None
    kind: str = frontends.USUAL  # of features

    def run(
        self, utterances: dict[str, list[Utterance]]
    ) -> Iterator[tuple[str, Utterance, Extracted | str]]:
        """Every utterance, in order, with its features or the reason why it has none."""
        work = [
            (split, u, Task(u.audio, u.offset, u.seconds, self.speeds_of(split), self.kind))
            for split, of_split in utterances.items()
            for u in of_split
        ]
        earlier = Earlier(paths.prepared(), frontends.load(self.kind).settings())
        known = [earlier.find(u, self.stamps[u.audio], task.speeds) for _, u, task in work]
        fresh = extract(
            (task for (*_, task), stored in zip(work, known) if stored is None), self.processes
        )
        hours = sum(u.seconds for _, u, _ in work) / 3600
        started = reported = time.monotonic()
        seconds = computed = 0.0
        self.progress(0, len(work), stages.counted(stages.FEATURES, 0, hours, "h"))
        for number, ((split, utterance, task), stored) in enumerate(zip(work, known), 1):
            yield split, utterance, next(fresh) if stored is None else _stored(stored, task)
            seconds += utterance.seconds
            computed += len(task.speeds) * utterance.seconds if stored is None else 0.0
            now = time.monotonic()
            if now - reported > REPORT_S or number == len(work):
                reported = now
                rate = f"{seconds / max(1e-3, now - started):.0f} times real time"
                done = stages.counted(stages.FEATURES, seconds / 3600, hours, "h", rate)
                self.progress(number, len(work), done)
        if computed > NOTED_S:
            used = self.processes or machine.cores()
            speeds.note(stages.FEATURES, computed, (now - started) * used)

    def speeds_of(self, split: str) -> tuple[float, ...]:
        return self.speeds if split == TRAIN else (1.0,)


def _stored(read: Callable[[], Extracted], task: Task) -> Extracted | str:
    """Features prepared earlier, or computed again where those are damaged."""
    try:
        return read()
    except ValueError:
        return extract_one(task)
