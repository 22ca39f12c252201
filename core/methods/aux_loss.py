"""Aux-Loss: one network with CTC at several depths; a smaller size is its bottom blocks (early
exit). A baseline of the paper.

Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3): weights 0.3 at the exits and 1 at the top;
intermediate CTC after Lee & Watanabe 2021 (arXiv 2102.03216). Ours: every exit has its own output
layer, as the other methods' sizes have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from core.data.batches import Batch
from core.methods import _depth, base
from core.models import base as models
from core.models.base import Model, Output, ctc_loss
from core.records import ModelSpec, Origin, Recipe, Subnet, option
from core.registry.cards import Display
from core.sparsity import blocks

VERSION = 1
DISPLAY = Display(
    name="early exits (Aux-Loss)",
    color="#E69F00",
    marker="cross",
)


@dataclass(frozen=True)
class Options:
    exits: list[int] = option([3, 5], "numbers of bottom blocks that are a size of their own")
    exit_weight: float = option(
        0.3, "weight of the loss at an exit; the top has 1", low=0.0, high=10.0
    )


class Method(base.Method):
    nested = False

    @classmethod
    def resolve(cls, recipe: Recipe, options: Options, vocabulary: int) -> Recipe:
        """One output layer per exit; ValueError for exits that the model does not have."""
        base.need_outputs(recipe)
        exits = options.exits
        model = models.changed(recipe.model, outputs=len(exits) + 1)
        count = models.options(model).blocks
        if not exits or len(set(exits)) < len(exits) or not all(1 <= e < count for e in exits):
            raise ValueError(
                f"method.exits are numbers of bottom blocks, each once, from 1 to {count - 1}: this"
                f" model has {count}; got {list(exits)}"
            )
        return replace(recipe, model=model)

    def __init__(
        self, options: Options, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.exits = sorted(options.exits, reverse=True)

    def plan(self, step: int) -> list[base.Pass]:
        return [base.Pass("dense", taps=tuple(e - 1 for e in self.exits))]

    def loss(
        self, a_pass: base.Pass, output: Output, batch: Batch, teacher: Output | None
    ) -> Tensor:
        total = super().loss(a_pass, output, batch, teacher)
        for head, depth in enumerate(self.exits, start=1):
            early = self.model.read_out(output.taps[depth - 1], head)
            total = total + self.options.exit_weight * ctc_loss(early, output.lengths, batch)
        return total

    def results(self, averaged: dict[str, Tensor]) -> base.Results:
        sizes = [Subnet("dense", "", {}, 0.0, origin=Origin.TRAINED)]
        for head, depth in enumerate(self.exits, start=1):
            kept = list(
                dict.fromkeys(u.branch for u in self.spec.units if u.layer < depth and u.branch)
            )
            sizes.append(_depth.subnet(self.spec, kept, head, f"b{depth}"))
        return base.Results(blocks.rank_all(averaged, self.spec.units), sizes)
