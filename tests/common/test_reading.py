"""Text files are read in one way: lines end at \\n, \\r\\n and \\r alone, a byte-order mark is no
letter, the first of repeated ids wins.
"""

from __future__ import annotations

import gzip
import json
import os

import pytest

from core.common import reading, writing
from core.corpora import base, folder, kaldi, manifest
from core.data import filters as sift
from core.lm import arpa, estimation
from core.lm.text import read_sentences
from core.records import Utterance
from core.registry import recipes as recipe_files
from core.speech import marks
from core.storage import store

INSIDE = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei"  # str.splitlines cuts at each of these


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_end_where_lines_end(end, encoding, tmp_path):
    data = end.join([INSIDE, "", "two", ""]).encode(encoding)
    (tmp_path / "file").write_bytes(data)
    wanted = [INSIDE, "", "two"]
    assert list(reading.lines(data)) == list(reading.lines(tmp_path / "file")) == wanted
    assert reading.text(data) == "\n".join([*wanted, ""])
    assert list(reading.lines(end.join(wanted))) == wanted and list(
        reading.lines("half \ud800")
    ) == ["half \ud800"]


def test_the_first_of_each_is_kept_and_the_others_are_named():
    assert reading.first_of_each([("a", 1), ("b", 2), ("a", 3)]) == ({"a": 1, "b": 2}, ["a"])


@pytest.fixture
def sound(tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    return tmp_path / "a.wav"


def texts(corpus, split="train"):
    return {i.id: i.text for i in corpus.utterances(split) if isinstance(i, Utterance)}


def dropped(corpus, split="train"):
    return {(i.id, i.reason) for i in corpus.utterances(split) if isinstance(i, base.Dropped)}


def test_a_manifest_with_a_mark_and_odd_ids(sound):
    rows = [
        {"id": f"{n}{INSIDE}", "audio_filepath": "a.wav", "text": INSIDE, "duration": 1}
        for n in range(3)
    ]
    file = sound.with_name("m.jsonl")
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_text(
            "\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding=encoding
        )
        made = manifest.Corpus(manifest.Options(train=[str(file)]))
        assert list(texts(made).values()) == [INSIDE] * 3 and not dropped(made)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_kaldi_folder_keeps_the_first_of_repeated_ids(sound, mark):
    home = sound.parent
    home.joinpath("b.wav").write_bytes(sound.read_bytes())
    for name, lines in {
        "wav.scp": ["u0 a.wav", "u1 a.wav", "u1 b.wav"],
        "text": ["u0 first", f"u1 {INSIDE}", "u1 other"],
        "utt2spk": ["u0 s0", "u1 s1", "u1 s2"],
    }.items():
        (home / name).write_text(mark + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    made = kaldi.Corpus(kaldi.Options(train=[str(home)], allow_shared_speakers=True))
    assert texts(made) == {"u0": "first", "u1": INSIDE}
    found = {i.id: i for i in made.utterances("train") if isinstance(i, Utterance)}
    assert found["u1"].audio == str(home / "a.wav") and found["u1"].speaker == "s1"
    assert sorted(reason for _, reason in dropped(made)) == [
        "duplicate id: the first one is kept",
        "repeated recording: the first one is kept",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_folder_of_any_encoding(sound, encoding):
    (sound.parent / "t.csv").write_text(
        f"audio;text;speaker;split\na.wav;{INSIDE};s;train\n", encoding=encoding
    )
    assert texts(folder.Corpus(folder.Options(root=str(sound.parent)))) == {
        "a": " ".join(INSIDE.split())
    }


def test_arpa_files_recipes_and_sentences_with_a_mark(tmp_path):
    model = estimation.estimate([["hello", "you"]], 2)
    for name, pack in (("a.arpa", bytes), ("a.arpa.gz", gzip.compress)):
        for encoding in ("utf-8-sig", "utf-16"):
            (tmp_path / name).write_bytes(pack(arpa.write(model).encode(encoding)))
            assert arpa.load(tmp_path / name).words == ["hello", "you"]
    recipe = (recipe_files.paths.RECIPES / "voice_commands.toml").read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "r.toml").write_text(recipe, encoding=encoding)
        assert recipe_files.load_recipe(tmp_path / "r.toml") == recipe_files.load_recipe(
            "voice_commands"
        )
    (tmp_path / "t.txt").write_bytes("\ufeffone\u2028two\r\nthree\rfour".encode())
    assert read_sentences([tmp_path / "t.txt"]) == ([["one", "two"], ["three"], ["four"]], [])


def test_hypotheses_with_odd_ids_come_back(tmp_path):
    rows = [{"id": INSIDE, "hypothesis": "x"}]
    file = tmp_path / "reports" / "dense.s.320.jsonl.zst"
    writing.write_lines(file, rows)
    (tmp_path / "subnets").mkdir()
    assert store.hypotheses(tmp_path, "dense", "s", 320) == rows


# marks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<unk> three [noise] (COUGH) {laugh} <SIL>", "three"),
        ("<s> hello world </s>", "hello world"),
        ("!SIL", ""),
        ("%hesitation well", "well"),
        ("[vocalized-noise] yes [NOISE2]", "yes"),
        ("a (breath) b {Lip_Smack} c", "a b c"),
        ("it <laugh>was</laugh> me", "it was me"),
        ("he (John) and [she] went", "he (John) and [she] went"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("the noise of music", "the noise of music"),
    ],
)
def test_marks_are_no_words(text, words):
    assert " ".join(marks.without(text)[0].split()) == words


def test_further_marks_are_those_that_a_recipe_names():
    assert marks.without("*bang* he *bang*ed [beeep]", ["*bang*", "[beeep]"])[0].split() == [
        "he",
        "*bang*ed",
    ]


def test_a_corpus_loses_its_marks_and_what_holds_nothing_else(sound):
    rows = [
        {"id": n, "audio_filepath": "a.wav", "text": t, "duration": 1}
        for n, t in (("a", "<unk> three [noise]"), ("b", "[noise] <SIL>"), ("c", "#x# two"))
    ]
    sound.with_name("m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = manifest.Corpus(manifest.Options(train=[str(sound.with_name("m.jsonl"))]))
    found, left_out = sift.gather(made, ["#x#"])
    assert {u.id: u.text for u in found["train"]} == {"a": "three", "c": "two"}
    assert [(d.id, d.reason, d.rule) for d in left_out] == [
        ("b", "only marks and no words: [noise] <SIL>", True)
    ]
    assert [d.id for d in sift.gather(made)[1]] == ["b", "c"]  # a sign whose words are unknown


def test_a_language_model_of_text_knows_no_marks(tmp_path):
    (tmp_path / "t.txt").write_text(
        "<s> hello world </s>\n<unk> hello\n[noise] hello\n*x* hello\n(cough)\n"
    )
    assert read_sentences([tmp_path / "t.txt"], ["*x*"])[0] == [
        ["hello", "world"],
        ["hello"],
        ["hello"],
        ["hello"],
    ]


def test_a_fingerprint_is_of_what_a_file_holds_not_of_its_time(tmp_path):
    file, other = tmp_path / "a", tmp_path / "b"
    for size in (0, 1, 5000, 60000):
        content = bytes(i * 7 % 251 for i in range(size))
        file.write_bytes(content)
        other.write_bytes(content)
        os.utime(other, (1, 1))
        found = reading.fingerprint(file)
        assert found == reading.fingerprint(other) and found.startswith(f"{size} ")
        other.write_bytes(content + b"x")
        assert reading.fingerprint(other) != found, "longer"
        for at in (0, size - 1) if size else ():
            other.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
            assert reading.fingerprint(other) != found, "as long, but another"
    assert reading.fingerprint(tmp_path / "none").startswith("unreadable")
