"""The one door from the pages to the queue: what a visitor may start, cancel and resume, within the
operator's limits.

Every job that comes through it carries who asked (`visitor`), the folders that it may read and its
minutes; the worker and the job's own process hold it to them, whatever the page showed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from core import paths
from core.jobs import confinement, policy, queue
from core.jobs.job import Job
from core.jobs.policy import DEMO, FULL, Quotas

JOBS, TRANSCRIBE = "start, cancel or resume jobs", "upload or transcribe recordings"
ALLOWED = {JOBS: (FULL,), TRANSCRIBE: (FULL, DEMO)}
LIMITED = (
    "workers",
    "device",
    "cpus",
    "shards",
    "restarts",
)  # a cluster's options that a visitor may set
DAY_S, HOUR_S = 86400.0, 3600.0
UNFINISHED = ("queued", "running")
_ONE = threading.Lock()  # between counting a visitor's jobs and adding one


class Refused(ValueError):
    """This visitor may not do that here; the text says what would be needed."""


@dataclass(frozen=True)
class Visitor:
    """Who is asking. `local`: somebody at this machine, whose jobs are everybody's; `quotas` None:
    no limits.
    """

    name: str
    mode: str
    local: bool = False
    quotas: Quotas | None = None

    def may(self, action: str) -> bool:
        return self.mode in ALLOWED[action]

    def check(self, action: str) -> None:
        """Refused, with what the operator would have to change."""
        if not self.may(action):
            raise Refused(
                f"this server is {self.mode}, so nobody can {action} here. {how_to_change(action)}"
            )


def how_to_change(action: str) -> str:
    modes = " or ".join(f'"{mode}"' for mode in reversed(ALLOWED[action]))
    return (
        f"Its operator changes that with mode = {modes} in server.toml, or with the environment"
        f" variable {policy.MODE_VARIABLE}, and a restart is not needed for the file."
    )


def add(
    visitor: Visitor,
    kind: str,
    payload: dict[str, Any],
    *,
    runner: str = "local",
    settings: dict[str, Any] | None = None,
    cluster: str = "",
    device: str = "",
    run: str = "",
) -> int:
    """Queue a job for a visitor and return its number. `settings` are options of the runner; a
    runner elsewhere goes to a `cluster`
    that the operator named. ValueError for what is not allowed, not possible or beyond the
    visitor's limits.
    """
    visitor.check(JOBS)
    allowed = policy.load()
    if isinstance(payload.get("recipe"), dict):
        confinement.check_recipe(payload["recipe"], allowed.folders)
    settings = _settings(allowed, runner, settings or {}, cluster)
    marked = payload | {
        "visitor": visitor.name,
        "folders": [str(folder) for folder in allowed.folders],
    }
    if visitor.quotas:
        marked |= {"limit_minutes": visitor.quotas.minutes, "limit_gb": visitor.quotas.disk_gb}
    with _ONE:
        _within_limits(visitor)
        return queue.add(kind, marked, run=run, runner=runner, settings=settings, device=device)


def cancel(visitor: Visitor, number: int) -> None:
    """See queue.cancel; a visitor's own jobs only."""
    _check_owner(visitor, number)
    queue.cancel(number)


def resume(visitor: Visitor, number: int) -> None:
    """See queue.resume; a visitor's own jobs only, within the limits."""
    _check_owner(visitor, number)
    with _ONE:
        _within_limits(visitor)
        queue.resume(number)


def wake_worker(visitor: Visitor) -> None:
    """Start a worker if none lives."""
    visitor.check(JOBS)
    queue.start_worker()


def _check_owner(visitor: Visitor, number: int) -> None:
    visitor.check(JOBS)
    if not visitor.local and queue.get(number).payload.get("visitor") != visitor.name:
        raise Refused(
            f"job {number} is somebody else's: only who queued it, or the operator on this machine,"
            " can change it"
        )


def _settings(
    allowed: policy.Policy, runner: str, given: dict[str, Any], cluster: str
) -> dict[str, Any]:
    """The runner's options; of one elsewhere, address, storage and folder as the operator has
    written them.
    """
    if runner == "local":
        return given
    if cluster not in allowed.clusters:
        named = ", ".join(allowed.clusters) or "none"
        raise Refused(
            f"expected a cluster that this server offers ({named}), got {cluster!r}: its operator"
            " names clusters in server.toml, e.g. [clusters.lab] with address and storage"
        )
    if wrong := sorted(set(given) - set(LIMITED)):
        raise Refused(
            f"from a page only {', '.join(LIMITED)} can be set for a cluster, got"
            f" {', '.join(wrong)}"
        )
    return vars(allowed.clusters[cluster]) | given


def check_cluster(job: Job) -> None:
    """ValueError for a visitor's job that would go to an address or a storage which is not (or no
    more) the operator's.
    """
    if "visitor" in job.payload:
        known = [vars(cluster) for cluster in policy.load().clusters.values()]
        if {
            name: job.settings.get(name, "") for name in ("address", "storage", "artifacts")
        } not in known:
            raise ValueError(
                "this job was queued from a page for a cluster that server.toml does not name (any"
                " more): nothing was sent"
            )


# limits


def _within_limits(visitor: Visitor) -> None:
    if (limits := visitor.quotas) is None:
        return
    local = _jobs_of(visitor.name)
    unfinished = sum(job.state in UNFINISHED for job in local)
    if limits.jobs and unfinished >= limits.jobs:
        raise Refused(
            f"you have {unfinished} jobs that wait or run, and {limits.jobs} are allowed: wait for"
            " one, or cancel it"
        )
    queued = sum(job.created > time.time() - DAY_S for job in local)
    if limits.queued and queued >= limits.queued:
        raise Refused(
            f"you have queued {queued} jobs within 24 hours, and {limits.queued} are allowed: try"
            " again tomorrow"
        )
    if reason := _used_up(local, limits.minutes, limits.disk_gb):
        raise Refused(reason)


def overdrawn(job: Job) -> str:
    """Why a visitor's running job must end now; "" while it is within its limits, and for all other
    jobs.
    """
    if "visitor" not in job.payload:
        return ""
    return _used_up(
        _jobs_of(job.payload["visitor"]),
        job.payload.get("limit_minutes", 0),
        job.payload.get("limit_gb", 0),
    )


def _used_up(jobs: list[Job], minutes: float, disk_gb: float) -> str:
    used = sum(map(_seconds, jobs)) / 60
    if minutes and used >= minutes:
        return (
            f"{used:.0f} minutes of computing within 24 hours are used up, and {minutes:g} are"
            " allowed: try again tomorrow"
        )
    gigabytes = (
        sum(_bytes(run) for run in {job.run for job in jobs if job.run and job.kind == "train"})
        / 1e9
        if disk_gb
        else 0.0
    )
    if disk_gb and gigabytes >= disk_gb:
        return (
            f"your runs take {gigabytes:.1f} GB, and {disk_gb:g} GB are allowed: ask the operator"
            " to remove some"
        )
    return ""


def _jobs_of(name: str) -> list[Job]:
    return queue.list_jobs(visitor=name)


def _seconds(job: Job) -> float:
    """Computing time of a job within the last day, with that before it was resumed."""
    now = time.time()
    if job.started is None or max(job.started, job.heartbeat or 0) < now - DAY_S:
        return 0.0
    return (
        (job.ended or (now if job.state == "running" else job.heartbeat or job.started))
        - job.started
        + job.payload.get("spent_s", 0.0)
    )


def _bytes(run: str) -> int:
    total = 0
    for file in (paths.runs() / run).rglob("*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            total += file.stat().st_size if file.is_file() else 0
    return total


class Ledger:
    """What each visitor uploaded and transcribed within the last hour, in this server's process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # {visitor: {key: (time, bytes)}}
        self._taken: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)

    def take(self, visitor: Visitor, key: str, byte_count: int = 0) -> None:
        """Count a recording of `size` bytes once, or (size 0) a transcription. Refused beyond the
        limits.
        """
        visitor.check(TRANSCRIBE)
        if (limits := visitor.quotas) is None:
            return
        with self._lock:
            self._forget()
            local = self._taken[visitor.name]
            if key in local:
                return
            sizes = [known for _, known in local.values() if bool(known) == bool(byte_count)]
            most = limits.uploads if byte_count else limits.transcriptions
            if most and len(sizes) >= most:
                raise Refused(
                    f"{most} {'recordings' if byte_count else 'transcriptions'} within an hour are"
                    " allowed: try again later"
                )
            if limits.upload_mb and sum(sizes) + byte_count > limits.upload_mb * 1e6:
                raise Refused(
                    f"{limits.upload_mb:g} MB of recordings within an hour are allowed: try again"
                    " later"
                )
            local[key] = time.time(), byte_count

    def _forget(self) -> None:
        until = time.time() - HOUR_S
        for name in list(self._taken):
            self._taken[name] = {
                key: entry for key, entry in self._taken[name].items() if entry[0] > until
            }
            if not self._taken[name]:
                del self._taken[name]
