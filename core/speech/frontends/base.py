"""What every kind of features offers: frames of 80 values every 10 ms, whole or while the sound
arrives.

A plug-in file holds a docstring and `class Frontend(base.Frontend)`; its name is `features.kind` of
a recipe and is stored with the run and in its packed files. Letters: N samples, F frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from core.registry import plugins

USUAL = "fbank"  # of every run that does not say its kind
ROOM = "frontends"


class Online(Protocol):
    """Features of one sound that is still arriving."""

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """More samples [N], 16 kHz, -1..1 -> the frames float32 [F, 80] that became ready."""

    def finish(self) -> np.ndarray:
        """No more samples will come -> the remaining frames [F, 80]."""


class Frontend(ABC):
    """One kind of features, before they are normalized."""

    lookahead_ms: ClassVar[float]  # sound that a frame needs beyond its own 10 ms

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides the values, as plain data: part of the prepared speech's key."""

    @abstractmethod
    def online(self) -> Online:
        """For a new sound; the same bits as whole(), whatever the packets."""

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """float32 [F, 80] of samples [N] (mono, 16 kHz, -1..1)."""
        online = self.online()
        return np.concatenate([online.accept(samples), online.finish()])

    def in_bulk(self, samples: np.ndarray) -> np.ndarray:
        """whole() for preparing hours of speech: faster, and the same to half precision."""
        return self.whole(samples)


def load(kind: str) -> Frontend:
    """The front end of this name; ValueError lists what there is."""
    check(kind)
    frontend: Frontend = plugins.load(ROOM, kind).Frontend()
    return frontend


def check(kind: str) -> None:
    """ValueError that lists what there is, unless there is a front end of this name."""
    if kind != USUAL:  # which is there wherever the plug-ins of others lie
        plugins.check_name(kind, plugins.names(ROOM), "front end (features.kind)")


def kind_of(features: Mapping[str, Any]) -> str:
    """The kind that a recipe's or packed file's table `features` says, or means by saying none."""
    return str(features.get("kind", USUAL))
