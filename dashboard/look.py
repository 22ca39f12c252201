"""One look at the folders per run of a page: what is read from disk to tell what changed is read
once, not dozens of times.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

_HERE = threading.local()  # a page's script runs in a thread of its own


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Inside, `once` answers a question about the folders again as it was answered first; outside,
    it asks every time.
    """
    before = getattr(_HERE, "seen", None)
    _HERE.seen = {} if before is None else before
    try:
        yield
    finally:
        _HERE.seen = before


def once(question: Hashable, read: Callable[[], Any]) -> Any:
    """What `read` returns, or what it returned to this question earlier in this look; errors are
    not kept.
    """
    seen = getattr(_HERE, "seen", None)
    if seen is None:
        return read()
    if question not in seen:
        seen[question] = read()
    return seen[question]
