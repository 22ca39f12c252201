"""Masks: exact shares, nested, by norm; masked equals zeroed."""
from __future__ import annotations

import numpy as np
import torch
from torch.func import functional_call

from core import cost
from core.sparsity import blocks
from tests import tiny


def test_shares_are_exact_and_masks_are_nested():
    model = tiny.model()
    anatomy, weights = model.anatomy(), dict(model.named_parameters())
    ranks = blocks.rank_all(weights, anatomy.units)
    before = None
    for sparsity in (0.9, 0.7, 0.35, 0.1):
        keep = cost.uniform(anatomy, sparsity)
        masks = blocks.block_masks(ranks, anatomy, keep)
        for unit in anatomy.units:
            assert int(masks[f"{unit.name}.weight"].sum()) == cost.blocks_kept(unit, keep[unit.name])
        if before:
            assert all((masks[n] | m).equal(masks[n]) for n, m in before.items())
        before = masks


def test_the_largest_blocks_are_kept():
    weight = torch.randn(16, 5)
    weight[8:, 3] = 50.0
    weight[:8, 0] = 1e-3
    ranks = blocks.block_ranks(blocks.block_scores(weight))
    assert ranks[1, 3] == 0 and ranks[0, 0] == 9 and sorted(ranks.flatten().tolist()) == list(range(10))
    assert blocks.to_numpy({"a": ranks})["a"].dtype == np.uint32


def test_a_masked_forward_pass_equals_zeroed_weights():
    model = tiny.model().eval()
    anatomy, weights = model.anatomy(), dict(model.named_parameters())
    masks = blocks.block_masks(blocks.rank_all(weights, anatomy.units), anatomy, cost.uniform(anatomy, 0.7))
    masked = blocks.masked(weights, masks)
    zeros = sum(int((masked[f"{u.name}.weight"] == 0).sum()) for u in anatomy.units)
    total = sum(u.parameters for u in anatomy.units)
    assert abs(zeros / total - cost.sparsity_reached(anatomy, cost.uniform(anatomy, 0.7))) < 1e-9
    x, lengths = torch.randn(1, 60, 80), torch.tensor([60])
    through_call = functional_call(model, masked, (x, lengths)).log_probs
    baked = tiny.model()
    baked.load_state_dict({n: w.detach() for n, w in masked.items()})
    assert torch.equal(through_call, baked.eval()(x, lengths).log_probs)


def test_pruned_weights_get_no_gradient():
    model = tiny.model()
    anatomy, weights = model.anatomy(), dict(model.named_parameters())
    masks = blocks.block_masks(blocks.rank_all(weights, anatomy.units), anatomy, cost.uniform(anatomy, 0.5))
    output = functional_call(model, blocks.masked(weights, masks), (torch.randn(1, 60, 80), torch.tensor([60])))
    output.log_probs.square().sum().backward()
    name = f"{anatomy.units[0].name}.weight"
    gradient = weights[name].grad.unflatten(0, (-1, 8))
    assert gradient.abs().sum() > 0 and float((gradient * ~masks[name]).abs().sum()) == 0.0
