"""Whether a worker is alive: its name tells where its process is, and its heart leaves the time of
its last beat. And whether what it did has moved on: a run's checkpoint, sizes and reports have a
time, too.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path

from core import paths


def name() -> str:
    """This process's name as a worker: host:pid:random."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def stopped(worker: str, heartbeat: float | None, seconds: float) -> bool:
    """Whether a worker is gone: its process on this host has ended, or its heart has not beaten for
    so many seconds.
    """
    host, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if host == socket.gethostname() and pid.isdigit() and int(pid) != os.getpid():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it lives and is another user's
            return time.time() - (heartbeat or 0.0) > seconds
        if _zombie(int(pid)):
            return True
    return time.time() - (heartbeat or 0.0) > seconds


def _zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked how: a killed worker whose dashboard
    lives. False where the system does not tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] == ["Z"]


def moved_on(run: str, since: float | None) -> bool:
    """Whether a checkpoint, a size or a report of a run was written after a time in s."""
    folders = (
        [paths.runs() / run / part for part in (paths.CHECKPOINT, paths.SUBNETS, paths.REPORTS)]
        if run
        else []
    )
    files = [file for folder in folders for file in folder.glob("*") if ".tmp-" not in file.name]
    return any(file.stat().st_mtime > (since or 0.0) for file in files if file.is_file())
