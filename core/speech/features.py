"""What the network hears: 80 log-mel energies every 10 ms, exactly as sherpa-onnx computes them,
and their masking.

Letters: N samples, F (or T) frames of 10 ms. Settings are those of sherpa-onnx's streaming
recognizers, so that an exported model meets the features it was trained on: 16 kHz, 25 ms windows
every 10 ms, no dither, snip_edges false, 20 Hz to 7600 Hz (high_freq -400), samples in -1..1
(normalize_samples true: not scaled to 16-bit integers).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import kaldi_native_fbank
import numpy as np

from core.records import option
from core.speech.audio import SAMPLE_RATE

VERSION = (
    1  # raise when the same samples would give other frames: it is part of the prepared data's key
)
FRAME_SHIFT_MS = 10
FRAME_LENGTH_MS = 25
FRAMES_PER_SECOND = 1000 // FRAME_SHIFT_MS
BINS = 80
LOW_HZ = 20.0
HIGH_HZ = -400.0  # below the Nyquist frequency

# the same settings in samples, and Kaldi's constants, for the implementation in bulk
SHIFT, WINDOW, FFT = (
    SAMPLE_RATE * FRAME_SHIFT_MS // 1000,
    SAMPLE_RATE * FRAME_LENGTH_MS // 1000,
    512,
)
PREEMPHASIS = np.float32(0.97)
FLOOR = np.float32(1.1920929e-7)  # of a filter's energy, before the logarithm
BLOCK_FRAMES = 128  # at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Options:
    """How speech becomes features, and how much of it may be kept on disk."""

    bins: int = option(
        80, "log-mel energies per frame; sherpa-onnx and the models expect 80", choices=(80,)
    )
    kind: str = option(
        "fbank",
        "what computes them: fbank, or another file of core/speech/frontends; a run that begins"
        " from another one has the features of that one",
    )
    speed_change: float = option(
        0.1,
        "training speech is also prepared this share slower and faster; 0 = not",
        low=0.0,
        high=0.25,
    )
    cache_gb: float = option(
        20.0, "largest size of one prepared folder on disk", unit="GB", low=0.001, high=10000.0
    )

    @property
    def speeds(self) -> tuple[float, ...]:
        """Speeds of the training split, ascending, e.g. (0.9, 1.0, 1.1)."""
        return speeds(self.speed_change)


def speeds(change: float) -> tuple[float, ...]:
    """(1 - change, 1, 1 + change) rounded to 0.001, or (1,) where nothing changes."""
    return (1.0,) if round(change, 3) == 0 else (round(1 - change, 3), 1.0, round(1 + change, 3))


def settings() -> dict[str, float | int | bool | str]:
    """The feature settings as plain data, for the packed file's metadata and the prepared data's
    key.
    """
    return {
        "version": VERSION,
        "kind": "kaldi fbank",
        "sample_rate": SAMPLE_RATE,
        "bins": BINS,
        "frame_shift_ms": FRAME_SHIFT_MS,
        "frame_length_ms": FRAME_LENGTH_MS,
        "dither": 0.0,
        "snip_edges": False,
        "low_freq": LOW_HZ,
        "high_freq": HIGH_HZ,
        "normalize_samples": True,
        "library": f"kaldi-native-fbank {kaldi_native_fbank.__version__}",
    }


def _extractor() -> kaldi_native_fbank.OnlineFbank:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.frame_shift_ms = FRAME_SHIFT_MS
    options.frame_opts.frame_length_ms = FRAME_LENGTH_MS
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = BINS
    options.mel_opts.low_freq = LOW_HZ
    options.mel_opts.high_freq = HIGH_HZ
    return kaldi_native_fbank.OnlineFbank(options)


class OnlineFbank:
    """Features of sound that is still arriving; the same bits as `fbank` of the whole, whatever the
    packets.
    """

    def __init__(self) -> None:
        self._extractor = _extractor()
        self._taken = 0
        self._finished = False

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """More `samples` [N], 16 kHz, -1..1 -> the frames [n, 80] float32 that became ready, n may
        be 0.
        """
        if self._finished:
            raise ValueError("this stream is finished: make a new OnlineFbank for the next sound")
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples of shape {samples.shape}; allowed is [N], mono")
        if samples.size:
            self._extractor.accept_waveform(SAMPLE_RATE, samples)
        return self._ready()

    def finish(self) -> np.ndarray:
        """No more samples will come -> the remaining frames [n, 80]."""
        if self._finished:
            return np.zeros((0, BINS), np.float32)
        self._finished = True
        self._extractor.input_finished()
        return self._ready()

    def _ready(self) -> np.ndarray:
        ready = self._extractor.num_frames_ready
        frames = np.empty((ready - self._taken, BINS), np.float32)
        for row, index in enumerate(range(self._taken, ready)):
            frames[row] = self._extractor.get_frame(index)
        self._extractor.pop(ready - self._taken)  # frames handed out need not stay in memory
        self._taken = ready
        return frames


def fbank(samples: np.ndarray) -> np.ndarray:
    """Log-mel energies float32 [F, 80] of `samples` [N] (mono, 16 kHz, -1..1); F = round(N /
    160).
    """
    online = OnlineFbank()
    return np.concatenate([online.accept(samples), online.finish()])


def fbank_in_bulk(samples: np.ndarray) -> np.ndarray:
    """`fbank` for preparing hours of speech: float32 [F, 80], the same to 1e-3 (half precision
    keeps steps of 4e-3 at
    these values), not to the bit, and five times as fast (2600 against 500 times real time on one
    Xeon core).
    """
    samples = np.asarray(samples, np.float32)
    if len(samples) < WINDOW:
        return fbank(samples)
    window, banks = window_and_banks()
    frames = (len(samples) + SHIFT // 2) // SHIFT
    before = (WINDOW - SHIFT) // 2  # snip_edges false: frames centered, ends mirrored
    mirrored = np.concatenate([samples[:before][::-1], samples, samples[::-1][:WINDOW]])
    views = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::SHIFT]
    filled = np.empty((frames, BINS), np.float32)
    for start in range(0, frames, BLOCK_FRAMES):
        block = views[start : min(frames, start + BLOCK_FRAMES)]
        block = block - block.mean(axis=1, keepdims=True)
        shaped = block * (1 - PREEMPHASIS)
        shaped[:, 1:] = block[:, 1:] - PREEMPHASIS * block[:, :-1]
        shaped *= window
        squares = np.square(np.fft.rfft(shaped, FFT).view(np.float32))
        np.dot(squares[:, 0::2] + squares[:, 1::2], banks, out=filled[start : start + len(block)])
    return np.log(np.maximum(filled, FLOOR, out=filled), out=filled)


@functools.cache
def window_and_banks() -> tuple[np.ndarray, np.ndarray]:
    """Kaldi's Povey window [400] and triangular mel filters [257, 80], float32."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    edges = np.linspace(mel(LOW_HZ), mel(SAMPLE_RATE / 2 + HIGH_HZ), BINS + 2)
    lines = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    rising, falling = (
        (lines - edges[:-2]) / np.diff(edges)[:-1],
        (edges[2:] - lines) / np.diff(edges)[1:],
    )
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))) ** 0.85
    return window.astype(np.float32), np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@dataclass(frozen=True)
class SpecAugment:
    """Which stripes of a training utterance are hidden (Park et al. 2019, adaptive number of time
    masks).

    Weaker than usual: the common 2 x 27 bins and up to 10 time masks of 5 % hid 35 to 52 % of the
    features of three batches looked
    at, too much for a net that hears little speech. That this is better was not measured; of the
    released run's five stages
    the second and the last used these masks.
    """

    frequency_masks: int = 2
    frequency_width: int = 15  # bins, at most
    time_share: float = 0.05  # of the utterance, longest time mask
    time_mask_every_s: float = 3.0  # one time mask for so much speech
    time_masks: int = 4  # at most


def spec_augment(
    features: np.ndarray, rng: np.random.Generator, options: SpecAugment | None = None
) -> np.ndarray:
    """Sets random stripes of normalized `features` [T, 80] to 0, their mean, in place; returns
    them.
    """
    options = options or SpecAugment()
    frames, bins = features.shape
    for _ in range(options.frequency_masks):
        width = int(rng.integers(0, min(options.frequency_width, bins) + 1))
        start = int(rng.integers(0, bins - width + 1))
        features[:, start : start + width] = 0
    longest = max(1, int(frames * options.time_share))
    count = (
        round(frames / FRAMES_PER_SECOND / options.time_mask_every_s)
        if options.time_mask_every_s > 0
        else 0
    )
    for _ in range(
        min(options.time_masks, max(1, count)) if options.time_masks and options.time_share else 0
    ):
        width = int(rng.integers(0, min(longest, frames) + 1))
        start = int(rng.integers(0, frames - width + 1))
        features[start : start + width] = 0
    return features
