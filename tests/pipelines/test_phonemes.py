"""A recipe of phonemes from sound to reports: prepared, trained in two views, packed, measured over
a decoding graph.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from core import paths
from core.evaluation import conditions, evaluate as evaluation
from core.lm import arpa, estimation
from core.pipelines import dry_run, evaluate as pipelines_evaluate, train as pipelines_train
from core.records import Choice, Recipe
from core.speech import phones
from core.speech.tokenizer import BLANK_SYMBOL, Phonemes
from core.storage import metrics as history, packing, store
from tests.speech_stub import WORDS, Stub, give, write_split
from tests.standin import reference

pytestmark = pytest.mark.slow


def go(*_) -> bool:
    return True


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    give(
        monkeypatch,
        Stub(
            {
                "train": write_split(tmp_path, "train", 12, 1),
                "search": write_split(tmp_path, "search", 3, 2),
                "dev": write_split(tmp_path, "dev", 3, 3),
                "test": write_split(tmp_path, "test", 4, 4),
            }
        ),
    )
    file = tmp_path / "words.arpa"
    file.write_text(arpa.write(estimation.estimate([[a, b] for a in WORDS for b in WORDS[:4]], 2)))
    return Recipe(
        Choice("voice_commands"),
        Choice("conformer_ctc", {"blocks": 2, "width": 32, "heads": 2, "kernel": 5}),
        Choice("dense", {"layer_dropout": 0.2}),
        features={"speed_change": 0.0},
        tokens={"kind": "phonemes"},
        training={
            "updates": 4,
            "batch_seconds": 8.0,
            "threads": 1,
            "log_every": 2,
            "wer_every": 4,
            "wer_seconds": 3.0,
            "consistency": 0.2,
            "augment": {"warp": 0.1, "tempo": 0.1, "noise": 0.5, "room": 0.5, "loudness": 2.0},
        },
        evaluation={
            "splits": ["test"],
            "lm": str(file),
            "speed_utterances": 0,
            "threads": 1,
            "repetitions": 100,
        },
    )


def test_phonemes_go_all_the_way(recipe):
    folder = pipelines_train.train(recipe, go)
    assert (folder / "tokens.txt").read_text().startswith("<blk> 0\nAA 1\n") and not (
        folder / "bpe.model"
    ).exists()
    curves = history.metrics(folder)
    assert set(curves[-1]["wer"]) == {"dense"} and curves[-1]["audio_hours"] > 0
    dense = store.subnet(folder, "dense")
    metadata = packing.unpack(packing.pack(folder, dense))[1]
    assert "bpe" not in metadata and metadata["tokens"] == (folder / "tokens.txt").read_text()
    (report,) = pipelines_evaluate.evaluate(folder.name, ["dense"], [], go)
    assert (
        report.decoder == "graph"
        and report.language_model.startswith("words.arpa ")
        and report.per is not None
        and report.per >= 0
    )
    rows = store.hypotheses(
        folder, "dense", report.split, report.chunk_ms, report.decoder, report.language_model
    )
    assert {w for r in rows for w in r["hypothesis"].split()} <= set(
        WORDS
    ) and report.utterances == 4
    read = next(r for r in store.reports(folder) if r.subnet == "dense")
    assert read.per == report.per
    with pytest.raises(
        ValueError,
        match=(
            "decoder 'greedy' gives the phonemes of this model, not words, .*: use decoder 'graph'"
        ),
    ):
        pipelines_evaluate.evaluate(folder.name, ["dense"], [], go, decoding={"decoder": "greedy"})

    def spread(subnets, material, options, dense):
        """As another machine listens: what it says goes through evaluate() alone."""
        elsewhere = conditions.load_recognizer(subnets[0][1], options)
        texts, tokens = zip(*elsewhere.recognize(material.features))
        return lambda subnet: evaluation.Hypotheses(list(texts), None, "there", list(tokens))

    (there,) = pipelines_evaluate.evaluate(
        folder.name, ["dense"], [], go, again=True, spread=spread
    )
    assert there.hardware == "there" and (there.per, there.wer) == (report.per, report.wer)
    heard = reference(folder, "dense", decoder="greedy")
    (text,) = heard.transcribe([np.random.default_rng(0).normal(-6, 3, (120, 80))])
    assert set(text.split()) <= set(heard.tokenizer.symbols), "the net's own phonemes"


def test_a_net_that_says_every_phoneme_has_no_phoneme_errors():
    """A perfect greedy path scores 0 against the likeliest pronunciations, one wrong phoneme of n
    scores 1/n.
    """
    tokens = Phonemes([BLANK_SYMBOL, *phones.PHONES])
    material = SimpleNamespace(references=["play music", "stop"])
    right = [tokens.encode(t) for t in material.references]
    recognizer = SimpleNamespace(tokenizer=tokens, graph=object())

    def hypotheses(ids: list[list[int]]) -> evaluation.Hypotheses:
        return evaluation.Hypotheses([""] * len(ids), None, "", ids)

    assert evaluation._phoneme_errors(recognizer, hypotheses(right), material) == 0.0
    count = sum(map(len, right))
    right[1] = right[1][:-1]
    assert evaluation._phoneme_errors(recognizer, hypotheses(right), material) == pytest.approx(
        1 / count
    )
    assert evaluation._phoneme_errors(recognizer, hypotheses([]), material) is None
    words_alone = evaluation.Hypotheses(["play music", "stop"], None, "")
    assert evaluation._phoneme_errors(recognizer, words_alone, material) is None, "not 100 %"
    recognizer.graph = None
    assert evaluation._phoneme_errors(recognizer, hypotheses(right), material) is None


def test_a_transducer_has_no_posteriors_to_compare(recipe):
    other = replace(
        recipe,
        model=Choice("lstm_transducer"),
        tokens={"kind": "characters"},
        method=Choice("dense"),
        evaluation={},
    )
    with pytest.raises(ValueError, match="training.consistency compares the token probabilities"):
        pipelines_train.train(other, go)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": Choice("lstm_transducer"), "evaluation": {}}, "none reads the frames of model"),
        ({"evaluation": {"decoder": "greedy"}}, "gives phonemes, not words"),
    ],
)
def test_phonemes_that_no_graph_can_read_are_refused_before_anything_is_prepared(
    recipe, change, words
):
    training = {**recipe.training, "consistency": 0.0}
    other = replace(recipe, **{"training": training, "method": Choice("dense")} | change)
    with pytest.raises(ValueError, match=words):
        pipelines_train.train(other, go)
    with pytest.raises(ValueError, match=words):
        dry_run.estimate(other)
    assert not paths.prepared().exists() and not paths.runs().exists()
