"""Work in the foreground on other machines: a job of the queue, followed from here to its end."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

from core import paths
from core.cli import listing, requests
from core.jobs import (
    leases,
    process,
    queue,
)
from core.jobs.job import Job
from core.jobs.runners.base import Runner
from core.records import Interrupted
from core.registry import plugins
from core.storage import remote, store

LOOK_S = 0.5  # between two looks at a job that is followed
START_S = 20.0  # a worker that was started has this long to come to life


def run(given: Any) -> int:
    """train, search or evaluate by a runner on other machines, followed to its end -> exit code;
    Interrupted when it was stopped.

    It is a job of the queue which this machine's worker follows, so it goes on when this command
    dies, and the same command given again
    follows the same job, or goes on from the checkpoint of one that was stopped. What cannot be run
    there is a ValueError at once.
    """
    _check_local(given)
    given.kind, given.after = given.command, []
    if given.kind != "train":
        remote.here(given.run)
    job, runner = _job(given)
    before = _stored(job)
    job = _same(job) or _queue(job, runner)
    job = _follow(job, getattr(given, "quiet", False))
    if job.state == "failed":
        print(
            f"{job.error}\nerror: job {job.id} failed; what it printed: python -m core jobs log"
            f" {job.id}",
            file=sys.stderr,
        )
        return 1
    if job.state == "cancelled":
        raise Interrupted(
            f"job {job.id} was stopped; the same command goes on where it was, a training from its"
            " checkpoint"
        )
    new = [stored for stored in _stored(job) if stored not in before]
    created = [paths.runs() / job.run] if job.kind == "train" else new
    listing.show(given, created, "\n".join(map(listing.short, created)))
    return 0


def _check_local(given: Any) -> None:
    """ValueError for options that other machines do not know."""
    for command, option, does in (
        ("train", "dry_run", "--dry-run tries a recipe"),
        ("evaluate", "tune", "--tune runs"),
        ("evaluate", "again", "--again measures"),
        ("evaluate", "recordings", "--recordings are"),
    ):
        if given.command == command and getattr(given, option):
            raise ValueError(f"{does} on this machine: leave out --runner")


def _job(given: Any) -> tuple[Job, Runner]:
    """The job that the command means, not queued yet, and what runs it."""
    payload = json.loads(json.dumps(requests.payload(given)))
    module = plugins.load("runners", given.runner)
    runner = module.Runner(
        plugins.make_options(module.Options, requests.runner_settings(given), "runner")
    )
    job = Job(
        0,
        given.kind,
        payload,
        "queued",
        run=payload.get("run", ""),
        runner=given.runner,
        settings=runner.settings(),
    )
    return job, runner


def _same(job: Job) -> Job | None:
    """One that waits or runs already and does the same."""
    for other in queue.list_jobs(1000):
        alike = (other.kind, other.payload, other.runner, other.settings) == (
            job.kind,
            job.payload,
            job.runner,
            job.settings,
        )
        if alike and other.state in ("queued", "running") and not other.cancel:
            print(f"job {other.id} is this already, and is followed", file=sys.stderr)
            return other
    return None


def _queue(job: Job, runner: Runner) -> Job:
    runner.check(job)
    number = queue.add(job.kind, job.payload, job.run, runner=job.runner, settings=job.settings)
    print(
        f"job {number} is queued: it goes on if this command dies, for a worker of this machine"
        " follows it, too",
        file=sys.stderr,
    )
    return queue.get(number)


def _follow(job: Job, quiet: bool) -> Job:
    """The job as it ended, with progress on standard error meanwhile. Ctrl-C and SIGTERM cancel it,
    and it is followed to its end; a second
    Ctrl-C leaves it to the worker.
    """
    stop, begun = process.Stop(), -START_S
    report = listing.progress(stop, quiet)
    while job.state in ("queued", "running"):
        if time.monotonic() - begun > START_S and not queue.worker_alive():
            begun = time.monotonic()
            queue.start_worker()
        message = (
            "it stops, a training after its checkpoint"
            if job.cancel
            else job.message or f"job {job.id} is {job.state}"
        )
        if (
            not report(min(job.progress, 0.999), message, None if job.cancel else job.eta_s)
            and not job.cancel
        ):
            with contextlib.suppress(ValueError):  # it has ended meanwhile
                queue.cancel(job.id)
        time.sleep(LOOK_S)
        job = leases.kept(job)
    if job.state == "done":
        report(1.0, "done")
    return job


def _stored(job: Job) -> list[Any]:
    """The sizes or the measurements that a run has here."""
    if job.kind == "search":
        return store.subnets(job.run)
    return store.reports(job.run) if job.kind == "evaluate" else []
