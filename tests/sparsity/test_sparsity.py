"""Masks: exact shares, nested, by norm; masked equals zeroed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from core import cost
from core.sparsity import blocks
from tests import tiny


def test_shares_are_exact_and_masks_are_nested():
    model = tiny.model()
    spec, weights = model.spec(), dict(model.named_parameters())
    ranks = blocks.rank_all(weights, spec.units)
    before = None
    for sparsity in (0.9, 0.7, 0.35, 0.1):
        keep = cost.uniform(spec, sparsity)
        masks = blocks.block_masks(ranks, spec, keep)
        for unit in spec.units:
            assert int(masks[f"{unit.name}.weight"].sum()) == cost.blocks_kept(
                unit, keep[unit.name]
            )
        if before:
            assert all((masks[n] | m).equal(masks[n]) for n, m in before.items())
        before = masks


def test_the_largest_blocks_are_kept():
    weight = torch.randn(16, 5)
    weight[8:, 3] = 50.0
    weight[:8, 0] = 1e-3
    ranks = blocks.block_ranks(blocks.block_scores(weight, 8))
    assert (
        ranks[1, 3] == 0
        and ranks[0, 0] == 9
        and sorted(ranks.flatten().tolist()) == list(range(10))
    )
    assert blocks.to_numpy({"a": ranks})["a"].dtype == np.uint32


def test_a_masked_forward_pass_equals_zeroed_weights():
    model = tiny.model().eval()
    spec, weights = model.spec(), dict(model.named_parameters())
    masks = blocks.block_masks(blocks.rank_all(weights, spec.units), spec, cost.uniform(spec, 0.7))
    masked = blocks.masked(weights, masks)
    zeros = sum(int((masked[f"{u.name}.weight"] == 0).sum()) for u in spec.units)
    total = sum(u.parameters for u in spec.units)
    assert abs(zeros / total - cost.sparsity_reached(spec, cost.uniform(spec, 0.7))) < 1e-9
    x, lengths = torch.randn(1, 60, 80), torch.tensor([60])
    through_call = functional_call(model, masked, (x, lengths)).log_probs
    baked = tiny.model()
    baked.load_state_dict({n: w.detach() for n, w in masked.items()})
    assert torch.equal(through_call, baked.eval()(x, lengths).log_probs)


def test_pruned_weights_get_no_gradient():
    model = tiny.model()
    spec, weights = model.spec(), dict(model.named_parameters())
    masks = blocks.block_masks(blocks.rank_all(weights, spec.units), spec, cost.uniform(spec, 0.5))
    output = functional_call(
        model, blocks.masked(weights, masks), (torch.randn(1, 60, 80), torch.tensor([60]))
    )
    output.log_probs.square().sum().backward()
    name = f"{spec.units[0].name}.weight"
    gradient = weights[name].grad.unflatten(0, (-1, 8))
    assert gradient.abs().sum() > 0 and float((gradient * ~masks[name]).abs().sum()) == 0.0


def test_patterns_have_blocks_of_their_own():
    model = tiny.model()
    spec, weights = cost.with_pattern(model.spec(), "1x1"), dict(model.named_parameters())
    assert cost.pattern_of(spec) == "1x1" and cost.pattern_of(model.spec()) == "8x1"
    masks = blocks.block_masks(blocks.rank_all(weights, spec.units), spec, cost.uniform(spec, 0.6))
    for unit in spec.units:
        name = f"{unit.name}.weight"
        kept = weights[name].abs()[masks[name].squeeze(1)]
        assert (
            len(kept) == round(0.4 * unit.parameters)
            and kept.min() >= weights[name].abs()[~masks[name].squeeze(1)].max()
        )
    with pytest.raises(ValueError, match="there are 8x1, 1x1, 2:4"):
        cost.with_pattern(spec, "4x4")


def test_two_of_four_keeps_the_larger_two_of_every_four_inputs():
    model = tiny.model()
    spec, weights = cost.with_pattern(model.spec(), "2:4"), dict(model.named_parameters())
    ranks = blocks.rank_all(weights, spec.units)
    masks = blocks.block_masks(ranks, spec, cost.uniform(spec, 0.5))
    thinner = blocks.block_masks(ranks, spec, cost.uniform(spec, 0.75))
    for unit in spec.units:
        name = f"{unit.name}.weight"
        fours, kept = (
            t.unflatten(-1, (-1, 4)) for t in (weights[name].abs(), masks[name].squeeze(1))
        )
        assert bool((kept.sum(-1) == 2).all()) and bool(
            (thinner[name].squeeze(1).unflatten(-1, (-1, 4)).sum(-1) == 1).all()
        )
        assert bool(
            (
                fours.masked_fill(~kept, torch.inf).amin(-1)
                >= fours.masked_fill(kept, -torch.inf).amax(-1)
            ).all()
        )
        assert bool((masks[name] | ~thinner[name]).all()), "nested"


def test_rounded_copies_under_yes_or_no_masks_give_the_products_and_gradients_of_masking_first():
    weight = torch.randn(16, 6, requires_grad=True)
    copies = {"a": weight.detach().to(torch.bfloat16)}
    for mask in (torch.rand(2, 1, 6) > 0.5, torch.rand(16, 6) > 0.5, None):
        multipliers = {} if mask is None else {"a": mask}
        ours = blocks.masked({"a": weight}, multipliers, copies)["a"]
        plain = blocks.masked({"a": weight}, multipliers)["a"].to(torch.bfloat16)
        assert ours.dtype == torch.bfloat16 and torch.equal(ours, plain)
        gradient = torch.randn(16, 6).to(torch.bfloat16)
        (own,), (wanted,) = (
            torch.autograd.grad(ours, weight, gradient),
            torch.autograd.grad(plain, weight, gradient),
        )
        assert own.dtype == torch.float32 and torch.equal(own, wanted)
    soft = torch.rand(2, 1, 6, requires_grad=True)  # a gate that learns needs the weight itself
    made = blocks.masked({"a": weight}, {"a": soft}, copies)["a"]
    made.sum().backward()
    assert made.dtype == torch.float32 and soft.grad is not None
