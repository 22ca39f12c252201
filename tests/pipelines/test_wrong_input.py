"""What people write wrongly, or rightly in another way: language models, recipes, tables, and
errors that can be read.
"""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import soundfile

from core.cli.main import main as cli
from core.corpora import base, folder, manifest
from core.data import filters as sift
from core.lm import arpa
from core.pipelines import speech as pipelines_speech
from core.records import Utterance
from core.registry import recipes

ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-1.2\t<unk>
-0.8\tthree\t-0.2
-0.9\tseven\t-0.2
-1.1\ttwo\t-0.2

\\2-grams:
-0.3\tthree seven
-0.4\tseven three
-0.5\t<s> three

\\end\\
"""


# language models


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "-0.8\tthree",
            "nan\tthree",
            "line 9: log10 of a probability is nan; allowed are numbers up to 0",
        ),
        ("-0.8\tthree", "-inf\tthree", "line 9: log10 of a probability is -inf"),
        ("-0.8\tthree", "-1e999\tthree", "is -inf"),
        ("-0.8\tthree", "inf\tthree", "line 9: log10 of a probability is inf"),
        ("-0.8\tthree", "0.8\tthree", "probability is 0.8"),
        (
            "three\t-0.2",
            "three\tinf",
            "line 9: a back-off weight is inf; allowed are finite numbers",
        ),
        ("three\t-0.2", "three\tnan", "a back-off weight is nan"),
        ("-0.8\tthree", "-0,8\tthree", "'-0,8' is no number"),
        ("-0.9\tseven", "-0.9\tthree", "line 10: the n-gram 'three' is there twice"),
        ("three seven", "three\u00a0seven", "is not a probability, 2 words"),
        ("ngram 2=3", "ngram 0=3", "expected at least one of each length from 1 on"),
    ],
)
def test_numbers_of_a_language_model_that_are_none(old, new, words):
    assert old in ARPA
    with pytest.raises(ValueError, match=re.escape(words)):
        arpa.parse(ARPA.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=0").replace(
            "\\end\\", "\\3-grams:\n\n\\end\\"
        ),
        ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=0"),
        ARPA.replace("<unk>", "<UNK>"),
        ARPA.replace("\n", "\r\n"),
        ARPA.replace("\t", " "),
        ARPA.replace("\n\n", "\n"),
    ],
)
def test_other_ways_to_write_the_same_language_model(text):
    model, wanted = arpa.parse(text), arpa.parse(ARPA)
    assert model.order == 2 and arpa.write(model) == arpa.write(wanted)
    assert math.isclose(model.score(("three",), "seven"), -0.3) and math.isclose(
        model.score((), "nine"), -1.2
    )


def test_a_text_is_never_overwritten_by_its_language_model(tmp_path, capsys):
    text, link = tmp_path / "t.txt", tmp_path / "link.arpa"
    text.write_text("hello you\n")
    link.symlink_to(text)
    for out in (text, link, tmp_path / "." / "t.txt"):
        assert cli(["lm", "--text", str(text), "--out", str(out)]) == 2
        assert (
            "which would be lost: name another file" in capsys.readouterr().err
            and text.read_text() == "hello you\n"
        )
    assert cli(["lm", "--text", str(text), "--out", str(tmp_path / "new.arpa")]) == 0


# recipes


def refused(tmp_path, capsys, text, suffix="toml", **others) -> str:
    for name, content in others.items():
        (tmp_path / f"{name}.toml").write_text(content.format(here=tmp_path))
    (tmp_path / f"given.{suffix}").write_text(
        text.format(here=tmp_path) if "{here}" in text else text
    )
    assert cli(["train", str(tmp_path / f"given.{suffix}"), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and len(told) < 1200
    return told


def test_a_recipe_that_extends_itself(tmp_path, capsys):
    assert "extends itself: given.toml extends given.toml;" in refused(
        tmp_path, capsys, 'extends = "{here}/given.toml"'
    )
    assert "extends itself: given.toml extends b.toml extends given.toml;" in refused(
        tmp_path, capsys, 'extends = "{here}/b.toml"', b='extends = "{here}/given.toml"'
    )


def test_extends_is_looked_for_beside_the_recipe_that_names_it(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    base = (recipes.paths.RECIPES / "voice_commands.toml").read_text()
    (tmp_path / "mine" / "base.toml").write_text(base)
    given = tmp_path / "mine" / "given.toml"
    given.write_text('extends = "base.toml"\nseed = 5\n')
    assert recipes.load_recipe(given).seed == 5
    (tmp_path / "here.toml").write_text('extends = "voice_commands"\nseed = 6\n')
    given.write_text('extends = "here.toml"\n')
    assert recipes.load_recipe(given).seed == 6
    told = refused(tmp_path, capsys, 'extends = "self.toml"')
    assert f"no such file; looked for {tmp_path}/self.toml; recipes of the project" in told
    given.write_text('extends = "self.toml"\n')
    with pytest.raises(ValueError, match=f"{tmp_path}/mine/self.toml and {tmp_path}/self.toml;"):
        recipes.load_recipe(given)
    given.write_text('extends = "given.toml"\n')
    with pytest.raises(ValueError, match="extends itself"):
        recipes.load_recipe(given)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_seed_of_thousands_of_digits(suffix, tmp_path, capsys):
    text = "seed = {0}" if suffix == "toml" else '{{"seed": {0}}}'
    told = refused(tmp_path, capsys, text.format("9" * 6000), suffix)
    assert f"line 1: expected a whole number up to 2147483647, got {'9' * 40}…;" in told
    assert cli(["train", "voice_commands", "--dry-run", "--set", f"seed={'9' * 6000}"]) == 2
    told = capsys.readouterr().err
    assert "seed: expected int, got '999" in told and len(told) < 400
    assert "allowed are numbers from 0 to 2147483647" in told


@pytest.mark.parametrize("value", ['["voice_commands"]', "5", "{}", '""', "true"])
def test_extends_names_one_recipe(value, tmp_path, capsys):
    assert "extends: expected the name or the file of one recipe, got" in refused(
        tmp_path, capsys, f"extends = {value}"
    )


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("toml", "a = " + "[" * 3000 + "]" * 3000),
        ("json", "[" * 100000),
        ("json", '{"a":' * 90000),
        ("toml", "a = " + "{x=" * 3000 + "1" + "}" * 3000),
    ],
)
def test_brackets_without_end(suffix, text, tmp_path, capsys):
    assert "its brackets are nested too deeply" in refused(tmp_path, capsys, text, suffix)


@pytest.mark.parametrize("text", ["[1]", "null", "5", '"a"', ""])
def test_a_recipe_is_a_table(text, tmp_path, capsys):
    assert "is damaged: " in refused(tmp_path, capsys, text, "json")


def test_settings_nested_too_deeply_are_text(capsys):
    assert (
        cli(["train", "voice_commands", "--dry-run", "--set", "training.updates=" + "[" * 3000])
        == 2
    )
    assert "training.updates: expected int" in capsys.readouterr().err


def test_splits_that_the_corpus_has_not_are_said_before_anything_is_done(capsys, monkeypatch):
    monkeypatch.setattr(pipelines_speech, "prepare", None)  # would be a TypeError
    for words in (["--dry-run"], []):
        assert cli(["train", "voice_commands", *words, "--set", 'evaluation.splits=["nope"]']) == 2
        told = capsys.readouterr().err
        assert (
            "there is no split of the corpus voice_commands (evaluation.splits) called 'nope';"
            " there are: " in told
        )


# tables


@pytest.fixture
def home(tmp_path):
    for n in range(40):
        soundfile.write(tmp_path / f"{n}.wav", np.zeros(32000, np.float32), 16000)
    return tmp_path


def table(home, head, row, encoding="utf-8"):
    lines = [head, *(row.format(n=n) for n in range(40))]
    (home / "t.csv").write_text("\n".join(lines), encoding=encoding)
    return folder.Corpus(folder.Options(root=str(home)))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("audio;text;split;offset;duration", "{n}.wav;hello;train;0,5;1,25"),
        ("audio\ttext\tsplit\toffset\tduration", "{n}.wav\thello\ttrain\t0.5\t1.25"),
        ("audio,text,split,offset,duration", '{n}.wav,hello,train,"0,5","1,25"'),
        ("audio,text,split,offset_ms,duration_ms", "{n}.wav,hello,train,500,1250"),
        ("audio,text,split,start,duration[ms]", "{n}.wav,hello,train,0.5,1250"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_times_of_a_table(home, head, row, encoding):
    items = list(table(home, head, row, encoding).utterances("train"))
    assert [(i.offset, i.seconds) for i in items] == [(0.5, 1.25)] * 40


def test_lengths_in_ms_are_no_rule_that_leaves_everything_out(home):
    made = table(home, "audio,text,split,duration", "{n}.wav,hello,train,2000")
    assert all(
        i.reason.startswith("length in ms, not in s: it would end at 2000 s of a file of 2.00 s")
        for i in made.utterances("train")
    )
    rows = [{"audio_filepath": f"{n}.wav", "text": "a", "duration": 2000} for n in range(40)]
    (home / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, dropped = sift.gather(manifest.Corpus(manifest.Options(train=[str(home / "m.jsonl")])))
    assert not found["train"] and {(d.kind, d.rule) for d in dropped} == {
        ("length in ms, not in s", False)
    }


@pytest.mark.parametrize("field", ["duration", "offset"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1" + "0" * 400, "true", '"x"', "[1]"])
def test_times_of_a_manifest_that_are_none(home, field, value):
    (home / "m.jsonl").write_text(
        f'{{"audio_filepath": "1.wav", "text": "a", "duration": 1, "{field}": {value}}}\n'
    )
    (item,) = manifest.Corpus(manifest.Options(train=[str(home / "m.jsonl")])).utterances("train")
    assert isinstance(item, base.Dropped) or value == "true" and isinstance(item, Utterance)


def test_an_error_about_a_thousand_lines_is_short_and_has_examples(home, tmp_path):
    made = table(home, "audio,text,split,duration,id", "{n}.wav,hello,train,two {n},utterance-{n}")
    found, dropped = sift.gather(made)
    assert {d.kind for d in dropped} == {"offset or duration is no number"} and len(dropped) == 40
    with pytest.raises(ValueError) as error:
        sift.check_bad(found, dropped, tmp_path / "x")
    assert (
        "40 x offset or duration is no number (utterance-0, utterance-1, utterance-2, utterance-3,"
        " utterance-4, ...). All are listed" in str(error.value)
    )
    dropped = [sift.Drop("train", "i" * 500, f"reason {n}: in detail") for n in range(300)]
    with pytest.raises(ValueError) as error:
        sift.check_bad({"train": []}, dropped, tmp_path / "x")
    assert "; and 295 further reasons" in str(error.value) and len(str(error.value)) < 900


def test_reasons_of_files_without_words_are_one_kind(tmp_path):
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", np.zeros(16000, np.float32), 16000)
    made = folder.Corpus(
        folder.Options(root=str(tmp_path), search_share=0, dev_share=0, test_share=0)
    )
    assert {d.kind for d in sift.gather(made)[1]} == {"no transcript"}
