"""The queue and the worker as real processes: one slot, cancel, failures kept, kill -9 survived."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import paths, records
from core.jobs import database, leases, queue, schema, seat, worker
from core.jobs.runners.base import Event
from core.registry import recipes

pytestmark = pytest.mark.slow
PATIENCE_S = 120.0  # a limit, not a pause: waits end with the event

ROOT = Path(__file__).resolve().parents[2]

STUB = '''
"""Jobs that do what their payload says, in place of core.pipelines.handlers."""
import os, pathlib, subprocess, sys, time

def train_job(payload, report):
    note = pathlib.Path(payload["note"])
    with note.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    print("hello from the job", flush=True)
    if payload.get("grandchild"):
        p = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        note.with_suffix(".grand").write_text(str(p.pid))
    if "fail" in payload:
        raise {"value": ValueError, "bug": KeyError}[payload["fail"]]("no such thing")
    if "exit" in payload:
        os.kill(os.getpid(), payload["exit"])
    slow = payload.get("slow") and len(note.read_text().split()) == 1   # only the first time
    for i in range(payload.get("steps", 200) if slow else 2):
        if not report(i / 200, f"step {i}", 10.0) and not payload.get("deaf"):
            note.with_suffix(".checkpoint").write_text(str(i))
            return
        time.sleep(0.05)
'''


@pytest.fixture
def stub(tmp_path, monkeypatch):
    (tmp_path / "stub_jobs.py").write_text(STUB)
    monkeypatch.setenv("SUPERNET_JOB_MODULE", "stub_jobs")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = []

    def start(*words: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "core.jobs.worker", "--idle-minutes", "0", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


def wait(condition, seconds=PATIENCE_S):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# the queue


def test_a_job_goes_from_queued_to_done():
    number = queue.add("search", {"run": "dense-00000001", "ü": [1, None]})
    job = queue.get(number)
    assert (job.state, job.run, job.payload["ü"], job.cancel) == (
        "queued",
        "dense-00000001",
        [1, None],
        False,
    )
    claimed = leases.claim("a")
    assert (claimed.id, claimed.state, claimed.worker, claimed.attempts) == (
        number,
        "running",
        "a",
        1,
    )
    assert leases.beat(number, "a", 0.5, "half", 60.0)
    assert leases.beat(number, "a")  # only the heart
    job = queue.get(number)
    assert (job.progress, job.message, job.eta_s) == (0.5, "half", 60.0)
    assert not leases.beat(number, "b", 0.9)  # another's
    leases.finish(number, "b")
    assert queue.get(number).state == "running"
    leases.finish(number, "a")
    job = queue.get(number)
    assert (job.state, job.progress, job.ended >= job.started) == ("done", 1.0, True)
    assert [j.id for j in queue.list_jobs()] == [number]


def test_one_slot_and_first_come_first_served():
    first, second = queue.add("train", {}), queue.add("train", {})
    assert leases.claim("a").id == first
    assert leases.claim("b") is None
    leases.fail(first, "text")
    assert queue.get(first).error == "text"
    assert leases.claim("b").id == second
    assert leases.claim("b") is None


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match="'trian'.*did you mean 'train'"):
        queue.add("trian", {})
    for change in (queue.get, queue.cancel, queue.resume, queue.log):
        with pytest.raises(ValueError, match="no job 7"):
            change(7)
    number = queue.add("train", {})
    with pytest.raises(ValueError, match="is queued"):
        queue.resume(number)
    leases.claim("a")
    leases.finish(number)
    with pytest.raises(ValueError, match="is done"):
        queue.cancel(number)


def test_cancel_and_resume():
    queued, running = queue.add("train", {}), queue.add("train", {})
    queue.cancel(queued)
    assert queue.get(queued).state == "cancelled"
    leases.claim("a")
    queue.cancel(running)
    assert queue.get(running).state == "running"
    assert not leases.beat(running, "a")
    leases.stopped(running, "a")
    assert queue.get(running).state == "cancelled"
    queue.resume(running)
    job = queue.get(running)
    assert (job.state, job.cancel, job.attempts) == ("queued", False, 0)
    assert leases.claim("b").id == running and leases.beat(running, "b")


def test_a_stale_job_is_queued_again_and_at_last_fails():
    number = queue.add("train", {})
    for attempt in range(1, leases.MAX_ATTEMPTS + 1):
        assert leases.claim("a").attempts == attempt
        assert leases.requeue_stale(60) == []
        assert [j.id for j in leases.requeue_stale(-1)] == [number]
    assert queue.get(number).state == "failed" and "died 5 times" in queue.get(number).error
    queue.resume(number)
    leases.claim("a")
    queue.cancel(number)
    leases.requeue_stale(-1)
    assert queue.get(number).state == "cancelled"


def _claim(start, answers):
    start.wait()
    answers.put([job.id for _ in range(20) if (job := leases.claim(f"w{os.getpid()}"))])


def test_two_processes_claim_at_once_and_one_wins():
    """The database is made by whoever comes first, too."""
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    number = queue.add("train", {})
    queue.add("train", {})
    processes = [context.Process(target=_claim, args=(start, answers)) for _ in range(4)]
    for p in processes:
        p.start()
    start.set()
    got = sum((answers.get(timeout=PATIENCE_S) for _ in processes), [])
    for p in processes:
        p.join()
    assert got == [number]


def _add(start):
    start.wait()
    queue.add("train", {})


def test_an_empty_queue_is_made_by_many_at_once():
    context = multiprocessing.get_context("fork")
    start = context.Event()
    processes = [context.Process(target=_add, args=(start,)) for _ in range(6)]
    for p in processes:
        p.start()
    start.set()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 6 and len(queue.list_jobs()) == 6


def test_a_queue_of_a_newer_program_is_refused():
    queue.list_jobs()
    with sqlite3.connect(paths.jobs_database()) as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(ValueError, match="format 99"):
        queue.list_jobs()
    assert not database.damaged()


def test_the_workers_place_is_one():
    assert not queue.worker_alive()
    assert seat.take("elsewhere:1:a") and queue.worker_alive()
    assert not seat.take("elsewhere:2:b") and queue.start_worker() is None
    seat.leave("elsewhere:1:a")
    assert seat.take("elsewhere:2:b")


# the worker


def test_a_worker_does_what_is_queued_and_leaves(stub, tmp_path):
    good = queue.add("train", {"note": str(tmp_path / "good"), "grandchild": True})
    wrong = queue.add("train", {"note": str(tmp_path / "wrong"), "fail": "value"})
    bug = queue.add("train", {"note": str(tmp_path / "bug"), "fail": "bug"})
    shot = queue.add("train", {"note": str(tmp_path / "shot"), "exit": int(signal.SIGKILL)})
    worker = stub()
    assert worker.wait(PATIENCE_S) == 0
    assert [queue.get(n).state for n in (good, wrong, bug, shot)] == [
        "done",
        "failed",
        "failed",
        "failed",
    ]
    assert (
        queue.get(wrong).error.startswith("no such thing\n")
        and "Traceback" in queue.get(wrong).error
    )
    assert "KeyError" in queue.get(bug).error and "SIGKILL" in queue.get(shot).error
    assert "hello from the job" in queue.log(good) and paths.job_log(good).is_file()
    assert "hello from the job" in queue.get(shot).error
    assert not queue.worker_alive()
    assert dead(int((tmp_path / "good.grand").read_text()))  # nothing a job started outlives it


def test_cancel_stops_the_child_which_keeps_its_checkpoint(stub, tmp_path):
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True})
    worker = stub()
    wait(lambda: queue.get(number).message.startswith("step"))
    second = stub()  # one worker at a time
    assert second.wait(PATIENCE_S) == 0 and "another worker" in second.stdout.read()
    assert queue.start_worker() is None
    queue.cancel(number)
    assert worker.wait(PATIENCE_S) == 0
    assert queue.get(number).state == "cancelled" and (tmp_path / "n.checkpoint").exists()
    queue.resume(number)
    assert stub().wait(PATIENCE_S) == 0
    assert queue.get(number).state == "done"


def test_a_deaf_child_is_killed_after_the_grace(stub, tmp_path):
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True, "deaf": True})
    worker = stub("--grace-s", "0.5")
    wait(lambda: queue.get(number).message.startswith("step"))
    queue.cancel(number)
    assert worker.wait(PATIENCE_S) == 0
    assert queue.get(number).state == "cancelled" and dead(int((tmp_path / "n").read_text()))


def test_kill_9_of_the_worker_loses_nothing(stub, tmp_path):
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True, "grandchild": True})
    worker = stub()
    wait(lambda: queue.get(number).message.startswith("step"))
    child, grandchild = int((tmp_path / "n").read_text()), int((tmp_path / "n.grand").read_text())
    assert queue.get(number).pid == child
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait(lambda: dead(child))
    assert queue.get(number).state == "running" and not queue.worker_alive()
    assert stub().wait(PATIENCE_S) == 0
    job = queue.get(number)
    assert (job.state, job.attempts, len((tmp_path / "n").read_text().split())) == ("done", 2, 2)
    assert dead(grandchild)


def test_a_worker_told_to_leave_gives_its_job_back(stub, tmp_path):
    number = queue.add("train", {"note": str(tmp_path / "n"), "slow": True})
    worker = stub()
    wait(lambda: queue.get(number).message.startswith("step"))
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    assert (
        queue.get(number).state == "queued"
        and (tmp_path / "n.checkpoint").exists()
        and not queue.worker_alive()
    )


def test_many_apps_at_once_start_one_worker(stub, tmp_path):
    """Each looks for a worker, finds none and starts one: the queue gives the place to one of
    them.
    """
    numbers = [queue.add("train", {"note": str(tmp_path / f"n{i}")}) for i in range(3)]
    workers = [stub() for _ in range(4)]
    told = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert [queue.get(n).state for n in numbers] == ["done"] * 3 and {
        queue.get(n).attempts for n in numbers
    } == {1}
    done = [
        int(text.split(" leaves after ")[1].split()[0]) for text in told if " leaves after " in text
    ]
    assert sum(done) == 3 and all(
        len((tmp_path / f"n{i}").read_text().split()) == 1 for i in range(3)
    )


def test_start_worker_is_detached(stub, tmp_path):
    number = queue.add("train", {"note": str(tmp_path / "n")})
    pid = queue.start_worker()
    try:
        assert os.getsid(pid) == pid != os.getsid(0)
        wait(lambda: queue.get(number).state == "done")
        assert "is at work" in paths.worker_log().read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


# order, waiting, trying again


def test_priorities_go_first_and_dependencies_wait(tmp_path):
    low, high = queue.add("train", {}), queue.add("train", {}, priority=5)
    after = queue.add("evaluate", {"run": "", "subnets": []}, priority=9, after=[low, high])
    assert [j.id for j in queue.waits_for(queue.get(after))] == [low, high]
    assert leases.claim("a").id == high
    leases.fail(high, "text", "a")
    assert leases.claim("a").id == low
    leases.note(low, "a", run="dense-1")
    leases.finish(low, "a")
    assert leases.claim("a") is None, "a failed dependency holds what waits for it"
    assert [(j.id, j.state) for j in queue.waits_for(queue.get(after))] == [(high, "failed")]
    queue.resume(high)
    assert leases.claim("a").id == high
    leases.finish(high, "a")
    job = leases.claim("a")
    assert (job.id, job.run, job.payload["run"]) == (
        after,
        "dense-1",
        "dense-1",
    ) and not queue.waits_for(job)
    with pytest.raises(ValueError, match="no job 99"):
        queue.add("train", {}, after=[99])


def test_a_failure_is_tried_again_after_growing_pauses(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(queue.time, "time", lambda: now[0])
    number = queue.add("train", {}, retries=2)
    for pause in (30, 60):
        assert leases.claim("a").id == number
        leases.fail(number, "Traceback\nOSError: the share went away", "a")
        job = queue.get(number)
        assert (
            job.state == "queued"
            and "share went away" in job.error
            and f"in {pause} s" in job.message
        )
        assert leases.claim("a") is None
        now[0] += pause + 1
    assert leases.claim("a").error == "" and queue.get(number).attempts == 1
    leases.fail(number, "again", "a")
    assert queue.get(number).state == "failed"
    queue.resume(number)
    assert queue.get(number).failures == 0
    leases.claim("a")
    leases.fail(number, "sparsity 2 is not in 0..1", "a", again=False)
    assert queue.get(number).state == "failed", "wrong input is not tried again"


def test_a_queue_of_the_format_before_is_brought_up_to_date(own_artifacts):
    own_artifacts.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(paths.jobs_database()) as db:
        db.executescript(schema.TABLES)
        db.execute(
            "insert into jobs (kind, payload, state, created) values ('train', '{}', 'queued', 1.0)"
        )
        db.execute("pragma user_version = 1")
    db.close()
    (job,) = queue.list_jobs()
    assert (job.kind, job.priority, job.after) == ("train", 0, ()) and leases.claim(
        "a"
    ).id == job.id


def test_cloning_changes_the_recipe_and_bad_words_are_named(capsys):
    from core.cli import main as cli

    first = queue.add("train", {"recipe": records.as_dict(recipes.load_recipe("voice_commands"))})
    assert (
        cli.main(["jobs", "clone", str(first), "--set", "seed=7", "--priority", "3", "--no-worker"])
        == 0
    )
    made = queue.list_jobs()[0]
    assert (
        made.payload["recipe"]["seed"] == 7
        and made.priority == 3
        and queue.get(first).payload["recipe"]["seed"] == 1
    )
    assert cli.main(["jobs", "add", "evaluate", "-", "--after", str(made.id), "--no-worker"]) == 0
    assert queue.list_jobs()[0].after == (made.id,)
    assert cli.main(["jobs", "clone", str(queue.list_jobs()[0].id), "--no-worker"]) == 0
    assert queue.list_jobs()[0].after == (made.id,) and queue.list_jobs()[0].payload["run"] == ""
    speech = queue.add("prepare", {})
    assert cli.main(["jobs", "add", "evaluate", "-", "--after", str(speech), "--no-worker"]) == 2
    assert (
        cli.main(["jobs", "clone", str(queue.list_jobs()[1].id), "--set", "seed=7", "--no-worker"])
        == 2
    )
    assert "has no recipe" in capsys.readouterr().err
    assert (
        cli.main(["jobs"]) == 0 and f"waits for job {made.id} (queued)" in capsys.readouterr().out
    )


# slots


def test_a_slot_for_every_device():
    train, measure, asked, wrong = (
        queue.add("train", {}),
        queue.add("evaluate", {}),
        queue.add("train", {}, device="cpu"),
        queue.add("train", {}, device="cuda:3"),
    )
    slots = ("cuda:0", "cpu", "cpu")
    assert [
        (j.id, j.place)
        for j in (leases.claim("a", slots), leases.claim("a", slots), leases.claim("a", slots))
    ] == [(train, "cuda:0"), (measure, "cpu"), (asked, "cpu")]
    assert leases.claim("a", slots) is None and leases.claim("b", slots) is None
    later = queue.add("train", {})
    leases.finish(measure, "a")
    assert leases.claim("a", slots) is None, (
        "a training waits for the GPU, though a processor is free"
    )
    leases.finish(train, "a")
    assert leases.claim("a", slots).id == later
    assert [j.id for j in leases.impossible("a", slots)] == [wrong]
    assert (
        queue.get(wrong).state == "failed"
        and "asks for cuda:3, and this worker (a) has cuda:0, cpu, cpu" in queue.get(wrong).error
    )
    with pytest.raises(ValueError, match="device is 'gpu'"):
        queue.add("train", {}, device="gpu")


def test_without_a_gpu_everything_runs_on_the_processor():
    number = queue.add("train", {})
    assert leases.claim("a").place == "cpu" and queue.get(number).state == "running"
    assert leases.impossible("a", ("cpu",)) == []
    assert leases.requeue_stale(-1, but="a") == [], (
        "a worker that slept does not take its own job for lost"
    )


@pytest.mark.parametrize(
    ("text", "slots"), [("cpu", ("cpu",)), ("cuda:0=2,cpu", ("cuda:0", "cuda:0", "cpu"))]
)
def test_slots_are_read(text, slots):
    assert worker.read_slots(text) == slots


@pytest.mark.parametrize("text", ["gpu", "cpu=0", "cuda=1", "cpu=x", ","])
def test_wrong_slots_are_said(text):
    with pytest.raises(ValueError, match="slot"):
        worker.read_slots(text)


def test_two_slots_run_two_jobs_at_once_and_a_cancel_stops_only_one(stub, tmp_path):
    first, second = (queue.add("train", {"note": str(tmp_path / n), "slow": True}) for n in "ab")
    process = stub("--slots", "cpu=2")
    wait(lambda: all(queue.get(n).message.startswith("step") for n in (first, second)))
    assert {queue.get(n).state for n in (first, second)} == {"running"}
    queue.cancel(first)
    wait(lambda: queue.get(first).state == "cancelled")
    assert queue.get(second).state == "running"
    assert process.wait(PATIENCE_S) == 0 and queue.get(second).state == "done"


def test_a_cancel_that_is_told_after_the_end_changes_nothing():
    number = queue.add("train", {})
    leases.claim("worker")
    leases.fail(number, "its reason", "worker", again=False)
    worker.record(number, "worker", Event(cancelled=True))
    assert (queue.get(number).state, queue.get(number).error) == ("failed", "its reason")
