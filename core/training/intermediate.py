"""A second CTC loss at an inner block, read by the model's own output layer: inner blocks learn to
know the tokens, too.

After Lee and Watanabe 2021 (arXiv 2102.03216): loss = (1 - weight) * own + weight * the block's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from core.data.batches import Batch
from core.models.base import Model, Output, ctc_loss
from core.records import ModelSpec, option
from core.registry import plugins


@dataclass(frozen=True)
class Options:
    layer: int = option(0, "block whose output is read, from 1; 0 = the middle one", low=0)
    weight: float = option(0.3, "share of its loss", low=0.0, high=0.9)


@dataclass(frozen=True)
class Intermediate:
    """`taps`: what the forward pass must keep; none without this loss."""

    taps: tuple[int, ...] = ()
    weight: float = 0.0

    def mixed(self, loss: Tensor, model: Model, output: Output, batch: Batch, head: int) -> Tensor:
        """`loss`, summed over the batch, with this one's share."""
        if not self.taps:
            return loss
        early = model.read_out(output.taps[self.taps[0]], head)
        return (1 - self.weight) * loss + self.weight * ctc_loss(early, output.lengths, batch)


def chosen(given: dict[str, Any], model: Model, spec: ModelSpec) -> Intermediate:
    """What training.intermediate asks for; ValueError for a block that is not there and a model
    that has no posteriors.
    """
    if not given:
        return Intermediate()
    options = plugins.make_options(Options, given, "training.intermediate")
    if not model.posteriors:
        raise ValueError(
            "training.intermediate reads token probabilities of every frame, and this model has"
            " none (they depend on the tokens before): leave it out"
        )
    blocks = 1 + max(unit.layer for unit in spec.units)
    layer = options.layer or blocks // 2
    if not 0 < layer < blocks:
        raise ValueError(
            f"training.intermediate.layer: expected a block from 1 to {blocks - 1} of the model's"
            f" {blocks}, got {options.layer}"
        )
    return Intermediate((layer - 1,), options.weight)
