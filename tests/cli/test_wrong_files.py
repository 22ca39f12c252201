"""Files and names that are wrong: what is said of them names what came and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from core import runtime
from core.cli.main import main as cli
from core.common import groups
from core.data import test_sets
from core.decoding import ctc
from core.pipelines import evaluate as pipelines_evaluate
from core.registry import recipes
from core.runtime import base as runtimes
from core.speech import audio


def said(capsys, *words: str) -> str:
    assert cli(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_files_that_cannot_be_transcribed_are_grouped_by_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{n}.wav" for n in range(7)]
    for name in names:
        (tmp_path / name).write_bytes(b"RIFF" + bytes(40))
    lines = said(
        capsys, "transcribe", "supernet", "u90", "--decoder", "greedy", "none.wav", *names, ""
    ).splitlines()
    assert len(lines) == 3 and lines[0].startswith("error: 7 files: ")
    assert lines[0].endswith(" (0.wav, 1.wav, 2.wav, 3.wav, 4.wav, ...)")
    assert "error: none.wav: no such file; check its name and folder" in lines
    assert lines[2] == "error: expected the name of a sound file, got ''; - reads standard input"


def test_reasons_that_differ_in_numbers_alone_are_one():
    pairs = [("a/1.wav", "cut after 3 bytes"), ("b.wav", "empty"), ("a/2.wav", "cut after 9 bytes")]
    assert groups.lines(pairs) == [
        "2 files: cut after 3 bytes (a/1.wav, a/2.wav)",
        "b.wav: empty",
    ]


def test_a_storage_that_is_not_there_is_said(tmp_path, capsys):
    place = f"file://{tmp_path}/not/there"
    assert f"there is no storage at {place}: no such folder" in said(
        capsys, "fetch", "nosuch", "--at", place
    )
    (tmp_path / "empty").mkdir()
    assert "called 'nosuch'; there are: none" in said(
        capsys, "fetch", "nosuch", "--at", f"file://{tmp_path}/empty"
    )


def test_splits_of_a_corpus_that_is_elsewhere(own_artifacts, monkeypatch):
    monkeypatch.delenv("SPEECH_ROOT", raising=False)
    for splits, start in ((["foo"], "split 'foo' is none of librispeech"), ([], "the corpus of")):
        with pytest.raises(ValueError) as error:
            pipelines_evaluate.evaluate("supernet", [], splits, lambda *_: True)
        assert str(error.value).startswith(start)
        assert "the corpus of run supernet is not on this machine: " in str(error.value)
        assert str(error.value).endswith("python -m core evaluate RUN --recordings FOLDER")


def test_an_engine_that_has_the_precision_is_named():
    with pytest.raises(runtimes.NotPossible) as error:
        runtime.load("supernet", "u90", engine="torch", precision="int8")
    assert "engine 'torch' cannot run this: precision 'int8' is unknown" in str(error.value)
    assert "engine 'onnx'" in str(error.value) and "can: name it with --engine" in str(error.value)


def test_recordings_without_words_are_told_without_folders(tmp_path, own_artifacts):
    for n in range(7):
        soundfile.write(tmp_path / f"r{n}.wav", np.zeros(16000, np.float32), 16000)
    (tmp_path / "r5.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "r6.txt").write_text("hello")
    (tmp_path / "r6.wav").write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(groups.Several) as error:
        test_sets.add("mine", tmp_path)
    head, *reasons = error.value.lines
    assert head == "none of these recordings can be used"
    assert reasons[0] == (
        "5 files: no transcript: expected r0.txt with UTF-8 text beside the sound, got no such file"
        " (yours:r0, yours:r1, yours:r2, yours:r3, yours:r4)"
    )
    assert any(
        r.startswith("yours:r5: no transcript: r5.txt: expected UTF-8 text, got byte 0xe9 at place")
        for r in reasons
    )
    assert len(reasons) == 3 and str(tmp_path) not in str(error.value)


def test_pruning_takes_no_negative_number(tmp_path, capsys):
    (tmp_path / "t.txt").write_text("hello you\n")
    assert "--prune: expected nats a word, 0 or more (e.g. 5e-7), got -1" in said(
        capsys, "lm", "--text", str(tmp_path / "t.txt"), "--prune", "-1", "--out", "x.arpa"
    )


@pytest.mark.slow
def test_a_beam_is_for_one_decoder():
    with pytest.raises(ctc.WrongDecoder, match="beam = 3 is the number of hypotheses of modified"):
        runtime.load("supernet", "u90", beam=3)
    with pytest.raises(ctc.WrongDecoder, match="choose decoder 'modified_beam_search'"):
        ctc.check("transducer", "greedy", 3)
    assert ctc.check("transducer", "modified_beam_search", 3) == "modified_beam_search"


def test_a_recipe_that_extends_a_name_without_ending_is_named(tmp_path):
    given = tmp_path / "given.toml"
    given.write_text('extends = "given"\n')
    with pytest.raises(ValueError) as error:
        recipes.load_recipe(given)
    assert str(error.value).startswith(f"{given}: extends = 'given': no such file; looked for ")


def test_no_name_at_all_is_no_file():
    with pytest.raises(audio.AudioError, match="expected the name of a sound file, got ''"):
        audio.read_once("")
