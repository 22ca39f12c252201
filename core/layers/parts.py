"""Gates of parts of a residual branch: quarters of a feed-forward's hidden units, heads of an
attention.

Numbers 0 and 1: parts of 0 are not run, their rows and columns not even looked at. A tensor [N]:
every part is run and multiplied. A branch of which nothing is kept is not gated here but left out
whole. Letters: N parts, R outputs, C inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Parts:
    """Gates of a branch's N parts; `share` of them is kept, for dropout."""

    def __init__(self, gates: Tensor | Sequence[int]):
        self.soft = gates if isinstance(gates, Tensor) else None
        self.count = len(gates)
        self.kept = (
            [i for i, gate in enumerate(gates) if gate]
            if self.soft is None
            else list(range(self.count))
        )
        assert self.kept, "a branch without parts is left out whole"
        self.share = (
            len(self.kept) / self.count
            if self.soft is None
            else min(1.0, max(0.0, float(self.soft.detach().mean())))
        )

    def of(self, weight: Tensor, dim: int) -> Tensor:
        """The stretches of a weight along `dim` that belong to parts that are run."""
        stretches = weight.chunk(self.count, dim)
        return torch.cat([stretches[i] for i in self.kept], dim)


def first(linear: nn.Linear, x: Tensor, parts: Parts | None) -> Tensor:
    """A linear layer whose outputs are the parts' in turn: [..., C] -> [..., R], or without those
    of parts that are not run.
    """
    if parts is None or parts.soft is not None:
        return linear(x)
    return F.linear(
        x, parts.of(linear.weight, 0), None if linear.bias is None else parts.of(linear.bias, 0)
    )


def last(linear: nn.Linear, x: Tensor, parts: Parts | None) -> Tensor:
    """A linear layer whose inputs are the parts' in turn, as first() leaves them; its bias goes
    with the largest gate (ours), so that it
    is gone where no part is left.
    """
    if parts is None:
        return linear(x)
    if parts.soft is None:
        return F.linear(x, parts.of(linear.weight, 1), linear.bias)
    gates = parts.soft.to(x.device)
    spread = gates.repeat_interleave(linear.in_features // parts.count).to(x.dtype)
    return F.linear(x * spread, linear.weight, linear.bias * gates.max())
