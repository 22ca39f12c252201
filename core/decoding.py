"""Greedy CTC decoding, whole or as a stream; knows nothing about models or tokens' text.

Letters: B utterances, T encoder frames, V tokens with blank = 0. Arrays may be NumPy or torch.
"""
from __future__ import annotations

from typing import Any

import numpy as np

BLANK = 0


def _best(log_probs: Any) -> np.ndarray:
    """The most likely token of every frame, [..., V] -> [...]."""
    best = log_probs.argmax(-1)
    return best.cpu().numpy() if hasattr(best, "cpu") else np.asarray(best)


def _collapse(best: np.ndarray, previous: int) -> list[int]:
    """Frame-wise tokens [T] -> tokens without repeats (of the frame before, too) and blanks."""
    before = np.concatenate([[previous], best[:-1]])
    return best[(best != before) & (best != BLANK)].tolist()


def greedy(log_probs: Any, lengths: Any) -> list[list[int]]:
    """log_probs [B, T, V], lengths [B] in frames -> token ids of each utterance."""
    best = _best(log_probs)
    return [_collapse(row[:int(n)], BLANK) for row, n in zip(best, lengths, strict=True)]


class GreedyState:
    """Greedy decoding of one stream: remembers the last frame's token and everything heard so far."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._previous = BLANK

    def accept(self, log_probs: Any) -> list[int]:
        """log_probs [T, V] of the next frames -> the new token ids (also added to `ids`)."""
        best = _best(log_probs)
        if not len(best):
            return []
        new = _collapse(best, self._previous)
        self._previous = int(best[-1])
        self.ids += new
        return new
