"""Language models in use: made of training transcripts, beside a run's frames, tuned on dev alone,
refused in one sentence.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from core import paths
from core.cli import arguments, main as cli, requests
from core.decoding.graph_search import Weights
from core.evaluation import conditions, evaluate as evaluation, scoring, sweep, tuning
from core.lm import arpa, estimation
from core.lm.languages import Language
from core.lm.text import read_sentences
from core.pipelines import build as building, language, speech as pipelines_speech
from core.records import Choice, Interrupted, Recipe
from core.speech.features import fbank
from core.storage import store
from core.training.options import Options as TrainingOptions
from tests import standin, tiny
from tests.lm.test_ngrams import sentences
from tests.runtime.test_recognizer import sounds, talkative
from tests.standin import reference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    file = tmp_path_factory.mktemp("lm") / "said.arpa"
    file.write_text(arpa.write(estimation.estimate(sentences(), 3)))
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), utterances=2)


# made


def test_text_is_written_as_training_writes_it_and_only_training_is_read(
    tmp_path, monkeypatch, capsys
):
    given = tmp_path / "text.txt"
    given.write_text("Hello, World!\n\nIt's 5 o'clock\n3rd\n", encoding="utf-8")
    assert read_sentences([given]) == (
        [["hello", "world"], ["it's", "five", "o'clock"]],
        [("digits or signs whose words are unknown", 4, "3")],
    )

    class Prepared:
        asked: list[str] = []

        def rows(self, split):
            self.asked.append(split)
            texts = {
                "train": ["yes no", "yes no", "stop go"],
                "dev": ["secret dev"],
                "search": ["secret search"],
                "test": ["secret test"],
            }
            return [
                SimpleNamespace(speaker=f"s{i // 2}", text=t) for i, t in enumerate(texts[split])
            ]

    monkeypatch.setattr(language, "prepared_now", lambda recipe, report: Prepared())
    made, told = language.make(
        Recipe(Choice("c"), Choice("m"), Choice("d")), [], 2, lambda *_: True
    )
    assert (
        Prepared.asked == ["train"]
        and made.words == ["go", "no", "stop", "yes"]
        and "2 training transcripts, 4 words" in told
    )
    out = tmp_path / "made.arpa"
    assert cli.main(["lm", "--text", str(given), "--order", "2", "--out", str(out)]) == 0
    assert arpa.load(out).words == ["five", "hello", "it's", "o'clock", "world"]
    assert "2 lines of text (1 left out" in capsys.readouterr().out
    assert cli.main(["lm", "--text", str(given), "--order", "2"]) == 0, (
        "where the Transcribe page looks"
    )
    assert (paths.language_models() / f"{given.stem}.arpa").read_bytes() == out.read_bytes()


def test_a_text_in_another_script_is_said_with_its_line(tmp_path, capsys):
    given, out = tmp_path / "text.txt", tmp_path / "made.arpa"
    given.write_text("\nпривет мир\n3rd\n", encoding="utf-8")
    assert cli.main(["lm", "--text", str(given), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert f"expected a text with words in a-z, got none in {given}: 1 left out: letters" in told
    assert "letters other than a-z, first in line 2: в е и м п р т" in told
    assert "1 left out: digits or signs whose words are unknown, first in line 3: 3;" in told
    assert not out.exists()
    given.write_text("hello\nпривет мир\n日本\n", encoding="utf-8")
    assert cli.main(["lm", "--text", str(given), "--out", str(out)]) == 0
    assert (
        "1 lines of text (2 left out: letters other than a-z, first in line 2: в е"
        in capsys.readouterr().out
    )


def test_words_that_are_all_too_rare_are_said_and_nothing_is_written(tmp_path, capsys):
    given, out = tmp_path / "text.txt", tmp_path / "made.arpa"
    given.write_text("go now\ngo\n")
    words = ["lm", "--text", str(given), "--out", str(out), "--least"]
    assert cli.main([*words, "3"]) == 2
    assert "no word comes 3 times; the most frequent comes 2 times" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main([*words, "2"]) == 0 and arpa.load(out).words == ["go"]


def test_a_model_that_our_reader_refuses_is_never_written(tmp_path, capsys, monkeypatch):
    given, out = tmp_path / "text.txt", tmp_path / "made.arpa"
    given.write_text("go now\ngo\n")
    out.write_text("the one before")
    write = arpa.write
    monkeypatch.setattr(arpa, "write", lambda *_: write(*_).replace("\n-", "\nnan", 1))
    assert cli.main(["lm", "--text", str(given), "--out", str(out)]) == 2
    assert "cannot be read back (line 7: " in capsys.readouterr().err
    assert out.read_text() == "the one before"


def test_a_model_can_be_pruned_rounded_and_of_frequent_words_only(tmp_path):
    given, out = tmp_path / "text.txt", tmp_path / "small.arpa.zst"
    given.write_text("\n".join(" ".join(s) for s in sentences()))
    assert (
        cli.main(["lm", "--text", str(given), "--least", "3", "--prune", "0.01", "--out", str(out)])
        == 0
    )
    small, whole = arpa.load(out), estimation.estimate(sentences(), 3)
    assert small.words == ["go", "no", "one", "stop", "two", "yes"] and 0 < sum(
        small.counts[1:]
    ) < sum(whole.counts[1:])
    text = zstandard.ZstdDecompressor().decompressobj().decompress(out.read_bytes()).decode()
    assert len(text.split("\\1-grams:\n")[1].split("\t")[0]) <= 5, "rounded"


# beside a run


def test_streams_say_what_whole_utterances_say(run, said):
    opened = reference(run, "s50", 320, language=Language(str(said)))
    waves, rng = sounds(4), np.random.default_rng(0)
    features = [fbank(w) for w in waves]
    talkative(opened, features)
    whole = opened.transcribe(features)
    assert len(set(whole)) > 2 and {w for text in whole for w in text.split()} <= set(
        " ".join(map(" ".join, sentences())).split()
    )
    for wave, text in zip(waves, whole):
        stream = opened.stream()
        for packet in np.split(wave, np.sort(rng.integers(0, len(wave), 5))):
            stream.accept(packet)
        assert stream.finish() == text
    assert opened.conditions["decoder"] == "graph" and opened.conditions[
        "language_model"
    ].startswith("said.arpa ")


def test_reports_name_the_condition_and_stand_beside_each_other(tmp_path, said):
    run, waves = standin.make_run(tmp_path, utterances=2), sounds(3)
    (tmp_path / "patterns.txt").write_text("(yes | no | stop)+")
    material = SimpleNamespace(
        split="tiny/test",
        ids=["u0", "u1", "u2"],
        references=["yes no", "stop", "go"],
        speakers=["s"] * 3,
        seconds=5.0,
        features=[fbank(w) for w in waves],
        sounds=[],
        waves=lambda count: waves[:count],
    )
    found = []
    for extra in (
        {},
        {"decoder": "graph", "lm": str(said)},
        {"lm": str(said), "scale": 0.5, "blank_penalty": 0.0, "speed_utterances": 1},
        {"lm": "", "grammar": str(tmp_path / "patterns.txt")},
    ):
        options = conditions.Options(
            **{"threads": 1, "repetitions": 100, "speed_utterances": 0} | extra
        )
        report, rows = evaluation.evaluate(run, store.subnet(run, "s80"), material, options)
        store.save_report(run, report, rows)
        found.append(report)
        again = store.hypotheses(
            run, "s80", "tiny/test", 320.0, report.decoder, report.language_model
        )
        assert [r["hypothesis"] for r in again] == [r["hypothesis"] for r in rows]
        asked = replace(options, decoder=report.decoder)
        assert sweep._measured(run, store.subnet(run, "s80"), material, asked) == report, (
            "not measured twice"
        )
    assert len([r for r in store.reports(run) if r.split == "tiny/test"]) == 4
    assert [r.decoder for r in found] == ["greedy", "graph", "graph", "graph"] and all(
        r.per is None for r in found
    )
    sha = arpa.sha256(said)[:8]
    assert [r.language_model for r in found[:3]] == [
        "none",
        f"said.arpa {sha}, scale 0.9, blank penalty 0, beam 11",
        f"said.arpa {sha}, scale 0.5, blank penalty 0, beam 11",
    ]
    assert found[3].language_model.startswith("typed grammar ") and found[2].rtf > 0


class Dev:
    """Prepared data whose dev a recognizer can be tuned on."""

    def __init__(self, rows, features):
        self.splits, self._rows, self._features = ["train", "dev", "test"], rows, features

    def rows(self, split):
        assert split == "dev", f"{split} was read"
        return self._rows

    def features(self, row, speed):
        return self._features[row.id]


def test_weights_are_chosen_on_dev_and_on_nothing_else(run, said, monkeypatch):
    rows = [
        SimpleNamespace(id=i, corpus="c", seconds=2.0, text=t)
        for i, t in enumerate(["yes no stop", "go one", "two"])
    ]
    opened = reference(run, "dense", language=Language(str(said)))
    prepared = Dev(rows, [fbank(w) for w in sounds(3)])
    monkeypatch.setattr(tuning, "SCALES", (0.5, 1.0))
    monkeypatch.setattr(tuning, "BLANK_PENALTIES", (0.0, 4.0))
    found = tuning.tune(opened, prepared)
    assert (
        set(found.wer) == {(0.5, 0.0), (0.5, 4.0), (1.0, 0.0), (1.0, 4.0)} and found.utterances == 3
    )
    for scale, penalty in ((0.5, 4.0), found.best):
        asked = reference(
            run, "dense", language=Language(str(said)), weights=Weights(scale, penalty)
        )
        texts = asked.transcribe([prepared.features(r, 1.0) for r in rows])
        assert scoring.word_edits([r.text for r in rows], texts).rate == found.wer[scale, penalty]
    assert found.wer[found.best] == min(found.wer.values())
    assert f"--scale {found.best[0]:g} --blank-penalty {found.best[1]:g}" in str(
        found
    ) and "at the edge" in str(found)
    with pytest.raises(Interrupted):
        tuning.tune(opened, prepared, progress=lambda *_: False)
    prepared.splits = ["train", "test"]
    with pytest.raises(ValueError, match="needs the split dev"):
        tuning.tune(opened, prepared)
    with pytest.raises(ValueError, match="needs a decoding graph"):
        tuning.tune(reference(run, "dense"), prepared)
    assert tuning.Tuning(
        {(1.3, 0.0): 0.2, (0.8, 1.5): 0.2, (0.5, 0.0): 0.2, (0.8, 3.0): 0.3}, 1, 1.0
    ).best == (0.8, 1.5)


# what cannot be


def test_what_does_not_go_together_is_refused(run, said):
    with pytest.raises(ValueError, match="needs decoder 'graph'; came decoder 'greedy'"):
        reference(run, decoder="greedy", language=Language(str(said)))
    with pytest.raises(ValueError, match="allowed are greedy, graph"):
        reference(run, decoder="modified_beam_search")
    for options, words in (
        ({"lm": "nowhere.arpa"}, "cannot be read"),
        ({"lm": str(said), "decoder": "modified_beam_search"}, "does not read"),
        ({"decoder": "graph", "lm": ""}, "both are empty"),
    ):
        with pytest.raises(ValueError, match=words):
            building.check_model(
                tiny.model(), TrainingOptions(chunks_ms=[320]), conditions.Options(**options)
            )
    building.check_model(
        tiny.model(), TrainingOptions(chunks_ms=[320]), conditions.Options(lm=str(said))
    )


def test_the_command_line_means_a_graph_where_words_are_named(said, tmp_path):
    def options(*words):
        return requests.decoding(arguments.top_parser().parse_args(["evaluate", "r", *words]))

    assert options() == {} and options("--decoder", "greedy") == {"decoder": "greedy"}
    assert options("--lm", str(said)) == {"lm": str(said), "decoder": "graph"}
    assert options("--grammar", "commands") == {
        "grammar": "commands",
        "decoder": "graph",
        "lm": "",
    }, "only the grammar"
    assert options(
        "--grammar", "commands", "--lm", "open", "--scale", "0.5", "--blank-penalty", "1"
    ) == {
        "grammar": "commands",
        "decoder": "graph",
        "lm": "open",
        "scale": 0.5,
        "blank_penalty": 1.0,
    }


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["--lm", "nowhere.arpa"],
            (
                "nowhere.arpa: there is no such file; `python -m core lm RECIPE --out FILE` makes"
                " one, or give 'open'"
            ),
        ),
        (
            ["--grammar", "nowhere.txt"],
            (
                "nowhere.txt: there is no such file; write sentence patterns into it, one a line,"
                " or give 'commands'"
            ),
        ),
        (
            ["--lm", "ARPA", "--scale", "70"],
            "evaluation.scale: expected a number from 0.01 to 10, got 70",
        ),
        (
            ["--lm", "ARPA", "--blank-penalty", "-11"],
            "evaluation.blank_penalty: expected a number from -10 to 20",
        ),
        (["--decoder", "beam"], "evaluation.decoder: expected one of"),
        (
            ["--decoder", "greedy", "--lm", "ARPA"],
            "--lm belongs to a decoding graph, but --decoder is 'greedy': leave one out",
        ),
        (["--decoder", "greedy", "--tune"], "needs a decoding graph: give --decoder graph"),
        (
            ["--lm", "ARPA", "--tune", "--splits", "dev,librispeech/test-clean"],
            "librispeech/test-clean",
        ),
        (["--lm", "ARPA", "--tune", "--subnets", "s50,s70"], "takes one size"),
        (
            ["--decoder", "modified_beam_search"],
            "does not read the frames of this model (ctc); allowed are greedy, graph",
        ),
    ],
)
def test_the_command_line_refuses_before_any_speech_is_prepared(
    run, own_artifacts, said, monkeypatch, capsys, words, text
):
    shutil.copytree(run, own_artifacts / "runs" / run.name)
    monkeypatch.setattr(pipelines_speech, "prepare", None)
    assert cli.main(["evaluate", "standin", *(str(said) if w == "ARPA" else w for w in words)]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--out", "x.arpa"], "say whose training"),
        (["smal", "--out", "x.arpa"], "recipe"),
        (["--text", "nowhere.txt", "--out", "x.arpa"], "text = 'nowhere.txt' cannot be read"),
        (["--text", "x", "--out", "no/where"], "a folder that exists"),
    ],
)
def test_a_model_of_nothing_is_refused(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lm", *words]) == 2
    assert text in capsys.readouterr().err and not list(tmp_path.glob("*.arpa"))
