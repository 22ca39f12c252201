"""A disk that is full while a job trains: `python -m tests.filling FOLDER CORPORA UNDISTURBED`, as
a process that may mount a small disk of its own; the speech lies in CORPORA.

The queue, the run and the logs lie on that disk. It is filled to the last byte in the midst of a
training, room is made again after the job has failed, and the job is resumed. Prints what was seen
on the way, and whether the weights are those of the run UNDISTURBED.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from core import paths
from core.data.source import SpeechRecipe
from core.jobs import queue, queue as jobs
from core.pipelines import speech as pipelines_speech, train as pipelines_train
from core.pipelines.resolved import ResolvedRecipe
from core.records import as_dict
from core.storage import metrics as history, store
from core.training import checkpoints
from tests.conftest import ROOT
from tests.pipelines.test_experiment import recipe as given

UPDATES = 120


def recipe():
    made = given("gradual_magnitude", {"sparsity": 0.5, "refresh": 10})
    return replace(
        made,
        training=made.training
        | {
            "updates": UPDATES,
            "checkpoint_every": 4,
            "batch_seconds": 6.0,
            "wer_every": 0,
            "snapshots": 0,
        },
    )


def wait(condition, what: str, seconds: float = 300.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}: {queue.list_jobs()}")
        time.sleep(0.05)
    return found


def fill(file: Path) -> None:
    """Until not a byte more fits; all at once, so that it does not take what is given up for a
    full disk meanwhile. What the training has taken since the room was read is asked for again.
    """
    with file.open("wb") as out:
        while room := os.statvfs(file).f_bavail:
            with contextlib.suppress(OSError):
                os.posix_fallocate(out.fileno(), 0, room * os.statvfs(file).f_frsize)
                return


def worker() -> subprocess.Popen:
    with open(paths.worker_log(), "ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "core.jobs.worker", "--idle-minutes", "0"],
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )


def state(number: int, *wanted: str) -> queue.Job | None:
    job = queue.get(number)
    return job if job.state in wanted else None


def main(home: Path, corpora: Path, undisturbed: Path) -> None:
    disk = home / "disk"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
    os.environ["SUPERNET_ARTIFACTS"] = str(disk / "artifacts")
    paths.prepared().mkdir(parents=True)
    (paths.prepared() / "corpora").symlink_to(corpora)
    pipelines_speech.prepare(SpeechRecipe.of(recipe()), lambda *_: True)
    number = jobs.add("train", {"recipe": as_dict(recipe())})
    process = worker()
    run = wait(lambda: queue.get(number).run, "a run")
    wait(
        lambda: (checkpoints.load(paths.runs() / run) or (0, {"step": 0}))[1]["step"],
        "a checkpoint",
    )
    fill(disk / "filler")
    job = wait(lambda: state(number, "failed", "done", "cancelled"), "the failure")
    facts = {
        "state": job.state,
        "error": job.error,
        "worker": process.wait(100),
        "listed": len(queue.list_jobs()),
        "readable": (
            store.runs()[-1].id == run
            and len(history.metrics(run)) > 0
            and not store.runs()[-1].broken
        ),
        "step": checkpoints.load(paths.runs() / run)[1]["step"],
    }
    (disk / "filler").unlink()
    queue.resume(number)
    worker().wait(300)
    facts |= {
        "then": queue.get(number).state,
        "why": queue.get(number).error,
        "rows": [r["step"] for r in history.metrics(run)],
        "reports": len(store.reports(run)),
        "spare": paths.jobs_database().with_name("jobs.db.spare").exists(),
    }
    facts["same"] = (paths.runs() / run / paths.WEIGHTS).read_bytes() == (
        undisturbed / paths.WEIGHTS
    ).read_bytes()
    facts["named"] = pipelines_train.identify(ResolvedRecipe(recipe()), lambda *_: True)[2] == run
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
