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
from core.models.base import Output, ctc_loss
from core.records import Choice, Recipe, Subnet, option
from core.registry import plugins

VERSION = 1


@dataclass(frozen=True)
class Options:
    exits: list[int] = option([3, 5], "numbers of bottom blocks that are a size of their own")
    exit_weight: float = option(
        0.3, "weight of the loss at an exit; the top has 1", low=0.0, high=10.0
    )


class Method(base.Method):
    nested = False

    def __init__(self, options, model, anatomy, updates, seed):
        super().__init__(options, model, anatomy, updates, seed)
        self.exits = sorted(options.exits, reverse=True)

    def plan(self, step: int) -> list[base.Pass]:
        return [base.Pass("dense", taps=tuple(e - 1 for e in self.exits))]

    def loss(
        self, a_pass: base.Pass, output: Output, batch: Batch, teacher: Output | None
    ) -> Tensor:
        total = super().loss(a_pass, output, batch, teacher)
        for head, blocks in enumerate(self.exits, start=1):
            early = self.model.read_out(output.taps[blocks - 1], head)
            total = total + self.options.exit_weight * ctc_loss(early, output.lengths, batch)
        return total

    def results(self, averaged: dict[str, Tensor]) -> base.Results:
        sizes = [Subnet("dense", "", {}, 0.0, origin="trained")]
        for head, blocks in enumerate(self.exits, start=1):
            kept = list(
                dict.fromkeys(u.branch for u in self.anatomy.units if u.layer < blocks and u.branch)
            )
            sizes.append(_depth.subnet(self.anatomy, kept, head, f"b{blocks}"))
        return base.Results(base.blocks.rank_all(averaged, self.anatomy.units), sizes)


def resolve(recipe: Recipe, vocabulary: int) -> Recipe:
    """One output layer per exit; ValueError for exits the model does not have."""
    base.need_outputs(recipe)
    exits = plugins.make_options(Options, recipe.method.options, "method").exits
    module = plugins.load("models", recipe.model.name)
    options = {**recipe.model.options, "outputs": len(exits) + 1}
    count = plugins.make_options(module.Options, options, "model").blocks
    if not exits or len(set(exits)) < len(exits) or not all(1 <= e < count for e in exits):
        raise ValueError(
            f"method.exits are numbers of bottom blocks, each once, from 1 to {count - 1}: this"
            f" model has {count}; came {list(exits)}"
        )
    return replace(recipe, model=Choice(recipe.model.name, options))
