"""Dry runs: what is built and tried is the recipe's own, and nothing is left behind."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core import building, cost, paths, plugins, rehearsal, store
from core.records import Choice, Recipe
from tests.test_experiment import TINY

SMALL = Recipe(Choice("librispeech", {"root": "nowhere"}), Choice("conformer_ctc", TINY), Choice("omni_sparsity", {"sparsest": 0.8}),
               training={"updates": 1000, "batch_seconds": 20.0, "threads": 1}, tokens={"kind": "characters"})


def test_a_dry_run_needs_no_speech_and_leaves_nothing(own_artifacts):
    found = rehearsal.rehearse(SMALL)
    model, method = building.build(SMALL, 29, 1000)
    assert found["parameters"] == cost.parameters(method.anatomy) and found["passes"] == 3
    assert found["hours"] == pytest.approx(0.8 * found["seconds_per_update"] / 3.6, rel=0.01), "0.3 of it trains the dense net alone"
    assert found["memory_bytes"] > 1e8
    assert not paths.runs().exists() and not paths.prepared().exists()
    told = rehearsal.said(found)
    assert "would hear 6 h" in told and "two updates of 3 pass(es)" in told


@pytest.mark.parametrize(("changes", "said"), [
    ({"method": Choice("simple_topk", {"sizes": [99]})}, "method.sizes"),
    ({"method": Choice("gradual_magnitude", {"sparsity": 1.5})}, "sparsity"),
    ({"training": {"chunks_ms": [50]}}, "training.chunks_ms"),
    ({"model": Choice("conformer_ctc", {**TINY, "width": 36})}, "model.width"),
    ({"init_from": "no-such-run"}, "no-such-run")])
def test_what_cannot_be_trained_is_said_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        rehearsal.rehearse(replace(SMALL, **changes))


def test_stand_in_speech_has_real_shape():
    batch = rehearsal.stand_in(150.0, 256, False, 1)
    assert batch.seconds == pytest.approx(150.0, rel=0.1) and batch.features.shape[1] == 1230 and len(batch.ids) == len(batch.lengths) == 12
    assert bool((batch.tokens[:, 1:] != batch.tokens[:, :-1]).float().mean() > 0.99) and int(batch.tokens.max()) < 256
    assert bool((batch.token_lengths * 4 < batch.lengths).all()) and int(batch.tokens.min()) >= 1
    assert torch.equal(batch.features, rehearsal.stand_in(150.0, 256, False, 1).features)
    letters = rehearsal.stand_in(150.0, 29, True, 1)
    assert float((letters.token_lengths / letters.lengths * 100).mean()) == pytest.approx(14.5, rel=0.02)


@pytest.mark.parametrize(("name", "millions"), [("paper_librispeech", 74.0), ("paper_librispeech_100", 74.0), ("paper_tedlium2", 41.7),
                                                ("paper_transducer", 76.7)])
def test_papers_recipes_build_at_the_papers_sizes(name, millions):
    recipe = store.load_recipe(name)
    pieces = recipe.tokens["size"]
    recipe = building.resolve(recipe, pieces)
    room = plugins.load("models", recipe.model.name)
    with torch.device("meta"):  # shapes only
        model = room.build(plugins.make_options(room.Options, recipe.model.options, "model"), pieces)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.4)
