"""What the worker needs of a place where jobs run: to start a job's process, follow its events and
stop it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.jobs.job import Job

STOPPED = 75  # exit code of a job's process that stopped because it was told to (EX_TEMPFAIL)


@dataclass(frozen=True)
class Event:
    """What a job said, for the worker to write into the queue; empty fields say nothing."""

    progress: float | None = None  # 0..1
    message: str | None = None  # for people
    left: float | None = None  # s until it is done; counts with progress
    run: str | None = None  # id of the run it writes
    place: str | None = None  # where it runs
    error: str = ""  # it failed, and why
    retry: bool = True  # a failure may be tried again
    cancelled: bool = False  # somebody stopped it where it runs


class Handle(ABC):
    """One started job."""

    pid: int | None = None  # on this machine, where there is one
    stays: bool = False  # it goes on when the worker leaves, and the next worker follows it

    def events(self) -> Iterator[Event]:
        """What it said since the last call, oldest first. Nothing of a job whose process writes
        into the queue itself.
        """
        return iter(())

    @abstractmethod
    def poll(self) -> int | None:
        """None while it runs, then its exit code (negative: the signal that ended it)."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to write its checkpoint and end."""

    @abstractmethod
    def kill(self) -> None:
        """End it and everything it started, now. Harmless when it has ended."""


class Runner(ABC):
    """A plug-in file holds a docstring, VERSION, a frozen dataclass Options, and class
    Runner(base.Runner).
    """

    elsewhere = 0  # jobs followed at once that need no slot of this machine; 0 = they take one

    def __init__(self, options: Any) -> None:
        self.options = options

    def settings(self) -> dict[str, Any]:
        """The options, with what this process's environment adds to them: the worker's may be
        another. ValueError where something lacks.
        """
        return vars(self.options)

    def check(self, job: Job) -> None:  # noqa: B027 - most can run everything
        """ValueError for a job that cannot be run there now; one that is not queued yet has the
        number 0.
        """

    @abstractmethod
    def start(self, job: Job, log: Path) -> Handle:
        """Start `python -m core.cli.main _job <id>` (or its like elsewhere) with its output added
        to the file `log`.

        OSError or ValueError when it cannot be started; the job then fails with these words.
        """

    @abstractmethod
    def clear(self, job: Job) -> None:
        """End whatever is left of this job from a worker that died."""
