"""What a job says while it runs reaches the queue as events of its handle, whatever runs it."""

from __future__ import annotations

import ast
import inspect

import pytest

from core import paths
from core.jobs import leases, queue, seat, worker
from core.jobs.runners.base import Event, Handle, Runner
from core.registry import plugins


class Scripted(Handle):
    """A job that says some events at each look, then ends."""

    def __init__(self, *looks: list[Event]):
        self.looks, self.over = list(looks), False

    def events(self):
        yield from self.looks.pop(0)

    def poll(self):
        return None if self.looks else 0

    def stop(self):
        pass

    def kill(self):
        self.over = True


def followed(handle: Handle, monkeypatch, **options) -> queue.Job:
    """The job as the worker leaves it behind."""
    monkeypatch.setattr(worker, "POLL_S", 0.0)
    number = queue.add("search", {"run": "r"}, **options)
    one = worker.Worker(runner=None)
    one.name = "w"
    seat.take("w")
    one.follow(leases.claim("w"), handle)
    return queue.get(number)


def test_events_reach_the_queue_before_the_job_ends(monkeypatch):
    handle = Scripted(
        [Event(0.25, "quarter", 30.0), Event(run="a_run", place="10.0.0.1 cpu")],
        [],
        [Event(message="waits")],  # said with the exit code
    )
    job = followed(handle, monkeypatch)
    assert (job.state, job.run, job.place) == ("done", "a_run", "10.0.0.1 cpu")
    assert handle.over


def test_an_event_without_fields_changes_nothing_and_progress_stays_when_only_words_come():
    number = queue.add("search", {"run": "r"})
    leases.claim("w")
    worker.record(number, "w", Event(0.5, "half", 60.0))
    before = queue.get(number)
    worker.record(number, "w", Event())
    assert queue.get(number) == before
    worker.record(number, "w", Event(message="silent"))
    job = queue.get(number)
    assert (job.progress, job.eta_s, job.message) == (0.5, 60.0, "silent")


def test_the_first_error_counts_and_says_whether_it_is_tried_again(monkeypatch):
    wrong = [Event(error="no GPU", retry=False), Event(error="its log ended")]
    job = followed(Scripted(wrong), monkeypatch, retries=1)
    assert (job.state, job.error) == ("failed", "no GPU")
    job = followed(Scripted([Event(error="a worker was lost")]), monkeypatch, retries=1)
    assert (job.state, job.error) == ("queued", "a worker was lost")


def test_a_job_that_somebody_stopped_where_it_runs_is_cancelled(monkeypatch):
    job = followed(Scripted([Event(cancelled=True)]), monkeypatch)
    assert job.cancel and job.state != "failed"


@pytest.mark.parametrize("name", plugins.names("runners"))
def test_a_runner_starts_handles_that_keep_the_contract(name):
    runner = plugins.load("runners", name).Runner
    assert issubclass(runner, Runner) and not inspect.isabstract(runner)
    assert not {m for m in vars(runner) if not m.startswith("_")} - set(dir(Runner)), (
        "a method that the contract does not have is never called"
    )


def test_a_handle_writes_nothing_into_the_queue_itself():
    handles = 0
    for file in (paths.CORE / "jobs" / "runners").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(n, ast.ClassDef) and "Handle" in n.name for n in tree.body):
            handles += 1
            names = {
                a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
            }
            assert not names & {"leases", "queue", "database"}, file
    assert handles >= 3
