"""The command line's jobs: listed, queued, changed, stopped."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

from core.cli import listing, requests
from core.jobs import (
    database,
    queue,
    worker,
)
from core.jobs.job import Job
from core.registry import recipes


def run(given: Any) -> int:
    """`python -m core jobs ...`."""
    if given.todo == "work":
        return _work(given)
    commands = {"list": _list, "log": _log, "add": _add, "clone": _clone}
    commands.get(given.todo or "list", _cancel_or_resume)(given)
    # a cluster is told by a worker
    tell = given.todo == "cancel" and queue.get(given.id).remote
    queued = given.todo in ("add", "clone") and not given.no_worker
    if queued or given.todo == "resume" or tell:
        queue.start_worker()
    return 0


def _list(given: Any) -> None:
    jobs = queue.list_jobs(getattr(given, "limit", 20))
    head = ("id", "kind", "state", "done", "run", "message")
    listing.show(given, jobs, listing.table(head, [_job_row(j) for j in jobs]))
    if lost := database.said(database.damaged()):
        print(lost, file=sys.stderr)


def _work(given: Any) -> int:
    words = [
        "--idle-minutes",
        given.idle_minutes,
        "--grace-s",
        given.grace_s,
        "--stale-s",
        given.stale_s,
        "--slots",
        given.slots,
    ]
    return worker.main([str(w) for w in words])


def _log(given: Any) -> None:
    text, job = queue.log(given.id, given.lines), queue.get(given.id)
    data = {"id": job.id, "state": job.state, "log": text, "error": job.error}
    nothing = "yet" if job.state in ("queued", "running") else ""
    words = [text, job.error] if text or job.error else [f"this job printed nothing {nothing}"]
    listing.show(given, data, "\n".join(filter(None, words)).rstrip())


def _add(given: Any) -> None:
    _queue(given, given.kind, requests.payload(given))


def _clone(given: Any) -> None:
    job = queue.get(given.id)
    settings = job.settings if given.runner in (None, job.runner) else {}
    for name in ("priority", "after", "retries", "device", "runner"):
        if getattr(given, name) is None:
            setattr(given, name, getattr(job, name))
    _queue(given, job.kind, _changed(job, given.settings), settings)


def _cancel_or_resume(given: Any) -> None:
    {"cancel": queue.cancel, "resume": queue.resume}[given.todo](given.id)
    job = queue.get(given.id)
    listing.show(given, job, f"job {given.id} is {_state(job)}")


def _queue(
    given: Any, kind: str, payload: dict[str, Any], settings: dict[str, Any] | None = None
) -> None:
    """`settings`: the runner's, which the command line changes."""
    if kind == "export" and given.runner != "local":
        raise ValueError(
            f"an export writes files on this machine, where the runner {given.runner} has nothing"
            " to do: leave out --runner"
        )
    settings = (settings or {}) | requests.runner_settings(given)
    number = queue.add(
        kind,
        payload,
        priority=given.priority,
        after=given.after,
        retries=given.retries,
        device=given.device,
        runner=given.runner,
        settings=settings,
    )
    listing.show(given, queue.get(number), f"job {number} is queued")


def _changed(job: Job, settings: list[str]) -> dict[str, Any]:
    """A job's payload again, with the recipe's options changed."""
    if settings and "recipe" not in job.payload:
        raise ValueError(
            f"job {job.id} is of kind {job.kind} and has no recipe: --set changes the recipe of"
            " prepare and train jobs"
        )
    if not settings:
        return job.payload
    return job.payload | {
        "recipe": dataclasses.asdict(
            recipes.override(recipes.recipe_from(job.payload["recipe"]), settings)
        )
    }


def _state(job: Job) -> str:
    if queue.lost(job):
        return "lost"
    return "stopping" if job.state == "running" and job.cancel else job.state


def _job_row(job: Job) -> tuple[str, ...]:
    message = (
        job.error.strip().splitlines()[-1]
        if job.error.strip() and job.state != "queued"
        else job.message
    )
    waiting = ", ".join(f"{b.id} ({_state(b)})" for b in queue.waits_for(job))
    message = f"waits for job {waiting}" if waiting else message
    left = f" ({listing.duration(job.eta_s)} left)" if job.eta_s else ""
    if queue.lost(job):
        silent = listing.duration(time.time() - (job.heartbeat or job.created))
        message, left = f"no worker for {silent}: start one with `jobs work`", ""
    facts = (
        message if job.state == "done" else (message + left)[:80]
    )  # a folder that is cut off is none
    return str(job.id), job.kind, _state(job), f"{100 * job.progress:.0f} %", job.run, facts
