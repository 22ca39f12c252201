"""The seat of the worker: one has it at a time. And a worker's patience with others who hold the
queue.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from core.jobs import heartbeat
from core.jobs.database import Busy, transaction
from core.jobs.queue import STALE_S

PATIENCE_S = 600.0  # for which a worker waits while other processes hold the queue
P = ParamSpec("P")
T = TypeVar("T")


def patient(work: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[P, T]:
    """A transaction that is tried again while another process holds the queue: a lock ends no
    training and no worker.
    """
    once = transaction(work)

    @functools.wraps(work)
    def run(*given: P.args, **named: P.kwargs) -> T:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return once(*given, **named)
            except Busy:
                if time.monotonic() > until:
                    raise

    return run


@patient
def take(db: sqlite3.Connection, name: str) -> bool:
    """Take or keep the worker's seat; False when another worker has it and lives."""
    row = db.execute("select * from worker").fetchone()
    if (
        row is not None
        and row["name"] != name
        and not heartbeat.stopped(row["name"], row["heartbeat"], STALE_S)
    ):
        return False
    db.execute(
        "insert or replace into worker (slot, name, heartbeat) values (1, ?, ?)",
        (name, time.time()),
    )
    return True


@patient
def leave(db: sqlite3.Connection, name: str) -> None:
    db.execute("delete from worker where name = ?", (name,))
