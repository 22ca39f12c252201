"""A stream over any engine: samples in any packets -> features -> whole chunks through the
network -> text.
"""

from __future__ import annotations

import numpy as np

from core.records import SpokenWord
from core.runtime.base import PackedRecognizer


def checked(samples: np.ndarray) -> np.ndarray:
    """float32 [N]; ValueError for anything that is not finite mono sound in floats."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"samples must be one row of floats in -1..1 at 16 kHz; came {samples.dtype} of shape "
            f"{samples.shape} (core.speech.audio.read and decode give the right ones)"
        )
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(samples))} of {samples.size} samples are NaN or"
            " infinite: the file is damaged or was scaled wrongly"
        )
    return samples.astype(np.float32, copy=False)


class ChunkStream:
    """See Stream. With full context (chunk 0) nothing can be said before the end: text appears at
    `finish`.
    """

    def __init__(self, recognizer: PackedRecognizer):
        self.recognizer = recognizer
        self.features, self.decoder = recognizer.frontend.online(), recognizer.new_decoder()
        self.state = recognizer.initial_state(1)
        self.history = np.zeros(  # before the sound: the mean, as in training
            (recognizer.timing.history, len(recognizer.mean)), np.float32
        )
        self.waiting: list[
            np.ndarray
        ] = []  # raw frames [n, 80] of a chunk not yet full, and of what the model sees after one
        self.samples, self.text = 0, ""

    def accept(self, samples: np.ndarray) -> str:
        """See Stream."""
        samples = checked(samples)
        self.samples += len(samples)
        self.waiting.append(self.features.accept(samples))
        if self.recognizer.chunk:
            self._run_whole_chunks()
        return self.text

    def finish(self) -> str:
        """See Stream. The last chunk is filled with zeros and the model is told how much of it is
        real.
        """
        if not self.samples:
            raise ValueError("the sound is empty: 0 samples came before the end")
        self.waiting.append(self.features.finish())
        if not self.recognizer.chunk:
            features = np.concatenate(self.waiting)
            self.waiting = []
            self.text = self.recognizer.transcribe([features])[0] if len(features) else self.text
            return self.text
        self._run_whole_chunks()
        rest, size = np.concatenate(self.waiting), self.recognizer.factor * self.recognizer.chunk
        self.waiting = []
        for start in range(
            0, len(rest), size
        ):  # more than one where the model waits for what comes after a chunk
            self._run(rest[start : start + size + self.recognizer.timing.ahead])
        self.decoder.finish()
        self.text = self.decoder.text
        return self.text

    @property
    def words(self) -> list[SpokenWord]:
        """See Stream."""
        frame_s = self.recognizer.timing.frame_ms / 1000
        return [
            SpokenWord(word.text, word.begin * frame_s, word.end * frame_s, word.confidence)
            for word in self.decoder.words
        ]

    def _run_whole_chunks(self) -> None:
        size, ahead = self.recognizer.factor * self.recognizer.chunk, self.recognizer.timing.ahead
        ready = sum(map(len, self.waiting)) - ahead
        if ready < size:
            return
        frames = np.concatenate(self.waiting)
        whole = ready // size * size
        for start in range(0, whole, size):
            self._run(frames[start : start + size + ahead])
        self.waiting = [frames[whole:]]

    def _run(self, frames: np.ndarray) -> None:
        """One chunk through model and decoder: raw frames [n, 80], those of the chunk and then
        those the model sees after it; what is missing at the end of the sound is zeros, and `valid`
        says how much of the chunk is real.
        """
        own, before = self.recognizer, self.recognizer.timing.history
        size = own.factor * own.chunk
        valid = min(own.chunk, -(-len(frames) // own.factor))
        window = np.zeros((1, before + size + own.timing.ahead, len(own.mean)), np.float32)
        window[0, :before] = self.history
        window[0, before : before + len(frames)] = own.normalized(frames)
        self.history = window[0, size : size + before].copy()
        said, self.state = own.step(window, np.array([valid]), self.state)
        self.decoder.accept(said[0, :valid])
        self.text = self.decoder.text  # a search may also take words back
