"""Rooms and noise for clean speech: decaying-noise reverberation and noise at a given SNR. Knows no
files.

Arrays are float32 [N], mono, 16 kHz, about -1..1. All randomness comes from the generator that is
passed in.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

SAMPLE_RATE = 16000
PEAK = 0.99  # results are scaled down to this where they would clip
DECAY = 3 * np.log(10)  # amplitude falls by 60 dB = 10^-3 within RT60
NOISES = ("white", "pink", "hum", "babble")


def rir(
    rt60_s: float, rng: np.random.Generator, direct_to_reverb_db: float | None = None
) -> np.ndarray:
    """A room's impulse response [K] with RT60 in s: direct sound of 1 at 0, then white noise
    decaying by 60 dB in RT60
    (Polack 1988), with `direct_to_reverb_db` of energy ratio (drawn from 0..12 dB if None).
    """
    if not 0 < rt60_s <= 3:
        raise ValueError(f"rt60_s is {rt60_s}; allowed is above 0 and up to 3 s")
    ratio = float(rng.uniform(0, 12)) if direct_to_reverb_db is None else direct_to_reverb_db
    length = max(2, int(rt60_s * SAMPLE_RATE))
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * np.exp(-DECAY * time / rt60_s)
    tail[: int(rng.uniform(0.001, 0.005) * SAMPLE_RATE)] = (
        0  # the first reflection comes 1-5 ms later
    )
    energy = np.sum(tail**2)
    if energy > 0:
        tail *= np.sqrt(10 ** (-ratio / 10) / energy)
    tail[0] = 1.0
    return tail.astype(np.float32)


def reverberate(
    samples: np.ndarray,
    rt60_s: float,
    rng: np.random.Generator,
    direct_to_reverb_db: float | None = None,
) -> np.ndarray:
    """`samples` [N] in a random room with RT60 `rt60_s`: same length, same RMS, no shift in
    time.
    """
    samples = np.asarray(samples, np.float32)
    if not samples.size:
        return samples
    response = rir(rt60_s, rng, direct_to_reverb_db)
    # the bits of scipy.signal.fftconvolve, whose import takes every process that speaks 2 s
    size = fft.next_fast_len(samples.size + response.size - 1, real=True)
    wet = fft.irfft(fft.rfft(samples, size) * fft.rfft(response, size), size)[: samples.size]
    return limit(wet * (rms(samples) / max(rms(wet), 1e-9)))


def noise(
    kind: str, length: int, rng: np.random.Generator, babble: np.ndarray | None = None
) -> np.ndarray:
    """Noise [length] of RMS 1. "pink" falls by 3 dB per octave, "hum" is mains harmonics over pink
    noise,
    "babble" loops the speech given (several voices already summed); without it, speech-shaped noise
    stands in.
    """
    if kind not in NOISES:
        raise ValueError(f"noise kind is '{kind}'; allowed are {NOISES}")
    if kind == "babble" and babble is not None and babble.size:
        start = int(rng.integers(babble.size))
        wave = np.take(babble, np.arange(start, start + length), mode="wrap").astype(np.float64)
    elif kind == "white":
        wave = rng.standard_normal(length)
    else:
        wave = _shaped(length, rng, speech=kind == "babble")
        if kind == "hum":
            time = np.arange(length) / SAMPLE_RATE
            base = float(rng.choice((50.0, 60.0)))
            tones = (
                np.sin(2 * np.pi * base * k * time + rng.uniform(0, 2 * np.pi)) / k
                for k in range(1, 8)
            )
            wave = wave / max(rms(wave), 1e-9) + 2 * sum(tones)
    return (wave / max(rms(wave), 1e-9)).astype(np.float32)


def add_noise(
    samples: np.ndarray,
    snr_db: float,
    rng: np.random.Generator,
    kind: str = "white",
    babble: np.ndarray | None = None,
) -> np.ndarray:
    """`samples` [N] with noise of one of NOISES added so that speech power over noise power is
    `snr_db`
    (power over the whole utterance). Scaled down as a whole where the sum would clip.
    """
    samples = np.asarray(samples, np.float32)
    if not samples.size:
        return samples
    level = rms(samples) * 10 ** (-snr_db / 20)
    return limit(samples + level * noise(kind, samples.size, rng, babble))


def rms(samples: np.ndarray) -> float:
    """Root of the mean square of [N]; 0 for nothing."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def limit(samples: np.ndarray) -> np.ndarray:
    """[N] scaled down so that no sample is beyond PEAK; float32."""
    peak = float(np.max(np.abs(samples))) if len(samples) else 0.0
    return np.asarray(samples * (PEAK / peak) if peak > PEAK else samples, np.float32)


def _shaped(length: int, rng: np.random.Generator, speech: bool) -> np.ndarray:
    """Gaussian noise shaped in frequency: 1/f in power, or the long-term slope of speech (flat to
    500 Hz, then
    -9 dB per octave: Byrne et al. 1994, simplified), with syllable-like level changes.
    """
    fft_length = 1 << max(4, int(length - 1).bit_length())
    spectrum = rng.standard_normal(fft_length // 2 + 1) + 1j * rng.standard_normal(
        fft_length // 2 + 1
    )
    hertz = np.maximum(np.fft.rfftfreq(fft_length, 1 / SAMPLE_RATE), 20.0)
    gain = np.minimum(1.0, (hertz / 500) ** -1.5) if speech else hertz**-0.5
    wave = np.fft.irfft(spectrum * gain, fft_length)[:length]
    if speech:
        points = rng.uniform(0.4, 1.0, size=max(2, length * 4 // SAMPLE_RATE + 2))  # 4 per second
        wave = wave * np.interp(
            np.linspace(0, len(points) - 1, length), np.arange(len(points)), points
        )
    return wave
