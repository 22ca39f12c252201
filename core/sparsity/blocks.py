"""Nested 8x1 masks from block ranks: score, rank, multiply. Knows weights and ranks, not methods. Pattern: ours (METHODS.md 1).

A block is 8 consecutive outputs (rows) of one input (column). Ranks order the blocks of one matrix by L2 norm, largest first;
keeping every block with rank < k makes masks nested: a sparser mask is a subset of a denser one.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core import cost
from core.records import BLOCK, Anatomy, Unit

Ranks = dict[str, Tensor]  # {unit name: int32 [R/8, C]}


def block_scores(weight: Tensor) -> Tensor:
    """L2 norm of every block: weight [R, C] -> [R/8, C]."""
    return weight.detach().float().unflatten(0, (-1, BLOCK)).square().sum(1).sqrt()


def block_ranks(scores: Tensor) -> Tensor:
    """[R/8, C] scores -> int32 ranks 0 .. blocks-1, largest score first, ties by position."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    ranks = torch.empty_like(order, dtype=torch.int32)
    ranks[order] = torch.arange(order.numel(), dtype=torch.int32, device=order.device)
    return ranks.view(scores.shape)


def rank_all(weights: dict[str, Tensor], units: tuple[Unit, ...]) -> Ranks:
    """Ranks of every unit from `weights` {parameter name: tensor}."""
    return {u.name: block_ranks(block_scores(weights[f"{u.name}.weight"])) for u in units}


def block_masks(ranks: Ranks, anatomy: Anatomy, keep: dict[str, float]) -> dict[str, Tensor]:
    """{parameter name: bool [R/8, 1, C]} for every unit that `keep` does not keep whole."""
    masks = {}
    for unit in anatomy.units:
        kept = cost.blocks_kept(unit, keep.get(unit.name, 1.0))
        if kept < unit.blocks:
            masks[f"{unit.name}.weight"] = (ranks[unit.name] < kept).unsqueeze(1)
    return masks


def multiply(weight: Tensor, multiplier: Tensor) -> Tensor:
    """weight [R, C] times a multiplier of its own shape, or one per block [R/8, 1, C]."""
    if multiplier.dim() == 3:
        return (weight.unflatten(0, (-1, BLOCK)) * multiplier).flatten(0, 1)
    return weight * multiplier


def masked(weights: dict[str, Tensor], multipliers: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with multipliers applied; tensors without one are passed through as they are."""
    return {n: multiply(w, multipliers[n]) if n in multipliers else w for n, w in weights.items()}


def to_numpy(ranks: Ranks) -> dict[str, np.ndarray]:
    """Ranks as stored: uint32 [R/8, C]."""
    return {n: r.cpu().numpy().astype(np.uint32) for n, r in ranks.items()}
