"""The queue's SQLite file: made, checked, brought up to date, kept aside when it is damaged, and
one transaction at a time; knows nothing about jobs.

Every transaction holds a shared lock on the queue's folder, and whoever makes or moves the file an
exclusive one: so a file is only moved while nobody has it open, and of two who meet a damaged one
only the first moves it. Beside it lies a file of nothing that is given up when the disk is full: so
a job can still be told that this is why it failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from core import paths
from core.common.writing import beside

SCHEMA = 4  # stored as the database's user_version; raised when a table changes
BUSY_S = 30.0  # how long to wait for another process's transaction
ASIDE = ".damaged-"  # what a damaged file is called from then on, with the time
BESIDE = ("", "-wal", "-shm")  # the database and what SQLite keeps beside it
LEAST = 512  # bytes of SQLite's smallest file
SPARE, SPARE_BYTES = (
    ".spare",
    1 << 18,
)  # room for many changes: what SQLite keeps beside the file goes when a change is made
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

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


class QueueError(ValueError):
    """The queue's file cannot be used; the text says where it is and what to do."""


class Damaged(Exception):
    """The file opened, but what it holds is not what was written."""


P = ParamSpec("P")
T = TypeVar("T")


def transaction(work: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[P, T]:
    """work(db, ...) as one immediate transaction, called without `db`: readers elsewhere go on,
    writers wait.

    A damaged file is kept aside (`damaged` names it), which is said on standard error, and `work`
    is done on an empty queue in its place.
    QueueError when the file cannot be used for another reason (rights, a full disk, a lock, a newer
    format): it is left as it is.
    """

    @functools.wraps(work)
    def run(*given: P.args, **named: P.kwargs) -> T:
        path = paths.jobs_database()
        _check_rights(path)
        reason = ""
        for _ in range(3):  # the file is missing or damaged, perhaps damaged again
            with _folder(path.parent, fcntl.LOCK_SH):
                found = _which(path)
                if found is not None:
                    _keep_spare(path)
                    try:
                        return _once(path, lambda db: work(db, *given, **named))
                    except Damaged as error:
                        reason = str(error)
                    except OverflowError:
                        raise ValueError(
                            "a number is too large for the job queue: it keeps whole numbers below"
                            " 2^63"
                        ) from None
            _begin(path, found, reason)
        raise QueueError(
            f"the job queue {path} is damaged again and again ({reason}): is its disk sound?"
        )

    return run


def _check_rights(path: Path) -> None:
    """QueueError where the queue may not be written: SQLite would call the file unopenable, which
    is no damage.
    """
    with contextlib.suppress(OSError):  # then it may not be written either
        path.parent.mkdir(parents=True, exist_ok=True)
    for place in (path.parent, path):
        if not os.access(place, os.W_OK) and (place == path.parent or place.exists()):
            raise QueueError(
                f"{place} may not be written, so there can be no job queue: change its rights, or"
                " move the artifacts elsewhere with SUPERNET_ARTIFACTS"
            )


def _once(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """One transaction on the file as it is. Damaged, or QueueError for everything else that SQLite
    says against it.
    """
    try:
        if (size := path.stat().st_size) < LEAST:
            raise Damaged(
                f"it has {size} bytes"
            )  # no queue is ever so short, and SQLite would begin a new one without a word
        where = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=rw"
        with contextlib.closing(
            sqlite3.connect(where, uri=True, timeout=BUSY_S, isolation_level=None)
        ) as db:
            db.row_factory = sqlite3.Row
            _prepare(db)
            db.execute("begin immediate")
            try:
                _check_schema(db, path)
                result = work(db)
                db.execute("commit")
            except BaseException:
                with contextlib.suppress(
                    sqlite3.Error
                ):  # after some errors SQLite has done so itself
                    db.execute("rollback")
                raise
            return result
    except sqlite3.Error as error:
        # text that is no text any more is found by Python, which gives no code
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE or "decode to UTF-8" in str(
            error
        ):
            raise Damaged(str(error)) from error
        if _give_up_spare(path):
            return _once(path, work)
        raise QueueError(f"the job queue {path} cannot be used now: {error}") from error


def _keep_spare(path: Path) -> None:
    """Room on the disk for later, while there is much more of it. Random, for some disks keep no
    zeros.
    """
    spare = path.with_name(path.name + SPARE)
    if spare.exists() or shutil.disk_usage(path.parent).free < 8 * SPARE_BYTES:
        return
    new = beside(spare)
    try:
        with contextlib.suppress(OSError):
            new.write_bytes(os.urandom(SPARE_BYTES))
            new.rename(spare)
    finally:
        new.unlink(missing_ok=True)


def _give_up_spare(path: Path) -> bool:
    """Whether the disk is full and there is room now."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.parent).free < SPARE_BYTES:
            path.with_name(path.name + SPARE).unlink()
            return True
    return False


def _which(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


@contextlib.contextmanager
def _folder(folder: Path, kind: int) -> Iterator[None]:
    """A lock on the queue's folder, for BUSY_S at most. QueueError for an exclusive one that is not
    to be had.
    """
    opened, until = os.open(folder, os.O_RDONLY), time.monotonic() + BUSY_S
    try:
        while True:
            try:
                fcntl.flock(opened, kind | fcntl.LOCK_NB)
                break
            except OSError as error:
                if isinstance(error, BlockingIOError) and time.monotonic() < until:
                    time.sleep(0.01)
                elif kind == fcntl.LOCK_EX:
                    raise QueueError(
                        f"no job queue could be begun in {folder}: the folder could not be locked"
                        f" ({error.strerror}); is another program using it, or does its disk know"
                        " no locks?"
                    ) from error
                else:  # a file system without locks: as good as before
                    break
        yield
    finally:
        os.close(opened)


def _begin(path: Path, found: tuple[int, int] | None, reason: str) -> None:
    """An empty queue where none is, or in place of the damaged file `found`, unless another process
    has done so.
    """
    with _folder(path.parent, fcntl.LOCK_EX):
        if _which(path) != found:
            return
        try:
            aside = _keep_aside(path)
            _make(path)
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"no job queue could be begun at {path}: {error}") from error
    if found is not None:
        print(
            f"The job queue {path} was damaged ({reason}) and is kept as {aside.name}; an empty one"
            f" is in its place. {WHAT_NOW}",
            file=sys.stderr,
            flush=True,
        )


def _keep_aside(path: Path) -> Path:
    """Rename the file with what lies beside it; also a lone write-ahead log, which SQLite would
    play into the next database.
    """
    stem = f"{path.name}{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"
    aside = next(
        one
        for n in range(10_000)
        for one in [path.with_name(stem + (f".{n}" if n else ""))]
        if not any(one.with_name(one.name + end).exists() for end in BESIDE)
    )
    for end in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    return aside


def _make(path: Path) -> None:
    """An empty queue, whole or not at all. Its numbers go on after those of the jobs that have left
    logs.
    """
    logs = [
        int(m.group(1))
        for p in paths.runs().glob("job-*.log")
        for m in [re.fullmatch(r"job-(\d+)\.log", p.name)]
        if m
    ]
    new = beside(path)
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("begin")
            _check_schema(db, new)
            db.execute(
                "insert into sqlite_sequence (name, seq) values ('jobs', ?)",
                (max(logs, default=0),),
            )
            db.execute("commit")
        os.rename(new, path)
    finally:
        for end in BESIDE:
            new.with_name(new.name + end).unlink(missing_ok=True)


WHAT_NOW = (
    "Its jobs are not in the list. Runs and checkpoints are untouched: `python -m core train"
    " --resume RUN` goes on with a training."
)


def damaged() -> list[Path]:
    """The damaged queues that were kept aside and still lie there, the newest first."""
    path = paths.jobs_database()
    return sorted(
        (p for p in path.parent.glob(f"{path.name}{ASIDE}*") if not p.name.endswith(BESIDE[1:])),
        reverse=True,
    )


def said(found: list[Path]) -> str:
    """The same for people, "" for none."""
    names = ", ".join(p.name for p in found)
    return (
        f"The job queue was damaged and kept aside: {names} in {found[0].parent}. {WHAT_NOW} To end"
        f" this message, delete {'that file' if len(found) == 1 else 'those files'}."
        if found
        else ""
    )


def _prepare(db: sqlite3.Connection) -> None:
    """Write-ahead log. SQLite does not wait by itself while another process makes the same change,
    so we do.
    """
    until = time.monotonic() + BUSY_S
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


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 0:
        _run(db, TABLES)
    for step in range(max(version, 1), SCHEMA):
        _run(db, UPDATES[step])
    if version < SCHEMA:
        db.execute(f"pragma user_version = {SCHEMA}")
    elif version > SCHEMA:
        raise QueueError(
            f"the job queue {path} has format {version}, this program reads format {SCHEMA}; "
            "use the newer program, or move the file away to begin an empty queue"
        )


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        db.execute(statement)
