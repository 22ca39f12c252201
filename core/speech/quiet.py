"""libsndfile without the talk of its MP3 decoder: libmpg123 writes what it thinks of damaged frames
to file descriptor 2 itself, whatever the caller wants to be said.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

STDERR = 2
# what libmpg123 1.3x says where nobody asked it to be verbose, with the empty line in front of some
_TALK = re.compile(
    rb"(?:^\n)?^(?:\[src/libmpg123/|Note: (?:Illegal Audio-MPEG-Header|Trying to resync|Skipped \d"
    rb"|Hit end of|Junk at|Could be a |Looks like a |Input data end|missing -?\d+ bytes in bit"
    rb"|broken frame|Cut frame|free format|Xing)|Warning: (?:Xing|[^\n]*Frankenstein)"
    rb"|not attempting to resync)[^\n]*\n?",
    re.MULTILINE,
)
_ONE = threading.RLock()  # all threads share the descriptor


@contextlib.contextmanager
def mpg123(wanted: bool = True) -> Iterator[None]:
    """While it lasts, standard error goes to a temporary file; what is not libmpg123's is written
    to the real one at the end. Short blocks only: other threads' lines wait, too.
    """
    with contextlib.ExitStack() as stack:
        if wanted:
            stack.enter_context(_ONE)
            with contextlib.suppress(OSError, ValueError):  # a program without standard error
                stack.enter_context(_set_aside())
        yield


@contextlib.contextmanager
def _set_aside() -> Iterator[None]:
    if sys.stderr is not None:
        sys.stderr.flush()
    real = os.dup(STDERR)
    try:
        with tempfile.TemporaryFile(buffering=0) as aside:
            os.dup2(aside.fileno(), STDERR)
            try:
                yield
            finally:
                if sys.stderr is not None:
                    sys.stderr.flush()
                os.dup2(real, STDERR)
                aside.seek(0)
                if others := _TALK.sub(b"", aside.read()):
                    with contextlib.suppress(OSError):  # nobody reads it any more
                        os.write(real, others)
    finally:
        os.close(real)
