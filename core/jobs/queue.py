"""The queue of background work: one SQLite file, one worker with a slot per device, heartbeats;
knows nothing about what a job does.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from core import paths
from core.jobs import heartbeat
from core.jobs.database import (  # noqa: F401 - what it raises
    Damaged,
    QueueError,
    reading,
    transaction,
)
from core.jobs.job import JOB_KINDS, JOB_STATES, Job
from core.registry import catalog
from core.registry.plugins import check_name

STALE_S = 60.0  # a heart that has not beaten for this long has stopped
DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def job_of(row: sqlite3.Row) -> Job:
    values = dict(row)
    try:
        check_name(values["state"], JOB_STATES, "state of a job")
        return Job(
            **values
            | {
                "payload": json.loads(values["payload"]),
                "cancel": bool(values["cancel"]),
                "after": tuple(json.loads(values["after"])),
                "settings": json.loads(values["settings"]),
            }
        )
    except (ValueError, TypeError) as error:  # never written so
        raise Damaged(f"job {values['id']} is no job any more: {error}") from error


def fetch(db: sqlite3.Connection, job_id: int) -> Job:
    row = db.execute("select * from jobs where id = ?", (job_id,)).fetchone()
    if row is None:
        raise ValueError(f"there is no job {job_id}; `python -m core jobs list` shows them")
    return job_of(row)


@transaction
def add(
    db: sqlite3.Connection,
    kind: str,
    payload: dict[str, Any],
    run: str = "",
    *,
    priority: int = 0,
    after: Sequence[int] = (),
    retries: int = 0,
    device: str = "",
    runner: str = "local",
    settings: dict[str, Any] | None = None,
) -> int:
    """Queue a job and return its number. `run` is the run it belongs to, where that is known.

    Higher priorities go first. It waits until the jobs `after` are done, and an empty
    payload["run"] then becomes the run of the first
    of them. A failure that is not the input's fault is tried again `retries` times, after RETRY_S,
    then twice that, and so on.
    It runs on a slot of `device` ("cpu", "cuda", "cuda:1"); when that is "", training takes a GPU
    where there is one, the rest none.
    Another `runner` than the local one, with `settings` as its options, needs no slot of this
    machine.
    """
    check_name(kind, JOB_KINDS, "kind of job")
    catalog.check(catalog.card("runners", runner), settings or {}, "runner")
    if retries < 0:
        raise ValueError(f"retries is {retries}; it is 0 or more")
    if device and not DEVICE.fullmatch(device):
        raise ValueError(
            f"device is {device!r}; it is cpu, cuda, cuda:0, cuda:1 ..., or nothing for what is"
            " free"
        )
    for number in after:
        fetch(db, number)
    cursor = db.execute(
        "insert into jobs (kind, payload, state, run, created, priority, after, retries, device, "
        "runner, settings) values (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            kind,
            json.dumps(payload),
            run or payload.get("run", ""),
            time.time(),
            priority,
            json.dumps(list(after)),
            retries,
            device,
            runner,
            json.dumps(settings or {}),
        ),
    )
    return number_of(cursor)


def number_of(cursor: sqlite3.Cursor) -> int:
    """Of the job that was just inserted."""
    assert cursor.lastrowid is not None
    return cursor.lastrowid


@reading
def waits_for(db: sqlite3.Connection, job: Job) -> list[Job]:
    """The jobs a queued one waits for; one that has failed or was cancelled holds it until it is
    resumed.
    """
    return (
        [j for j in (fetch(db, n) for n in job.after) if j.state != "done"]
        if job.state == "queued"
        else []
    )


@reading
def get(db: sqlite3.Connection, job_id: int) -> Job:
    return fetch(db, job_id)


@reading
def list_jobs(db: sqlite3.Connection, limit: int = 100, visitor: str | None = None) -> list[Job]:
    """The newest jobs, newest first; all those of one `visitor`."""
    which = (
        ("order by id desc limit ?", (limit,))
        if visitor is None
        else ("where json_extract(payload, '$.visitor') = ?", (visitor,))
    )
    return [job_of(r) for r in db.execute(f"select * from jobs {which[0]}", which[1])]


def lost(job: Job) -> bool:
    """Whether a job counts as running whose worker has gone: the next worker takes it up."""
    gone = heartbeat.stopped(job.worker, job.heartbeat, STALE_S)
    return job.state == "running" and not job.remote and gone


@transaction
def cancel(db: sqlite3.Connection, job_id: int) -> None:
    """A queued job is cancelled, a running one asked to stop (by the next worker, if it goes on
    elsewhere); ValueError for an ended one.
    """
    job = fetch(db, job_id)
    if job.state not in ("queued", "running"):
        raise ValueError(
            f"job {job_id} is {job.state}; only queued and running jobs can be cancelled"
        )
    if lost(job) or (job.state == "queued" and not job.remote):
        db.execute(
            "update jobs set state = 'cancelled', cancel = 1, ended = ? where id = ?",
            (time.time(), job_id),
        )
    else:
        db.execute("update jobs set cancel = 1 where id = ?", (job_id,))


@transaction
def resume(db: sqlite3.Connection, job_id: int) -> None:
    """Queue a failed or cancelled job again; a training goes on from its checkpoint."""
    job = fetch(db, job_id)
    if job.state not in ("failed", "cancelled"):
        raise ValueError(
            f"job {job_id} is {job.state}; only failed and cancelled jobs can be resumed"
        )
    db.execute(
        "update jobs set state = 'queued', cancel = 0, attempts = 0, failures = 0, not_before = 0,"
        " error = '', ended = null, worker = '', pid = null, eta_s = null, message = '', remote ="
        " '' where id = ?",
        (job_id,),
    )


def log(job_id: int, lines: int = 200) -> str:
    """The last lines a job printed, "" before it started."""
    get(job_id)
    path = paths.job_log(job_id)
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 400 * lines))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


@reading
def worker_alive(db: sqlite3.Connection) -> bool:
    row = db.execute("select * from worker").fetchone()
    return row is not None and not heartbeat.stopped(row["name"], row["heartbeat"], STALE_S)


def start_worker() -> int | None:
    """Start a worker in a session of its own, so that it outlives whoever called; None when one
    lives already.
    """
    if worker_alive():
        return None
    paths.worker_log().parent.mkdir(parents=True, exist_ok=True)
    with paths.worker_log().open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "core.jobs.worker"],
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ).pid
