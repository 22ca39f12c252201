"""The stages of a job and how its messages name them: "features: 2.1 of 3.9 h, 40 times real time".

Whoever works writes such a message with `counted`; lists and pages read it back with `read`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STARTING, SPEECH, FEATURES = "starting", "speech", "features"
TRAINING, MEASURING = "training", "measuring"
OF_KIND = {  # {kind of job: its stages in order}; the other kinds have one
    "prepare": (SPEECH, FEATURES),
    "train": (SPEECH, FEATURES, TRAINING, MEASURING),
    "evaluate": (SPEECH, FEATURES, MEASURING),
}
COUNTED = re.compile(r"(\w+): ([\d.]+) of ([\d.]+) ([^,]*)(?:, (.*))?", re.DOTALL)


@dataclass(frozen=True)
class Stage:
    """What a message says: `done` of `total` `unit`; both 0 where nothing is counted."""

    name: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    more: str = ""

    @property
    def share(self) -> float:
        """Of the stage that is done, 0..1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def count(self) -> str:
        """ "2.1 of 3.9 h", "" where nothing is counted."""
        return f"{self.done:g} of {self.total:g} {self.unit}" if self.total else ""


def counted(stage: str, done: float, total: float, unit: str, more: str = "") -> str:
    """The message of a stage: "training: 7 of 40 updates, loss 2.1"."""
    numbers = f"{round(done, 1):.15g} of {round(total, 1):.15g}"
    return f"{stage}: {numbers} {unit}{', ' if more else ''}{more}"


def read(message: str) -> Stage:
    """What `counted` wrote; of another message "NAME: ..." or "..." the name, or none."""
    if match := COUNTED.fullmatch(message):
        name, done, total, unit, more = match.groups()
        return Stage(name, float(done), float(total), unit, more or "")
    name, colon, more = message.partition(": ")
    known = {STARTING, *(stage for stages in OF_KIND.values() for stage in stages)}
    return Stage(name, more=more) if colon and name in known else Stage("", more=message)
