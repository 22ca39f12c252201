"""Nested masks from block ranks: score, rank, multiply. Knows weights and ranks, not methods.
Patterns: ours (METHODS.md 1).

A block is b consecutive outputs (rows) of one input (column): 8 by default, 1 is unstructured.
Ranks order the blocks of one matrix by L2 norm, largest first; keeping every block with rank < k
makes masks nested: a sparser mask is a subset of a denser one. With groups (2:4) every group's
largest come before any group's second, and so on, so that half of them are two of every four.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import cost
from core.records import ModelSpec, PrunableMatrix

Ranks = dict[str, Tensor]  # {unit name: int32 [R/b, C]}


def block_scores(weight: Tensor, block: int) -> Tensor:
    """L2 norm of every block: weight [R, C] -> [R/b, C]."""
    return weight.detach().float().unflatten(0, (-1, block)).square().sum(1).sqrt()


def block_ranks(scores: Tensor, group: int = 0) -> Tensor:
    """[R/b, C] scores -> int32 ranks 0 .. blocks-1, largest score first, ties by position; places
    within a group before scores.
    """
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    if group:
        inside = (
            scores.unflatten(-1, (-1, group))
            .argsort(dim=-1, descending=True, stable=True)
            .argsort(dim=-1)
        )
        order = order[torch.argsort(inside.flatten()[order], stable=True)]
    ranks = torch.empty_like(order, dtype=torch.int32)
    ranks[order] = torch.arange(order.numel(), dtype=torch.int32, device=order.device)
    return ranks.view(scores.shape)


def rank_all(weights: Mapping[str, Tensor], units: tuple[PrunableMatrix, ...]) -> Ranks:
    """Ranks of every unit from `weights` {parameter name: tensor}."""
    return {
        u.name: block_ranks(block_scores(weights[f"{u.name}.weight"], u.block), u.group)
        for u in units
    }


def block_masks(ranks: Ranks, spec: ModelSpec, keep: dict[str, float]) -> dict[str, Tensor]:
    """{parameter name: bool [R/b, 1, C]} for every unit that `keep` does not keep whole."""
    masks = {}
    for unit in spec.units:
        kept = cost.blocks_kept(unit, keep.get(unit.name, 1.0))
        if kept < unit.blocks:
            masks[f"{unit.name}.weight"] = (ranks[unit.name] < kept).unsqueeze(1)
    return masks


def multiply(weight: Tensor, multiplier: Tensor) -> Tensor:
    """weight [R, C] times a multiplier of its own shape, or one per block [R/b, 1, C]."""
    if multiplier.dim() == 3:
        return (weight.unflatten(0, (len(multiplier), -1)) * multiplier).flatten(0, 1)
    return weight * multiplier


class _Rounded(torch.autograd.Function):
    """A weight as its rounded copy, times a constant mask if there is one; the gradient is the
    weight's.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, copy: Tensor, mask: Tensor | None) -> Tensor:
        ctx.mask = mask
        return copy.view_as(copy) if mask is None else multiply(copy, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient if ctx.mask is None else multiply(gradient, ctx.mask), None, None


def rounded(weights: Mapping[str, Tensor], units: tuple[PrunableMatrix, ...]) -> dict[str, Tensor]:
    """Copies of all units' weights in bf16, for masked()."""
    return {n: weights[n].detach().to(torch.bfloat16) for n in (f"{u.name}.weight" for u in units)}


def masked(
    weights: Mapping[str, Tensor],
    multipliers: dict[str, Tensor],
    rounded: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The weights with multipliers applied; tensors without one are passed through as they are.

    `rounded`: copies of some weights in the precision in which they will be multiplied, made once
    for several passes. Under a yes-or-no
    mask they give the same products as masking first (0 and 1 round to themselves), for a third
    less traffic in memory.
    """
    masked_weights = {}
    for name, weight in weights.items():
        mask = multipliers.get(name)
        copy = rounded.get(name) if rounded and (mask is None or mask.dtype == torch.bool) else None
        if copy is not None:
            apply: Any = _Rounded.apply  # torch does not annotate it
            masked_weights[name] = apply(
                weight, copy, None if mask is None else mask.to(copy.dtype)
            )
        else:
            masked_weights[name] = weight if mask is None else multiply(weight, mask)
    return masked_weights


def to_numpy(ranks: Ranks) -> dict[str, np.ndarray]:
    """Ranks as stored: uint32 [R/b, C]."""
    return {n: r.cpu().numpy().astype(np.uint32) for n, r in ranks.items()}
