"""What supernets share: the sandwich of densest, sparsest and random subnets under nested masks,
distilled from the densest.

After Yang et al. 2022 (arXiv 2110.08352) for the idea; masks, sandwich, adaptive dropout and
distillation are ours (METHODS.md section 1), with the KL or the alpha-divergence of AlphaNet (Wang
et al. 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from core import cost
from core.data.batches import Batch
from core.methods import base
from core.models.base import Model, Output
from core.records import ModelSpec, Subnet


class Sandwich(base.Ranked):
    """Options need warmup, randoms, refresh, adaptive_dropout, distillation, distillation_weight
    and subnet_weight.

    A method says what its sparsest subnet keeps and how a random one is drawn.
    """

    def __init__(
        self, options: Any, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.begin = round(options.warmup * updates)  # first update of the sandwich
        if options.distillation != "none" and not model.posteriors:
            raise ValueError(
                f"method.distillation is {options.distillation!r}: it compares the token"
                " probabilities of every frame, and this model has none (they depend on the tokens"
                " before); allowed is 'none'"
            )

    @classmethod
    def pattern(cls, options: Any) -> str:
        return options.pattern

    @classmethod
    def sparsest(cls, options: Any) -> float:
        return options.sparsest

    # what a method adds

    def smallest(self) -> dict[str, float]:
        """{unit: share kept} of the smallest subnet."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """{unit: share kept} of a random subnet."""
        raise NotImplementedError

    # the contract

    def plan(self, step: int) -> list[base.Pass]:
        if step < self.begin:
            return [base.Pass("dense")]
        if not self.ranks:
            self._refresh()
        rng = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        subnets = [("sparsest", self.smallest())]
        subnets += [("random", self.draw(rng)) for _ in range(self.options.randoms)]
        return [base.Pass("dense"), *(self._pass(name, keep) for name, keep in subnets)]

    def _pass(self, name: str, keep: dict[str, float]) -> base.Pass:
        sparsity = cost.sparsity_reached(self.spec, keep)
        return base.Pass(
            name,
            Subnet(name, "", keep, sparsity),
            self.options.subnet_weight,
            dropout=1.0 - sparsity if self.options.adaptive_dropout else 1.0,
            teacher=None if self.options.distillation == "none" else 0,
            drawn=name == "random",
        )

    def loss(
        self, a_pass: base.Pass, output: Output, batch: Batch, teacher: Output | None
    ) -> Tensor:
        loss = super().loss(a_pass, output, batch, teacher)
        if teacher is None:
            return loss
        share = self.options.distillation_weight
        return (1 - share) * loss + share * divergence(output, teacher, self.options.distillation)

    def after_step(self, step: int) -> None:
        if step + 1 >= self.begin and (step + 1 - self.begin) % self.options.refresh == 0:
            self._refresh()


def divergence(pupil: Output, teacher: Output, kind: str) -> Tensor:
    """Sum over valid frames of KL(p || q), or of the larger alpha-divergence of -1 and +1; p
    teacher (detached), q pupil.
    """
    log_q, log_p = pupil.log_probs, teacher.log_probs
    assert log_q is not None and log_p is not None  # asked for when the method was built
    log_p = log_p.detach()
    p = log_p.exp()
    kl = (p * (log_p - log_q)).sum(-1)  # [B, T], alpha -> 1
    if kind == "alpha":
        # D_a = (sum q (p/q)^a - 1) / (a (a-1)) at a = -1: sum q (q/p), the ratio clipped at 5
        # (AlphaNet); a = +1 is its limit, KL
        ratio = (log_q - log_p).exp().clamp(max=5.0)
        reverse = ((log_q.exp() * ratio).sum(-1) - 1.0) / 2.0
        kl = kl.maximum(reverse)
    valid = base.valid_frames(pupil.lengths, kl.shape[1])
    return kl.masked_select(valid).sum()
