"""Items made by a thread before they are asked for. Knows nothing of what they are."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(source: Iterator[T], ahead: int) -> Iterator[T]:
    """The items of `source`, up to `ahead` of them made by a thread before they are used. Its
    exceptions are raised here, and it ends when nobody reads on.
    """
    if ahead < 1:
        yield from source
        return
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(message: tuple) -> bool:
        while not stop.is_set():
            try:
                ready.put(message, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for value in source:
                if not put(("value", value)):
                    return
            put(("end", None))
        except BaseException as error:  # handed over: it is raised where the value is used
            put(("error", error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
