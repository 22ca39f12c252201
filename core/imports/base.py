"""What every source of models offers: the files of a finished run, or a model that becomes one.

A plug-in file holds a docstring and `class Source(base.Source)`; its name stands before the colon
of `python -m core import SOURCE:WHAT`. core/pipelines/import_run.py stores what it gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from core.records import Recipe

FILES = ("weights", "tokens", "statistics")  # what may be given in place of a download


@dataclass(frozen=True)
class NewModel:
    """A model of ours with weights from elsewhere. `recipe` says how it is built, of which
    features, and how it is measured; `facts` go into finished.json: at least `license` (as the
    Hugging Face Hub names licenses) and `attributions` [[corpus, sentence], ...].
    """

    recipe: Recipe
    vocabulary: int
    weights: dict[str, np.ndarray]  # float32, under the names of our model's parameters
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """`files` {name in the run's folder: content}: all of a finished run, its marker included; or,
    beside a new model, its tokens, statistics and card.
    """

    files: dict[str, bytes]
    model: NewModel | None = None


class Source(ABC):
    takes: ClassVar[tuple[str, ...]] = ()  # which of FILES it can be given
    renames: ClassVar[bool] = True  # whether the run may get another name

    @abstractmethod
    def name(self, what: str) -> str:
        """The name of the run, before anything large is read. ValueError for what is not there."""

    @abstractmethod
    def read(self, what: str, given: Mapping[str, Path]) -> Imported:
        """ValueError for what is missing, damaged or does not fit: says what came and what is
        allowed.
        """
