"""The tables of the queue's database, and the step from each format to the next."""

from __future__ import annotations

import sqlite3
import time

SCHEMA = 4  # stored as the database's user_version; raised when a table changes


TABLES = """
create table jobs (id integer primary key autoincrement, kind text not null, payload text not null,
  state text not null, run text not null default '', created real not null, started real,
  ended real, heartbeat real, worker text not null default '', pid integer,
  progress real not null default 0, message text not null default '', eta_s real,
  error text not null default '', cancel integer not null default 0,
  attempts integer not null default 0);
create index jobs_state on jobs (state);
create table worker (slot integer primary key check (slot = 1), name text not null,
  heartbeat real not null);
"""


UPDATES = {
    1: (
        """
alter table jobs add column priority integer not null default 0;
alter table jobs add column after text not null default '[]';
alter table jobs add column retries integer not null default 0;
alter table jobs add column failures integer not null default 0;
alter table jobs add column not_before real not null default 0
"""
    ),
    2: (
        """
alter table jobs add column device text not null default '';
alter table jobs add column place text not null default ''
"""
    ),
    3: (
        """
alter table jobs add column runner text not null default 'local';
alter table jobs add column settings text not null default '{}';
alter table jobs add column remote text not null default ''
"""
    ),
}  # from which format, to the next one


def update(db: sqlite3.Connection) -> int:
    """Create the tables or bring them up to date; the format of the file, which is above SCHEMA
    when a newer program wrote it.
    """
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 0:
        _run(db, TABLES)
    for step in range(max(version, 1), SCHEMA):
        _run(db, UPDATES[step])
    if version < SCHEMA:
        db.execute(f"pragma user_version = {SCHEMA}")
    return max(version, SCHEMA)


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        db.execute(statement)


def write_ahead(db: sqlite3.Connection, busy_s: float) -> None:
    """Write-ahead log. SQLite does not wait by itself while another process makes the same change,
    so we do.
    """
    until = time.monotonic() + busy_s
    while db.execute("pragma journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    db.execute(
        "pragma synchronous = normal"
    )  # no fsync per heartbeat; a power cut may lose the last changes
