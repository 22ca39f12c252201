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
from core.jobs import heartbeat as pulse
from core.jobs.database import Damaged, QueueError, transaction  # noqa: F401 - what it raises
from core.jobs.job import JOB_KINDS, JOB_STATES, Job
from core.registry import catalog
from core.registry.plugins import check_name

STALE_S = 60.0  # a heart that has not beaten for this long has stopped
RETRY_S = 30.0  # until a failed job is tried again; doubled each time
MOST_RETRY_S = 300.0  # shorter than an idle worker waits before it leaves
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
MAX_ATTEMPTS = 5  # deaths of a job's worker without any progress, after which it fails


def _job(row: sqlite3.Row) -> Job:
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


def _one(db: sqlite3.Connection, job_id: int) -> Job:
    row = db.execute("select * from jobs where id = ?", (job_id,)).fetchone()
    if row is None:
        raise ValueError(f"there is no job {job_id}; `python -m core jobs list` shows them")
    return _job(row)


# for people: pages and command line


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
        _one(db, number)
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
    return _number(cursor)


def _number(cursor: sqlite3.Cursor) -> int:
    """Of the job that was just inserted."""
    assert cursor.lastrowid is not None
    return cursor.lastrowid


@transaction
def waits_for(db: sqlite3.Connection, job: Job) -> list[Job]:
    """The jobs a queued one waits for; one that has failed or was cancelled holds it until it is
    resumed.
    """
    return (
        [j for j in (_one(db, n) for n in job.after) if j.state != "done"]
        if job.state == "queued"
        else []
    )


@transaction
def get(db: sqlite3.Connection, job_id: int) -> Job:
    return _one(db, job_id)


@transaction
def list_jobs(db: sqlite3.Connection, limit: int = 100, visitor: str | None = None) -> list[Job]:
    """The newest jobs, newest first; all those of one `visitor`."""
    which = (
        ("order by id desc limit ?", (limit,))
        if visitor is None
        else ("where json_extract(payload, '$.visitor') = ?", (visitor,))
    )
    return [_job(r) for r in db.execute(f"select * from jobs {which[0]}", which[1])]


@transaction
def cancel(db: sqlite3.Connection, job_id: int) -> None:
    """A queued job is cancelled, a running one asked to stop (by the next worker, if it goes on
    elsewhere); ValueError for an ended one.
    """
    job = _one(db, job_id)
    if job.state not in ("queued", "running"):
        raise ValueError(
            f"job {job_id} is {job.state}; only queued and running jobs can be cancelled"
        )
    if not job.remote and (
        job.state == "queued" or pulse.stopped(job.worker, job.heartbeat, STALE_S)
    ):
        db.execute(
            "update jobs set state = 'cancelled', cancel = 1, ended = ? where id = ?",
            (time.time(), job_id),
        )
    else:
        db.execute("update jobs set cancel = 1 where id = ?", (job_id,))


@transaction
def resume(db: sqlite3.Connection, job_id: int) -> None:
    """Queue a failed or cancelled job again; a training goes on from its checkpoint."""
    job = _one(db, job_id)
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


# for the worker and its child


def fits(job: Job, slot: str, slots: Sequence[str]) -> bool:
    """Whether a job may run on the slot "cpu" or "cuda:0" of a worker that has `slots`; the slots
    of another runner bear its name.
    """
    if job.runner != "local" or not DEVICE.fullmatch(slot):
        return slot == job.runner
    kind = slot.partition(":")[0]
    if job.device:
        return job.device in (slot, kind)
    best = "cuda" if job.kind == "train" else "cpu"
    return kind == best or not any(other.startswith(best) for other in slots)


@transaction
def claim(db: sqlite3.Connection, worker: str, slots: Sequence[str] = ("cpu",)) -> Job | None:
    """Take the oldest queued job of the highest priority that waits for nothing and for which one
    of the worker's slots is right and
    free; None when there is none, or another worker runs jobs.
    """
    now = time.time()
    running = db.execute(
        "select worker, heartbeat, place, runner from jobs where state = 'running'"
    ).fetchall()
    if any(
        r["worker"] != worker and not pulse.stopped(r["worker"], r["heartbeat"], STALE_S)
        for r in running
    ):
        return None
    free = list(slots)
    for row in running:
        slot = row["place"] if row["runner"] == "local" else row["runner"]
        if row["worker"] == worker and slot in free:
            free.remove(slot)
    queued = db.execute(
        "select * from jobs where state = 'queued' and not_before <= ? order by priority desc, id",
        (now,),
    )
    for job in map(_job, queued.fetchall()):
        before = [_one(db, number) for number in job.after]
        place = next((slot for slot in free if fits(job, slot, slots)), None)
        if place is not None and all(b.state == "done" for b in before):
            break
    else:
        return None
    payload, run = job.payload, job.run
    if before and payload.get("run") == "":  # e.g. the evaluation of what was trained just now
        payload, run = payload | {"run": before[0].run}, before[0].run
    if "visitor" in payload and job.started:  # resumed: what it took before counts for its visitor
        payload |= {
            "spent_s": (
                payload.get("spent_s", 0.0) + max(0.0, (job.heartbeat or job.started) - job.started)
            )
        }
    db.execute(
        "update jobs set state = 'running', worker = ?, heartbeat = ?, started = ?, ended = null,"
        " error = '', pid = null, attempts = attempts + 1, place = ?, payload = ?, run = ? where"
        " id = ?",
        (worker, now, now, place, json.dumps(payload), run, job.id),
    )
    return _one(db, job.id)


@transaction
def beat(
    db: sqlite3.Connection,
    job_id: int,
    worker: str,
    progress: float | None = None,
    message: str | None = None,
    eta_s: float | None = None,
) -> bool:
    """Say that the job lives, and how far it is. False: stop, it was asked to or is another
    worker's. One that was lost goes on: `kept`.
    """
    told: dict[str, Any] = {"heartbeat": time.time()}
    if progress is not None:
        told |= {"progress": min(1.0, max(0.0, float(progress))), "eta_s": eta_s}
    if message is not None:
        told["message"] = message
    if _change(db, job_id, worker, told):
        return not _one(db, job_id).cancel
    return db.execute("select 1 from jobs where id = ?", (job_id,)).fetchone() is None


@transaction
def kept(db: sqlite3.Connection, job: Job) -> Job:
    """A job as the queue has it; entered again as it was when the queue was damaged and had to
    begin empty.
    """
    if db.execute(
        "select 1 from jobs where id = ? and created = ?", (job.id, job.created)
    ).fetchone():
        return _one(db, job.id)
    values = vars(job) | {name: json.dumps(getattr(job, name)) for name in ("payload", "settings")}
    values |= {"after": "[]", "cancel": int(job.cancel)}  # what it waited for is unknown there
    if db.execute(
        "select 1 from jobs where id = ?", (job.id,)
    ).fetchone():  # another one has its number now
        values["id"] = None
    cursor = db.execute(
        f"insert into jobs ({', '.join(values)}) values ({', '.join('?' * len(values))})",
        tuple(values.values()),
    )
    return _one(db, _number(cursor))


@transaction
def note(db: sqlite3.Connection, job_id: int, worker: str, **told: Any) -> None:
    """Remember the child's process id (`pid`, also its group's), the `run` it writes, its `place`,
    or its name elsewhere (`remote`).
    """
    assert set(told) <= {"pid", "run", "place", "remote"}, told
    _change(
        db,
        job_id,
        worker,
        {k: v for k, v in told.items() if v is not None} or {"heartbeat": time.time()},
    )


@transaction
def finish(db: sqlite3.Connection, job_id: int, worker: str = "") -> None:
    _end(db, job_id, worker, "done", progress=1.0)


@transaction
def fail(
    db: sqlite3.Connection, job_id: int, text: str, worker: str = "", again: bool = True
) -> None:
    """`text` is the traceback or the reason; the jobs page shows it. `again`: it may be tried
    again, if it has retries left.
    """
    job = _one(db, job_id)
    if again and job.failures < job.retries and not job.cancel:
        wait = min(RETRY_S * 2**job.failures, MOST_RETRY_S)
        _end(
            db,
            job_id,
            worker,
            "queued",
            ended=None,
            error=text,
            attempts=0,
            failures=job.failures + 1,
            remote="",
            not_before=time.time() + wait,
            message=(
                f"failed {job.failures + 1} of {job.retries + 1} times; tried again in {wait:.0f} s"
            ),
        )
    else:
        _end(db, job_id, worker, "failed", error=text)


@transaction
def stopped(db: sqlite3.Connection, job_id: int, worker: str = "") -> None:
    """The child ended because it was told to: cancelled if a person asked, queued again
    otherwise.
    """
    if _one(db, job_id).cancel:
        _end(db, job_id, worker, "cancelled")
    else:
        _end(db, job_id, worker, "queued", ended=None)


@transaction
def impossible(db: sqlite3.Connection, worker: str, slots: Sequence[str]) -> list[Job]:
    """Fail the queued jobs that ask for a device of which this worker has no slot, and return them
    as they were.
    """
    queued = [_job(r) for r in db.execute("select * from jobs where state = 'queued'")]
    wrong = [job for job in queued if not any(fits(job, slot, slots) for slot in slots)]
    for job in wrong:
        db.execute(
            "update jobs set state = 'failed', ended = ?, error = ? where id = ?",
            (
                time.time(),
                (
                    f"it asks for {job.device}, and this worker ({worker}) has {', '.join(slots)}:"
                    " queue it again without --device, or begin a worker with --slots"
                ),
                job.id,
            ),
        )
    return wrong


@transaction
def requeue_stale(db: sqlite3.Connection, seconds: float = STALE_S, but: str = "") -> list[Job]:
    """Queue the running jobs whose worker's heart stopped, and return them as they were; never
    those of the worker `but`, who asks.
    """
    running = [_job(r) for r in db.execute("select * from jobs where state = 'running'")]
    lost = [
        job
        for job in running
        if job.worker != but and pulse.stopped(job.worker, job.heartbeat, seconds)
    ]
    for job in lost:
        if job.cancel and not job.remote:
            _end(db, job.id, "", "cancelled")
        elif job.remote or pulse.moved_on(
            job.run, job.started
        ):  # it goes on without a worker; or it got further before this one died
            _end(db, job.id, "", "queued", ended=None, attempts=0)
        elif job.attempts >= MAX_ATTEMPTS:
            _end(
                db,
                job.id,
                "",
                "failed",
                error=(
                    f"its worker died {job.attempts} times while it ran and got no further; often "
                    "this is lack of memory: see the log, use smaller batches, then resume it"
                ),
            )
        else:
            _end(db, job.id, "", "queued", ended=None)
    return lost


def _end(db: sqlite3.Connection, job_id: int, worker: str, state: str, **more: Any) -> None:
    assert state in JOB_STATES, state
    _change(
        db,
        job_id,
        worker,
        {"state": state, "ended": time.time(), "pid": None, "eta_s": None} | more,
    )


def _change(db: sqlite3.Connection, job_id: int, worker: str, values: dict[str, Any]) -> bool:
    """Change a running job, if it is (still) this worker's; "" is anyone's."""
    columns = ", ".join(f"{name} = ?" for name in values)
    done = db.execute(
        f"update jobs set {columns} where id = ? and state = 'running' and ? in ('', worker)",
        (*values.values(), job_id, worker),
    )
    return done.rowcount == 1


# the one worker


@transaction
def worker_beat(db: sqlite3.Connection, name: str) -> bool:
    """Take or keep the worker's place; False when another worker has it and lives."""
    row = db.execute("select * from worker").fetchone()
    if (
        row is not None
        and row["name"] != name
        and not pulse.stopped(row["name"], row["heartbeat"], STALE_S)
    ):
        return False
    db.execute(
        "insert or replace into worker (slot, name, heartbeat) values (1, ?, ?)",
        (name, time.time()),
    )
    return True


@transaction
def worker_leave(db: sqlite3.Connection, name: str) -> None:
    db.execute("delete from worker where name = ?", (name,))


@transaction
def worker_alive(db: sqlite3.Connection) -> bool:
    row = db.execute("select * from worker").fetchone()
    return row is not None and not pulse.stopped(row["name"], row["heartbeat"], STALE_S)


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
