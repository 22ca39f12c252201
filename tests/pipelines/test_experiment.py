"""From a recipe to a finished run on the built-in corpus, at the smallest real size: every job
kind, resume, bad recipes.
"""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
import torch

from core import cost, paths
from core.data import test_sets
from core.data.source import SpeechRecipe
from core.pipelines import (
    build as building,
    evaluate as pipelines_evaluate,
    handlers as job_kinds,
    search as pipelines_search,
    speech as pipelines_speech,
    train as pipelines_train,
)
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Interrupted, Recipe, as_dict
from core.registry import plugins
from core.search import ladders
from core.storage import metrics as history, packing, store
from tests import sounds

pytestmark = pytest.mark.slow

TINY = {"blocks": 2, "width": 32, "heads": 2, "kernel": 5}


def recipe(method: str = "omni_sparsity", options: dict | None = None, **changes) -> Recipe:
    given = {
        "training": {
            "updates": 6,
            "batch_seconds": 20.0,
            "threads": 1,
            "log_every": 2,
            "checkpoint_every": 2,
            "wer_every": 4,
            "wer_seconds": 5.0,
        },
        "search": {
            "sparsities": [0.5, 0.8],
            "population": 8,
            "evaluations": 8,
            "seconds": 6.0,
            "best": 2,
            "threads": 1,
        },
        "evaluation": {"splits": ["test"], "speed_utterances": 0, "threads": 1, "repetitions": 200},
        "tokens": {"kind": "characters"},
        "features": {"speed_change": 0.0},
    } | changes
    corpus = Choice(
        "voice_commands",
        {
            "hours": 0.01,
            "test_utterances": 6,
            "dev_utterances": 4,
            "search_utterances": 4,
            "shard_utterances": 8,
            "processes": 1,
        },
    )
    return Recipe(corpus, Choice("conformer_ctc", TINY), Choice(method, options or {}), **given)


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory, spoken_once):
    """Prepared data of the tiny corpus, made once for this file."""
    home = tmp_path_factory.mktemp("home")
    (home / "prepared").mkdir()
    (home / "prepared" / "corpora").symlink_to(spoken_once)
    before = os.environ.get("SUPERNET_ARTIFACTS")
    os.environ["SUPERNET_ARTIFACTS"] = str(home)
    try:
        pipelines_speech.prepare(SpeechRecipe.of(recipe()), lambda *_: True)
    finally:
        os.environ.pop("SUPERNET_ARTIFACTS")
        if before:
            os.environ["SUPERNET_ARTIFACTS"] = before
    return home


@pytest.fixture(autouse=True)
def home(prepared_once, own_artifacts, monkeypatch):
    """The prepared data of this file, the runs of each test."""
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(prepared_once))
    shutil.rmtree(paths.runs(), ignore_errors=True)


def go(*_) -> bool:
    return True


def test_train_search_evaluate_and_what_is_stored(tmp_path, monkeypatch):
    folder = pipelines_train.train(recipe(options={"warmup": 0.5, "sparsest": 0.8}), go)
    assert (folder / paths.FINISHED).exists() and not (folder / paths.CHECKPOINT).exists()
    assert [r["step"] for r in history.metrics(folder)] == [1, 2, 4, 6] and len(
        store.rank_steps(folder)
    ) == 2
    assert set(history.metrics(folder)[-1]["loss"]) == {"dense", "sparsest", "random"}
    heard = [
        r["wer"] for r in history.metrics(folder) if "wer" in r
    ]  # at 4 and at the end; of an untrained net nearly all wrong
    assert [set(w) for w in heard] == [{"dense", "sparsest"}] * 2
    assert all(
        0.5 < rate < 3 for w in heard for by_corpus in w.values() for rate in by_corpus.values()
    )
    assert list(heard[0]["dense"]) == ["voice_commands"]
    found = pipelines_search.search(folder.name, go)
    spec = store.spec(folder)
    for number in ("50", "80"):
        same = [s for s in found if s.name[1:] == number]
        assert {s.name[0] for s in same} == set("sumr")
        sizes = [cost.file_bytes(spec, s.keep) for s in same]
        assert max(sizes) <= 1.021 * min(sizes)
    reports = pipelines_evaluate.evaluate(folder.name, ["dense", "s80"], [], go)
    dense, s80 = reports
    assert (
        s80.file_bytes == len(packing.pack(folder, store.subnet(folder, "s80"))) < dense.file_bytes
    )
    assert dense.delta_wer is None and s80.delta_wer is not None and s80.utterances == 6
    assert len(store.hypotheses(folder, "s80", s80.split, s80.chunk_ms)) == 6
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.wav").write_bytes(sounds.encoded(sounds.voice(2.0), "WAV"))
    (mine / "a.txt").write_text("Turn it on, please.")
    test_sets.add("mine", mine)
    (own,) = pipelines_evaluate.evaluate(folder.name, ["s80"], ["yours/mine"], go)
    assert (own.split, own.utterances, own.words) == ("yours/mine", 1, 4)
    assert own.file_sha256 == s80.file_sha256
    both = pipelines_evaluate.evaluate(folder.name, ["s80"], ["test", "yours/mine"], go)
    assert [r.split for r in both] == [s80.split, "yours/mine"]
    monkeypatch.setattr(
        paths, "RELEASED", tmp_path
    )  # released without random search: nothing else is searched again
    shipped = shutil.copytree(folder, tmp_path / folder.name)
    for file in (shipped / paths.SUBNETS).glob("r*.json"):
        file.unlink()
    searched, run_ladder = [], ladders.run_ladder
    monkeypatch.setattr(
        ladders, "run_ladder", lambda *a, **k: searched.append(k["method"]) or run_ladder(*a, **k)
    )
    assert {s.name for s in pipelines_search.search(folder.name, go)} == {
        s.name for s in found
    } and searched == ["random"]
    assert store.reports(shipped, added=False) == store.reports(shipped)


def test_a_transducer_goes_the_same_way():
    changed = recipe(options={"distillation": "none", "warmup": 0.5}).training | {
        "chunks_ms": [160]
    }
    model = {
        "blocks": 2,
        "width": 32,
        "heads": 2,
        "predictor": "lstm",
        "embedding": 16,
        "joint": 32,
    }
    given = recipe(
        options={"distillation": "none", "warmup": 0.5},
        training=changed,
        evaluation={
            "splits": ["test"],
            "chunk_ms": 160.0,
            "speed_utterances": 1,
            "threads": 1,
            "repetitions": 200,
        },
    )
    given = Recipe(**{**vars(given), "model": Choice("emformer_transducer", model)})
    with pytest.raises(ValueError, match="evaluation.chunk_ms 320 is not possible.*160"):
        pipelines_train.train(Recipe(**{**vars(given), "evaluation": {}}), go)
    assert not paths.runs().exists()
    folder = pipelines_train.train(given, go)
    assert set(history.metrics(folder)[-1]["wer"]) == {"dense", "sparsest"}
    assert {s.name for s in pipelines_search.search(folder.name, go)} >= {
        "s50",
        "u50",
        "s80",
        "m80",
        "r80",
    }
    dense, s80 = pipelines_evaluate.evaluate(folder.name, ["dense", "s80"], [], go)
    assert (
        (dense.decoder, dense.chunk_ms, dense.lookahead_ms) == ("greedy", 160.0, 47.5)
        and s80.rtf > 0
        and s80.chunk_p95_ms > 0
    )
    assert (
        s80.file_bytes == len(packing.pack(folder, store.subnet(folder, "s80"))) < dense.file_bytes
    )


def test_measuring_a_new_size_stores_subnet_and_report():
    folder = pipelines_train.train(recipe(), go)
    spec = store.spec(folder)
    new = as_dict(store.subnet(folder, "dense")) | {
        "name": "u37",
        "keep": cost.uniform(spec, 0.37),
        "sparsity": 0.37,
    }
    job_kinds.evaluate_job({"run": folder.name, "subnets": [], "splits": ["test"], "new": new}, go)
    assert store.subnet(folder, "u37").sparsity == 0.37
    assert [r.subnet for r in store.reports(folder)] == ["u37"]


def test_a_stopped_training_goes_on_to_the_same_weights():
    whole = pipelines_train.train(recipe(), go)
    expected = (whole / paths.WEIGHTS).read_bytes()
    shutil.rmtree(whole)
    told = []

    def stop_soon(progress, text, left):
        told.append(text)
        return "training: 4 of 6 updates" not in text

    with pytest.raises(Interrupted):
        pipelines_train.train(recipe(), stop_soon)
    assert pipelines_train.train(recipe(), go) == whole
    assert (whole / paths.WEIGHTS).read_bytes() == expected


def test_a_stage_continues_from_released_weights_and_the_mask_of_a_pruned_run_ships():
    first = pipelines_train.train(recipe("dense"), go)
    second = pipelines_train.train(
        recipe("gradual_magnitude", {"sparsity": 0.8, "refresh": 1}, init_from=first.name), go
    )
    subnet = store.subnets(second)[0]
    assert subnet.name == "s80" and subnet.sparsity == pytest.approx(0.8, abs=0.01)
    tensors, _ = packing.unpack(packing.pack(second, subnet))
    units = [tensors[f"{u.name}.weight"] for u in store.spec(second).units]
    zeros = sum(int((t == 0).sum()) for t in units) / sum(t.size for t in units)
    assert zeros == pytest.approx(subnet.sparsity, abs=0.002)
    shipped, _ = packing.unpack(packing.pack(second, store.subnet(second, "s80")))
    assert all(np.array_equal(tensors[n], shipped[n]) for n in tensors)


def test_a_run_that_was_only_begun_or_lost_its_hypotheses_can_still_be_measured():
    folder = pipelines_train.train(recipe("dense"), go)
    once = pipelines_evaluate.evaluate(folder.name, ["dense", "u50"], [], go)
    for file in (folder / paths.REPORTS).glob("dense.*.jsonl.zst"):
        file.write_bytes(b"torn")
    (folder / paths.FINISHED).rename(
        folder / "aside"
    )  # no marker: the speech is looked up as prepare does
    again = pipelines_evaluate.evaluate(folder.name, ["dense", "u50"], [], go)
    assert [r.wer for r in again] == [r.wer for r in once]


def test_chunks_that_cannot_be_are_said_before_the_training():
    with pytest.raises(ValueError, match="chunk_ms 480 is not possible"):
        pipelines_train.train(
            recipe("dense", evaluation={"splits": ["test"], "chunk_ms": 480.0}), go
        )


def test_other_shapes_are_refused_with_the_tensor_named():
    first = pipelines_train.train(recipe("dense"), go)
    other = recipe("dense", init_from=first.name)
    other = Recipe(**{**vars(other), "model": Choice("conformer_ctc", {**TINY, "width": 48})})
    with pytest.raises(ValueError, match="another model"):
        pipelines_train.train(other, go)


def test_only_individual_nets_start_from_the_first_blocks_of_a_deeper_one():
    first = pipelines_train.train(recipe("dense"), go)
    still = {
        "training": {
            **recipe().training,
            "updates": 1,
            "peak_lr": 1e-7,
            "average": 0.0,
            "weight_decay": 0.0,
        }
    }
    alone = pipelines_train.train(
        recipe("individual", {"blocks": 1}, init_from=first.name, **still), go
    )
    before, after = (
        safetensors.numpy.load_file(folder / paths.WEIGHTS) for folder in (first, alone)
    )
    assert set(after) == {n for n in before if not n.startswith("blocks.1.")}
    assert all(np.allclose(after[n], before[n], atol=2e-3) for n in after)
    shallow = Recipe(
        **{
            **vars(recipe("dense", init_from=first.name)),
            "model": Choice("conformer_ctc", {**TINY, "blocks": 1}),
        }
    )
    with pytest.raises(ValueError, match="another model"):
        pipelines_train.train(shallow, go)


def test_a_run_is_continued_or_refused_never_begun_anew(monkeypatch):
    with pytest.raises(Interrupted):
        pipelines_train.train(recipe(), lambda progress, text, left: "training: 4 of 6" not in text)
    (begun,) = paths.runs().iterdir()
    monkeypatch.setattr("core.methods.omni_sparsity.VERSION", 99)
    with pytest.raises(ValueError, match="cannot be continued.*recipe.json"):
        pipelines_train.train(store.recipe(begun), go, resume=begun.name)
    assert [p.name for p in paths.runs().iterdir()] == [begun.name]
    monkeypatch.undo()
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(begun.parents[1]))
    assert pipelines_train.train(store.recipe(begun), go, resume=begun.name) == begun
    shipped = begun.rename(begun.parent / "shipped")
    monkeypatch.setattr(store, "recipe", lambda run: recipe())
    with pytest.raises(ValueError, match="was not trained on this machine"):
        pipelines_train.train(recipe(), go, resume=begun.name)
    assert shipped.is_dir() and not begun.exists()


def test_nothing_sparser_than_what_was_trained_is_listed_or_searched():
    folder = pipelines_train.train(recipe(options={"sparsest": 0.7}), go)
    assert max(s.sparsity for s in store.subnets(folder)) == pytest.approx(0.7, abs=0.01)
    with pytest.raises(ValueError, match="goes to 0.8; the run was trained to 0.7"):
        pipelines_search.search(folder.name, go)


def test_bad_options_are_said_before_anything_is_made():
    with pytest.raises(ValueError, match="updates"):
        pipelines_train.train(recipe(training={"updates": 0}), go)
    with pytest.raises(ValueError, match="sparsest"):
        pipelines_train.train(recipe(options={"sparsest": 1.5}), go)
    assert not paths.runs().exists()


def test_prepared_speech_of_a_changed_corpus_is_not_taken_for_todays(monkeypatch):
    prepared = pipelines_train.identify(ResolvedRecipe(recipe()), go)[1]
    assert pipelines_speech._still_good(prepared, "fbank", ["test"])
    monkeypatch.setattr(plugins.load("corpora", "voice_commands"), "VERSION", 99)
    assert not pipelines_speech._still_good(prepared, "fbank", ["test"])


LSTMS = Choice("lstm_transducer", {"blocks": 2, "width": 32, "embedding": 16, "joint": 32})


@pytest.mark.parametrize(
    ("method", "pattern", "sparsity", "model"),
    [
        ("gradual_magnitude", "2:4", 0.5, None),
        ("csp", "1x1", 0.8, None),
        ("csp", "1x1", 0.8, LSTMS),
    ],
)
def test_other_patterns_are_trained_stored_packed_and_measured(method, pattern, sparsity, model):
    given = recipe(method, {"pattern": pattern, "sparsity": sparsity, "refresh": 1})
    folder = pipelines_train.train(Recipe(**{**vars(given), "model": model or given.model}), go)
    subnet, spec = store.subnets(folder)[0], store.spec(folder)
    assert subnet.pattern == pattern == cost.pattern_of(spec)
    tensors, metadata = packing.unpack(packing.pack(folder, subnet))
    zeros = sum(int((tensors[f"{u.name}.weight"] == 0).sum()) for u in spec.units)
    assert metadata["block"] == 1 and zeros / cost.prunable_parameters(spec) == pytest.approx(
        sparsity, abs=0.005
    )
    if pattern == "2:4":
        fours = tensors["blocks.0.attention.query.weight"].reshape(-1, 4)
        assert np.all((fours != 0).sum(1) <= 2)
    (report,) = pipelines_evaluate.evaluate(folder.name, [], [], go)
    assert report.file_bytes == len(
        packing.pack(folder, subnet)
    ) and report.sparsity == pytest.approx(sparsity, abs=0.005)
    assert abs(cost.file_bytes(spec, subnet.keep) - report.file_bytes) < cost.OTHER_BYTES


def test_a_size_of_a_budget_is_stored_within_it():
    folder = pipelines_train.train(recipe("ortho_softmax", {"sizes": [0.6], "selection": 0.5}), go)
    dense, size = pipelines_evaluate.evaluate(folder.name, ["dense", "c60"], [], go)
    assert 0.45 * dense.parameters < size.nonzero_parameters <= 0.6 * dense.parameters
    assert (
        size.file_bytes
        == len(packing.pack(folder, store.subnet(folder, "c60")))
        < 0.8 * dense.file_bytes
    )
    assert size.mmacs_nonzero_per_second < 0.7 * dense.mmacs_nonzero_per_second


@pytest.mark.parametrize(
    "place", ["blocks.", "layers.", "transcriber.transformer.emformer_layers."]
)
def test_some_blocks_are_numbered_anew(place):
    weights = {f"{place}{i}.norm.weight": torch.full((1,), i) for i in range(12)} | {
        "joiner.weight": torch.zeros(1)
    }
    taken = building._some_blocks(weights, lambda deeper: [0, deeper - 1])
    assert (
        set(taken) == {f"{place}0.norm.weight", f"{place}1.norm.weight", "joiner.weight"}
        and taken[f"{place}1.norm.weight"] == 11
    )
