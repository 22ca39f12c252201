"""A split's features and references, loaded once for as many subnets as wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.data.prepared import Prepared
from core.speech import audio

SPEED_SECONDS = 60.0  # of sound at most: enough chunks (190 of 320 ms) for a 95th percentile


@dataclass(frozen=True)
class Material:
    """One split, ready to be measured often. features: raw fbank [F, 80] each; sounds: (file,
    offset s, seconds).
    """

    split: str  # as it is called in reports, e.g. "librispeech/test-clean"
    ids: list[str]
    references: list[str]
    speakers: list[str]
    seconds: float
    features: list[np.ndarray]
    sounds: list[tuple[str, float, float]]

    def waves(self, count: int) -> list[np.ndarray]:
        """`count` sounds, evenly spread over the split, SPEED_SECONDS at most."""
        chosen, left = [], SPEED_SECONDS
        for i in (
            np.unique(np.linspace(0, len(self.sounds) - 1, count).round().astype(int))
            if count
            else []
        ):
            file, offset, seconds = self.sounds[i]
            if seconds <= left:
                chosen.append(audio.read(file, offset, seconds))
                left -= seconds
        return chosen


def load_material(prepared: Prepared, split: str) -> Material:
    """A split of prepared data, by its prepared name or by the name that reports give it.
    ValueError for unknown and empty ones.
    """
    rows = prepared.rows(split if split in prepared.splits else split.split("/", 1)[-1])
    if not rows:
        raise ValueError(f"split {split!r} holds no utterance to measure")
    corpora = {row.corpus for row in rows}
    name = f"{corpora.pop()}/{split}" if len(corpora) == 1 and "/" not in split else split
    return Material(
        name,
        [r.id for r in rows],
        [r.text for r in rows],
        [r.speaker for r in rows],
        sum(r.seconds for r in rows),
        [prepared.features(r, 1.0) for r in rows],
        [(r.audio, r.offset, r.seconds) for r in rows],
    )
