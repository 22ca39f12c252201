"""Sound that comes through standard input or a named pipe: read whole, since formats keep what
matters at their ends."""

from __future__ import annotations

import os
import select
import stat
import sys
import unicodedata

STDIN = "-"
MOST_BYTES = 1 << 30
PATIENCE_S = 60.0  # until the first byte comes out of a named pipe


def is_pipe(path: str) -> bool:
    """Whether a path can only be read once: "-" or a named pipe, e.g. the shell's <(...)."""
    try:
        return path == STDIN or stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def drained(path: str) -> bytes:
    """All bytes of "-" or a named pipe. ValueError for a terminal, a pipe that nobody writes into,
    or more than 1 GB."""
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise ValueError(
                "-: expected a sound file on standard input, got a terminal; use e.g. `... "
                "transcribe RUN SUBNET - < FILE`"
            )
        return _at_most(sys.stdin.buffer.read(MOST_BYTES + 1), path)
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else opening waits for a writer, for ever
    with open(opened, "rb") as file:
        waiting = select.poll()
        waiting.register(opened, select.POLLIN)
        if not waiting.poll(PATIENCE_S * 1000):
            raise ValueError(
                f"{path}: nothing came out of this named pipe for {PATIENCE_S:g} s; start what "
                "writes into it first"
            )
        os.set_blocking(opened, True)
        return _at_most(file.read(MOST_BYTES + 1), path)


def _at_most(data: bytes, path: str) -> bytes:
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path}: expected at most {MOST_BYTES / 1e9:.1f} GB; save it as a file")
    return data


def one_line(name: str) -> str:
    """A file name that keeps a line a line: line breaks, tabs and bytes that are no text are
    written as escapes."""
    return "".join(
        (
            f"\\x{ord(c) - 0xDC00:02x}"
            if "\udc80" <= c <= "\udcff"
            else (
                c.encode("unicode_escape").decode()
                if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
                else c
            )
        )
        for c in name
    )
