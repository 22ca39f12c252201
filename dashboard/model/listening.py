"""Sound through recognizers as it arrives: what each understood so far and in the end. No
Streamlit, no engine.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.records import SpokenWord

RATE = 16000
SHORTEST_S = 0.1
AT_ONCE = 2  # transcriptions, and files being decoded, in this server at the same time
THREADS = max(
    1, (os.cpu_count() or 1) // AT_ONCE
)  # for each, so that two do not fight over the same cores


@dataclass(frozen=True)
class Transcript:
    """One subnet's transcript. `seconds` is computing time alone, in s; rtf = seconds /
    audio_seconds.
    """

    subnet: str
    text: str
    seconds: float
    audio_seconds: float
    rtf: float
    conditions: dict[str, Any]
    words: tuple[SpokenWord, ...] = ()  # with times, where the decoder keeps them
    partial: tuple[tuple[float, str], ...] = ()  # (s of sound received, text) at every change


class Listening:
    """Sound that goes through several recognizers as it arrives, one stream each; only its own
    time counts for each.
    """

    def __init__(self, recognizers: dict[str, Any]) -> None:
        self._recognizers = recognizers
        self._streams = {name: recognizer.stream() for name, recognizer in recognizers.items()}
        self._seconds = dict.fromkeys(self._streams, 0.0)
        self._partial: dict[str, list[tuple[float, str]]] = {name: [] for name in self._streams}
        self.samples = 0

    def accept(self, samples: np.ndarray) -> dict[str, str]:
        """float32 [N] at 16 kHz, any N -> {subnet: text so far}."""
        texts = {}
        for name, stream in self._streams.items():
            clock = time.perf_counter()
            texts[name] = stream.accept(samples)
            self._seconds[name] += time.perf_counter() - clock
        self.samples += len(samples)
        for name, text in texts.items():
            partial = self._partial[name]
            if text != (partial[-1][1] if partial else ""):
                partial.append((self.samples / RATE, text))
        return texts

    def words(self) -> dict[str, list[SpokenWord]]:
        """{subnet: words so far}; none where the decoder keeps no times."""
        return {name: stream.words for name, stream in self._streams.items()}

    def finish(self) -> list[Transcript]:
        """No more sound -> a transcript of each."""
        received, length = [], self.samples / RATE
        for name, stream in self._streams.items():
            clock = time.perf_counter()
            text = stream.finish()
            self._seconds[name] += time.perf_counter() - clock
            received.append(
                Transcript(
                    name,
                    text,
                    self._seconds[name],
                    length,
                    self._seconds[name] / length,
                    self._recognizers[name].conditions | {"threads": THREADS},
                    tuple(stream.words),
                    tuple(self._partial[name]),
                )
            )
        return received


class Take:
    """One recording of a microphone while it is being made, at `rate` Hz; `how` names what it is
    understood by.

    `received` counts its samples at that rate, `missing` those of them that never came and are
    silent; `words` has what was understood so far by subnet, `transcripts` what was understood in
    the end.
    """

    def __init__(self, session: str, rate: int, how: str) -> None:
        import soxr

        self.session, self.rate, self.how = session, rate, how
        self.listening: Listening | None = None
        self.received, self.missing, self.error, self.shown = 0, 0, "", False
        self.words: dict[str, list[SpokenWord]] = {}
        self.transcripts: list[Transcript] = []
        self._pieces: list[np.ndarray] = []
        same = rate in (0, RATE)
        self._resampler = None if same else soxr.ResampleStream(rate, RATE, 1, dtype="float32")

    def accept(self, begin: int, samples: np.ndarray, end: bool, most_s: float) -> None:
        """The next samples float32 [N], which begin at sample `begin`; `end`: they are the last.
        Silence takes the place of samples that never came. ValueError where some came before or the
        recording is too long.
        """
        if self.listening is None or self.transcripts:
            raise ValueError("this recording has ended already")
        if begin < self.received:
            raise ValueError(
                f"a part of the recording came twice: expected sample {self.received}, got {begin}"
            )
        if begin + len(samples) > (most_s + 5) * self.rate:
            raise ValueError(f"the recording is longer than {most_s / 60:g} minutes")
        gap = begin - self.received
        samples = np.concatenate([np.zeros(gap, np.float32), samples])
        self.missing += gap
        self.received += len(samples)
        if self._resampler:
            samples = self._resampler.resample_chunk(samples, last=end)
        self._pieces.append(samples)
        if len(samples):
            texts = self.listening.accept(samples)
            words = self.listening.words()
            self.words = {name: words[name] or _untimed(text) for name, text in texts.items()}
        if end:
            if self.listening.samples < SHORTEST_S * RATE:
                raise ValueError(
                    f"at least {SHORTEST_S} s of sound are needed, came"
                    f" {self.listening.samples / RATE:.2f} s"
                )
            self.transcripts = self.listening.finish()

    def lost(self) -> str:
        """How much is missing, in a sentence; "" where nothing is."""
        if not self.missing:
            return ""
        return (
            f"{self.missing / self.rate:.1f} of {self.received / self.rate:.1f} s of this recording"
            " did not arrive. The rest is played and transcribed, with silence in the gaps."
        )

    def samples(self) -> np.ndarray:
        """What the recognizers got: float32 [N] at 16 kHz."""
        return np.concatenate(self._pieces or [np.zeros(0, np.float32)])


def _untimed(text: str) -> list[SpokenWord]:
    return [SpokenWord(word, 0.0, 0.0, 1.0) for word in text.split()]
