"""What one sound file may be and take, its parts as they pass between decoders, and the errors.

Letters: N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATES = (4000, 768_000)  # Hz, lowest and highest
MOST_CHANNELS = 64
BLOCK_VALUES = 1 << 20  # samples of all channels decoded at a time: 4 MB

Block = tuple[np.ndarray, int]  # float32 [N, C], rate in Hz
Note = Callable[[str], None]  # is told in a sentence what was changed or left out


class AudioError(ValueError):
    """A sound that cannot be used; the text says which and why."""


class TooLong(AudioError):
    """A sound above a limit. `seconds`: its length if the header says it, else 0."""

    def __init__(self, text: str, seconds: float = 0.0):
        super().__init__(text)
        self.seconds = seconds


@dataclass(frozen=True)
class Limits:
    """What one sound may take: seconds of it, decoded values (samples of all channels), seconds of
    decoding."""

    seconds: float = 24 * 3600.0
    values: float = float("inf")
    wall_s: float = float("inf")


@dataclass(frozen=True)
class Stretch:
    """From `offset` s on, `seconds` s long (None: to the end)."""

    offset: float = 0.0
    seconds: float | None = None


def check_size(seconds: float, values: int, name: str, limits: Limits) -> None:
    if seconds > limits.seconds:
        raise TooLong(
            f"{name}: {seconds:g} s long; allowed are {limits.seconds:g} s: cut it into parts",
            seconds,
        )
    if values > limits.values:
        raise TooLong(
            f"{name}: unfolds to more than {limits.values / 1e6:.0f} million values; save it as "
            "mono at 16 kHz, or cut it"
        )


def check_form(rate: int, channels: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{name}: expected a sample rate of {RATES[0]} to {RATES[1]} Hz, got {rate} Hz; if "
            "the header is wrong, write it anew"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise AudioError(f"{name}: expected 1 to {MOST_CHANNELS} channels, got {channels}")
