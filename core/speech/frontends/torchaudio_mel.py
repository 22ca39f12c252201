"""The features of torchaudio's RNN-T bundles: MelSpectrogram and a logarithm that is linear near
zero. NumPy alone.

As torchaudio.pipelines.RNNTBundle.get_feature_extractor() computes them of a whole sound, before
its global statistics: centered Hann windows of 25 ms every 10 ms, power spectrum, 80 HTK mel
filters from 0 to 8 kHz, samples scaled to 16 bits. Both ends of the sound are mirrored and
F = 1 + N // 160, so the first frame needs 12.5 ms of sound.

A stream gives the very frames of the whole sound. The bundle's own streaming extractor applies the
same transform to every segment by itself, which mirrors the sound at each border: those frames are
an artifact of cutting, and are not reproduced here.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from core.speech.audio import SAMPLE_RATE
from core.speech.features import BINS, FRAME_SHIFT_MS
from core.speech.frontends import base

VERSION = 1  # raise when the same samples would give other frames
SHIFT, WINDOW = SAMPLE_RATE * FRAME_SHIFT_MS // 1000, 400
HALF = WINDOW // 2
GAIN = np.float32((2**15 - 1) ** 2)  # of a power: 20 log10(32767) dB of amplitude, twice
E = np.float32(math.e)
BLOCK_FRAMES = 128


class Frontend(base.Frontend):
    lookahead_ms = 2.5  # a window reaches 12.5 ms beyond the first sample of its 10 ms

    def settings(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "kind": "torchaudio mel",
            "sample_rate": SAMPLE_RATE,
            "bins": BINS,
            "n_fft": WINDOW,
            "hop": SHIFT,
            "gain": float(GAIN),
        }

    def online(self) -> OnlineMel:
        return OnlineMel()

    def in_bulk(self, samples: np.ndarray) -> np.ndarray:
        samples = np.asarray(samples, np.float32)
        if not samples.size:
            return np.zeros((0, BINS), np.float32)
        views = _windows(np.pad(samples, HALF, mode="reflect"))
        blocks = range(0, len(views), BLOCK_FRAMES)
        return np.concatenate([_energies(views[at : at + BLOCK_FRAMES]) for at in blocks])


class OnlineMel:
    """See base.Online."""

    def __init__(self) -> None:
        self._begun = self._finished = False
        self._samples = np.zeros(0, np.float32)  # from the next frame's first sample on

    def accept(self, samples: np.ndarray) -> np.ndarray:
        if self._finished:
            raise ValueError("this stream is finished: make a new one for the next sound")
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples: expected shape [N], mono, got {samples.shape}")
        self._samples = np.concatenate([self._samples, samples])
        if not self._begun and len(self._samples) > HALF:  # enough to mirror the beginning
            self._samples = np.concatenate([self._samples[HALF:0:-1], self._samples])
            self._begun = True
        return self._ready()

    def finish(self) -> np.ndarray:
        if self._finished or not self._samples.size:
            self._finished = True
            return np.zeros((0, BINS), np.float32)
        self._finished = True
        before = 0 if self._begun else HALF  # a sound so short that torchaudio refuses it
        self._samples = np.pad(self._samples, (before, HALF), mode="reflect")
        self._begun = True
        return self._ready()

    def _ready(self) -> np.ndarray:
        """Frame by frame: a product of several may differ in its last bits with their number."""
        if not self._begun or len(self._samples) < WINDOW:
            return np.zeros((0, BINS), np.float32)
        frames = [_energies(window[None]) for window in _windows(self._samples)]
        self._samples = self._samples[len(frames) * SHIFT :]
        return np.concatenate(frames)


def _windows(mirrored: np.ndarray) -> np.ndarray:
    """Samples [N] -> those of each frame [F, 400]."""
    return np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::SHIFT]


def _energies(frames: np.ndarray) -> np.ndarray:
    """Samples of frames [F, 400] -> float32 [F, 80]."""
    window, filters = _tables()
    spectrum = np.fft.rfft(frames * window)  # float32 stays float32
    energies = np.square(np.abs(spectrum)) @ filters * GAIN
    values = np.where(energies > E, np.log(np.maximum(energies, 1)), energies)
    # once more what is small: torchaudio divides in place, so logarithms up to e are divided, too,
    # and the weights were trained with that
    return np.where(values <= E, values / E, values)


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """A periodic Hann window [400] and triangular HTK mel filters [201, 80], float32 step by step,
    as torchaudio rounds them.
    """
    hz = _spaced(SAMPLE_RATE // 2, HALF + 1)[:, None]
    mel = _spaced(2595 * math.log10(1 + SAMPLE_RATE / 2 / 700), BINS + 2)
    edges = np.float32(700) * (np.float32(10) ** (mel / np.float32(2595)) - np.float32(1))
    rising = (hz - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hz) / np.diff(edges)[1:]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return window.astype(np.float32), np.maximum(0, np.minimum(rising, falling))


def _spaced(end: float, count: int) -> np.ndarray:
    """0 to `end` [count] in float32, from both ends as torch.linspace."""
    last, at = np.float32(end), np.arange(count, dtype=np.float32)
    step = last / np.float32(count - 1)
    return np.where(at < count // 2, at * step, last - at[::-1] * step)
