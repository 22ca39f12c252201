"""Omni-sparsity training: every sparsity of every layer from one weight set, without retraining.

After Yang et al. 2022 (arXiv 2110.08352): one dense weight set, a subnet is a mask on each layer, all are trained together. Ours
(METHODS.md section 1): 8x1 nested masks, the sandwich (densest, sparsest, random ones with independent sparsity per matrix), adaptive
dropout, in-place distillation from the densest with the KL or the alpha-divergence of AlphaNet (Wang et al. 2021).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from core import cost
from core.batches import Batch
from core.methods import base
from core.models.base import Output
from core.records import Subnet, option
from core.sparsity import blocks

VERSION = 1


@dataclass(frozen=True)
class Options:
    sparsest: float = option(0.9, "share of zeros of the sparsest net trained; nothing sparser should be shown", low=0.0, high=0.99)
    warmup: float = option(0.3, "share of the updates that train the dense net alone first", low=0.0, high=0.95)
    randoms: int = option(1, "random subnets per step, beside the densest and the sparsest", low=0, high=8)
    spread: float = option(0.15, "how far a matrix's sparsity may lie from the random subnet's mean", low=0.0, high=1.0)
    refresh: int = option(10, "updates between new block ranks", low=1, high=10000)
    adaptive_dropout: bool = option(True, "dropout times the share kept, so that small nets are regularised less")
    distillation: str = option("kl", "how subnets learn from the densest net", choices=("none", "kl", "alpha"))
    distillation_weight: float = option(0.5, "share of the distillation in a subnet's loss", low=0.0, high=1.0)
    subnet_weight: float = option(0.5, "weight of a subnet's loss; the densest has 1", low=0.0, high=10.0)


class Method(base.Method):
    def __init__(self, options, model, anatomy, updates, seed):
        super().__init__(options, model, anatomy, updates, seed)
        self.begin = round(options.warmup * updates)  # first update of the sandwich
        self.ranks: blocks.Ranks = {}

    def plan(self, step: int) -> list[base.Pass]:
        if step < self.begin:
            return [base.Pass("dense")]
        if not self.ranks:
            self._refresh()
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        subnets = [("sparsest", cost.uniform(self.anatomy, self.options.sparsest))]
        subnets += [("random", self.draw(rng)) for _ in range(self.options.randoms)]
        return [base.Pass("dense"), *(self._pass(name, keep) for name, keep in subnets)]

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """A random subnet: one mean sparsity, then an independent one for every matrix around it (ours)."""
        o = self.options
        mean = rng.uniform(0.0, o.sparsest)
        own = mean + rng.uniform(-o.spread, o.spread, len(self.anatomy.units))
        return {u.name: 1.0 - float(s) for u, s in zip(self.anatomy.units, own.clip(0.0, o.sparsest + o.spread / 3).clip(max=0.99))}

    def _pass(self, name: str, keep: dict[str, float]) -> base.Pass:
        sparsity = cost.sparsity_reached(self.anatomy, keep)
        return base.Pass(name, Subnet(name, "", keep, sparsity), self.options.subnet_weight,
                         dropout=1.0 - sparsity if self.options.adaptive_dropout else 1.0, teacher=0, drawn=name == "random")

    def mask(self, subnet: Subnet | None, step: int) -> dict[str, Tensor]:
        return {} if subnet is None else blocks.block_masks(self.ranks, self.anatomy, subnet.keep)

    def loss(self, a_pass: base.Pass, output: Output, batch: Batch, teacher: Output | None) -> Tensor:
        own = super().loss(a_pass, output, batch, teacher)
        if teacher is None or self.options.distillation == "none":
            return own
        share = self.options.distillation_weight
        return (1 - share) * own + share * divergence(output, teacher, self.options.distillation)

    def after_step(self, step: int) -> None:
        if step + 1 >= self.begin and (step + 1 - self.begin) % self.options.refresh == 0:
            self._refresh()

    def _refresh(self) -> None:
        self.ranks = blocks.rank_all(dict(self.model.named_parameters()), self.anatomy.units)

    def state(self) -> dict[str, Tensor]:
        return self.ranks

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.ranks = dict(state)


def divergence(pupil: Output, teacher: Output, kind: str) -> Tensor:
    """Sum over valid frames of KL(p || q), or of the larger alpha-divergence of -1 and +1; p teacher (detached), q pupil."""
    log_p, log_q = teacher.log_probs.detach(), pupil.log_probs
    p = log_p.exp()
    kl = (p * (log_p - log_q)).sum(-1)                                                   # [B, T], alpha -> 1
    if kind == "alpha":
        # D_a = (sum q (p/q)^a - 1) / (a (a-1)) at a = -1: sum q (q/p), the ratio clipped at 5 (AlphaNet); a = +1 is its limit, KL
        ratio = (log_q - log_p).exp().clamp(max=5.0)
        reverse = ((log_q.exp() * ratio).sum(-1) - 1.0) / 2.0
        kl = kl.maximum(reverse)
    valid = base.valid_frames(pupil.lengths, kl.shape[1])
    return kl.masked_select(valid).sum()
