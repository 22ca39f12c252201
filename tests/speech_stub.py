"""A tiny corpus of tones for tests: every letter of the text is a tone of its own, so that it can
even be learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from core.corpora import base
from core.records import Choice, Recipe, Utterance

WORDS = ("lamp", "door", "music", "seven", "kitchen", "timer", "off", "on", "play", "stop")
RECIPE = Recipe(Choice("stub"), Choice("none"), Choice("none"), tokens={"kind": "characters"})


def sound(words: str, rng: np.random.Generator) -> np.ndarray:
    """0.12 s for each letter, its pitch by the alphabet, in a little noise."""
    tones = [
        np.sin(2 * np.pi * (200 + 100 * (ord(c) - 96)) * np.arange(1920) / 16000) for c in words
    ]
    return (0.2 * np.concatenate(tones) + 0.005 * rng.standard_normal(1920 * len(words))).astype(
        np.float32
    )


def write_split(folder: Path, split: str, count: int, seed: int) -> list[Utterance]:
    """`count` utterances of 2 to 6 words as WAV files; speakers are split-1, split-2, split-3."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        words = " ".join(rng.choice(WORDS, int(rng.integers(2, 7))))
        path = folder / f"{split}-{number}.wav"
        soundfile.write(path, sound(words, rng), 16000)
        found.append(
            Utterance(
                f"{split}-{number}",
                str(path),
                0.0,
                0.12 * len(words),
                words,
                f"{split}-{number % 3}",
            )
        )
    return found


@dataclass
class Stub(base.Corpus):
    """Whatever items it is given."""

    items: dict[str, list]
    caps: dict[str, float] | None = None
    mixed: bool = False

    def __post_init__(self):
        super().__init__(None)

    @property
    def name(self) -> str:
        return "stub"

    def splits(self) -> list[str]:
        return list(self.items)

    def utterances(self, split: str):
        return iter(self.items[split])

    def parts(self) -> list[base.Corpus]:
        return [Stub({})] if self.mixed else []

    def versions(self) -> dict[str, int]:
        return {"stub": 1}

    def shares(self) -> dict[str, float]:
        return self.caps or {}


def give(monkeypatch, corpus: Stub) -> Stub:
    """Makes every recipe's corpus this one."""
    monkeypatch.setattr(base, "make", lambda choice, where="": corpus)
    return corpus
