"""What every voice plug-in gives: its speakers, and speech from text in their voices. Knows no
corpora.

A plug-in file holds a docstring, `VERSION` and `class Voice(base.Voice)`. A speaker is called
"<voice>+<variant>"; a variant that is held out for a split is so with all its voices.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import soxr

from core.registry import plugins

SAMPLE_RATE = 16000
SILENCE_DB = -45.0  # below the peak: trimmed at both ends
KEEP_S = 0.03  # of what is trimmed
PACE = (0.8, 1.0, 1.3)  # of a natural voice: slowest, usual, fastest


class Voice(ABC):
    """A speech synthesizer in this process. Make it in a process of its own, use it from one
    thread: a fresh process gives the same samples for the same requests in the same order.
    """

    licence: ClassVar[str]
    held_out: ClassVar[Mapping[str, tuple[str, ...]]]  # {split: variants}; the rest is for train

    @classmethod
    @abstractmethod
    def speakers(cls) -> list[str]:
        """All there are. ValueError that names the package when the voice is not installed."""

    @abstractmethod
    def say(self, text: str, speaker: str, rng: random.Random) -> np.ndarray:
        """Samples float32 [N] at 16 kHz, silence at the ends trimmed, [0] if nothing was said;
        pace and, where a speaker has several, tone are drawn. ValueError for an unknown speaker.
        """

    @classmethod
    def of_split(cls, split: str) -> list[str]:
        """The speakers of a split; no two splits share a variant."""
        held = {variant for some in cls.held_out.values() for variant in some}
        wanted = cls.held_out.get(split)
        return [
            speaker
            for speaker in cls.speakers()
            if (variant(speaker) in wanted if wanted else variant(speaker) not in held)
        ]


def load(name: str) -> type[Voice]:
    """The voice plug-in of this name; ValueError lists what there is."""
    return plugins.load("voices", name).Voice


def variant(speaker: str) -> str:
    return speaker.rpartition("+")[2]


def not_installed(name: str, package: str, error: Exception) -> ValueError:
    return ValueError(
        f"voice {name!r} is not installed ({error}): pip install 'supernet-asr[voices]', or"
        f" {package} alone; or take another voice: {', '.join(plugins.names('voices'))}"
    )


def trim(samples: np.ndarray) -> np.ndarray:
    """[N] without the silence at both ends (10 ms windows more than 45 dB below the loudest), but
    for 30 ms of it.
    """
    window = SAMPLE_RATE // 100
    windows = len(samples) // window
    if not windows:
        return samples
    loud = np.abs(samples[: windows * window]).reshape(windows, window).max(axis=1)
    above = np.flatnonzero(loud > loud.max() * 10 ** (SILENCE_DB / 20))
    if not len(above):
        return samples[:0]
    keep = int(KEEP_S * SAMPLE_RATE)
    return samples[max(0, above[0] * window - keep) : (above[-1] + 1) * window + keep]


def warped(samples: np.ndarray, rate: int, warp: float) -> np.ndarray:
    """Samples [N] at `rate` -> at 16 kHz, pitch and formants times `warp`, length over it: another
    vocal tract. At most 0.9 of full scale.
    """
    samples = np.asarray(soxr.resample(samples, rate * warp, SAMPLE_RATE), np.float32)
    peak = float(np.abs(samples).max(initial=0.0))
    return trim(samples * np.float32(0.9 / peak) if peak > 0.9 else samples)


def pace(rng: random.Random) -> float:
    """How fast a natural voice speaks this time, over its usual pace."""
    slowest, usual, fastest = PACE
    return rng.triangular(slowest, fastest, usual)
