"""Kaldi's log-mel energies as sherpa-onnx computes them: those of core/speech/features.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.speech import features
from core.speech.frontends import base


class Frontend(base.Frontend):
    lookahead_ms = 7.5  # a 25 ms window centered on its 10 ms frame

    def settings(self) -> dict[str, Any]:
        return features.settings()

    def online(self) -> features.OnlineFbank:
        return features.OnlineFbank()

    def in_bulk(self, samples: np.ndarray) -> np.ndarray:
        return features.fbank_in_bulk(samples)
