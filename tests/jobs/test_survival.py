"""What a job survives, for real: a disk that is full to the last byte, and a machine that
reboots.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import paths
from core.jobs import queue, queue as jobs
from core.pipelines import train as pipelines_train
from core.pipelines.resolved import ResolvedRecipe
from core.records import as_dict
from core.storage import metrics, store
from core.training import checkpoints
from tests import filling
from tests.conftest import ROOT
from tests.jobs.test_jobs import dead, wait

pytestmark = pytest.mark.slow

OWN_DISK = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
]  # a mount that only the command sees; needs no rights


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, spoken_once):
    """The run of the same recipe to which nothing has happened."""
    home = tmp_path_factory.mktemp("undisturbed")
    (home / "prepared").mkdir()
    (home / "prepared" / "corpora").symlink_to(spoken_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(home))
        return pipelines_train.train(filling.recipe(), lambda *_: True)


def test_a_full_disk_fails_the_job_in_words_and_it_goes_on_when_there_is_room(
    tmp_path, spoken_once, undisturbed
):
    (tmp_path / "try").mkdir()
    tried = subprocess.run(
        [*OWN_DISK, "mount", "-t", "tmpfs", "none", str(tmp_path / "try")],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"nobody may mount a small disk of his own here: {tried.stderr.strip()}")
    folders = (tmp_path, spoken_once, undisturbed)
    done = subprocess.run(
        [*OWN_DISK, sys.executable, "-m", "tests.filling", *map(str, folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["state"] == "failed", facts
    assert facts["error"].splitlines()[-1].startswith("the disk is full"), facts
    assert facts["worker"] == 0, facts
    assert facts["listed"] == 1, facts
    assert facts["readable"], facts
    assert 0 < facts["step"] < filling.UPDATES, facts
    assert facts["then"] == "done", facts
    assert facts["rows"] == [1, *range(2, filling.UPDATES + 1, 2)], facts
    assert facts["reports"] == 1, facts
    assert facts["same"], facts
    assert facts["named"], facts
    assert facts["spare"], facts


@pytest.fixture
def start():
    """Begins the worker."""
    started = []

    def begin() -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "core.jobs.worker", "--idle-minutes", "0"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def power_goes(start) -> tuple[int, Path, int]:
    """(job, its run, update of its newest checkpoint) of a training whose worker and process are
    gone without a word.
    """
    number = jobs.add("train", {"recipe": as_dict(filling.recipe())})
    worker = start()
    wait(lambda: queue.get(number).run, 60)
    run = paths.runs() / queue.get(number).run
    wait(lambda: (checkpoints.load(run) or (0, {"step": 0}))[1]["step"] >= 8, 60)
    child = queue.get(number).pid
    worker.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    worker.wait()
    wait(lambda: dead(child))
    return number, run, checkpoints.load(run)[1]["step"]


def rebooted(number: int, seconds: float) -> None:
    """As `seconds` after the last heartbeat; the worker's number is that of this process now."""
    host, _, word = queue.get(number).worker.split(":")
    name, heartbeat = f"{host}:{os.getpid()}:{word}", time.time() - seconds
    with contextlib.closing(sqlite3.connect(paths.jobs_database())) as db, db:
        db.execute("update jobs set worker = ?, heartbeat = ?", (name, heartbeat))
        db.execute("update worker set name = ?, heartbeat = ?", (name, heartbeat))


def assert_went_on(run: Path, reached: int) -> None:
    """Its log counts on, or again from after the checkpoint of update `reached`."""
    assert 8 <= reached < filling.UPDATES
    lines = (run / paths.LOG).read_text().splitlines()
    steps = [int(line.split("/")[0].removeprefix("update ")) for line in lines]
    again = [b for a, b in zip(steps, steps[1:]) if b <= a]
    assert not again or again[0] > reached, (reached, steps)
    assert steps[-1] == filling.UPDATES, (reached, steps)


def test_after_a_reboot_the_job_goes_on_from_its_checkpoint(start, spoken, undisturbed):
    """Power goes: nobody says goodbye. Afterwards the worker's number is another program's, so only
    the heartbeat tells.
    """
    named = pipelines_train.identify(ResolvedRecipe(filling.recipe()), lambda *_: True)[2]
    number, run, reached = power_goes(start)
    assert run.name == named
    rebooted(number, 5.0)
    early = start()
    assert early.wait(30) == 0
    assert "another worker" in early.stdout.read()
    assert queue.get(number).state == "running"
    rebooted(number, queue.STALE_S + 1.0)
    assert start().wait(200) == 0
    job = queue.get(number)
    assert (job.state, job.run) == ("done", run.name), job
    assert job.attempts == 1, "it had got further: this death does not count"
    assert_went_on(run, reached)
    assert (run / paths.WEIGHTS).read_bytes() == (undisturbed / paths.WEIGHTS).read_bytes()
    losses, alone = ([row["loss"] for row in metrics.metrics(f)] for f in (run, undisturbed))
    assert losses == alone
    assert store.reports(run)
