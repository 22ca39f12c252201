"""One dense network of fewer blocks, trained on its own: what dynamic encoder sizes must match. A
baseline of the paper.

Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3) train 12, 8 and 4 blocks one by one. A
family of them is a recipe set whose arms differ in `blocks`. With `init_from` a deeper net the
training starts from some of its blocks and its output layer (ours), so that all arms of a set may
start from one net.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.methods import base
from core.models import base as models
from core.records import Recipe, option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="shallower nets one by one",
    color="#F0E442",
    marker="hexagon",
    sentence="It is a net of fewer blocks, trained alone: what a net gives that is trained for one "
    "depth only.",
)


@dataclass(frozen=True)
class Options:
    blocks: int = option(
        4, "number of encoder blocks; everything else as in the recipe", low=1, high=64
    )
    start: str = option(
        "first",
        "which blocks of a deeper net it starts from: the first, or evenly from first to last",
        choices=("first", "even"),
    )


class Method(base.Method):
    nested = False

    @classmethod
    def resolve(cls, recipe: Recipe, options: Options, vocabulary: int) -> Recipe:
        """The recipe with that many blocks; ValueError when the model of the recipe has fewer."""
        full = models.options(recipe.model).blocks
        if options.blocks > full:
            raise ValueError(
                f"method.blocks is {options.blocks}, but the recipe's model has {full}; ask for 1"
                f" to {full}"
            )
        return replace(recipe, model=models.changed(recipe.model, blocks=options.blocks))

    @classmethod
    def blocks_of(cls, options: Options, deeper: int) -> list[int]:
        if options.start == "first" or options.blocks == 1:
            return list(range(options.blocks))
        return [round(i * (deeper - 1) / (options.blocks - 1)) for i in range(options.blocks)]
