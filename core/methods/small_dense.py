"""A smaller dense model trained from scratch at the stored bytes of a pruned one: the honest
baseline every user would ask for.

The width is the largest multiple of 8 (or of the model's WIDTH_STEP) and of heads, if any, whose
fp16 file is no bigger than the 8x1-pruned file of the recipe's full model at `same_bytes_as` zeros;
everything else stays as in the recipe. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core import cost
from core.methods import base
from core.records import BLOCK, Anatomy, Choice, Recipe, option
from core.registry import plugins

VERSION = 1


@dataclass(frozen=True)
class Options:
    same_bytes_as: float = option(
        0.7, "sparsity of the pruned file whose bytes this model may use", low=0.0, high=0.99
    )
    reference_width: int = option(
        0, "width of the model that is not made smaller; 0 = the recipe's own", low=0, high=2048
    )


class Method(base.Method):
    nested = False


def resolve(recipe: Recipe, vocabulary: int) -> Recipe:
    """The recipe with the width that fits the bytes; ValueError when even the narrowest is too
    big.
    """
    module = plugins.load("models", recipe.model.name)
    options = plugins.make_options(Options, recipe.method.options, "method")

    def anatomy(width: int) -> Anatomy:
        changed = plugins.make_options(
            module.Options, {**recipe.model.options, "width": width}, "model"
        )
        return module.build(changed, vocabulary).anatomy()

    given = plugins.make_options(module.Options, recipe.model.options, "model")
    reference = options.reference_width or given.width
    full = anatomy(reference)
    budget = cost.file_bytes(full, cost.uniform(full, options.same_bytes_as))
    for width in range(reference, 0, -getattr(module, "WIDTH_STEP", BLOCK)):
        if (
            width % getattr(given, "heads", 1) == 0
            and cost.file_bytes(anatomy(width), {}) <= budget
        ):
            model = Choice(recipe.model.name, {**recipe.model.options, "width": width})
            method = Choice(
                recipe.method.name, {**recipe.method.options, "reference_width": reference}
            )
            return replace(recipe, model=model, method=method)
    raise ValueError(
        f"method.same_bytes_as {options.same_bytes_as}: no dense {recipe.model.name} fits into "
        f"{budget / 1e6:.2f} MB; ask for a lower sparsity"
    )
