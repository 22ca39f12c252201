"""training.intermediate: an inner block is read by the output layer and learns the tokens, too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.models.base import ctc_loss
from tests import tiny
from tests.methods.test_methods import trainer


def step(folder, **given):
    made = trainer(folder, chunks_ms=[0], intermediate=given)
    made.model.options = replace(made.model.options, dropout=0.0)
    (a_pass,) = made.method.plan(0)
    output, loss = made.run_pass(a_pass, tiny.batch(), 0, None, 0)
    return made, output, float(loss)


def test_the_losses_are_mixed_by_weight(tmp_path):
    made, plain, final = step(tmp_path / "plain")
    assert not plain.taps
    _, output, mixed = step(tmp_path / "mixed", layer=1, weight=0.25)
    batch = tiny.batch()
    with torch.no_grad():
        early = made.model.read_out(output.taps[0])
        apart = float(ctc_loss(early, output.lengths, batch) / output.lengths.sum())
    assert abs(apart - final) > 1e-3
    assert mixed == pytest.approx(0.75 * final + 0.25 * apart, rel=1e-5)


def test_the_inner_block_and_the_output_layer_learn_from_it(tmp_path):
    made, *_ = step(tmp_path / "a", layer=1, weight=0.5)
    plain, *_ = step(tmp_path / "b")
    for name in ("blocks.0.norm.weight", "heads.0.weight"):
        assert not torch.allclose(made.parameters[name].grad, plain.parameters[name].grad), name


def test_the_middle_block_where_none_is_named(tmp_path):
    made = trainer(tmp_path / "a", intermediate={"weight": 0.3})
    assert made.intermediate.taps == (0,)  # of two blocks
    made.run(lambda *_: True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": 2}, r"layer: expected a block from 1 to 1 of the model's 2, got 2"),
        ({"layr": 1}, "training.intermediate: unknown option 'layr'.*did you mean 'layer'"),
        ({"weight": 1.5}, "training.intermediate.weight: expected a number from 0 to 0.9, got 1.5"),
    ],
)
def test_wrong_options_are_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path / "a", intermediate=given)


def test_a_model_without_posteriors_is_refused(tmp_path, monkeypatch):
    from core.models import conformer_ctc

    monkeypatch.setattr(conformer_ctc.ConformerCTC, "posteriors", False)
    with pytest.raises(ValueError, match="training.intermediate reads token probabilities"):
        trainer(tmp_path / "a", intermediate={"layer": 1})
