"""Preparing: what is dropped and why, made once and reused, half-finished folders redone, one bad
item never fatal.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core import paths
from core.common import writing
from core.corpora.base import Dropped, spoken
from core.data import extract, filters as sift, prepare, source
from core.data.prepared import Prepared, Statistics
from core.data.source import SpeechRecipe
from core.records import Choice, Recipe
from core.speech import audio, features, tokenizer
from tests.speech_stub import RECIPE, Stub, give, write_split


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    folder = tmp_path / "sound"
    items = {
        "train": write_split(folder, "train", 40, 1),
        "search": write_split(folder, "search", 6, 2),
        "test": write_split(folder, "test", 5, 3),
    }
    return give(monkeypatch, Stub(items))


def dropped_of(folder):
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_clean_corpus_comes_out_whole(corpus):
    said = []
    folder = prepare.prepare(SpeechRecipe.of(RECIPE), lambda *a: said.append(a))
    data = Prepared(folder)
    assert folder == paths.prepared() / data.hash and data.splits == ["train", "search", "test"]
    assert said[-1][:2] == (51, 51) and "real time" in said[-1][2] and dropped_of(folder) == []
    for split, utterances in corpus.items.items():
        rows = data.rows(split)
        assert [r.id for r in rows] == [u.id for u in utterances]
        for row, utterance in zip(rows, utterances):
            assert (
                data.tokenizer.decode(row.tokens) == row.text == utterance.text
                and row.corpus == "stub"
            )
            assert abs(row.seconds - utterance.seconds) < 1e-3
            assert sorted(row.frames) == ([0.9, 1.0, 1.1] if split == "train" else [1.0])
            samples = audio.read(row.audio)
            for speed in row.frames:
                expected = features.fbank(audio.speed(samples, speed))
                np.testing.assert_allclose(
                    data.features(row, speed), expected, atol=0.02
                )  # half precision
    with pytest.raises(ValueError, match="no features at speed 0.9"):
        data.features(data.rows("test")[0], 0.9)
    with pytest.raises(ValueError, match="'train', 'search', 'test'"):
        data.rows("dev")


@pytest.mark.slow
def test_statistics_are_those_of_clean_training_speech(corpus):
    data = Prepared(prepare.prepare(SpeechRecipe.of(RECIPE)))
    frames = np.concatenate([data.features(r) for r in data.rows("train")]).astype(np.float64)
    np.testing.assert_allclose(data.statistics.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(data.statistics.std, frames.std(axis=0), rtol=1e-5)
    read = Statistics.load(data.folder)
    assert read.mean.tobytes() == data.statistics.mean.tobytes()


@pytest.mark.slow
def test_the_same_again_is_reused_and_a_change_is_not(corpus, monkeypatch):
    folder = prepare.prepare(SpeechRecipe.of(RECIPE))
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_make", lambda *a: pytest.fail("made again"))
        assert (
            prepare.prepare(
                SpeechRecipe.of(replace(RECIPE, title="another", training={"updates": 3}, seed=7))
            )
            == folder
        )
    assert (
        prepare.prepare(SpeechRecipe.of(replace(RECIPE, features={"speed_change": 0.05}))) != folder
    )
    first = corpus.items["train"][0]
    os.utime(first.audio, (1, 1))  # copied or mounted elsewhere: a run that stopped can go on
    assert prepare.prepare(SpeechRecipe.of(RECIPE)) == folder
    audio.write(first.audio, audio.read(first.audio) * 0.5)
    changed = prepare.prepare(SpeechRecipe.of(RECIPE))
    assert changed != folder
    loud, quiet = (
        Prepared(f).features(Prepared(f).rows("train")[0]).mean() for f in (folder, changed)
    )
    assert loud - quiet > 0.5


@pytest.mark.slow
def test_other_tokens_do_not_compute_features_again(corpus, monkeypatch):
    folder = prepare.prepare(SpeechRecipe.of(RECIPE))
    monkeypatch.setattr(extract, "extract_one", lambda task: pytest.fail("computed again"))
    again = prepare.prepare(SpeechRecipe.of(replace(RECIPE, tokens={"kind": "pieces", "size": 40})))
    assert again != folder and Prepared(again).tokenizer.size == 40
    for name in ("features-0.9.f16", "features-1.0.f16", "features-1.1.f16"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_what_a_dead_preparation_left_is_redone(corpus):
    folder = prepare.prepare(SpeechRecipe.of(RECIPE))
    whole = (folder / "features-1.0.f16").read_bytes()
    (folder / "prepared.json").unlink()  # died before the marker
    (folder / "features-1.0.f16").write_bytes(whole[:100])
    with pytest.raises(ValueError, match="no finished prepared data"):
        Prepared(folder)
    assert (
        prepare.prepare(SpeechRecipe.of(RECIPE)) == folder
        and (folder / "features-1.0.f16").read_bytes() == whole
    )
    (folder / "features-1.0.f16").write_bytes(whole[:100])  # damaged after the marker
    with pytest.raises(ValueError, match="100 bytes, written were"):
        Prepared(folder)
    assert (
        prepare.prepare(SpeechRecipe.of(RECIPE)) == folder
        and (folder / "features-1.0.f16").read_bytes() == whole
    )


@pytest.mark.slow
def test_a_preparation_that_fails_leaves_no_folder(corpus, monkeypatch):
    abandoned = paths.prepared() / "x"
    monkeypatch.setattr(
        writing, "write_lines", lambda *a: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        prepare.prepare(SpeechRecipe.of(RECIPE))
    assert not abandoned.exists() and list(paths.prepared().iterdir()) == []


@pytest.mark.slow
def test_bad_items_are_dropped_with_their_reasons(corpus, tmp_path):
    train = corpus.items["train"] = write_split(tmp_path / "many", "train", 200, 4)
    (tmp_path / "empty.wav").write_bytes(b"")
    audio.write(tmp_path / "cut.flac", np.random.default_rng(0).standard_normal(32000) * 0.1)
    flac = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(flac[: len(flac) // 2])
    audio.write(tmp_path / "short.wav", np.zeros(16000))
    bad = [
        replace(train[0]),
        replace(train[0], id="missing", audio=str(tmp_path / "none.wav")),
        replace(train[0], id="empty", audio=str(tmp_path / "empty.wav")),
        replace(train[0], id="cut", audio=str(tmp_path / "cut.flac"), seconds=2.0),
        replace(train[0], id="silent", text=" ... "),
        replace(train[0], id="price", text="it costs $5"),
        replace(train[0], id="half", text="half a pair \ud83d"),
        replace(
            train[0], id="labels", audio=str(tmp_path / "short.wav"), seconds=1.0, text="seven " * 9
        ),
        Dropped("reader", "no transcript line: x.txt"),
    ]
    rules = [
        replace(train[0], id="blink", seconds=0.3),
        replace(train[0], id="lecture", seconds=2400.0),
        Dropped("shared", "speaker 'a' is also in split 'test'"),
    ]
    train += bad + rules
    folder = prepare.prepare(SpeechRecipe.of(RECIPE))
    rows = {d["id"]: d for d in dropped_of(folder)}
    said = {
        "missing": "no such file",
        "empty": "0 bytes",
        "cut": "truncated",
        "silent": "empty transcript",
        "price": "outside the alphabet: $ 5",
        "half": "outside the alphabet: \ud83d",
        "labels": "more labels than frames: 54 tokens and repeats, 22 frames",
        "reader": "no transcript line",
        train[0].id: "duplicate id",
        "blink": "shorter than 0.5 s",
        "lecture": "longer than 20 s",
        "shared": "is also in",
    }
    assert set(rows) == set(said)
    for id, words in said.items():
        assert words in rows[id]["reason"], rows[id]
        assert (
            rows[id]["rule"] == (id in ("blink", "lecture", "shared"))
            and rows[id]["split"] == "train"
        )
    data = Prepared(folder)
    assert len(data.rows("train")) == 200
    assert data.info["splits"]["train"]["bad"]["duplicate id"] == 1


@pytest.mark.slow
def test_sound_of_any_kind_is_prepared_and_forty_minutes_are_left_to_streaming(corpus, tmp_path):
    rng, items = np.random.default_rng(0), corpus.items["train"]
    kinds = {
        "stereo48": (48000, 2, "PCM_16"),
        "phone8": (8000, 1, "PCM_16"),
        "float44": (44100, 1, "FLOAT"),
        "deep96": (96000, 2, "PCM_24"),
    }
    for name, (rate, channels, subtype) in kinds.items():
        soundfile.write(
            tmp_path / f"{name}.wav", 0.1 * rng.standard_normal((3 * rate, channels)), rate, subtype
        )
        items.append(spoken(name, tmp_path / f"{name}.wav", "seven", "train-0"))
    soundfile.write(tmp_path / "lecture.flac", np.zeros(2400 * 8000, np.int16), 8000)
    items.append(spoken("lecture", tmp_path / "lecture.flac", "seven", "train-0"))
    folder = prepare.prepare(SpeechRecipe.of(RECIPE))
    rows = {row.id: row for row in Prepared(folder).rows("train")}
    assert {
        name: (rows[name].seconds, rows[name].frames[1.0][1]) for name in kinds
    } == dict.fromkeys(kinds, (3.0, 300))
    assert [(d["id"], d["reason"], d["rule"]) for d in dropped_of(folder)] == [
        ("lecture", "longer than 20 s: 2400.00 s", True)
    ]


@pytest.mark.slow
def test_tests_keep_short_and_long_speech_but_leave_lectures_to_streaming(corpus, tmp_path):
    audio.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(16000 * 30) * 0.1)
    base = corpus.items["test"][0]
    corpus.items["test"] = [
        replace(base, id="long", audio=str(tmp_path / "a.wav"), seconds=30.0),
        replace(base, id="short", audio=str(tmp_path / "a.wav"), seconds=0.2),
        replace(base, id="slice", audio=str(tmp_path / "a.wav"), offset=7.5, seconds=2.0),
        replace(base, id="lecture", audio=str(tmp_path / "a.wav"), seconds=61.0),
    ]
    data = Prepared(prepare.prepare(SpeechRecipe.of(RECIPE)))
    assert {r.id: r.frames[1.0][1] for r in data.rows("test")} == {
        "long": 3000,
        "short": 20,
        "slice": 200,
    }
    assert data.info["splits"]["test"]["left_out_by_rule"] == {"longer than 60 s": 1}


@pytest.mark.slow
def test_more_than_five_percent_bad_is_an_error_with_reasons_and_the_list(corpus):
    train = corpus.items["train"]
    train[:3] = [replace(u, text="50%") for u in train[:3]]
    with pytest.raises(
        ValueError, match=r"3 of 40 items of split 'train' are bad \(8%.*3 x characters outside"
    ) as e:
        prepare.prepare(SpeechRecipe.of(RECIPE))
    listed = str(e.value).split("listed in ")[1].split(": mend")[0]
    assert Counter(json.loads(line)["split"] for line in Path(listed).read_text().splitlines()) == {
        "train": 3
    }
    train[:] = train[1:]  # 2 of 39 are still too many, 2 of 42 are not
    train += write_split(paths.artifacts() / "more", "more", 3, 9)
    assert len(Prepared(prepare.prepare(SpeechRecipe.of(RECIPE))).rows("train")) == 40


@pytest.mark.slow
def test_unreadable_sound_counts_too(corpus):
    for utterance in corpus.items["train"][:3]:
        Path(utterance.audio).write_bytes(b"")
    with pytest.raises(ValueError, match="3 x audio cannot be used"):
        prepare.prepare(SpeechRecipe.of(RECIPE))
    assert [p.name for p in paths.prepared().iterdir() if p.is_dir()] == []


@pytest.mark.slow
def test_the_size_cap_says_what_is_needed(corpus):
    hours = 36000.0
    corpus.items["train"] = [
        replace(u, id=f"{u.id}-{i}", seconds=20.0)
        for u in corpus.items["train"][:1]
        for i in range(int(hours / 20))
    ]
    with pytest.raises(
        ValueError, match=r"need 1.74 GB \(10.0 h .* 3 speeds\), features.cache_gb allows 1 GB"
    ):
        prepare.prepare(SpeechRecipe.of(replace(RECIPE, features={"cache_gb": 1.0})))


def test_options_are_checked_by_name(corpus):
    with pytest.raises(ValueError, match="features.*spead"):
        prepare.prepare(SpeechRecipe.of(replace(RECIPE, features={"spead": 1})))
    with pytest.raises(ValueError, match="tokens.kind"):
        prepare.prepare(SpeechRecipe.of(replace(RECIPE, tokens={"kind": "words"})))


@pytest.mark.slow
def test_a_later_stage_keeps_tokens_and_statistics(corpus, tmp_path):
    first = prepare.prepare(SpeechRecipe.of(RECIPE))
    run = paths.runs() / "stage-1"
    for name in ("bpe.model", "tokens.txt", "statistics.json"):
        writing.write_bytes(run / name, (first / name).read_bytes())
    writing.write_json(run / "recipe.json", RECIPE)
    later = replace(RECIPE, init_from="stage-1")
    assert prepare.prepare(SpeechRecipe.of(later)) == first  # same speech: the very same folder
    corpus.items["train"] += write_split(tmp_path / "more", "more", 10, 8)
    second = prepare.prepare(SpeechRecipe.of(later))
    assert (
        second not in (first, prepare.prepare(SpeechRecipe.of(RECIPE)))
        and len(Prepared(second).rows("train")) == 50
    )
    for name in ("bpe.model", "tokens.txt", "statistics.json"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
    with pytest.raises(ValueError, match="has 29 tokens"):
        prepare.prepare(SpeechRecipe.of(replace(later, tokens={"size": 64})))
    (run / "bpe.model").unlink()
    with pytest.raises(ValueError, match="bpe.model"):
        prepare.prepare(SpeechRecipe.of(later))


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_one(corpus, tmp_path):
    corpus.items["train"] = write_split(tmp_path / "many", "train", 80, 5)
    one = prepare.prepare(SpeechRecipe.of(RECIPE), processes=1)
    kept = {p.name: p.read_bytes() for p in one.iterdir() if p.name != "prepared.json"}
    (one / "prepared.json").unlink()
    two = prepare.prepare(SpeechRecipe.of(RECIPE), processes=2)
    assert (
        two == one
        and {p.name: p.read_bytes() for p in two.iterdir() if p.name != "prepared.json"} == kept
    )


@pytest.mark.slow
def test_a_sound_that_ends_the_process_is_found_and_left_out(monkeypatch):
    class Killer:
        path = "killer.wav"

        def __reduce__(self):  # ends the process that unpacks it, like a crash in a decoder
            import os

            return os._exit, (1,)

    tasks = [extract.Task("missing.wav", 0.0, 1.0, (1.0,)) for _ in range(70)]
    tasks[40] = Killer()
    results = list(extract.extract(tasks, processes=2))
    assert len(results) == 70
    assert "ended the process" in results[40] and all(
        "no such file" in r for i, r in enumerate(results) if i != 40
    )


def test_reasons_are_counted_without_their_particulars():
    kinds = {
        sift.Drop("train", "a", reason).kind
        for reason in (
            "audio file is missing: /x/1.wav",
            "audio file is missing: /y/2.wav",
            "cannot read /x/1.wav: broken",
            "cannot read /y/2.wav: broken",
            "speaker 'a' is also in split 'test'",
            "speaker 'b' is also in split 'dev'",
        )
    }
    assert kinds == {"audio file is missing", "cannot read ...", "speaker ... is also in split ..."}


def test_what_was_changed_in_sounds_is_counted(tmp_path, monkeypatch):
    train = write_split(tmp_path / "sound", "train", 6, 1)
    for item in train[:2]:  # the second channel cancels the first
        samples, rate = soundfile.read(item.audio)
        soundfile.write(item.audio, np.stack([samples, -samples], 1), rate)
    give(monkeypatch, Stub({"train": train}))
    made = Prepared(prepare.prepare(SpeechRecipe.of(RECIPE), processes=1))
    ((sentence, times),) = made.info["changed"].items()
    assert times == 2 and "channel" in sentence and len(made.rows("train")) == 6
    assert (
        float(made.features(made.rows("train")[0]).max())
        > float(made.features(made.rows("train")[3]).max()) - 3
    ), "and it is no silence"


def test_word_ends_make_other_prepared_speech_and_their_absence_none():
    told = prepare._without_marks(tokenizer.Options(kind="phonemes"))
    assert set(told) == {"kind", "size"}, "prepared before there were word ends, and found still"
    assert (
        prepare._without_marks(tokenizer.Options(kind="phonemes", word_ends=True))["word_ends"]
        is True
    )


@pytest.mark.parametrize(
    ("tokens", "run_ends", "new"),
    [
        ({"kind": "phonemes"}, False, False),
        ({"kind": "phonemes"}, True, False),
        ({"kind": "phonemes", "word_ends": True}, False, True),
        ({"kind": "phonemes", "word_ends": True}, True, False),
        ({"kind": "phonemes", "word_ends": False}, True, True),
        ({"kind": "characters"}, True, True),
        ({}, True, False),
    ],
)
def test_other_word_ends_than_the_run_has_are_new_tokens(tokens, run_ends, new, monkeypatch):
    run = tokenizer.Phonemes(["<blk>", "AH", *(["AH_E"] if run_ends else [])])
    monkeypatch.setattr(source.tokenizer, "load", lambda folder: run)
    monkeypatch.setattr(source.store, "run_folder", lambda name: name)
    given = Recipe(Choice("a"), Choice("b"), Choice("c"), tokens=tokens, init_from="run")
    assert SpeechRecipe.of(given).new_tokens() is new
