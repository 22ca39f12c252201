"""Depth and sparsity in one supernet: any set of residual branches at any sparsity per matrix, from
one weight set and one output layer.

Ours, beyond the papers: the sandwich of omni-sparsity (METHODS.md section 1), whose random subnets
also leave out random branches (section 3's modules, as stochastic depth over the whole sandwich). A
branch left out is neither stored nor run: it saves time, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from core import cost
from core.methods import _depth, _sandwich
from core.records import option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="supernet of zeros and depth",
    color="#56B4E9",
    marker="star",
)


@dataclass(frozen=True)
class Options:
    sparsest: float = option(
        0.9,
        "sparsity of the sparsest subnet trained; nothing sparser should be shown",
        low=0.0,
        high=0.99,
    )
    left_out: float = option(
        0.5, "largest share of the branches that a random subnet leaves out", low=0.0, high=0.95
    )
    whole: float = option(
        0.5, "share of the random subnets that leave out no branch", low=0.0, high=1.0
    )
    warmup: float = option(
        0.3, "share of the updates that train the dense net alone first", low=0.0, high=0.95
    )
    randoms: int = option(
        2, "random subnets per step, beside the densest and the sparsest", low=0, high=8
    )
    spread: float = option(
        0.15, "how far a matrix's sparsity may lie from the random subnet's mean", low=0.0, high=1.0
    )
    refresh: int = option(10, "updates between new block ranks", low=1, high=10000)
    pattern: str = option(
        "8x1", "where zeros may lie: blocks of 8 outputs, or anywhere", choices=("8x1", "1x1")
    )
    adaptive_dropout: bool = option(
        True, "dropout times the share kept, so that small nets are regularized less"
    )
    distillation: str = option(
        "kl", "how subnets learn from the densest net", choices=("none", "kl", "alpha")
    )
    distillation_weight: float = option(
        0.5, "share of the distillation in a subnet's loss", low=0.0, high=1.0
    )
    subnet_weight: float = option(
        0.5, "weight of a subnet's loss; the densest has 1", low=0.0, high=10.0
    )


class Method(_sandwich.Sandwich):
    @classmethod
    def left_out(cls, options: Any) -> float:
        return options.left_out

    def smallest(self) -> dict[str, float]:
        return cost.uniform(self.spec, self.options.sparsest)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """A random subnet: some branches left out or none, then a mean sparsity and an own one for
        every matrix that stays. What the
        branches take is taken off the mean, so that subnets have about as many zeros as the
        sparsest at most (branches alone may go
        beyond it).
        """
        o, branches = self.options, _depth.branches(self.spec)
        most = 0 if rng.random() < o.whole else int(o.left_out * len(branches))
        off = set(rng.permutation(branches)[: rng.integers(0, most + 1)])
        kept = sum(
            u.parameters for u in self.spec.units if u.branch not in off
        ) / cost.prunable_parameters(self.spec)
        highest = max(0.0, 1.0 - (1.0 - o.sparsest) / max(kept, 1e-9))
        sparsities = rng.uniform(0.0, highest) + rng.uniform(
            -o.spread, o.spread, len(self.spec.units)
        )
        return {
            u.name: 0.0 if u.branch in off else 1.0 - float(s)
            for u, s in zip(
                self.spec.units, sparsities.clip(0.0, min(0.99, highest + o.spread / 3))
            )
        }
