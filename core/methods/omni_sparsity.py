"""Omni-sparsity training: every sparsity of every layer from one weight set, without retraining.

After Yang et al. 2022 (arXiv 2110.08352): one dense weight set, a subnet is a mask on each layer,
all are trained together. Ours (METHODS.md section 1): 8x1 nested masks, the sandwich (densest,
sparsest, random ones with independent sparsity per matrix), adaptive dropout, in-place distillation
from the densest with the KL or the alpha-divergence of AlphaNet (Wang et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from core import cost
from core.methods import _sandwich, base
from core.models.base import Model
from core.records import ModelSpec, option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="supernet",
    color="#0072B2",
    marker="circle",
    main=True,
)


@dataclass(frozen=True)
class Options:
    sparsest: float = option(
        0.9,
        "sparsity of the sparsest subnet trained; nothing sparser should be shown",
        low=0.0,
        high=0.99,
    )
    pattern: str = option(
        "8x1", "where zeros may lie: blocks of 8 outputs, or anywhere", choices=("8x1", "1x1")
    )
    warmup: float = option(
        0.3, "share of the updates that train the dense net alone first", low=0.0, high=0.95
    )
    randoms: int = option(
        1, "random subnets per step, beside the densest and the sparsest", low=0, high=8
    )
    random_from: float = option(
        0.0,
        "random subnets' mean sparsity is drawn from here to `sparsest`",
        low=0.0,
        high=0.99,
    )
    ramp: float = option(
        0.0,
        "share of the updates over which subnets' zeros grow from none (cubic, as when pruning"
        " alone); 0: at once",
        low=0.0,
        high=1.0,
    )
    spread: float = option(
        0.15, "how far a matrix's sparsity may lie from the random subnet's mean", low=0.0, high=1.0
    )
    passes: str = option(
        "sandwich",
        "sandwich: every subnet runs on the whole batch; split: each on its part of the"
        " utterances alone, so that an update costs one pass (without distillation)",
        choices=("sandwich", "split"),
    )
    refresh: int = option(10, "updates between new block ranks", low=1, high=10000)
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
    def __init__(
        self, options: Options, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        if options.random_from > options.sparsest:
            raise ValueError(
                f"method.random_from is {options.random_from}; it must lie between 0 and"
                f" method.sparsest, {options.sparsest}"
            )
        if options.passes == "split" and options.distillation != "none":
            raise ValueError(
                f"method.distillation is {options.distillation!r}: with method.passes 'split' no"
                " subnet runs on the utterances of the densest, from which it would learn; allowed"
                " is 'none'"
            )

    def plan(self, step: int) -> list[base.Pass]:
        passes = self._ramped(super().plan(step), step)
        if self.options.passes == "sandwich" or len(passes) == 1:
            return passes
        return [replace(p, part=(i, len(passes)), teacher=None) for i, p in enumerate(passes)]

    def _ramped(self, passes: list[base.Pass], step: int) -> list[base.Pass]:
        """With fewer zeros during the first updates, as `ramp` says."""
        end = self.options.ramp * self.updates
        if step >= end:
            return passes
        share = base.grown(step, end)
        return [
            (
                self._pass(p.name, {n: 1 - share * (1 - k) for n, k in p.subnet.keep.items()})
                if p.subnet
                else p
            )
            for p in passes
        ]

    def smallest(self) -> dict[str, float]:
        return cost.uniform(self.spec, self.options.sparsest)

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """A random subnet: one mean sparsity, then an independent one for every matrix around it
        (ours).
        """
        o = self.options
        mean = rng.uniform(o.random_from, o.sparsest)
        sparsities = mean + rng.uniform(-o.spread, o.spread, len(self.spec.units))
        return {
            u.name: 1.0 - float(s)
            for u, s in zip(
                self.spec.units, sparsities.clip(0.0, o.sparsest + o.spread / 3).clip(max=0.99)
            )
        }
