"""Files written in one step, so that a reader never sees half of one; JSON of records and
numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from core.common import libraries
from core.records import as_dict

ASIDE = ".tmp-"
LEFT = re.compile(
    rf"{re.escape(ASIDE)}(?:([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}|(\d{{1,7}}))$"
)  # machine and process, or a process alone
# half a surrogate pair (of a damaged transcript or file name) becomes JSON's escape for it
HALVES = "backslashreplace"


def beside(path: Path) -> Path:
    """A name for what is written aside and then renamed. It tells which process of which machine
    does so, for `sweep`.
    """
    return path.with_name(f"{path.name}{ASIDE}{_here()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _here() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def sweep(folder: Path, depth: int = 4) -> list[Path]:
    """Remove what processes of this machine that have ended (killed, on a full disk) left aside in
    a folder, and say what that was.
    """
    leftovers = [
        path
        for level in range(1, depth + 1)
        for path in folder.glob("/".join(["*"] * (level - 1) + [f"*{ASIDE}*"]))
    ]
    dead = [
        path
        for path in leftovers
        if (match := LEFT.search(path.name))
        and match[1] in (None, _here())
        and not _lives(int(match[2] or match[3]))
    ]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return dead


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one, never a half.
    An OSError names the file, not the one that is written aside.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = beside(path)
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """JSON of plain data, records, numpy numbers and arrays, written in one step."""
    write_bytes(
        path,
        (json.dumps(data, indent=1, ensure_ascii=False, default=plain) + "\n").encode(
            errors=HALVES
        ),
    )


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """JSON lines, one row each, written in one step; compressed when the name ends with .zst."""
    data = "".join(json.dumps(r, ensure_ascii=False, default=plain) + "\n" for r in rows).encode(
        errors=HALVES
    )
    write_bytes(
        path,
        (
            zstandard.ZstdCompressor(level=19, write_checksum=True).compress(data)
            if str(path).endswith(".zst")
            else data
        ),
    )


def plain(value: Any) -> Any:
    """What json.dumps does not know by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


@contextlib.contextmanager
def os_errors(path: Path, kind: type[Exception]) -> Iterator[None]:
    """Libraries say in their own ways that a file cannot be written (libsndfile: "System error"):
    here it is an OSError with
    the path, "disk full" where that is so. `kind` is the library's exception.
    """
    try:
        yield
    except kind as error:
        full = "No space left" in str(error) or shutil.disk_usage(path.parent).free < 1_000_000
        raise OSError(
            errno.ENOSPC if full else errno.EIO, f"cannot be written ({error})", str(path)
        ) from None


def in_words(error: BaseException) -> str | None:
    """What to tell people about a disk that is full, a file or folder that cannot be used, or a
    library that is not installed; None where no file is named, and for other errors.
    """
    if package := libraries.package_of(error):
        return f"this needs {libraries.not_installed(package)}"
    if not isinstance(error, OSError):
        return None
    place = Path(error.filename) if error.filename else None
    where = f" while {place.name} was written" if place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full{where}: make room and start again; what is finished is kept, and a"
            " training goes on from its checkpoint"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or 'a file'} may not be written or read ({error.strerror}): change"
            " its rights, or move the artifacts elsewhere with SUPERNET_ARTIFACTS"
        )
    return (
        f"{error.filename} cannot be used ({error.strerror}): name another file or folder"
        if error.filename
        else None
    )
