"""The queue and what surrounds a job: latency, jobs per second, evaluation on two processes over
one, a checkpoint, the way over Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.jobs import queue
from core.records import option
from core.registry import recipes
from core.storage import store

TITLE = "background jobs"
MODULE = {"SUPERNET_JOB_MODULE": "core.bench._jobs_that_do_nothing"}
MEANING = {
    "claimed_ms": "queued to claimed by a waiting worker, median, ms",
    "started_s": "queued to the job's function at work (a new Python process), median, s",
    "jobs_per_second": "jobs added by all writers at once, per second",
    "lost": "of them lost",
    "evaluation_two_over_one": (
        "speech heard per second by two processes of one thread over one such process"
    ),
    "checkpoint_over_update": "a checkpoint's time over an update's",
    "checkpoint_share": (
        "share of a training spent on checkpoints, at the recipe's checkpoint_every"
    ),
    "ray_job_s": (
        "the same job on a Ray cluster of this machine: queued to finished and known here,"
        " median, s"
    ),
    "update_ms": "an update of a tiny training by one process, ms",
    "ray_update_ms": "the same by one process of Ray Train, ms",
}


@dataclass(frozen=True)
class Options:
    jobs: int = option(10, "jobs whose latency is measured", low=1, high=1000)
    writers: int = option(8, "processes that add jobs at once", low=1, high=64)
    each: int = option(50, "jobs that each of them adds", low=1, high=10000)
    run: str = option("", "run whose densest size is evaluated; empty: the first released one")
    recipe: str = option("commands_and_books_omni", "recipe whose checkpoint and update are timed")
    ray_jobs: int = option(
        3,
        "jobs that do nothing on a Ray cluster of this machine, started for it; 0 = none",
        low=0,
        high=100,
    )
    ray_updates: int = option(
        300, "updates of a tiny training there and here; 0 = none", low=0, high=100_000
    )


def run(options: Options) -> dict[str, Any]:
    """Measures in temporary folders and prints a table; ValueError where no run is there to
    evaluate.
    """
    name = options.run or next((info.id for info in store.runs() if info.finished), "")
    if not name:
        raise ValueError("there is no finished run to evaluate: train one first")
    from core.storage import packing

    data = packing.pack(store.run_folder(name), min(store.subnets(name), key=lambda s: s.sparsity))
    figures: dict[str, Any] = {}
    with _own_queue():
        figures |= _latency(options.jobs)
    with _own_queue():
        figures |= _writers(options.writers, options.each)
    figures |= (
        _evaluation(data)
        | _checkpoint(options.recipe)
        | _on_ray(options.ray_jobs, options.ray_updates)
    )
    print(TITLE, *table(figures), sep="\n", file=sys.stderr)
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """Lines for people; a figure that was not measured has none."""
    width = max(map(len, MEANING.values()))
    return [
        f"  {text:<{width}}  {figures[name]:>8g}"
        for name, text in MEANING.items()
        if name in figures
    ]


def _on_ray(count: int, updates: int) -> dict[str, Any]:
    """What came of it until it failed, and why: the figures before it took minutes, too."""
    if not count and not updates:
        return {}
    if importlib.util.find_spec("ray") is None:
        print(
            "Ray is not installed (tests/requirements.txt): what its way costs was not measured",
            file=sys.stderr,
        )
        return {}
    from core.bench import _jobs_on_ray

    figures: dict[str, Any] = {}
    with _own_queue() as folder:
        try:
            _jobs_on_ray.measure(folder, count, updates, MODULE, figures)
        except Exception as error:  # Ray has many
            figures["ray_failed"] = f"{type(error).__name__}: {error}"
            print(
                f"what its way costs was not measured whole: {figures['ray_failed']}",
                file=sys.stderr,
            )
    return figures


@contextlib.contextmanager
def _own_queue() -> Iterator[Path]:
    """An empty queue in a temporary folder."""
    before = os.environ.get("SUPERNET_ARTIFACTS")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SUPERNET_ARTIFACTS"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("SUPERNET_ARTIFACTS")
            if before is not None:
                os.environ["SUPERNET_ARTIFACTS"] = before


def _latency(count: int) -> dict[str, float]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "core.jobs.worker"],
        cwd=paths.ROOT,
        env=os.environ | MODULE,
        stdout=subprocess.DEVNULL,
    )
    try:
        _until(queue.worker_alive)
        numbers = []
        for _ in range(count):
            numbers.append(queue.add("prepare", {}))
            _until(lambda: queue.get(numbers[-1]).state == "done")
    finally:
        worker.terminate()
        worker.wait()
    done = [queue.get(n) for n in numbers]
    return {
        "claimed_ms": round(1000 * statistics.median(j.started - j.created for j in done), 1),
        "started_s": round(statistics.median(j.ended - j.created for j in done), 3),
    }


def _until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"nothing happened within {seconds:g} s")
        time.sleep(0.02)


def _add_many(count: int) -> None:
    for _ in range(count):
        queue.add("prepare", {})


def _writers(writers: int, each: int) -> dict[str, float]:
    with ProcessPoolExecutor(writers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_add_many, [1] * writers))  # processes are up before the clock runs
        before, began = len(queue.list_jobs(10**6)), time.perf_counter()
        list(pool.map(_add_many, [each] * writers))
        took = time.perf_counter() - began
    return {
        "jobs_per_second": round(writers * each / took, 1),
        "lost": before + writers * each - len(queue.list_jobs(10**6)),
    }


def _hear(data: bytes, seconds: float, at: float) -> float:
    """Transcribe so many seconds of noise with one thread, beginning at the time `at`; the time of
    its end.
    """
    from core import runtime

    transcripts = runtime.load(data, engine="torch", threads=1)
    features = [
        np.random.default_rng(i).normal(-8.0, 3.0, (1000, 80)).astype(np.float32)
        for i in range(round(seconds / 10))
    ]
    time.sleep(max(0.0, at - time.time()))
    transcripts.transcribe(features)
    return time.time()


def _evaluation(data: bytes, seconds: float = 300.0) -> dict[str, float]:
    """As search and evaluation spread over processes: the same speech by one, then by each of two
    at once.
    """
    took = []
    for count in (1, 2):
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            at = time.time() + 15.0  # both have loaded by then
            ends = [pool.submit(_hear, data, seconds, at) for _ in range(count)]
            took.append(max(e.result() for e in ends) - at)
    return {"evaluation_two_over_one": round(2 * took[0] / took[1], 2)}


def _checkpoint(name: str) -> dict[str, float]:
    from core.pipelines import build, dry_run
    from core.pipelines.resolved import ResolvedRecipe
    from core.training.trainer import Trainer

    recipe = dataclasses.replace(recipes.load_recipe(name), init_from="")
    resolved = ResolvedRecipe(recipe)
    settings = resolved.training
    model, method = build.build(resolved.built(29), 29, settings.updates)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, method, None, settings, recipe.seed, Path(folder))
        updates, checkpoints = [], []
        for i in range(4):
            batch = dry_run.synthetic_batch(settings.batch_seconds, 29, True, i)
            began = time.perf_counter()
            trainer.update(batch.to(trainer.device))
            between = time.perf_counter()
            trainer.checkpoint()
            updates.append(between - began)
            checkpoints.append(time.perf_counter() - between)
    update, checkpoint = statistics.median(updates[1:]), statistics.median(checkpoints[1:])
    return {
        "checkpoint_over_update": round(checkpoint / update, 2),
        "checkpoint_share": round(
            checkpoint / (checkpoint + update * settings.checkpoint_every), 5
        ),
    }
