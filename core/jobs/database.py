"""The queue's SQLite file: made, checked, brought up to date, kept aside when it is damaged, and
one transaction at a time; knows nothing about jobs.

Every transaction holds a shared lock on the queue's folder, and whoever makes or moves the file an
exclusive one: so a file is only moved while nobody has it open, and of two who meet a damaged one
only the first moves it."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from core import paths
from core.common.writing import beside
from core.jobs import schema, spare

BUSY_S = 30.0  # how long to wait for another process's transaction
ASIDE = ".damaged-"  # what a damaged file is called from then on, with the time
BESIDE = ("", "-wal", "-shm")  # the database and what SQLite keeps beside it
SMALLEST_FILE = 512  # bytes of SQLite's smallest file
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class QueueError(ValueError):
    """The queue's file cannot be used; the text says where it is and what to do."""


class Busy(QueueError):
    """Another process has held the queue for BUSY_S."""


class Damaged(Exception):
    """The file opened, but what it holds is not what was written."""


P = ParamSpec("P")
T = TypeVar("T")


def transaction(
    work: Callable[Concatenate[sqlite3.Connection, P], T], begin: str = "begin immediate"
) -> Callable[P, T]:
    """work(db, ...) as one transaction, called without `db`: readers elsewhere go on, writers wait.

    A damaged file is kept aside, which is said on standard error, and `work` is done on an empty
    queue. QueueError when a file cannot be used otherwise (rights, a full disk, a newer format).
    """

    @functools.wraps(work)
    def run(*given: P.args, **named: P.kwargs) -> T:
        path = paths.jobs_database()
        _check_rights(path)
        reason = ""
        for _ in range(3):  # the file is missing or damaged, perhaps damaged again
            with _folder(path.parent, fcntl.LOCK_SH):
                version = _which(path)
                if version is not None:
                    spare.keep(path)
                    try:
                        return _once(path, lambda db: work(db, *given, **named), begin)
                    except Damaged as error:
                        reason = str(error)
                    except OverflowError:
                        raise ValueError(
                            "a number is too large for the job queue: it keeps whole numbers below"
                            " 2^63"
                        ) from None
            _begin(path, version, reason)
        raise QueueError(
            f"the job queue {path} is damaged again and again ({reason}): is its disk sound?"
        )

    return run


def reading(work: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[P, T]:
    """As transaction(), of work that changes nothing: waits for no writer, and needs no rights."""
    looking = transaction(work, "begin")

    @functools.wraps(work)
    def run(*given: P.args, **named: P.kwargs) -> T:
        path = paths.jobs_database()
        if path.is_file() and not all(os.access(p, os.W_OK) for p in (path.parent, path)):
            return _read(path, lambda db: work(db, *given, **named))
        return looking(*given, **named)

    return run


def _read(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """QueueError where SQLite cannot. Without a write-ahead log beside it, which it would have to
    make, nobody has the file open.
    """
    how = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    where = f"file:{urllib.parse.quote(str(path.absolute()))}?{how}"
    try:
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=BUSY_S)) as db:
            db.row_factory = sqlite3.Row
            _check_schema(db, path)
            return work(db)
    except (sqlite3.Error, Damaged) as error:
        raise QueueError(
            f"the job queue {path} may only be read here, and cannot be: {error}; change its"
            " rights, or move the artifacts elsewhere with SUPERNET_ARTIFACTS"
        ) from error


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


def _once(path: Path, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
    """One transaction on the file as it is. Damaged, or QueueError for everything else that SQLite
    says against it.
    """
    try:
        if (byte_count := path.stat().st_size) < SMALLEST_FILE:
            raise Damaged(
                f"it has {byte_count} bytes"
            )  # no queue is ever so short, and SQLite would begin a new one without a word
        where = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=rw"
        with contextlib.closing(
            sqlite3.connect(where, uri=True, timeout=BUSY_S, isolation_level=None)
        ) as db:
            db.row_factory = sqlite3.Row
            schema.write_ahead(db, BUSY_S)
            db.execute(begin)
            try:
                _check_schema(db, path)
                value = work(db)
                db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have done so itself
                    db.execute("rollback")
                raise
            return value
    except sqlite3.Error as error:
        # text that is no text any more is found by Python, which gives no code
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in DAMAGE or "decode to UTF-8" in str(error):
            raise Damaged(str(error)) from error
        if spare.give_up(path):
            return _once(path, work, begin)
        kind = Busy if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else QueueError
        raise kind(f"the job queue {path} cannot be used now: {error}") from error


def _which(path: Path) -> tuple[int, int] | None:
    """Which file this is, whatever its name; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
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


def _begin(path: Path, identity: tuple[int, int] | None, reason: str) -> None:
    """An empty queue where none is, or in place of the damaged file `identity`, unless another
    process has done so.
    """
    with _folder(path.parent, fcntl.LOCK_EX):
        if _which(path) != identity:
            return
        try:
            aside = _keep_aside(path)
            _make(path)
        except (OSError, sqlite3.Error) as error:
            raise QueueError(f"no job queue could be begun at {path}: {error}") from error
    if identity is not None:
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
        copy
        for n in range(10_000)
        for copy in [path.with_name(stem + (f".{n}" if n else ""))]
        if not any(copy.with_name(copy.name + end).exists() for end in BESIDE)
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


def said(files: list[Path]) -> str:
    """The same for people, "" for none."""
    names = ", ".join(p.name for p in files)
    return (
        f"The job queue was damaged and kept aside: {names} in {files[0].parent}. {WHAT_NOW} To end"
        f" this message, delete {'that file' if len(files) == 1 else 'those files'}."
        if files
        else ""
    )


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    version = schema.update(db)
    if version > schema.SCHEMA:
        raise QueueError(
            f"the job queue {path} has format {version}, this program reads format"
            f" {schema.SCHEMA}; use the newer program, or move the file away to begin an empty"
            " queue"
        )
