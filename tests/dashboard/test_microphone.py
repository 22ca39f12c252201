"""The microphone's messages, a recording while it is made, and the component that plays it."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from core.records import SpokenWord
from dashboard.components import microphone
from dashboard.live import speech
from dashboard.model import listening
from tests.dashboard.test_dashboard_transcribe import Fake, tone


def message(samples: np.ndarray, begin: int = 0, rate: int = 16000, **changed) -> dict:
    pcm = base64.b64encode((samples * 32767).astype("<i2").tobytes()).decode()
    return {"session": "a", "from": begin, "rate": rate, "end": False, "pcm": pcm, **changed}


def begun(words: str = "one two three", rate: int = 16000) -> listening.Take:
    take = listening.Take("a", rate, "")
    take.listening = listening.Listening({"dense": Fake(words), "s70": Fake("one")})
    return take


def fed(take: listening.Take, samples: np.ndarray, packet: int) -> list[list[str]]:
    """What dense had understood after each packet."""
    shown = []
    for start in range(0, len(samples), packet):
        piece = samples[start : start + packet]
        take.accept(start, piece, start + packet >= len(samples), 60.0)
        shown.append([word.text for word in take.words.get("dense", [])])
    return shown


def test_a_message_is_read_as_it_was_sent():
    samples = tone(0.5)
    read = speech.Message(message(samples, begin=320, rate=48000, end=True))
    assert (read.session, read.begin, read.rate, read.end) == ("a", 320, 48000, True)
    assert read.samples == pytest.approx(samples, abs=1e-4)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"pcm": "###"}, "base64"),
        ({"pcm": "AAA="[:3] + "A" * 2 + "="}, "base64|16-bit"),
        ({"pcm": base64.b64encode(b"odd").decode()}, "16-bit samples, got 3 bytes"),
        ({"pcm": "A" * 20_000_000}, "at most"),
        ({"pcm": None}, "at most"),
        ({"from": -1}, "from: expected"),
        ({"from": "x" * 1000}, "from: expected"),
        ({"rate": 100}, "rate: expected"),
        ({"rate": float("nan")}, "rate: expected"),
        ({"rate": 10**30}, "rate: expected"),
    ],
)
def test_what_a_browser_may_not_send_is_refused(changed, words):
    with pytest.raises(ValueError, match=words) as raised:
        speech.Message(message(tone(0.1), **changed))
    assert len(str(raised.value)) < 200
    with pytest.raises(ValueError, match="got list"):
        speech.Message([1])


def test_words_come_while_the_sound_arrives_and_stay():
    take = begun()
    shown = fed(take, tone(2.5), 4000)
    assert shown[3] == ["one"]
    assert shown[-1] == ["one", "two"]
    assert shown == sorted(shown)
    assert [item.text for item in take.transcripts] == ["one two three", "one"]
    assert len(take.samples()) == 2.5 * 16000


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates_are_resampled_as_they_come(rate):
    take = begun(rate=rate)
    fed(take, tone(2.0, rate=rate), rate // 10)
    assert len(take.samples()) == pytest.approx(2.0 * 16000, abs=200)
    inner = take.samples()[4000:-4000]
    spectrum = np.abs(np.fft.rfft(inner))
    assert spectrum.argmax() * 16000 / len(inner) == pytest.approx(440, abs=2)


def test_a_gap_is_silent_and_said_and_sound_that_comes_twice_is_refused():
    take = begun()
    take.accept(0, tone(0.5), False, 60.0)
    assert take.lost() == ""
    take.accept(16000, tone(1.0), False, 60.0)
    samples = take.samples()
    assert len(samples) == take.received == 32000
    assert not samples[8000:16000].any()
    assert samples[16000:] == pytest.approx(tone(1.0))
    assert [word.text for word in take.words["dense"]] == ["one", "two"]
    assert "0.5 of 2.0 s of this recording did not arrive" in take.lost()
    assert microphone.content(["dense"], take)["lost"] == take.lost()
    with pytest.raises(ValueError, match="came twice: expected sample 32000, got 16000"):
        take.accept(16000, tone(0.5), False, 60.0)
    with pytest.raises(ValueError, match="longer than"):
        take.accept(1 << 39, tone(0.1), False, 60.0)


def test_an_overlong_a_short_and_an_ended_recording_are_refused():
    take = begun()
    take.accept(0, tone(0.5), False, 60.0)
    with pytest.raises(ValueError, match="longer than"):
        take.accept(8000, tone(10.0), False, 1.0)
    take = begun()
    with pytest.raises(ValueError, match="at least 0.1 s"):
        take.accept(0, tone(0.01), True, 60.0)
    take = begun()
    take.accept(0, tone(0.5), True, 60.0)
    with pytest.raises(ValueError, match="ended already"):
        take.accept(8000, tone(0.5), False, 60.0)


def test_the_microphone_is_told_how_much_came_and_what_was_understood():
    empty = microphone.content(["dense", "s70"], None)
    assert (empty["received"], empty["words"], empty["finished"]) == (0, {}, False)
    take = begun()
    take.accept(0, tone(1.5), False, 60.0)
    content = microphone.content(["dense", "s70"], take)
    assert (content["session"], content["received"]) == ("a", 24000)
    assert content["words"]["dense"] == [("one", 0, 0.5, 0.9)]
    assert not content["finished"]


def test_the_player_gets_the_sound_and_a_new_key_for_other_words():
    played = speech.sound(tone(2.0), 16000)
    assert played["seconds"] == 2.0
    assert len(played["peaks"]) == speech.COLUMNS
    assert max(high for _, high in played["peaks"]) == pytest.approx(0.3, abs=0.01)
    assert base64.b64decode(played["audio"].split(",", 1)[1])[:1] in (b"\xff", b"I")
    words = speech.timed([SpokenWord("one", 0.12, 0.3456, 0.5)])
    assert words == [("one", 0.12, 0.346, 0.5)]
    a = speech.recording(played, [{"name": "dense", "words": words}], "", True)
    b = speech.recording(played, [{"name": "dense", "words": []}], "", True)
    assert a["key"] != b["key"]
    again = speech.recording(played, [{"name": "dense", "words": words}], "", False)
    assert again["key"] == a["key"], "it plays on while the page runs again"
