"""Training speech of your own sentences: what is said, by whom, what is kept, what is refused."""

from __future__ import annotations

import errno
import itertools
import random
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile

from core.corpora import _spoken, base, spoken_text, voice_commands
from core.records import Choice, Utterance
from core.speech import grammar
from core.speech.voices import base as voices

SENTENCES = [
    f"{do} the {thing}{mark}"
    for (do, mark), thing in itertools.product(
        [("Clean", "."), ("start", ""), ("is it time for", "?")], ["nozzle", "boiler", "grinder"]
    )
]
SMALL = {
    "sentences": SENTENCES,
    "hours": 0.002,
    "test_utterances": 8,
    "dev_utterances": 2,
    "search_utterances": 2,
    "shard_utterances": 6,
    "voices": {"espeak": 1.0},
    "processes": 1,
}


def make(**changes):
    corpus = spoken_text.Corpus(spoken_text.Options(**{**SMALL, **changes}))
    corpus.follow(lambda done, total, text: None)
    return corpus


class Hum(voices.Voice):
    """Says every text as a tone of 40 ms a letter."""

    licence, held_out = "speech made by nobody", {"test": ("b",), "dev": ("c",), "search": ("d",)}

    @classmethod
    def speakers(cls) -> list[str]:
        return [f"hum+{v}" for v in "abcdefgh"]

    def say(self, text: str, speaker: str, rng: random.Random) -> np.ndarray:
        count = len(text) * voices.SAMPLE_RATE // 25
        return np.sin(np.arange(count) * rng.uniform(0.05, 0.1)).astype(np.float32) / 2


@pytest.fixture
def hum(monkeypatch):
    monkeypatch.setattr(_spoken.voices, "load", lambda name: Hum)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        told = []
        corpus = make()
        corpus.follow(lambda *said: told.append(said))
        yield corpus, {s: list(corpus.utterances(s)) for s in corpus.splits()}, told


@pytest.mark.slow
def test_splits_share_neither_sentences_nor_voices(made):
    corpus, splits, told = made
    assert list(splits) == ["train", "search", "dev", "test"]
    assert all(isinstance(u, Utterance) for rows in splits.values() for u in rows)
    texts = {split: {u.text for u in rows} for split, rows in splits.items()}
    variants = {s: {voices.variant(u.speaker) for u in rows} for s, rows in splits.items()}
    for one, other in itertools.combinations(splits, 2):
        assert not texts[one] & texts[other] and not variants[one] & variants[other]
    assert "is it time for the nozzle" in set().union(*texts.values())
    assert 7.2 <= sum(u.seconds for u in splits["train"]) < 14
    assert [len(splits[s]) for s in ("search", "dev", "test")] == [2, 2, 8]
    done, total, text = told[-1]
    assert done == total and text == f"speech: {total} of {total} files, making test of spoken_text"


@pytest.mark.slow
def test_a_stopped_making_goes_on_and_gives_the_same(made):
    corpus, splits, _ = made
    one, two = corpus.shards.audio("test", 0), corpus.shards.audio("test", 1)
    whole, kept = two.read_bytes(), one.stat().st_mtime_ns
    two.with_suffix(".jsonl").unlink()  # killed before its marker was written
    two.write_bytes(whole[:100])
    two.with_name(f"{two.name}.tmp-999999999").write_bytes(b"half")
    assert list(corpus.utterances("test")) == splits["test"]
    assert two.read_bytes() == whole and one.stat().st_mtime_ns == kept
    assert not list(corpus.folder.glob("*.tmp-*"))


def test_only_what_changes_the_audio_changes_the_folder(tmp_path):
    folder = make().folder
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(SENTENCES) + "\n\n")
    assert make(hours=5.0, test_utterances=9, processes=2).folder == folder
    assert make(texts=[str(file)], sentences=[]).folder == folder
    for change in ({"seed": 2}, {"sentences": SENTENCES[1:]}, {"voices": {"hibari": 1.0}}):
        assert make(**change).folder != folder


def test_a_full_disk_leaves_no_half_shard(hum, monkeypatch, tmp_path):
    corpus = make()
    corpus.folder.mkdir(parents=True)

    def full(self, samples):
        raise soundfile.LibsndfileError(2)

    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "write", full)
        with pytest.raises(OSError, match="cannot be written") as problem:
            corpus.shards.make("train", 0)
    assert problem.value.errno in (errno.ENOSPC, errno.EIO)
    assert not list(corpus.folder.iterdir())
    corpus.shards.make("train", 0)
    assert corpus.shards.whole("train", 0)


def test_every_sentence_comes_once_before_one_comes_again(hum):
    by_split = make().by_split
    rows = [row for row, _ in spoken_text.spoken(make().options, by_split, "train", range(12))]
    count = len(by_split["train"])
    assert count == 6
    assert Counter(r["text"] for r in rows[:count]) == Counter(r["text"] for r in rows[count:])
    assert [r["text"] for r in rows[:count]] != [r["text"] for r in rows[count:]]
    assert len({r["speaker"] for r in rows}) > 2


def test_what_takes_too_long_is_listed_with_its_reason(hum, monkeypatch):
    monkeypatch.setattr(spoken_text, "LONGEST_S", 3.0)
    long = "now " * 30 + "brew a very long coffee indeed please"
    corpus = make(sentences=[*SENTENCES, long], held_out=0.0)
    rows = dict(
        (row["id"], row) if samples is None else (row["id"], None)
        for row, samples in spoken_text.spoken(corpus.options, corpus.by_split, "dev", range(10))
    )
    (reason,) = (row["reason"] for row in rows.values() if row)
    assert reason.startswith("espeak says it in ") and "0.4 to 3.0 s" in reason


def test_lines_that_cannot_be_spoken_are_listed_with_their_line(tmp_path):
    file = tmp_path / "mine.txt"
    lines = [*SENTENCES, "", "at 7:30 pm", "добрый день", "Clean the nozzle!", "one " * 41]
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    corpus = make(texts=[str(file)], sentences=[])
    assert len(corpus.sentences) == len(SENTENCES), "what differs by signs alone is one sentence"
    left_out = {d.id: d.reason for d in corpus._left_out}
    assert list(left_out) == ["mine.txt:11", "mine.txt:12", "mine.txt:14"]
    assert "signs whose words are unknown" in left_out["mine.txt:11"]
    assert left_out["mine.txt:14"].startswith("41 words; 40 are the most")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Dr. Who, 3 times?", "dr, who, three times?"),
        ("Stop", "stop."),
        ("- wait; then: GO!", "wait, then, go."),
        ("it costs 1,234 now.", "it costs one thousand two hundred thirty four now."),
    ],
)
def test_what_is_said_is_what_is_written_as_its_words(line, said):
    assert spoken_text.as_said(line) == said


def test_with_nothing_held_out_all_splits_have_all_sentences():
    by_split = make(held_out=0.0, sentences=["stop"]).by_split
    assert set(by_split) == {"train", "search", "dev", "test"}
    assert all(part == [("stop.", "stop")] for part in by_split.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": []}, "there is no sentence to speak: give texts"),
        ({"sentences": ["$5", "3:30"]}, "no sentence to speak.*sentence 1: signs whose words"),
        ({"sentences": ["stop", "go", "wait"]}, "at least 4 different sentences.*got 3.*held_out"),
        ({"voices": {"hibary": 1.0}}, r"no voice \(spoken_text.voices\) called 'hibary'.*'hibari'"),
        ({"voices": {"espeak": 0.0}}, "expected a weight above 0"),
        ({"voices": {}}, "expected a weight above 0"),
        ({"texts": ["nowhere.txt"]}, "'nowhere.txt' cannot be read.*No such file"),
        ({"snr_low": 20.0, "snr_high": 10.0}, "snr_low"),
    ],
)
def test_wrong_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\xff", b"a\0b\nc", "café".encode("latin-1")]
)
def test_a_file_that_is_no_text_is_refused(data, tmp_path):
    file = tmp_path / "mine.txt"
    file.write_bytes(data)
    with pytest.raises(ValueError, match="mine.txt' cannot be read.*give UTF-8 text"):
        make(texts=[str(file)])


def test_a_voice_that_is_not_installed_is_said_before_anything_is_made(monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", None)
    corpus = base.make(Choice("spoken_text", {**SMALL, "voices": {"espeak": 1.0, "piper": 0.5}}))
    with pytest.raises(ValueError, match=r"voice 'piper' is not installed.*asr\[voices\]"):
        list(corpus.utterances("train"))


# voice_commands with other voices


@pytest.mark.slow
def test_commands_are_the_same_whoever_speaks_them(hum):
    options = voice_commands.Options(voices={"hibari": 1.0})
    rows = [row for row, _ in voice_commands.spoken(options, "test", range(6))]
    book, espeak = grammar.Grammar(), voice_commands.espeak.Voice.of_split("test")
    plans = [voice_commands.plan(options, book, espeak, "test", i)[0] for i in range(6)]
    assert [row["text"] for row in rows] == [request.text for request in plans]
    assert {row["speaker"] for row in rows} == {"hibari/hum+b"}


def test_voices_speak_by_their_weights_and_have_a_folder_of_their_own(hum):
    cast = _spoken.Cast({"hibari": 3.0, "piper": 1.0, "espeak": 0.0}, "train")
    rng = random.Random(1)
    times = Counter(cast.draw(rng)[0] for _ in range(2000))
    assert times["hibari"] / 2000 == pytest.approx(0.75, abs=0.04) and times["espeak"] == 0
    folders = {
        voice_commands.Corpus(voice_commands.Options(voices=weights)).folder
        for weights in ({"espeak": 1.0}, {"hibari": 1.0}, {"hibari": 1.0, "espeak": 1.0})
    }
    assert len(folders) == 3 and voice_commands.Corpus(voice_commands.Options()).folder in folders
    with pytest.raises(ValueError, match="expected a weight above 0"):
        voice_commands.Corpus(voice_commands.Options(voices={"hibari": 0.0}))
