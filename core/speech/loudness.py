"""How loud speech is, and the loudness that training heard: what is far outside is brought there,
what is ordinary stays as it is.

Levels are in dB of full scale, of 25 ms frames by their RMS. The level of the speech is what 5 % of
the frames exceed, but at most a quarter of a second: pauses of any length do not count, and neither
does a click. Letters: N samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FRAME = 400  # samples: 25 ms at 16 kHz
LOUD_FRAMES = 10  # louder than the level of the speech
USUAL_DB = -20.0  # median over the training corpora, LibriSpeech -31 to -12 (measured)
# below, the released supernet understands less: WER +6 points at -35 dB, +14 at -40, +34 at -50
# (measured)
QUIETEST_DB = -35.0
QUIETEST_OF_CORPORA_DB = (
    -52.0
)  # all test utterances measured are above -45 dB: features of corpora stay as they were
LOUDEST_DB = 0.0  # only floating-point files can be above
SILENT_PEAK = 1e-4  # -80 dB: three steps of 16 bit
HISS_PEAK, HISS_DB = (
    1e-3,
    10.0,
)  # below -60 dB, what does not swing by 10 dB is a microphone's own noise
SCALE_16_BIT = 32768.0
MOST_PEAK = 32.0  # 30 dB above full scale: no sound in -1..1 is there

# of the loudest channel's power: with less left in the average (-10 dB), it is used alone
LOST = 0.1

Note = Callable[[str], None]


def alone(powers: np.ndarray, mixed: float) -> tuple[int, str] | None:
    """(the channel to use instead of all channels' average, a sentence why) where the average loses
    the loudest; None else. `powers` [C], `mixed`: of the average.
    """
    if mixed >= LOST * powers.max():
        return None
    loudest, channels = int(powers.argmax()), len(powers)
    cancelled = mixed * channels**2 < powers.sum() / 2  # strangers' powers add up
    return loudest, (
        f"Its channels cancel each other out when they are mixed: channel {loudest + 1}, the "
        "loudest, is used alone."
        if cancelled
        else f"Channel {loudest + 1} of {channels} is by far the loudest: it is used alone."
    )


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """RMS of each 25 ms of [N], ascending; a shorter sound is one frame."""
    whole = (
        samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
        if len(samples) >= FRAME
        else samples[None]
    )
    return np.sort(np.sqrt(np.einsum("fn,fn->f", whole, whole) / whole.shape[1]))


def level_db(levels: np.ndarray) -> float:
    """The level of the speech, by the ascending levels of frames; -200 for nothing at all."""
    loud = min(LOUD_FRAMES, len(levels) // 20)
    return float(20 * np.log10(max(1e-10, levels[-1 - loud])))


def silent(samples: np.ndarray, levels: np.ndarray | None = None) -> bool:
    """Whether [N] holds nothing to understand: nothing above -80 dB, or steady hiss below -60
    dB."""
    peak = _peak(samples)
    if peak >= HISS_PEAK:
        return False
    levels = frame_levels(samples) if levels is None else levels
    return (
        peak < SILENT_PEAK
        or level_db(levels) < 20 * np.log10(max(1e-10, levels[len(levels) // 10])) + HISS_DB
    )


def _peak(samples: np.ndarray) -> float:
    return float(max(samples.max(initial=0.0), -samples.min(initial=0.0)))


def in_scale(samples: np.ndarray, name: str, note: Note) -> np.ndarray:
    """[N] in about -1..1: floats that hold 16-bit numbers are divided. ValueError for what is on no
    known scale."""
    peak = _peak(samples)
    if peak <= MOST_PEAK:
        return samples
    if peak > SCALE_16_BIT:
        raise ValueError(
            f"{name}: expected samples in -1..1 or 16-bit numbers, got values up to {peak:.3g}; "
            "scale them and write it again"
        )
    note(f"Its samples reach {peak:.0f}: they were taken as 16-bit numbers and divided by 32768.")
    return samples / np.float32(SCALE_16_BIT)


def leveled(samples: np.ndarray, note: Note, quietest_db: float = QUIETEST_DB) -> np.ndarray:
    """[N] at the level of the training speech, if it is quieter than `quietest_db` or louder than
    full scale; else unchanged."""
    levels = frame_levels(samples)
    level = level_db(levels)
    if quietest_db <= level <= LOUDEST_DB:
        return samples
    if silent(samples, levels):
        note(
            "It is silent: nothing in it is louder than -80 dB, or only a steady hiss below -60 dB."
        )
        return samples
    gain = USUAL_DB - level
    change, finding = ("amplified", "very quiet") if gain > 0 else ("lowered", "too loud")
    note(
        f"Its speech is {finding} ({level:.0f} dB): it was {change} by {abs(gain):.0f} dB to the "
        "level of the speech in training."
    )
    return samples * np.float32(10 ** (gain / 20))
