"""Word emission latency: known ends, known appearances, known differences."""

from __future__ import annotations

import numpy as np
import pytest

from core.bench import emission
from core.speech.voices import base


def test_words_end_where_their_sound_ends():
    kept = int(base.KEEP_S * 16000)
    waves = [np.ones(kept + 1600 + kept, np.float32), np.ones(kept + 3200 + kept, np.float32)]
    samples, ends = emission.joined(waves)
    assert ends == pytest.approx([130.0, 130.0 + 30 + 50 + 30 + 200])
    assert len(samples) == sum(map(len, waves)) + 2 * emission.GAP + 2 * 16000


def test_a_word_appears_when_it_stays_for_good():
    partials = [(320, ""), (640, "a"), (960, "a bus"), (1280, "the"), (1600, "the bus now")]
    assert emission.appearances(partials) == [1280, 1600, 1600]
    assert emission.appearances([(320, ""), (640, "")]) == []
    partials = [(320, "vol"), (640, "volume"), (960, "volume up"), (1000, "volume up")]
    assert emission.appearances(partials) == [640, 960]


def test_only_words_that_are_right_count():
    partials = [(400, "turn"), (800, "turn of"), (1200, "turn of the light")]
    found = emission.latencies(["turn", "off", "the", "light"], [300, 500, 650, 1250], partials)
    assert found == [100, 550, -50]  # a net may be sure of a word before it ends
    assert emission.latencies(["turn"], [300], [(400, "")]) == []


class Echo:
    """Says one more word with every whole chunk of 320 ms."""

    words = ("one", "two", "three")

    def __init__(self):
        self.samples = 0

    def accept(self, samples):
        self.samples += len(samples)
        return " ".join(self.words[: self.samples // 5120])

    def finish(self):
        return " ".join(self.words)


def test_packets_are_ten_milliseconds():
    partials, _ = emission._partials(Echo(), np.zeros(16000, np.float32))
    assert len(partials) == 101 and partials[-1] == (1000, "one two three")
    assert emission.latencies(["one", "two", "three"], [100, 200, 300], partials) == [220, 440, 660]
