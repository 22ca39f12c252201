"""What corpora spoken by machines share: who speaks an utterance, and the air it goes through."""

from __future__ import annotations

import functools
import random
from collections import deque
from typing import Any, Protocol

import numpy as np

from core.registry import plugins
from core.speech import acoustics
from core.speech.voices import base as voices

RATE = voices.SAMPLE_RATE
LEVEL_DB = (-34.0, -18.0)  # RMS of an utterance against full scale
BEFORE_S, AFTER_S = (0.05, 0.30), (0.10, 0.40)


class Air(Protocol):
    """The options that decide rooms and noise."""

    @property
    def reverberant(self) -> float: ...
    @property
    def rt60_low(self) -> float: ...
    @property
    def rt60_high(self) -> float: ...
    @property
    def noisy(self) -> float: ...
    @property
    def snr_low(self) -> float: ...
    @property
    def snr_high(self) -> float: ...


def check(name: str, options: Any) -> None:
    """ValueError for ranges upside down and for voices that do not exist, are not installed or have
    no weight.
    """
    if options.rt60_low > options.rt60_high or options.snr_low > options.snr_high:
        raise ValueError(
            f"{name}: rt60_low {options.rt60_low} must not be above rt60_high"
            f" {options.rt60_high}, nor snr_low {options.snr_low} above snr_high"
            f" {options.snr_high}"
        )
    for voice in options.voices:
        plugins.check_name(voice, plugins.names("voices"), f"voice ({name}.voices)")
    if not sum(options.voices.values()) > 0:
        raise ValueError(
            f"{name}.voices: expected a weight above 0 for at least one of"
            f" {', '.join(plugins.names('voices'))}, got {options.voices}"
        )


def licence(weights: dict[str, float], words: str) -> str:
    """Of all voices with a weight, and whose the words are."""
    used = [voices.load(name).licence for name, weight in sorted(weights.items()) if weight > 0]
    return "; ".join([*used, words])


def decides(weights: dict[str, float]) -> dict[str, Any]:
    """All about the voices that decides the audio. ValueError for one that is not installed."""
    used = {name: weight for name, weight in weights.items() if weight > 0}
    return {
        name: [weight, plugins.load("voices", name).VERSION, voices.load(name).speakers()]
        for name, weight in used.items()
    }


class Cast:
    """The voices of a split, each loaded when it first speaks. Belongs into a fresh process."""

    def __init__(self, weights: dict[str, float], split: str):
        self.weights = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
        self.split = split
        self._engines: dict[str, voices.Voice] = {}
        self._speakers: dict[str, list[str]] = {}

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """(voice, speaker): a voice by weight, then any of its speakers."""
        (name,) = rng.choices([*self.weights], [*self.weights.values()])
        return name, rng.choice(self.speakers(name))

    def speakers(self, name: str) -> list[str]:
        if name not in self._speakers:
            self._speakers[name] = voices.load(name).of_split(self.split)
        return self._speakers[name]

    def voice(self, name: str) -> voices.Voice:
        if name not in self._engines:
            self._engines[name] = voices.load(name)()
        return self._engines[name]


def into_the_air(
    clean: np.ndarray, options: Air, rng: np.random.Generator, others: list[np.ndarray]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Clean speech [N] with silence around it, a room, noise (white, pink, hum, babble of `others`)
    and a level.
    """
    before, after = (int(rng.uniform(*some) * RATE) for some in (BEFORE_S, AFTER_S))
    samples = np.pad(clean, (before, after))
    air: dict[str, Any] = {"rt60_s": None, "snr_db": None, "noise": None}
    if rng.random() < options.reverberant:
        air["rt60_s"] = round(float(rng.uniform(options.rt60_low, options.rt60_high)), 3)
        samples = acoustics.reverberate(samples, air["rt60_s"], rng)
    if rng.random() < options.noisy:
        air["snr_db"] = round(float(rng.uniform(options.snr_low, options.snr_high)), 2)
        air["noise"] = str(rng.choice(acoustics.NOISES))
        samples = acoustics.add_noise(samples, air["snr_db"], rng, air["noise"], _babble(others))
    level = 10 ** (rng.uniform(*LEVEL_DB) / 20) / max(acoustics.rms(samples), 1e-9)
    return acoustics.limit(samples * np.float32(level)), air


def before() -> deque[np.ndarray]:
    """Room for the utterances before, which babble is made of."""
    return deque(maxlen=4)


def _babble(others: list[np.ndarray]) -> np.ndarray | None:
    """Several voices at once, as long as the longest of them; None before anyone spoke."""
    if not others:
        return None
    longest = max(map(len, others))
    voices = [np.resize(some, longest) / max(acoustics.rms(some), 1e-9) for some in others]
    mixed: np.ndarray = functools.reduce(np.add, voices)
    return mixed
