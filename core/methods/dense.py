"""Dense training: no pruning; the reference every size is compared with.

Any sparsity may still be cut from the result by magnitude: that is one-shot pruning without
retraining.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.methods import base
from core.records import option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="dense net",
    color="#CC79A7",
    marker="triangle-up",
    sentence="It is a net without zeros, trained in the ordinary way.",
)


@dataclass(frozen=True)
class Options:
    layer_dropout: float = option(
        0.0,
        "stochastic depth (Huang et al. 2016): how often an utterance skips a residual branch of"
        " the last block; linearly less towards the first",
        low=0.0,
        high=0.9,
    )


class Method(base.Method):
    def plan(self, step: int) -> list[base.Pass]:
        last = max(u.layer for u in self.spec.units)
        rates = {
            u.branch: self.options.layer_dropout * (u.layer + 1) / (last + 1)
            for u in self.spec.units
        }
        return [base.Pass("dense", drop_branches=rates if self.options.layer_dropout else {})]
