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
from core.records import Choice, Recipe, option
from core.registry import plugins

VERSION = 1


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


def blocks_of(recipe: Recipe, deeper: int) -> list[int]:
    """Which blocks of a net of `deeper` blocks the training starts from."""
    options = plugins.make_options(Options, recipe.method.options, "method")
    if options.start == "first" or options.blocks == 1:
        return list(range(options.blocks))
    return [round(i * (deeper - 1) / (options.blocks - 1)) for i in range(options.blocks)]


def resolve(recipe: Recipe, vocabulary: int) -> Recipe:
    """The recipe with that many blocks; ValueError when the model of the recipe has fewer."""
    module = plugins.load("models", recipe.model.name)
    full = plugins.make_options(module.Options, recipe.model.options, "model").blocks
    blocks = plugins.make_options(Options, recipe.method.options, "method").blocks
    if blocks > full:
        raise ValueError(
            f"method.blocks is {blocks}, but the recipe's model has {full}; ask for 1 to {full}"
        )
    return replace(
        recipe, model=Choice(recipe.model.name, {**recipe.model.options, "blocks": blocks})
    )
