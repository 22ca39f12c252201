"""Transcribe: word differences, sound pictures, what uploads are refused and why, seats, streaming,
the page itself.
"""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

from core.records import SpokenWord
from dashboard.charts import audio as audio_view
from dashboard.components import diff
from dashboard.model import transcription
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

VIEW = str(ROOT / "dashboard" / "views" / "transcribe.py")


def tone(seconds: float = 1.0, hertz: float = 440.0, rate: int = 16000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(
        np.float32
    )


def encoded(samples: np.ndarray, form: str, subtype: str | None = None, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def m4a(samples: np.ndarray) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, len(samples) - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(
                samples[None, start : start + 1024], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


# word differences


def test_differences_are_counted_like_jiwer():
    pieces = diff.align("turn the kitchen light on please", "turn a kitchen light now on")
    assert diff.counts(pieces) == {"words": 6, "substituted": 1, "deleted": 1, "inserted": 1}
    assert diff.error_rate(pieces) == pytest.approx(0.5)
    assert "50.0 %" in diff.sentence(pieces)


@pytest.mark.parametrize(
    "reference, heard, rate",
    [
        ("", "", None),
        ("", "oh no", None),
        ("oh no", "", 1.0),
        ("same here", "same here", 0.0),
        ("a", "b c d", 3.0),
    ],
)
def test_differences_of_empty_and_long_texts(reference, heard, rate):
    pieces = diff.align(reference, heard)
    assert diff.error_rate(pieces) == rate and diff.sentence(pieces) and diff.markup(pieces)
    assert " ".join(p.reference for p in pieces if p.reference) == reference
    assert " ".join(p.hypothesis for p in pieces if p.hypothesis) == heard


def test_words_are_escaped_and_marked_without_color_too():
    shown = diff.markup(diff.align("light on now", '<script>alert(1)</script> on "x'))
    assert "<script" not in shown and "&lt;script&gt;" in shown
    shown = diff.markup(diff.align("a b c d", "b c d e"))
    assert "line-through" in shown and "+e" in shown


# pictures of the sound


def test_pictures_of_half_an_hour_stay_small():
    samples = np.tile(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 30 * 60)
    sent = len(audio_view.wave_figure(samples).to_json()) + len(
        audio_view.spectrogram_figure(samples).to_json()
    )
    assert sent < 80_000


@pytest.mark.parametrize("hertz", [300, 1000, 4000])
def test_spectrogram_shows_a_tone_where_it_is(hertz):
    level, centers = audio_view.spectrogram(tone(1.0, hertz))
    assert level.max() == 0
    found = centers[level.mean(1).argmax()]
    assert abs(found - hertz) < 0.1 * hertz


def test_waveform_keeps_a_single_click():
    samples = np.zeros(16000 * 60, np.float32)
    samples[123_456] = 0.9
    low, high = audio_view.envelope(samples)
    assert high.max() == np.float32(0.9) and low.min() == 0 and len(high) == audio_view.COLUMNS
    for few in (1, 5, 600):
        audio_view.wave_figure(samples[:few]), audio_view.spectrogram_figure(samples[:few])


# uploads


@pytest.mark.parametrize(
    "name, data",
    [
        ("a.wav", lambda s: encoded(s, "WAV")),
        ("a.WAV", lambda s: encoded(s, "WAV", "FLOAT")),
        ("a.flac", lambda s: encoded(s, "FLAC")),
        ("a.ogg", lambda s: encoded(s, "OGG", "VORBIS")),
        ("a.opus", lambda s: encoded(s, "OGG", "OPUS")),
        ("a.mp3", lambda s: encoded(s, "MP3")),
        ("a.m4a", m4a),
    ],
)
def test_every_kind_of_upload_is_read(name, data):
    samples = transcription.load(data(tone(2.0)), name)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) / 16000 == pytest.approx(2.0, abs=0.15)
    assert 0.15 < np.abs(samples).max() < 0.5


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("notes.txt", b"hello", "notes.txt” isn't readable audio. Try WAV or MP3."),
        ("a.wav", b"", "empty (0 bytes)"),
        ("a.wav", b"RIFF but nothing like a sound" * 20, "damaged"),
        ("a.m4a", b"\0" * 4000, "damaged"),
        ("a.wav", encoded(tone(1.0), "WAV")[:44], "truncated"),
        ("a.m4a", m4a(tone(2.0))[:-700], "truncated"),
        ("a.wav", encoded(np.full(16000, np.nan, np.float32), "WAV", "FLOAT"), "not finite"),
        ("a.wav", encoded(np.zeros(16000), "WAV"), "silent"),
        ("a.wav", encoded(tone(0.01), "WAV"), "at least 0.1 s"),
        (
            "a.flac",
            encoded(np.zeros(31 * 60 * 8000, np.int16), "FLAC", rate=8000),
            "31 minutes long; at most 30",
        ),
    ],
)
def test_what_cannot_be_used_is_said_plainly(name, data, words):
    with pytest.raises(transcription.NotUsable) as raised:
        transcription.load(data, name)
    assert words in str(raised.value) and name in str(raised.value)


def test_what_is_left_of_a_damaged_file_is_taken_and_the_loss_said():
    notes, lost = [], []
    cut = encoded(tone(4.0), "WAV")[:-64000]
    samples = transcription.load(cut, "a.wav", notes.append, lost.append)
    assert len(samples) == 32000
    assert notes == []
    assert len(lost) == 1
    assert "2.0 s or more of it is missing, 2.0 s are left" in lost[0]
    lost.clear()
    transcription.load(encoded(tone(4.0), "WAV"), "a.wav", warn=lost.append)
    assert lost == []


def test_a_file_above_the_limit_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(transcription, "MOST_MB", 0.01)
    with pytest.raises(transcription.NotUsable, match="at most"):
        transcription.load(encoded(tone(1.0), "WAV"), "a.wav")


# seats and streams


def test_two_at_once_and_the_third_is_told_to_wait():
    seats, told, inside, leave = transcription.Seats(2), [], threading.Barrier(3), threading.Event()

    def hold():
        with seats.taken(told.append):
            inside.wait(5)
            leave.wait(5)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    [t.start() for t in threads]
    inside.wait(5)

    def tell(seconds):
        told.append(seconds)
        if len(told) == 2:
            leave.set()

    with seats.taken(tell, patience=0.05):
        assert len(told) >= 2
    [t.join(5) for t in threads]


def test_who_leaves_while_waiting_takes_no_seat():
    seats = transcription.Seats(1)

    def gone(_):
        raise KeyboardInterrupt

    with seats.taken(gone), pytest.raises(KeyboardInterrupt), seats.taken(gone, patience=0.01):
        raise AssertionError("there was no seat")
    with seats.taken(gone, patience=0.01):
        pass


class Fake:
    """A recognizer that writes one word per second of sound, and one more at the end."""

    conditions = {"threads": 1}

    def __init__(self, words: str) -> None:
        self.words = words.split()

    def stream(self):
        return FakeStream(self.words)


class FakeStream:
    def __init__(self, words: list[str]) -> None:
        self.texts, self.samples = words, 0

    def accept(self, samples: np.ndarray) -> str:
        assert samples.dtype == np.float32
        self.samples += len(samples)
        return " ".join(self.said)

    def finish(self) -> str:
        self.samples += 16000
        return " ".join(self.said)

    @property
    def said(self) -> list[str]:
        return self.texts[: self.samples // 16000]

    @property
    def words(self) -> list[SpokenWord]:
        return [SpokenWord(word, i, i + 0.5, 0.9) for i, word in enumerate(self.said)]


def test_text_appears_as_it_streams(monkeypatch):
    monkeypatch.setattr(transcription, "REDRAW_S", 0.0)
    told = []
    heard = transcription.transcribe(
        {"dense": Fake("one two three four"), "s70": Fake("one too")},
        tone(2.5),
        lambda share, texts: told.append((share, texts)),
    )
    assert [one.text for one in heard] == ["one two three", "one too"]
    assert list(dict.fromkeys(t["dense"] for _, t in told if t["dense"])) == [
        "one",
        "one two",
        "one two three",
    ]
    assert told[-1][0] == 1.0 and [share for share, _ in told] == sorted(share for share, _ in told)
    assert heard[0].audio_seconds == 2.5 and heard[0].rtf == pytest.approx(heard[0].seconds / 2.5)
    assert [word.text for word in heard[0].words] == ["one", "two", "three"]
    assert [text for _, text in heard[0].partial] == ["one", "one two"]
    assert [when for when, _ in heard[0].partial] == [1.28, 2.24]


# the page


@pytest.fixture
def page(own_artifacts, tmp_path, monkeypatch):
    """The page on a stand-in run with one sample and recognizers that need no torch."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    from core import paths
    from dashboard import data
    from tests.standin import make_run

    st.cache_data.clear(), st.cache_resource.clear()
    make_run(own_artifacts / "runs")
    (tmp_path / "released" / "samples").mkdir(parents=True)
    (tmp_path / "released" / "samples" / "kitchen_light.flac").write_bytes(
        encoded(tone(3.5), "FLAC")
    )
    (tmp_path / "released" / "samples" / "kitchen_light.txt").write_text("Turn the light on!")
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    monkeypatch.setattr(data, "packed", lambda run, subnet: subnet.name.encode())
    made = []

    def recognizer(packed, chunk_ms, way):
        made.append(
            (packed.decode(), chunk_ms)
            if way == transcription.Way()
            else (packed.decode(), chunk_ms, way)
        )
        return Fake("turn the light on" if packed == b"dense" else "turn a light")

    monkeypatch.setattr(transcription, "recognizer", recognizer)
    test = AppTest.from_file(VIEW, default_timeout=120)
    test.session_state["source"] = "A sample"
    test.made, test.samples = made, tmp_path / "released" / "samples"
    return test


def test_page_transcribes_a_sample_side_by_side(page):
    page.run()
    assert not page.exception and page.made == []
    page.button(key="go").click().run()
    assert not page.exception
    assert sorted(page.made) == [("dense", 320), ("s70", 320)]
    shown = " ".join(element.proto.body for element in page.get("html"))
    assert "instead of: the" in shown and ">on</span>" in shown
    text = " ".join(m.value for m in page.markdown)
    assert "2 differences over 4 words" in text and "All 4 words are the same" in text
    # against another size nothing is an error
    way = page.segmented_control(key="way.2.True").set_value("the dense subnet").run()
    text = " ".join(m.value for m in way.markdown)
    assert "WER" not in text and "2 differences from the 4 words of dense" in text
    shown = " ".join(element.proto.body for element in way.get("html"))
    assert "expected" not in shown and "for that of dense" in shown
    page.segmented_control(key="way.2.True").set_value("the reference").run()
    # other words typed: compared anew, not transcribed anew
    page.text_input(key="said.kitchen_light.flac").set_value("turn a light").run()
    assert len(page.made) == 2 and "All 3 words are the same" in " ".join(
        m.value for m in page.markdown
    )


def test_partial_results_are_on_the_page_before_the_end(page, monkeypatch):
    """With a real recognizer: text stands in the page while the sound is still being read, and
    grows.
    """
    from streamlit.delta_generator import DeltaGenerator

    from core import runtime

    shown, markdown = [], DeltaGenerator.markdown
    run = ROOT / "artifacts" / "released" / "supernet"
    opened = runtime.load(run, "u70", 320, decoder="greedy")  # its phonemes
    monkeypatch.setattr(transcription, "recognizer", lambda *_: opened)
    monkeypatch.setattr(transcription, "REDRAW_S", 0.0)
    monkeypatch.setattr(
        DeltaGenerator,
        "markdown",
        lambda self, body, *a, **k: (shown.append(str(body)), markdown(self, body, *a, **k))[1],
    )
    page.run()
    sample = next((ROOT / "artifacts" / "released" / "samples").glob("*_three_commands*.opus"))
    (page.samples / "kitchen_light.flac").unlink()
    (page.samples / sample.name).write_bytes(sample.read_bytes())
    page.run()
    page.button(key="go").click().run()
    partial = list(
        dict.fromkeys(
            body.removesuffix(" ▌") for body in shown if body.endswith("▌") and body != " ▌"
        )
    )
    assert (
        not page.exception
        and len(partial) > 10
        and len(partial[0].split()) < 4 < len(partial[-1].split())
    )


def test_decoding_holds_a_seat_once_and_says_what_it_changed(page, monkeypatch):
    import contextlib

    seats, decoded = [], []

    @contextlib.contextmanager
    def taken(self, tell, patience=0.5):
        seats.append(self)
        yield
        seats.pop()

    def load(data, name, note, warn):
        assert seats, "decoding counts as a transcription"
        decoded.append(name)
        note("Its speech is very quiet.")
        if len(decoded) > 1:
            raise transcription.NotUsable("it is *damaged*")
        return tone(1.0)

    monkeypatch.setattr(transcription.Seats, "taken", taken)
    monkeypatch.setattr(transcription, "load", load)
    page.run()
    page.run()
    assert not page.exception and len(decoded) == 1
    assert "very quiet" in " ".join(c.value for c in page.caption)
    page.session_state["sound"] = None
    page.run()
    page.run()
    assert len(decoded) == 2 and page.error[0].value == r"it is \*damaged\*", (
        "a refusal is kept, too"
    )


def test_a_damaged_recording_is_played_and_transcribed_with_a_warning(page):
    file = page.samples / "kitchen_light.flac"
    data = bytearray(encoded(np.random.default_rng(0).normal(0, 0.1, 64000), "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    file.write_bytes(bytes(data))
    page.run()
    assert not page.error
    assert "s or more of it is missing" in page.warning[0].value
    page.button(key="go").click().run()
    assert not page.exception
    assert sorted(page.made) == [("dense", 320), ("s70", 320)]
    assert "is missing" in page.warning[0].value
    file.write_bytes(b"this is no sound")
    page.run()
    assert "isn't readable audio" in page.error[0].value
    assert not page.warning, "the old message is gone"


def test_open_speech_is_understood_until_something_else_is_chosen(page, own_artifacts):
    page.run()
    assert page.selectbox(key="way").options == [
        "Open speech",
        "Built-in commands",
        "Only these sentences",
        "Letters or sounds as they come",
    ]
    page.button(key="go").click().run()
    assert sorted(page.made) == [("dense", 320), ("s70", 320)], "open speech is the usual way"
    made = len(page.made)
    page.selectbox(key="way").set_value("Built-in commands").run()
    assert len(page.made) == made, "nothing is transcribed unasked"
    page.button(key="go").click().run()
    assert {one[2] for one in page.made[made:]} == {transcription.Way(lm="", grammar="commands")}
    made = len(page.made)
    page.selectbox(key="way").set_value("Only these sentences").run()
    page.text_area(key="grammar").set_value("turn (on | off the light").run()
    assert len(page.made) == made and "line 1" in page.error[0].value, "said before one transcribes"
    page.text_area(key="grammar").set_value("turn (on | off) the light").run()
    assert not page.error
    page.button(key="go").click().run()
    assert {one[2] for one in page.made[made:]} == {
        transcription.Way(lm="", grammar="turn (on | off) the light")
    }
    made = len(page.made)
    page.selectbox(key="way").set_value("Open speech").run()
    page.text_input(key="hot_words").set_value(f"Jurgis, 日本, Anna Karenina, {'a' * 200}").run()
    left_out = [warning.value for warning in page.warning]
    assert len(left_out) == 2 and all(text.startswith("Left out: ") for text in left_out)
    page.button(key="go").click().run()
    assert {one[2].hot_words for one in page.made[made:]} == {("jurgis", "anna karenina")}
    assert not page.exception


def test_a_language_model_of_this_machine_can_be_chosen(page, own_artifacts):
    file = own_artifacts / "lm" / "said.arpa"
    file.parent.mkdir()
    file.write_text("whatever")
    page.run()
    page.selectbox(key="way").set_value("said.arpa").run()
    page.button(key="go").click().run()
    assert not page.exception
    assert {one[2].lm for one in page.made} == {str(file)} and page.made[0][2].changed


def test_the_page_understands_what_the_command_line_understands(tmp_path):
    from core import runtime
    from core.lm import arpa, estimation
    from core.lm.languages import Language
    from core.storage import packing, store
    from tests.standin import make_run

    run, file = make_run(tmp_path), tmp_path / "said.arpa"
    file.write_text(arpa.write(estimation.estimate([["yes", "no"], ["stop", "go"]], 2)))
    packed = packing.pack(run, store.subnet(run, "s50"))
    opened = transcription.recognizer(packed, 320, transcription.Way(lm=str(file)))
    heard = transcription.transcribe({"s50": opened}, tone(1.5), lambda *_: None)[0]
    stream = runtime.load(packed, chunk_ms=320, language=Language(str(file))).stream()
    stream.accept(tone(1.5))
    assert heard.text == stream.finish() and heard.conditions["language_model"].startswith(
        "said.arpa"
    )
    assert (
        transcription.recognizer(packed, 320, transcription.Way(tokens=True)).conditions["decoder"]
        == "greedy"
    )
    only = transcription.recognizer(
        packed, 320, transcription.Way(lm="", grammar="(yes | no) stop")
    )
    assert set(
        transcription.transcribe({"s50": only}, tone(1.5), lambda *_: None)[0].text.split()
    ) <= {
        "yes",
        "no",
        "stop",
    }
    with pytest.raises(ValueError, match="line 1, column 1"):
        transcription.recognizer(packed, 320, transcription.Way(lm="", grammar="(yes"))


def test_a_transducer_finds_words_itself(tmp_path, monkeypatch):
    from core import runtime
    from core.decoding.ctc import WrongDecoder
    from core.lm.languages import Language

    asked = []

    def open_(packed, **given):
        asked.append(given.get("language"))
        if given.get("language"):
            raise WrongDecoder("a transducer")
        return runtime.load(make_run(tmp_path), "dense")

    from tests.standin import make_run

    real = runtime.load
    monkeypatch.setattr(
        runtime,
        "load",
        lambda packed, *a, **given: (
            open_(packed, **given) if isinstance(packed, bytes) else real(packed, *a, **given)
        ),
    )
    transcription.recognizer(b"x", 320, transcription.Way())
    assert asked == [Language(), None]
    with pytest.raises(WrongDecoder):
        transcription.recognizer(b"x", 320, transcription.Way(lm="", grammar="commands"))


def test_page_says_when_a_size_cannot_be_opened(page, monkeypatch):
    def broken(packed, chunk_ms, way):
        raise ValueError("the file holds no weights")

    monkeypatch.setattr(transcription, "recognizer", broken)
    page.run()
    page.button(key="go").click().run()
    assert not page.exception and "holds no weights" in page.error[0].value


def test_page_without_any_run_says_what_to_do(own_artifacts, tmp_path, monkeypatch):
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    from core import paths

    st.cache_data.clear()
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "nothing")
    test = AppTest.from_file(VIEW, default_timeout=120).run()
    assert not test.exception and "Nothing to show yet" in test.subheader[0].value


def test_torch_is_absent_until_something_is_transcribed(own_artifacts):
    code = """
import sys
sys.path[:0] = [sys.argv[1]]

from tests.standin import make_run
from core import paths
make_run(paths.runs())
from streamlit.testing.v1 import AppTest
for view in ("transcribe", "train", "jobs"):
    page = AppTest.from_file(f"{sys.argv[1]}/dashboard/views/{view}.py", default_timeout=120).run()
    assert not page.exception, (view, page.exception)
    assert "torch" not in sys.modules, view
"""
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, timeout=240)
