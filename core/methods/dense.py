"""Dense training: no pruning; the reference every size is compared with.

Any sparsity may still be cut from the result by magnitude: that is one-shot pruning without retraining.
"""
from __future__ import annotations

from dataclasses import dataclass

from core.methods import base

VERSION = 1


@dataclass(frozen=True)
class Options:
    pass


class Method(base.Method):
    pass
