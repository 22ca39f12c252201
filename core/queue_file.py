"""The queue's SQLite file: made, checked, brought up to date, and one transaction at a time; knows nothing about jobs."""
from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from core import paths

SCHEMA = 4            # stored as the database's user_version; raised when a table changes
BUSY_S = 30.0         # how long to wait for another process's transaction

TABLES = """
create table jobs (id integer primary key autoincrement, kind text not null, payload text not null,
  state text not null, run text not null default '', created real not null, started real, ended real, heartbeat real,
  worker text not null default '', pid integer, progress real not null default 0, message text not null default '',
  eta_s real, error text not null default '', cancel integer not null default 0, attempts integer not null default 0);
create index jobs_state on jobs (state);
create table worker (slot integer primary key check (slot = 1), name text not null, heartbeat real not null);
"""
UPDATES = {1: """
alter table jobs add column priority integer not null default 0;
alter table jobs add column after text not null default '[]';
alter table jobs add column retries integer not null default 0;
alter table jobs add column failures integer not null default 0;
alter table jobs add column not_before real not null default 0
""", 2: """
alter table jobs add column device text not null default '';
alter table jobs add column place text not null default ''
""", 3: """
alter table jobs add column runner text not null default 'local';
alter table jobs add column settings text not null default '{}';
alter table jobs add column remote text not null default ''
"""}                  # from which format, to the next one


class QueueError(ValueError):
    """The queue's file cannot be used; the text says where it is and what to do."""


@contextlib.contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """One immediate transaction: readers elsewhere go on, writers wait. A damaged file is never replaced silently."""
    path = paths.jobs_database()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            _prepare(db)
            db.execute("begin immediate")
            try:
                _check_schema(db, path)
                yield db
            except BaseException:
                db.execute("rollback")
                raise
            db.execute("commit")
    except sqlite3.OperationalError as error:
        raise QueueError(f"the job queue {path} cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise QueueError(f"the job queue {path} is damaged ({error}). Stop the worker, then move the file away, e.g. "
                         f"mv '{path}' '{path}.damaged'; an empty queue is made in its place, runs are kept") from error


def _prepare(db: sqlite3.Connection) -> None:
    """Write-ahead log. SQLite does not wait by itself while another process makes the same change, so we do."""
    until = time.monotonic() + BUSY_S
    while db.execute("pragma journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    db.execute("pragma synchronous = normal")  # no fsync per heartbeat; a power cut may lose the last changes


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 0:
        _run(db, TABLES)
    for step in range(max(version, 1), SCHEMA):
        _run(db, UPDATES[step])
    if version < SCHEMA:
        db.execute(f"pragma user_version = {SCHEMA}")
    elif version > SCHEMA:
        raise QueueError(f"the job queue {path} has format {version}, this program reads format {SCHEMA}; "
                         f"use the newer program, or move the file away to begin an empty queue")


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        db.execute(statement)
