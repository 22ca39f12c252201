"""A smaller dense model trained from scratch at the stored bytes of a pruned one: the honest
baseline every user would ask for.

The width is the largest multiple of 8 (or of the model's width_step) and of heads, if any, whose
fp16 file is no bigger than the 8x1-pruned file of the recipe's full model at `same_bytes_as` zeros;
everything else stays as in the recipe. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core import cost
from core.methods import base
from core.models import base as models
from core.records import Choice, Recipe, option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="small dense nets",
    color="#D55E00",
    marker="square",
    line="dash",
    ranked=False,
    sentence="It is a narrower dense model, trained from scratch, and is the baseline that "
    "the supernet's sizes are held against: what the same bytes give without any pruning.",
)


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

    @classmethod
    def resolve(cls, recipe: Recipe, options: Options, vocabulary: int) -> Recipe:
        """The recipe with the width that fits the bytes; ValueError when even the narrowest is too
        large.
        """
        reference = options.reference_width or models.options(recipe.model).width
        full = models.build(models.changed(recipe.model, width=reference), vocabulary)
        spec = full.spec()
        budget = cost.file_bytes(spec, cost.uniform(spec, options.same_bytes_as))
        for width in filter(full.can_have_width, range(reference, 0, -full.width_step)):
            model = models.changed(recipe.model, width=width)
            if cost.file_bytes(models.build(model, vocabulary).spec(), {}) <= budget:
                given = {**recipe.method.options, "reference_width": reference}
                return replace(recipe, model=model, method=Choice(recipe.method.name, given))
        raise ValueError(
            f"method.same_bytes_as {options.same_bytes_as}: no dense {recipe.model.name} fits into "
            f"{budget / 1e6:.2f} MB; ask for a lower sparsity"
        )
