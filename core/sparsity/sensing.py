"""Sparse auxiliary variables of weights by compressed sensing: accelerated iterative shrinkage
(FISTA, Beck & Teboulle 2009). Knows no method.

For weights W [R, C] and a metric G [C, C] it seeks Z of a given number of blocks with (Z - W) G (Z
- W)' small: G = I is distance in weight space, G = Phi' Phi random measurements, G = X' X the
layer's own outputs (METHODS.md section 2, readings R1, R2, R3: ours).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.records import PrunableMatrix
from core.sparsity import blocks


def shrink(weight: Tensor, unit: PrunableMatrix, kept: int) -> Tensor:
    """Soft threshold of blocks: `weight` [R, C] with at most `kept` blocks left, each shortened by
    the norm of the largest that fell.

    The l1 weight is thus chosen by the sparsity that is wanted; in groups (2:4) every group has its
    own and keeps as many as all can.
    """
    scores = blocks.block_scores(weight, unit.block)
    sets = (
        scores.unflatten(-1, (-1, unit.group)) if unit.group else scores.flatten()
    )  # thresholds along the last dimension
    fall = sets.shape[-1] - kept * sets.shape[-1] // unit.blocks
    if fall <= 0:
        return weight.clone()
    threshold = sets.kthvalue(
        fall, -1, keepdim=True
    ).values  # much quicker than sorting: hundreds of thousands of weights
    factor = (1 - threshold / sets.clamp(min=1e-12)).clamp(min=0.0)
    return blocks.multiply(weight, factor.reshape(scores.shape).unsqueeze(1))


def largest_eigenvalue(metric: Tensor, steps: int = 20) -> float:
    """Of a symmetric positive metric [C, C], by power iteration from a fixed start; 5 % more, to be
    on the safe side.
    """
    vector = torch.ones(len(metric), device=metric.device) / math.sqrt(len(metric))
    for _ in range(steps):
        vector = metric @ vector
        vector = vector / vector.norm().clamp(min=1e-20)
    return max(1.05 * float(vector @ (metric @ vector)), 1e-12)


def auxiliary_variable(
    weight: Tensor,
    unit: PrunableMatrix,
    kept: int,
    metric: Tensor | None,
    start: Tensor | None = None,
    steps: int = 20,
) -> Tensor:
    """Z [R, C] with at most `kept` blocks that stands in for `weight` [R, C]; from `start` if
    given. metric None is G = I.

    The problem is solved in columns of unit length, as basis pursuit wants them: a weight counts by
    what it adds to the output. What is
    found is where Z may differ from zero; its values there are refitted, for shrinking makes all of
    them too small.
    """
    weight = weight.detach().float()
    if metric is None:
        return shrink(weight, unit, kept)
    length = metric.diagonal().sqrt().clamp(min=1e-12)
    solution = _fista(
        weight * length,
        unit,
        kept,
        metric / torch.outer(length, length),
        None if start is None else start * length,
        steps,
    )
    return refit(weight, solution != 0, metric)


def _fista(
    weight: Tensor,
    unit: PrunableMatrix,
    kept: int,
    metric: Tensor,
    start: Tensor | None,
    steps: int,
) -> Tensor:
    eta = 1.0 / largest_eigenvalue(metric)
    z = ahead = weight if start is None else start
    momentum = 1.0
    for _ in range(steps):
        new = shrink(ahead - eta * ((ahead - weight) @ metric), unit, kept)
        grown = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / grown * (new - z)
        z, momentum = new, grown
    return z


def damped(metric: Tensor, share: float) -> Tensor:
    """`metric` with a share of its mean diagonal added to the diagonal: few frames say nothing
    about many directions.
    """
    return metric + share * metric.diagonal().mean().clamp(min=1e-12) * torch.eye(
        len(metric), device=metric.device
    )


def refit(weight: Tensor, support: Tensor, metric: Tensor, steps: int = 20) -> Tensor:
    """Z [R, C], zero outside bool `support` [R, C], with (Z - W) G (Z - W)' smallest: conjugate
    gradients, all rows at once.
    """
    inside = support.to(weight.dtype)
    z = weight * inside
    left = inside * ((weight - z) @ metric)
    toward, norms = left.clone(), left.square().sum(1, keepdim=True)
    for _ in range(steps):
        turned = inside * (toward @ metric)
        step = norms / (toward * turned).sum(1, keepdim=True).clamp(min=1e-20)
        z, left = z + step * toward, left - step * turned
        before, norms = norms, left.square().sum(1, keepdim=True)
        toward = left + norms / before.clamp(min=1e-20) * toward
    return z
