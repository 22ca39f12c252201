"""One piece of background work, as the queue keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

JOB_KINDS = ("prepare", "train", "search", "evaluate", "export")
JOB_STATES = ("queued", "running", "done", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """One piece of background work. Times are seconds since the epoch."""

    id: int
    kind: str
    payload: dict[str, Any]
    state: str
    run: str = ""
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    worker: str = ""
    pid: int | None = None
    progress: float = 0.0  # 0..1
    message: str = ""
    eta_s: float | None = None
    error: str = ""
    cancel: bool = False  # asked to stop
    attempts: int = 0
    priority: int = 0  # higher ones go first
    after: tuple[int, ...] = ()  # jobs that must be done before
    retries: int = 0  # how often it is tried again after a failure
    failures: int = 0  # since it was queued by a person
    not_before: float = 0.0  # not tried again before this time
    device: str = ""  # asked for: "cpu", "cuda", "cuda:1"; "" takes what is free
    place: str = (
        ""  # where it runs or ran: the device of its slot, or machines and devices of a cluster
    )
    runner: str = "local"  # the plug-in of core/runners that runs it
    settings: dict[str, Any] = field(default_factory=dict)  # the runner's options
    remote: str = ""  # what it is called where it goes on without this machine
