"""How long the rest of a training takes: the median of its last updates, by the cost of those to
come.

A supernet's updates run one pass during the warm-up and three afterwards, so the cost of an update
is taken from the plan of its method.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

import numpy as np

from core import cost
from core.methods.base import Method

PHASES = 200  # moments of the training whose passes are looked at
RECENT = 20  # updates whose median counts: a pause of the machine is no new pace
FIRST = 3  # updates before the training's own pace counts: the first ones warm up


def macs(method: Method, step: int) -> float:
    """Executed multiply-accumulates of an update's passes, per second of speech."""
    return sum(
        p.share * cost.macs_per_second(method.spec, p.subnet.keep if p.subnet else None)
        for p in method.plan(step)
    )


def average(method: Method, updates: int, of: Callable[[Method, int], float]) -> float:
    """The mean of `of(method, step)` over the updates of a training, of which PHASES are looked
    at.
    """
    return float(
        np.mean([of(method, int(step)) for step in np.linspace(0, max(0, updates - 3), PHASES)])
    )


class Pace:
    """`work` [PHASES]: relative cost of an update along the training; `expected_s`: seconds of an
    average update as known before it began, or None.
    """

    def __init__(
        self, updates: int, work: np.ndarray | None = None, expected_s: float | None = None
    ):
        self.updates, self.expected_s = updates, expected_s
        profile = np.ones(1) if work is None else np.asarray(work, float)
        self.work = profile / profile.mean()
        self.recent: deque[float] = deque(maxlen=RECENT)  # s per unit of work

    def at(self, step: int) -> float:
        """Cost of update `step` (from 0) over that of an average one."""
        last = len(self.work) - 1
        return float(self.work[min(last, int(step / max(1, self.updates) * len(self.work)))])

    def note(self, step: int, seconds: float) -> None:
        """Update `step` (from 0) took so long, its wait for speech included."""
        self.recent.append(seconds / self.at(step))

    def left(self, step: int) -> float | None:
        """Seconds until the last update is done when `step` of them are; None while nothing is
        known.
        """
        if len(self.recent) >= FIRST or (self.recent and self.expected_s is None):
            average_s = statistics.median(self.recent)
        elif self.expected_s is None:
            return None
        else:
            average_s = self.expected_s
        edges = np.linspace(0, self.updates, len(self.work) + 1)
        ahead = np.clip(edges[1:] - np.maximum(edges[:-1], step), 0, None)  # updates by phase
        return float(average_s * (ahead * self.work).sum())


def profile(method: Method, updates: int) -> np.ndarray:
    """Cost of the updates along a training [PHASES]. It asks a method for plans of updates that are
    far away, so give it one that is not being trained.
    """
    steps = (np.arange(PHASES) + 0.5) / PHASES * max(0, updates - 3)
    return np.array([macs(method, int(step)) for step in steps])
