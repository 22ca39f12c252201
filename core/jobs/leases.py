"""What a worker does with jobs of the queue: claim them, keep the lease by heartbeats, end them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from core.jobs import heartbeat
from core.jobs.job import JOB_STATES, Job
from core.jobs.queue import DEVICE, STALE_S, fetch, job_of, number_of
from core.jobs.seat import patient

RETRY_S = 30.0  # until a failed job is tried again; doubled each time


MOST_RETRY_S = 300.0  # shorter than an idle worker waits before it leaves


MAX_ATTEMPTS = 5  # deaths of a job's worker without any progress, after which it fails


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


@patient
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
        r["worker"] != worker and not heartbeat.stopped(r["worker"], r["heartbeat"], STALE_S)
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
    for job in map(job_of, queued.fetchall()):
        before = [fetch(db, number) for number in job.after]
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
    return fetch(db, job.id)


@patient
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
    facts: dict[str, Any] = {"heartbeat": time.time()}
    if progress is not None:
        facts |= {"progress": min(1.0, max(0.0, float(progress))), "eta_s": eta_s}
    if message is not None:
        facts["message"] = message
    if _change(db, job_id, worker, facts):
        return not fetch(db, job_id).cancel
    return db.execute("select 1 from jobs where id = ?", (job_id,)).fetchone() is None


@patient
def kept(db: sqlite3.Connection, job: Job) -> Job:
    """A job as the queue has it; entered again as it was when the queue was damaged and had to
    begin empty.
    """
    if db.execute(
        "select 1 from jobs where id = ? and created = ?", (job.id, job.created)
    ).fetchone():
        return fetch(db, job.id)
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
    return fetch(db, number_of(cursor))


@patient
def note(db: sqlite3.Connection, job_id: int, worker: str, **facts: Any) -> None:
    """Remember the child's process id (`pid`, also its group's), the `run` it writes, its `place`,
    or its name elsewhere (`remote`).
    """
    assert set(facts) <= {"pid", "run", "place", "remote"}, facts
    _change(
        db,
        job_id,
        worker,
        {k: v for k, v in facts.items() if v is not None} or {"heartbeat": time.time()},
    )


@patient
def finish(db: sqlite3.Connection, job_id: int, worker: str = "") -> None:
    _end(db, job_id, worker, "done", progress=1.0)


@patient
def fail(
    db: sqlite3.Connection, job_id: int, text: str, worker: str = "", again: bool = True
) -> None:
    """`text` is the traceback or the reason; the jobs page shows it. `again`: it may be tried
    again, if it has retries left.
    """
    job = fetch(db, job_id)
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


@patient
def stopped(db: sqlite3.Connection, job_id: int, worker: str = "") -> None:
    """The child ended because it was told to: cancelled if a person asked, queued again
    otherwise.
    """
    if fetch(db, job_id).cancel:
        _end(db, job_id, worker, "cancelled")
    else:
        _end(db, job_id, worker, "queued", ended=None)


@patient
def impossible(db: sqlite3.Connection, worker: str, slots: Sequence[str]) -> list[Job]:
    """Fail the queued jobs that ask for a device of which this worker has no slot, and return them
    as they were.
    """
    queued = [job_of(r) for r in db.execute("select * from jobs where state = 'queued'")]
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


@patient
def requeue_stale(db: sqlite3.Connection, seconds: float = STALE_S, but: str = "") -> list[Job]:
    """Queue the running jobs whose worker's heart stopped, and return them as they were; never
    those of the worker `but`, who asks.
    """
    running = [job_of(r) for r in db.execute("select * from jobs where state = 'running'")]
    lost = [
        job
        for job in running
        if job.worker != but and heartbeat.stopped(job.worker, job.heartbeat, seconds)
    ]
    for job in lost:
        if job.cancel and not job.remote:
            _end(db, job.id, "", "cancelled")
        elif job.remote or heartbeat.moved_on(
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
