"""A recipe with its tables as typed options: read once, then passed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from core.data.source import SpeechRecipe
from core.evaluation import conditions
from core.methods.base import Method
from core.models import base as models
from core.records import Recipe
from core.registry import plugins
from core.search import evolution
from core.training.options import Options as TrainingOptions


@dataclass(frozen=True)
class ResolvedRecipe:
    """What a recipe means. Each part is read when it is first asked for, and then kept: a stored
    run can be measured although its [search] knows an option that is gone. ValueError names a wrong
    option.

    `recipe` itself is what is stored, named and hashed.
    """

    recipe: Recipe

    @cached_property
    def speech(self) -> SpeechRecipe:
        """Corpus, features and tokens."""
        return SpeechRecipe.of(self.recipe)

    @cached_property
    def model(self) -> Any:
        """The `Options` of its model."""
        return models.options(self.recipe.model)

    @cached_property
    def method(self) -> Any:
        """The `Options` of its method."""
        return plugins.options("methods", self.recipe.method, "method")

    @cached_property
    def training(self) -> TrainingOptions:
        return plugins.make_options(TrainingOptions, self.recipe.training, "training")

    @cached_property
    def search(self) -> evolution.Options:
        return plugins.make_options(evolution.Options, self.recipe.search, "search")

    @cached_property
    def evaluation(self) -> conditions.Options:
        return plugins.make_options(conditions.Options, self.recipe.evaluation, "evaluation")

    @cached_property
    def method_class(self) -> type[Method]:
        """The class of its method, whose hooks take `method`."""
        return plugins.load("methods", self.recipe.method.name).Method

    @property
    def sparsest(self) -> float:
        """Sparsity of the sparsest size that its method trains."""
        return self.method_class.sparsest(self.method)

    def built(self, vocabulary: int) -> ResolvedRecipe:
        """The recipe as its method builds it, e.g. with an output layer per size; itself where the
        method changes nothing.
        """
        recipe = self.method_class.resolve(self.recipe, self.method, vocabulary)
        return self if recipe == self.recipe else replace(self, recipe=recipe)
