"""The command line's jobs: listed, queued, changed."""
from __future__ import annotations

import dataclasses
import sys
from typing import Any

from core import arguments, jobs, listing, queue_file, store, worker
from core.records import Job


def run(given: Any) -> int:
    """`python -m core jobs ...`."""
    if given.todo in (None, "list"):
        print(listing.table(("id", "kind", "state", "done", "run", "message"),
                     [_job_row(j) for j in jobs.list_jobs(getattr(given, "limit", 20))]))
        if lost := queue_file.said(queue_file.damaged()):
            print(lost, file=sys.stderr)
    elif given.todo == "work":
        words = ["--idle-minutes", given.idle_minutes, "--grace-s", given.grace_s, "--stale-s", given.stale_s, "--slots", given.slots]
        return worker.main([str(w) for w in words])
    elif given.todo == "log":
        print(jobs.log(given.id, given.lines))
        job = jobs.get(given.id)
        if job.error:
            print(job.error)
    elif given.todo == "add":
        _queued(given, given.kind, _payload(given))
    elif given.todo == "clone":
        job = jobs.get(given.id)
        same = given.runner in (None, job.runner)
        for name in ("priority", "after", "retries", "device", "runner"):
            setattr(given, name, getattr(job, name) if getattr(given, name) is None else getattr(given, name))
        given.settings_before = job.settings if same else {}
        _queued(given, job.kind, _changed(job, given.settings))
    else:
        {"cancel": jobs.cancel, "resume": jobs.resume}[given.todo](given.id)
        print(f"job {given.id} is {_state(jobs.get(given.id))}")
    elsewhere = given.todo == "cancel" and jobs.get(given.id).remote  # somebody must tell the cluster
    if (given.todo in ("add", "clone") and not given.no_worker) or given.todo == "resume" or elsewhere:
        jobs.start_worker()
    return 0


def _queued(given: Any, kind: str, payload: dict[str, Any]) -> None:
    settings = getattr(given, "settings_before", {}) | arguments.options(given.with_, "--with")
    settings |= {"address": given.address} if given.address else {}
    number = jobs.add(kind, payload, priority=given.priority, after=given.after, retries=given.retries, device=given.device,
                      runner=given.runner, settings=settings)
    print(f"job {number} is queued")


def _changed(job: Job, settings: list[str]) -> dict[str, Any]:
    """A job's payload again, with the recipe's options changed."""
    if settings and "recipe" not in job.payload:
        raise ValueError(f"job {job.id} is of kind {job.kind} and has no recipe: --set changes the recipe of prepare and train jobs")
    if not settings:
        return job.payload
    return job.payload | {"recipe": dataclasses.asdict(store.override(store.recipe_from(job.payload["recipe"]), settings))}


def _payload(given: Any) -> dict[str, Any]:
    """What a job of this kind needs, checked now rather than when its turn comes."""
    if given.kind in ("prepare", "train"):
        return {"recipe": dataclasses.asdict(arguments.recipe(given))}
    run = "" if given.run == "-" and given.after else given.run
    if not run and given.after and jobs.get(given.after[0]).kind == "prepare":
        raise ValueError(f"job {given.after[0]} prepares speech and makes no run: name a training first in --after, or say which RUN")
    if run:
        store.run_folder(run)
    if given.kind == "search":
        return {"run": run}
    if run:
        arguments.check_subnets(given)
    decoding = arguments.decoding(given)
    return {"run": run, "subnets": given.subnets, "splits": given.splits, "new": None, "chunk_ms": given.chunk_ms} | (
        {"decoding": decoding} if decoding else {})


def _state(job: Job) -> str:
    return "stopping" if job.state == "running" and job.cancel else job.state


def _job_row(job: Job) -> tuple[str, ...]:
    message = job.error.strip().splitlines()[-1] if job.error.strip() and job.state != "queued" else job.message
    waiting = ", ".join(f"{b.id} ({_state(b)})" for b in jobs.waits_for(job))
    message = f"waits for job {waiting}" if waiting else message
    left = f" ({listing.duration(job.eta_s)} left)" if job.eta_s else ""
    return str(job.id), job.kind, _state(job), f"{100 * job.progress:.0f} %", job.run, (message + left)[:80]
