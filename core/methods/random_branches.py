"""Random branches: sizes whose branches are drawn, not chosen. What a choice of branches must beat
at the same cost.

Ours, the baseline of Simple-Top-k (METHODS.md section 3), which needs no search: a random search
of as many evaluations, none, is a draw. The two steps, the passes, the nesting of sizes and the
output layers are Simple-Top-k's; the order in which branches leave is the seed's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.methods import _depth
from core.models.base import Model
from core.records import ModelSpec, option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="parts left out at random",
    color="#8C8C8C",
    marker="x-open",
)


@dataclass(frozen=True)
class Options:
    sizes: list[int] = option(
        [16, 24], "branches kept by each smaller size; the dense net keeps all"
    )
    selection: float = option(
        0.62, "share of the updates in which the smallest net shrinks (step 1)", low=0.01, high=0.99
    )
    subnet_weight: float = option(
        0.3, "weight of a smaller size's loss; the largest has 1", low=0.0, high=10.0
    )
    layer_dropout: float = option(
        0.3,
        "chance that the largest net leaves out a branch the smallest lacks (step 2)",
        low=0.0,
        high=0.9,
    )


class Method(_depth.Depth):
    def __init__(
        self, options: Options, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(len(self.branches))
        self.scores = torch.nn.Parameter(torch.from_numpy(order).float(), requires_grad=False)

    def soft_gates(self, step: int) -> Tensor:
        whole = len(self.branches) - self.sizes[-1]
        return self.choice(
            len(self.branches) - min(whole, 1 + int(step * whole / self.end))
        ).float()  # one branch less at a time

    def parameters(self) -> list[torch.nn.Parameter]:
        return []
