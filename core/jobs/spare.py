"""A spare file beside the queue's database, given up when the disk is full: without it SQLite could
not read the queue then, nor store why a job failed (tests/jobs/test_survival.py shows it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from core.common.writing import beside

NAME_END, BYTES = (
    ".spare",
    1 << 18,
)  # room for many changes: what SQLite keeps beside the file goes when a change is made


def keep(path: Path) -> None:
    """Room on the disk for later, while there is much more of it. Random, for some disks keep no
    zeros.
    """
    spare = path.with_name(path.name + NAME_END)
    if spare.exists() or shutil.disk_usage(path.parent).free < 8 * BYTES:
        return
    new = beside(spare)
    try:
        with contextlib.suppress(OSError):
            new.write_bytes(os.urandom(BYTES))
            new.rename(spare)
    finally:
        new.unlink(missing_ok=True)


def give_up(path: Path) -> bool:
    """Whether the disk is full and there is room now."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.parent).free < BYTES:
            path.with_name(path.name + NAME_END).unlink()
            return True
    return False
