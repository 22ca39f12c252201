"""Natural voice by hibari-tts (Apache-2.0): "heart" comes with the package, others are spoken once
they lie in its folder of voices.

An American woman of Kokoro-82M in 8 MB; over 50 times real time on one core. Variants are factors
of pitch and formants: another vocal tract, the same way of speaking.
"""

from __future__ import annotations

import random

import numpy as np

from core.speech.voices import base

VERSION = 1
VARIANTS = tuple(f"{percent / 100:.2f}" for percent in range(76, 122, 3))


class Voice(base.Voice):
    licence = "speech made by hibari-tts (Apache-2.0; voices distilled from Kokoro-82M, Apache-2.0)"
    held_out = {"test": ("0.79", "0.94", "1.12"), "dev": ("0.85", "1.06"), "search": ("0.91",)}

    def __init__(self) -> None:
        self._voices: dict = {}

    @classmethod
    def speakers(cls) -> list[str]:
        return [f"{voice}+{variant}" for voice in _installed() for variant in VARIANTS]

    def say(self, text: str, speaker: str, rng: random.Random) -> np.ndarray:
        if speaker not in self.speakers():
            raise ValueError(
                f"expected a speaker of voice 'hibari', got {speaker!r}; allowed are"
                f" {', '.join(self.speakers())}"
            )
        voice, warp = speaker.partition("+")[0], float(base.variant(speaker))
        speed, seed = base.pace(rng) / warp, rng.getrandbits(32)
        if voice not in self._voices:
            from hibari import Hibari

            self._voices[voice] = Hibari(voice)
        engine = self._voices[voice]
        return base.warped(engine(text, speed, seed), engine.sample_rate, warp)


def _installed() -> list[str]:
    """Voices whose files are there; nothing is downloaded."""
    try:
        from hibari import voices
    except ImportError as error:
        raise base.not_installed("hibari", "hibari-tts", error) from None
    files = []
    for name in voices.VOICES:
        try:
            voices.voice_path(name, download_missing=False)
        except FileNotFoundError:
            continue
        files.append(name)
    return files
