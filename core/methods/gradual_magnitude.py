"""Gradual magnitude pruning: one model pruned to one sparsity along a cubic ramp; the papers'
individually pruned baseline.

Zhu & Gupta 2017 (arXiv 1710.01878): s(t) = s_f (1 - (1 - t/n)^3) from the first update to
`ramp_end`, same share in every matrix. The same 8x1 blocks, averaging and decoding as the supernet;
warm start by the recipe's init_from. After the ramp the mask is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.methods import _pruned
from core.records import option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="pruned one by one",
    color="#009E73",
    marker="diamond",
    line="none",
    sentence="It was pruned to one size while it was trained, and is the baseline that the "
    "supernet's sizes are held against: what a net gives that is trained for one size "
    "only.",
)


@dataclass(frozen=True)
class Options:
    sparsity: float = option(0.7, "sparsity at the end", low=0.0, high=0.99)
    pattern: str = option(
        "8x1",
        "where zeros may lie: blocks of 8 outputs, anywhere, or 2 of every 4 inputs",
        choices=("8x1", "1x1", "2:4"),
    )
    ramp_end: float = option(
        0.6, "share of the updates after which the mask is frozen", low=0.0, high=1.0
    )
    refresh: int = option(10, "updates between new masks while the ramp lasts", low=1, high=10000)
    adaptive_dropout: bool = option(True, "dropout times the share kept")


class Method(_pruned.Pruned):
    """Nothing beside the ramp: the blocks of least L2 norm are pruned."""
