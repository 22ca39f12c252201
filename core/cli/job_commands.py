"""The command line's jobs: listed, queued, changed, and work on other machines followed from here
to its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from typing import Any

from core import paths
from core.cli import listing, requests
from core.jobs import (
    database,
    leases,
    process,
    queue,
    worker,
)
from core.jobs.job import Job
from core.records import Interrupted
from core.registry import plugins, recipes
from core.storage import remote, store

LOOK_S = 0.5  # between two looks at a job that is followed
START_S = 20.0  # a worker that was started has this long to come to life


def run(given: Any) -> int:
    """`python -m core jobs ...`."""
    as_json = getattr(given, "json", False)
    if given.todo in (None, "list"):
        result = queue.list_jobs(getattr(given, "limit", 20))
        print(
            listing.as_json(result)
            if as_json
            else listing.table(
                ("id", "kind", "state", "done", "run", "message"), [_job_row(j) for j in result]
            )
        )
        if lost := database.said(database.damaged()):
            print(lost, file=sys.stderr)
    elif given.todo == "work":
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
    elif given.todo == "log":
        text, job = queue.log(given.id, given.lines), queue.get(given.id)
        print(
            listing.as_json({"id": job.id, "state": job.state, "log": text, "error": job.error})
            if as_json
            else "\n".join(filter(None, (text, job.error)))
        )
    elif given.todo == "add":
        _queued(given, given.kind, _payload(given))
    elif given.todo == "clone":
        job = queue.get(given.id)
        same = given.runner in (None, job.runner)
        for name in ("priority", "after", "retries", "device", "runner"):
            setattr(
                given,
                name,
                getattr(job, name) if getattr(given, name) is None else getattr(given, name),
            )
        given.settings_before = job.settings if same else {}
        _queued(given, job.kind, _changed(job, given.settings))
    else:
        {"cancel": queue.cancel, "resume": queue.resume}[given.todo](given.id)
        print(
            listing.as_json(queue.get(given.id))
            if as_json
            else f"job {given.id} is {_state(queue.get(given.id))}"
        )
    elsewhere = (
        given.todo == "cancel" and queue.get(given.id).remote
    )  # somebody must tell the cluster
    if (
        (given.todo in ("add", "clone") and not given.no_worker)
        or given.todo == "resume"
        or elsewhere
    ):
        queue.start_worker()
    return 0


def _queued(given: Any, kind: str, payload: dict[str, Any]) -> None:
    if kind == "export" and given.runner != "local":
        raise ValueError(
            f"an export writes files on this machine, where the runner {given.runner} has nothing"
            " to do: leave out --runner"
        )
    settings = getattr(given, "settings_before", {}) | requests.runner_settings(given)
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
    print(
        listing.as_json(queue.get(number))
        if getattr(given, "json", False)
        else f"job {number} is queued"
    )


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


def _payload(given: Any) -> dict[str, Any]:
    """What a job of this kind needs, checked now rather than when its turn comes."""
    if given.kind in ("prepare", "train"):
        return {"recipe": dataclasses.asdict(requests.recipe(given))}
    run = "" if given.run == "-" and given.after else given.run
    if not run and given.after and queue.get(given.after[0]).kind == "prepare":
        raise ValueError(
            f"job {given.after[0]} prepares speech and makes no run: name a training first in"
            " --after, or say which RUN"
        )
    if run:
        store.run_folder(run)
    if given.kind == "search":
        return {"run": run}
    if run:
        requests.check_subnets(given)
    if given.kind == "export":
        return requests.export(given, run)
    decoding = requests.decoding(given)
    return {
        "run": run,
        "subnets": given.subnets,
        "splits": given.splits,
        "new": None,
        "chunk_ms": given.chunk_ms,
    } | ({"decoding": decoding} if decoding else {})


def _state(job: Job) -> str:
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
    facts = (
        message if job.state == "done" else (message + left)[:80]
    )  # a folder that is cut off is none
    return str(job.id), job.kind, _state(job), f"{100 * job.progress:.0f} %", job.run, facts


# in the foreground, on other machines


def elsewhere(given: Any) -> int:
    """train, search or evaluate by a runner on other machines, followed to its end -> exit code;
    Interrupted when it was stopped.

    It is a job of the queue which this machine's worker follows, so it goes on when this command
    dies, and the same command given again
    follows the same job, or goes on from the checkpoint of one that was stopped. What cannot be run
    there is a ValueError at once.
    """
    if given.command == "train" and given.dry_run:
        raise ValueError("--dry-run tries a recipe on this machine: leave out --runner")
    if given.command == "evaluate" and given.tune:
        raise ValueError("--tune runs on this machine: leave out --runner")
    if given.command == "evaluate" and given.again:
        raise ValueError("--again measures on this machine: leave out --runner")
    given.kind, given.after = given.command, []
    if given.kind != "train":
        remote.here(given.run)
    payload = json.loads(json.dumps(_payload(given)))
    module = plugins.load("runners", given.runner)
    there = module.Runner(
        plugins.make_options(module.Options, requests.runner_settings(given), "runner")
    )
    job = Job(
        0,
        given.kind,
        payload,
        "queued",
        run=payload.get("run", ""),
        runner=given.runner,
        settings=there.settings(),
    )
    same = [
        j
        for j in queue.list_jobs(1000)
        if j.state in ("queued", "running")
        and not j.cancel
        and (j.kind, j.payload, j.runner, j.settings)
        == (job.kind, job.payload, job.runner, job.settings)
    ]
    before = _made(job)
    if same:
        job = same[0]
        print(f"job {job.id} is this already, and is followed", file=sys.stderr)
    else:
        there.check(job)
        job = queue.get(
            queue.add(job.kind, payload, job.run, runner=job.runner, settings=job.settings)
        )
        print(
            f"job {job.id} is queued: it goes on if this command dies, for a worker of this machine"
            " follows it, too",
            file=sys.stderr,
        )
    job = _followed(job, getattr(given, "quiet", False))
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
    created = (
        [paths.runs() / job.run]
        if job.kind == "train"
        else [m for m in _made(job) if m not in before]
    )
    print(
        listing.as_json(created)
        if getattr(given, "json", False)
        else "\n".join(map(listing.short, created))
    )
    return 0


def _followed(job: Job, quiet: bool) -> Job:
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


def _made(job: Job) -> list[Any]:
    """The sizes or the measurements that a run has here."""
    if job.kind == "search":
        return store.subnets(job.run)
    return store.reports(job.run) if job.kind == "evaluate" else []
