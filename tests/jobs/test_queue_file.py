"""The queue's file when it is damaged: kept aside once, said, an empty one in its place; and when
it only cannot be used: left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import time

import pytest

from core import paths
from core.cli import main as cli
from core.jobs import database, leases, queue, seat, spare
from tests.conftest import ROOT
from tests.jobs.test_jobs import PATIENCE_S, stub, wait  # noqa: F401 - a fixture

PAGE = 4096
LIMITED = """
import resource, signal, sys
from core.jobs import database, queue
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # as a full disk: no file may grow beyond
try:
    queue.add("train", {"note": "x" * 100_000})
except database.QueueError as error:
    sys.exit(f"said: {error}")
"""


@pytest.fixture
def filled():
    """A queue of several pages with long and short jobs, closed; its path."""
    queue.list_jobs()
    with contextlib.closing(sqlite3.connect(paths.jobs_database())) as db, db:
        db.executemany(
            "insert into jobs (kind, payload, state, created) values ('train', ?, 'queued', 1.0)",
            [(json.dumps({"recipe": "y" * (20, 800, 6000)[i % 3]}),) for i in range(30)],
        )
    return paths.jobs_database()


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


DAMAGE = {
    "nothing left": lambda data: b"",
    "one byte": lambda data: data[:1],
    "header only": lambda data: data[:100],
    "first page only": lambda data: data[:PAGE],
    "last page gone": lambda data: data[:-PAGE],
    "cut inside a page": lambda data: data[:9000],
    "garbage in the first page": lambda data: noise(PAGE) + data[PAGE:],
    "first page zeroed": lambda data: bytes(PAGE) + data[PAGE:],
    "another file": lambda data: b"this is no database " * 100,
    # pages of the table: only a query meets them
    "garbage in every later page": lambda data: data[:PAGE] + noise(len(data) - PAGE),
    "long text garbled": lambda data: data.replace(b"y" * 3000, b"\xff" * 3000),
    "JSON garbled": lambda data: data.replace(b'{"recipe"', b"{garbage!"),
    "a state that is none": lambda data: data.replace(b"queued", b"quxued"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_kept_aside_and_said_and_work_goes_on(kind, filled, capsys):
    broken = DAMAGE[kind](filled.read_bytes())
    assert broken != filled.read_bytes()
    filled.write_bytes(broken)
    paths.job_log(41).parent.mkdir(parents=True)
    paths.job_log(41).write_text("of a job before")
    assert queue.list_jobs() == []
    (kept,) = database.damaged()
    error = capsys.readouterr().err
    assert kept.read_bytes()[:100] == broken[:100] and kept.name.startswith("jobs.db.damaged-2")
    assert (
        f"{filled} was damaged (" in error
        and kept.name in error
        and "core train --resume RUN" in error
        and error.count("\n") == 1
    )
    assert queue.add("train", {}) == 42, "a new job's log is not added to an old one's"
    assert (
        [j.id for j in queue.list_jobs()] == [42]
        and database.damaged() == [kept]
        and capsys.readouterr().err == ""
    )
    assert cli.main(["jobs"]) == 0
    told = capsys.readouterr()
    assert kept.name in told.err and "delete that file" in told.err and "42" in told.out
    kept.unlink()
    assert cli.main(["jobs"]) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "first",
    [
        queue.worker_alive,
        lambda: leases.claim("a"),
        lambda: queue.add("train", {}),
        lambda: seat.take("a"),
        lambda: leases.requeue_stale(-1),
        lambda: leases.impossible("a", ("cpu",)),
    ],
)
def test_whatever_meets_it_first_is_done_on_the_empty_queue(first, filled):
    filled.write_bytes(b"")
    first()
    assert len(database.damaged()) == 1 and {j.state for j in queue.list_jobs()} <= {"queued"}


def test_what_lies_beside_it_goes_with_it_and_two_in_one_second_have_two_names(filled):
    for log in (b"one", b"two"):
        filled.write_bytes(b"x")
        filled.with_name("jobs.db-wal").write_bytes(log)
        assert queue.list_jobs() == []
    assert len(database.damaged()) == 2
    assert {p.with_name(p.name + "-wal").read_bytes() for p in database.damaged()} == {
        b"one",
        b"two",
    }
    assert "delete those files" in database.said(database.damaged())


def test_a_log_without_its_database_is_not_played_into_the_next_one(filled):
    open_ = sqlite3.connect(filled)  # keeps the log
    assert open_.execute("select count(*) from jobs").fetchone() == (30,)
    queue.add("train", {})
    log = filled.with_name("jobs.db-wal").read_bytes()
    open_.close()
    filled.unlink()
    filled.with_name("jobs.db-wal").write_bytes(log)
    assert (
        log and queue.list_jobs() == [] and queue.add("train", {}) == 1 and not database.damaged()
    )
    assert [p.read_bytes() for p in filled.parent.glob("*damaged*-wal")] == [log]


def _use(start, number):
    start.wait()
    for _ in range(3):
        queue.add("train", {"from": number})
        queue.list_jobs(1000)


@pytest.mark.slow
def test_many_who_meet_it_at_once_move_it_once_and_lose_nothing_new(filled):
    """Nobody moves the healthy file that another has put in its place: every job added afterwards
    is there.
    """
    context = multiprocessing.get_context("fork")
    for round_ in range(3):
        filled.write_bytes(filled.read_bytes()[:-PAGE] if round_ else b"")
        start = context.Event()
        processes = [context.Process(target=_use, args=(start, n)) for n in range(4)]
        for p in processes:
            p.start()
        start.set()
        for p in processes:
            p.join()
        assert [p.exitcode for p in processes] == [0] * 4
        assert len(database.damaged()) == round_ + 1 and len(queue.list_jobs(1000)) == 12


def test_readers_wait_for_no_writer_and_a_worker_waits_for_all(filled, monkeypatch):
    """A lock longer than BUSY_S is an error for a person, who may try again; a worker would lose a
    training.
    """
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    other = sqlite3.connect(filled, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    assert len(queue.list_jobs()) == len(queue.list_jobs(1000)) > 0
    with pytest.raises(database.Busy, match="database is locked"):
        queue.add("train", {})
    tries = []

    def looked(path):
        tries.append(path)
        if len(tries) == 3:
            other.execute("commit")

    monkeypatch.setattr(database.spare, "keep", looked)
    assert seat.take("w") and len(tries) == 3
    other.execute("begin immediate")
    monkeypatch.setattr(seat, "PATIENCE_S", 0.1)
    with pytest.raises(database.Busy):
        leases.claim("w")
    other.close()


@pytest.mark.slow
def test_what_only_cannot_be_used_is_left_as_it_is(filled, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    other = sqlite3.connect(filled, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(database.QueueError, match="cannot be used now: database is locked"):
        queue.add("train", {})
    other.close()
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and "said: the job queue" in done.stderr
        and "cannot be used now" in done.stderr
    ), done.stderr
    assert len(queue.list_jobs()) == 30 and not database.damaged()
    if os.geteuid():
        filled.chmod(0)
        with pytest.raises(database.QueueError, match="cannot be used now"):
            queue.list_jobs()
        filled.chmod(0o600)
    filled.rename(filled.with_name("elsewhere"))
    filled.mkdir()
    with pytest.raises(database.QueueError, match="cannot be used now"):
        queue.list_jobs()
    assert filled.is_dir() and not database.damaged()


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_a_queue_that_may_not_be_written_is_read(filled, monkeypatch, open_elsewhere):
    """As on a disk that is mounted read-only, where SQLite can make no file beside it."""
    before, first = queue.list_jobs(), queue.get(1)
    other = sqlite3.connect(filled)
    if open_elsewhere:
        other.execute("select * from jobs").fetchone()
    content = {p.name: p.read_bytes() for p in filled.parent.iterdir() if p.is_file()}
    monkeypatch.setattr(database.os, "access", lambda path, how: how != os.W_OK)
    assert queue.list_jobs() == before and queue.get(1) == first and not queue.worker_alive()
    for change in (lambda: queue.add("prepare", {}), lambda: queue.cancel(1)):
        with pytest.raises(queue.QueueError, match="may not be written"):
            change()
    other.close()
    if not open_elsewhere:
        assert content == {p.name: p.read_bytes() for p in filled.parent.iterdir() if p.is_file()}
    with open(filled, "r+b") as file:
        file.write(b"x" * 4096)
    with pytest.raises(queue.QueueError, match="may only be read here, and cannot be"):
        queue.list_jobs()
    assert filled.is_file() and not database.damaged()


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_queue():
    paths.artifacts().mkdir(parents=True)
    limited = LIMITED.replace("8192, 8192", "2048, 2048")
    done = subprocess.run([sys.executable, "-c", limited], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "said: no job queue could be begun" in done.stderr, done.stderr
    assert list(paths.artifacts().iterdir()) == [] and queue.list_jobs() == []


def test_room_is_kept_for_the_queue_and_given_up_when_the_disk_is_full(filled, monkeypatch):
    """With a real full disk: tests/jobs/test_survival.py."""
    kept = filled.with_name("jobs.db.spare")
    assert kept.stat().st_size == spare.BYTES and len(list(filled.parent.glob("*spare*"))) == 1
    free = [10**9]
    monkeypatch.setattr(
        spare.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free[0]})
    )
    connect = sqlite3.connect

    def full(*given, **named):
        if free[0] < 1000 and kept.exists():
            raise sqlite3.OperationalError("database or disk is full")
        return connect(*given, **named)

    monkeypatch.setattr(database.sqlite3, "connect", full)
    free[0] = 0
    assert (
        len(queue.list_jobs()) == 30
        and not kept.exists()
        and queue.add("train", {})
        and not kept.exists()
    )
    free[0] = 10**9
    assert queue.worker_alive() is False and kept.exists()
    monkeypatch.setattr(
        database.sqlite3,
        "connect",
        lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("disk I/O error")),
    )
    with pytest.raises(database.QueueError, match="cannot be used now: disk I/O error"):
        queue.list_jobs()
    assert kept.exists(), "another error with room on the disk"


def test_a_folder_that_another_program_has_locked_is_said(monkeypatch):
    import fcntl

    monkeypatch.setattr(database, "BUSY_S", 0.1)
    paths.artifacts().mkdir(parents=True)
    held = os.open(paths.artifacts(), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(database.QueueError, match="could not be locked"):
        queue.list_jobs()
    os.close(held)
    assert queue.list_jobs() == []


def damage_until_noticed(kind: str) -> None:
    """Once more where the database's log held every page, which mends it before anybody looks."""
    for _ in range(8):
        paths.jobs_database().write_bytes(DAMAGE[kind](paths.jobs_database().read_bytes()))
        with contextlib.suppress(AssertionError):
            return wait(lambda: database.damaged(), 1.5)
    raise AssertionError("nobody noticed the damage")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nothing left", "garbage in every later page"])
def test_a_running_job_goes_on_when_the_queue_is_damaged_under_its_worker(kind, stub, tmp_path):  # noqa: F811
    waiting = queue.add("search", {"note": "x" * 9000})
    number = queue.add(
        "train", {"note": str(tmp_path / "n"), "slow": True, "steps": 200}, priority=1
    )
    worker = stub()
    wait(lambda: queue.get(number).message.startswith("step"))
    damage_until_noticed(kind)
    wait(lambda: any(j.id == number and j.message.startswith("step") for j in queue.list_jobs()))
    found = queue.get(number)
    assert (found.state, found.payload["note"], found.kind) == (
        "running",
        str(tmp_path / "n"),
        "train",
    ) and queue.worker_alive()
    assert worker.wait(PATIENCE_S) == 0
    assert [(j.id, j.state) for j in queue.list_jobs()] == [(number, "done")], (
        "the waiting one is in the file that was kept aside"
    )
    assert (
        len((tmp_path / "n").read_text().split()) == 1 and not (tmp_path / "n.checkpoint").exists()
    ), "neither stopped nor begun again"
    assert (
        waiting < number
        and len(database.damaged()) == 1
        and "was damaged" in worker.stdout.read() + queue.log(number)
    )


@pytest.mark.slow
def test_a_running_job_can_be_cancelled_after_the_queue_was_damaged(stub, tmp_path):  # noqa: F811
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True})
    process = stub()
    wait(lambda: queue.get(number).message.startswith("step"))
    paths.jobs_database().write_bytes(b"")
    wait(lambda: [j.id for j in queue.list_jobs()] == [number])
    queue.cancel(number)
    assert (
        process.wait(PATIENCE_S) == 0
        and queue.get(number).state == "cancelled"
        and (tmp_path / "n.checkpoint").exists()
    )


def test_a_job_is_entered_again_only_when_it_is_gone():
    number = queue.add("train", {"a": 1}, after=[queue.add("search", {})])
    job = queue.get(number)
    queue.cancel(number)
    assert leases.kept(job).state == "cancelled"
    paths.jobs_database().unlink()
    again = leases.kept(job)
    assert (again.id, again.state, again.payload, again.after, again.created) == (
        number,
        "queued",
        {"a": 1},
        (),
        job.created,
    )
    assert (
        leases.beat(7, "a") and leases.claim("a").id == number and time.time() - again.created < 60
    )
    paths.jobs_database().unlink()
    other = queue.get(queue.add("search", {}))
    assert (
        leases.kept(job).id == 2
        and queue.get(1) == other
        and job.id == number == 2
        and leases.kept(other) == other
    )
    queue.get(queue.add("search", {}))
    assert leases.kept(dataclasses.replace(job, id=1)).id == 4 and len(queue.list_jobs()) == 4
