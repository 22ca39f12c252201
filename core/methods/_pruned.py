"""What methods that prune one model to one sparsity share: the cubic ramp, a mask frozen at its
end, and what ships.

Ramp: Zhu & Gupta 2017 (arXiv 1710.01878), s(t) = s_f (1 - (1 - t/n)^3) from the first update to
`ramp_end`, same share in every matrix.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from core import cost
from core.methods import base
from core.models.base import Model
from core.records import ModelSpec, Origin, Subnet
from core.sparsity import blocks


class Pruned(base.Ranked):
    """Options need sparsity, pattern, ramp_end, refresh and adaptive_dropout."""

    nested = False  # only one size of the result has been trained

    @classmethod
    def pattern(cls, options: Any) -> str:
        return options.pattern

    def __init__(
        self, options: Any, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.end = max(1, round(options.ramp_end * updates))
        group = max(u.group for u in spec.units)
        if group and options.sparsity * group % 1:
            allowed = ", ".join(f"{k / group:g}" for k in range(1, group))
            raise ValueError(
                f"method.sparsity is {options.sparsity:g}; with the pattern {options.pattern} it is"
                f" one of {allowed}"
            )

    def sparsity_at(self, step: int) -> float:
        return self.options.sparsity * base.grown(step, self.end)

    def plan(self, step: int) -> list[base.Pass]:
        if not self.ranks:
            self._refresh()
        # The ramp moves with the ranks: between two refreshes the mask stands still.
        sparsity = self.sparsity_at(step - step % self.options.refresh if step < self.end else step)
        subnet = Subnet(
            "pruned", "", cost.uniform(self.spec, sparsity), sparsity, origin=Origin.TRAINED
        )
        return [
            base.Pass(
                "pruned", subnet, dropout=1 - sparsity if self.options.adaptive_dropout else 1.0
            )
        ]

    def after_step(self, step: int) -> None:
        if step + 1 <= self.end and (step + 1) % self.options.refresh == 0:
            self._refresh()

    def results(self, averaged: dict[str, Tensor]) -> base.Results:
        """Kept blocks rank first: the mask that was trained is the mask that ships."""
        keep = cost.uniform(self.spec, self.options.sparsity)
        masks = blocks.block_masks(self.ranks, self.spec, keep) if self.ranks else {}
        ranks = blocks.rank_all(
            blocks.masked(averaged, {n: m.to(averaged[n].device) for n, m in masks.items()}),
            self.spec.units,
        )
        reached = cost.sparsity_reached(self.spec, keep)
        return base.Results(
            ranks, [Subnet(f"s{100 * reached:.0f}", "", keep, reached, origin=Origin.TRAINED)]
        )
