"""passes = "split": each subnet runs on its part of a batch alone, and an update costs one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core import cost
from core.methods import base, omni_sparsity
from core.models.base import ctc_loss, with_weights
from core.records import Interrupted
from core.sparsity import blocks
from core.training import dealing, pace
from core.training.options import Options
from tests import tiny
from tests.methods.test_methods import trainer

SPLIT = omni_sparsity.Options(
    warmup=0.25, refresh=3, sparsest=0.8, passes="split", distillation="none"
)


def split_trainer(folder, updates=12, **training):
    return trainer(folder, name="omni_sparsity", options=SPLIT, updates=updates, **training)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 40])
def test_parts_hold_every_utterance_once_and_are_about_equally_long(count):
    lengths = np.random.default_rng(count).integers(50, 1600, count).tolist()
    hands = set()
    for seed in range(20):
        parts = dealing.deal(lengths, 3, np.random.default_rng(seed))
        assert sorted(i for part in parts for i in part) == list(range(count))
        frames = [sum(lengths[i] for i in part) for part in parts]
        assert max(frames) - min(frames) <= max(lengths, default=0)
        hands.add(str(parts))
    assert len(hands) > 1 or count == 0, "who gets which utterance is drawn"


def test_two_views_of_an_utterance_stay_together_in_their_order():
    one = tiny.batch(utterances=5)
    both = replace(
        one,
        features=torch.cat([one.features, one.features + 1]),
        lengths=one.lengths.repeat(2),
        tokens=one.tokens.repeat(2, 1),
        token_lengths=one.token_lengths.repeat(2),
        ids=[*one.ids, *(f"{i}#1" for i in one.ids)],
    )
    plan = [base.Pass(name, part=(i, 2)) for i, name in enumerate("ab")]
    parts = dealing.dealt(plan, both, np.random.default_rng(0), views=2)
    assert sorted(i for part in parts for i in part.ids) == sorted(both.ids)
    for part in parts:
        first, second = part.features.chunk(2)
        assert part.ids[len(part.ids) // 2 :] == [f"{i}#1" for i in part.ids[: len(first)]]
        assert torch.equal(second, first + 1)


def test_a_pass_without_a_part_runs_on_the_whole_batch():
    batch = tiny.batch()
    (part,) = dealing.dealt([base.Pass("dense")], batch, np.random.default_rng(0))
    assert part is batch


@pytest.mark.slow
def test_gradients_are_the_sum_of_losses_computed_apart(tmp_path):
    made = split_trainer(tmp_path / "a", chunks_ms=[0], clip=1000.0, masking=False)
    made.model.options = replace(made.model.options, dropout=0.0)
    made.method.mask(None, 0)
    while made.step < 5:
        made.update(tiny.batch(made.step))
    batch = tiny.batch(5, utterances=7)
    before = {n: p.detach().clone() for n, p in made.parameters.items()}
    plan = made.method.plan(made.step)
    masks = [made.method.mask(p.subnet, made.step) for p in plan]
    rng = np.random.Generator(np.random.Philox(key=[made.seed + 1, made.step]))
    rng.choice(made.options.chunks_ms)
    parts = dealing.dealt(plan, batch, rng)
    made.update(batch)

    total = {n: torch.zeros_like(p) for n, p in before.items()}
    assert [p.name for p in plan] == ["dense", "sparsest", "random"]
    for a_pass, mask, part in zip(plan, masks, parts, strict=True):
        leaves = {n: p.clone().requires_grad_() for n, p in before.items()}

        def loss(model, part=part):
            output = model(part.features, part.lengths)
            return ctc_loss(output.log_probs, output.lengths, part) / output.lengths.sum()

        apart = a_pass.weight * with_weights(made.model, blocks.masked(leaves, mask, {}), loss)
        for n, g in zip(
            leaves, torch.autograd.grad(apart, [*leaves.values()], allow_unused=True), strict=True
        ):
            total[n] += 0 if g is None else g
    assert all(len(part.ids) >= 2 for part in parts)
    for name, parameter in made.parameters.items():
        own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(own, total[name], atol=1e-5, rtol=1e-4), name


def test_an_update_runs_as_many_frames_as_one_pass(tmp_path, monkeypatch):
    def frames_of(options) -> int:
        made = trainer(tmp_path / options.passes, name="omni_sparsity", options=options, updates=12)
        ran, forward = list[int](), made.model.forward

        def counted(features, *rest, **more):
            ran.append(features.shape[0] * features.shape[1])
            return forward(features, *rest, **more)

        monkeypatch.setattr(made.model, "forward", counted)
        made.step = 5
        made.update(tiny.batch(utterances=6))
        return sum(ran)

    assert frames_of(SPLIT) == 6 * 120
    assert frames_of(replace(SPLIT, passes="sandwich")) == 3 * 6 * 120


def test_what_a_training_executes_counts_each_subnets_part_alone():
    model = tiny.model()

    def method(options):
        return omni_sparsity.Method(options, model, model.spec(), 20, 1)

    split, sandwich = method(SPLIT), method(replace(SPLIT, passes="sandwich"))
    dense = cost.macs_per_second(model.spec(), None)
    kept = [cost.macs_per_second(model.spec(), p.subnet.keep) for p in split.plan(10)[1:]]
    assert pace.macs(split, 10) == pytest.approx((dense + sum(kept)) / 3)
    assert pace.macs(sandwich, 10) == pytest.approx(dense + sum(kept))
    assert base.training_tmacs(split, 20, 1.0, {}) < dense * 3 * 3600 / 1e12
    assert base.training_tmacs(sandwich, 20, 1.0, {}) > dense * 3 * 3600 / 1e12


@pytest.mark.slow
def test_a_batch_of_one_utterance_goes_to_every_subnet_in_turn(tmp_path):
    made = split_trainer(tmp_path / "a", updates=60)
    made.step = 20
    while made.step < 60:
        made.update(tiny.batch(made.step, utterances=1))
    counts = {name: len(losses) for name, losses in made.sums.items()}
    assert sum(counts.values()) == 40 and min(counts.values()) > 5 and len(counts) == 3


@pytest.mark.slow
def test_equal_seeds_give_equal_bits_and_a_resumed_run_too(tmp_path):
    whole, twin = split_trainer(tmp_path / "whole"), split_trainer(tmp_path / "twin")
    first = split_trainer(tmp_path / "cut")
    first.options = Options(**{**vars(first.options), "log_every": 1})
    whole.run(lambda *_: True)
    twin.run(lambda *_: True)
    with pytest.raises(Interrupted):
        first.run(lambda *_: first.step < 7)
    again = split_trainer(tmp_path / "cut")
    assert again.resume() and again.step == 7
    again.run(lambda *_: True)
    for other in (twin, again):
        assert all(torch.equal(other.parameters[n], p) for n, p in whole.parameters.items())
        assert all(torch.equal(other.averaged[n], p) for n, p in whole.averaged.items())


def test_a_split_update_cannot_distil():
    model = tiny.model()
    with pytest.raises(
        ValueError, match="distillation is 'kl': with method.passes 'split'.*allowed is 'none'"
    ):
        omni_sparsity.Method(replace(SPLIT, distillation="kl"), model, model.spec(), 100, 1)
