"""Simple-Top-k: the branches of smaller sizes are chosen by a relaxed top-k over trained scores,
then all sizes train together.

Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3), complete: k falls step by step from all
branches to the smallest size while the supernet trains; gates are k sequential softmaxes, soft or
straight-through. Ours: k reaches the smallest size at the end of step 1 whatever the run's length,
and every size keeps the branches with the highest scores at that moment, so sizes are nested.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.methods import _depth
from core.records import option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="parts left out (Simple-Top-k)",
    color="#CC79A7",
    marker="triangle-up-open",
)


@dataclass(frozen=True)
class Options:
    sizes: list[int] = option(
        [16, 24], "branches kept by each smaller size; the dense net keeps all"
    )
    selection: float = option(
        0.62, "share of the updates in which branches are chosen (step 1)", low=0.01, high=0.99
    )
    hard: bool = option(True, "gates are 0 or 1 with straight-through gradients; off = soft")
    score_rate: float = option(
        1.0,
        "learning rate of the scores over the weights'; short runs need more (ours)",
        low=0.01,
        high=100_000.0,
    )
    subnet_weight: float = option(
        0.3, "weight of a smaller size's loss; the largest has 1", low=0.0, high=10.0
    )
    fall: int = option(1, "branches that k falls by at a time (the paper's r)", low=1, high=1000)
    layer_dropout: float = option(
        0.3,
        "chance that the largest net leaves out a branch the smallest lacks (step 2)",
        low=0.0,
        high=0.9,
    )


class Method(_depth.Depth):
    initial_score = 0.5

    def count(self, step: int) -> int:
        """k at an update of step 1: all branches at first, the smallest size at the end."""
        whole, r = len(self.branches) - self.sizes[-1], self.options.fall
        falls = -(-whole // r)  # each lasts D = end / falls updates
        return len(self.branches) - min(whole, r * (1 + int(step * falls / self.end)))

    def soft_gates(self, step: int) -> Tensor:
        k = self.count(step)
        soft = relaxed_topk(self.scaled(), k)
        if not self.options.hard:
            return soft
        hard = torch.zeros_like(soft)
        hard[soft.detach().topk(k).indices] = 1.0
        return hard + soft - soft.detach()


def relaxed_topk(scores: Tensor, k: int) -> Tensor:
    """Gates [N] that sum to k: k softmaxes, each over what the ones before left (Xie & Ermon
    2019).
    """
    a, p, z = scores, torch.zeros_like(scores), torch.zeros_like(scores)
    for _ in range(k):
        a = a + torch.log((1 - p).clamp(min=torch.finfo(scores.dtype).tiny))
        p = a.softmax(-1)
        z = z + p
    return z
