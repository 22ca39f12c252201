"""Augmentation of log-mel features while training: warped, stretched, louder, in rooms and noise,
all on the fly.

Feature-domain stand-ins for what is usually done to sound (VTLN warps, speed perturbation,
reverberation, additive noise), so that speech is prepared once, at one speed. Everything drawn is a
function of the utterance's generator. Ours, after Jaitly and Hinton 2013 (vocal tract length
perturbation). Letters: T frames of 10 ms, F mel bins; features are natural logarithms of energies.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from core.records import option
from core.speech.audio import SAMPLE_RATE
from core.speech.features import BINS, FRAME_SHIFT_MS, HIGH_HZ, LOW_HZ

DB = math.log(10) / 10  # a decibel as a natural logarithm of energy
LOUD = 95  # percentile of a frame's energy that counts as the level of the speech
NOISE_SNR_DB = (3.0, 35.0)
# from the lowest bin to the highest: most rooms hum more than they hiss; white noise rises by 9 dB
NOISE_TILT_DB = (-30.0, 10.0)
VOICES = (1, 4)  # behind an utterance with babble
BABBLE_SNR_DB = (3.0, 25.0)
RT60_S = (0.1, 0.8)
DIRECT_TO_LATE_DB = (0.0, 15.0)  # energy of the direct sound over that of the reverberant tail


@dataclass(frozen=True)
class Options:
    """How much training features are changed; all 0: not at all."""

    warp: float = option(
        0.0, "largest relative change of frequencies, e.g. 0.12 for 0.88 to 1.12", low=0.0, high=0.3
    )
    tempo: float = option(
        0.0, "largest relative change of tempo, e.g. 0.15 for 0.85 to 1.15", low=0.0, high=0.3
    )
    loudness: float = option(0.0, "standard deviation of the level", unit="dB", low=0.0, high=30.0)
    noise: float = option(0.0, "share of utterances with noise", low=0.0, high=1.0)
    babble: float = option(0.0, "share of utterances with voices behind them", low=0.0, high=1.0)
    room: float = option(0.0, "share of utterances with a reverberant tail", low=0.0, high=1.0)
    time_masks: int = option(4, "SpecAugment: time masks of an utterance, at most", low=0, high=100)
    time_share: float = option(
        0.05, "SpecAugment: longest time mask, as a share of the utterance", low=0.0, high=0.5
    )
    time_mask_every_s: float = option(
        3.0, "SpecAugment: one time mask for so much speech", unit="s", low=0.1, high=60.0
    )
    frequency_masks: int = option(2, "SpecAugment: frequency masks", low=0, high=10)
    frequency_width: int = option(
        15, "SpecAugment: widest frequency mask", unit="bins", low=0, high=80
    )


def draw_tempo(
    options: Options, rng: np.random.Generator, frames: int, labels: int, subsampling: int
) -> float:
    """A tempo; never one at which `labels` CTC labels would not fit the encoder's frames
    (`subsampling` of `frames` each).
    """
    if not options.tempo:
        return 1.0
    tempo = rng.uniform(1 - options.tempo, 1 + options.tempo)
    return float(max(min(tempo, frames / (subsampling * (labels + 1))), 1 - options.tempo))


def stretched(features: np.ndarray, frames: int) -> np.ndarray:
    """[T, F] -> [frames, F], by linear interpolation along time."""
    at = np.linspace(0, len(features) - 1, frames, dtype=np.float32)
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)[:, None]
    return features[low] * (1 - share) + features[np.minimum(low + 1, len(features) - 1)] * share


def change(features: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """Log-mel energies float32 [T, F] -> the same in another voice, level, room and noise."""
    if options.warp:
        features = warped(features, 1 + rng.uniform(-options.warp, options.warp))
    if options.room and rng.random() < options.room:
        features = reverberant(features, rng.uniform(*RT60_S), rng.uniform(*DIRECT_TO_LATE_DB))
    if options.noise and rng.random() < options.noise:
        features = noisy(features, rng)
    if options.babble and rng.random() < options.babble:
        features = babbled(features, rng)
    if options.loudness:
        features = features + np.float32(rng.normal(0, options.loudness) * DB)
    return features


def warped(features: np.ndarray, factor: float) -> np.ndarray:
    """What stood at a frequency stands at `factor` times it."""
    at = np.interp(_hz() / factor, _hz(), np.arange(BINS)).astype(np.float32)
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)
    return features[:, low] * (1 - share) + features[:, np.minimum(low + 1, BINS - 1)] * share


def reverberant(features: np.ndarray, rt60_s: float, direct_to_late_db: float) -> np.ndarray:
    """An exponential tail is added to the energies (Lebart et al. 2001's model of late
    reverberation).
    """
    from scipy.signal import lfilter  # a second, which everything but training saves

    decay = 10 ** (-6 * FRAME_SHIFT_MS / 1000 / rt60_s)
    late = lfilter([0.0, (1 - decay)], [1.0, -decay], np.exp(features), axis=0)
    return np.log(np.exp(features) + late * 10 ** (-direct_to_late_db / 10)).astype(np.float32)


def noisy(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stationary noise with a random slope over frequency, at an SNR drawn from NOISE_SNR_DB."""
    level = np.percentile(features.max(1), LOUD) - rng.uniform(*NOISE_SNR_DB) * DB
    slope = np.linspace(0, rng.uniform(*NOISE_TILT_DB) * DB, BINS, dtype=np.float32)
    # the energy of a mel filter over noise is a sum of squares: about 1 nat of spread in the narrow
    # filters, 0.4 in the wide ones
    spread = np.linspace(0.9, 0.35, BINS, dtype=np.float32)
    noise = (
        level + slope - slope.max() + spread * rng.standard_normal(features.shape, dtype=np.float32)
    )
    return np.logaddexp(features, noise.astype(np.float32))


def babbled(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Voices behind the speech, made of the utterance itself: played backwards from anywhere, as
    someone larger or smaller says it. Speech by its spectrum and rhythm, without a word; ours.
    """
    level = np.percentile(features.max(1), LOUD)
    voices = np.full_like(features, -np.inf)
    for _ in range(rng.integers(VOICES[0], VOICES[1] + 1)):
        voice = np.roll(features[::-1], rng.integers(len(features)), axis=0)
        voices = np.logaddexp(voices, warped(voice, rng.uniform(0.8, 1.25)))
    voices += level - rng.uniform(*BABBLE_SNR_DB) * DB - np.percentile(voices.max(1), LOUD)
    return np.logaddexp(features, voices).astype(np.float32)


@functools.cache
def _hz() -> np.ndarray:
    """Center frequencies of the mel bins, Hz."""
    low, high = (1127 * np.log1p(hz / 700) for hz in (LOW_HZ, SAMPLE_RATE / 2 + HIGH_HZ))
    return 700 * np.expm1(np.linspace(low, high, BINS + 2)[1:-1] / 1127)
