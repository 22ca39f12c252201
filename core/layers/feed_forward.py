"""The position-wise feed-forward branch of a Conformer block (Gulati et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core.layers.dropout import Noise, drop
from core.layers.parts import Parts, first, last

QUARTERS = 4  # parts that its hidden units may be gated in


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, noise: Noise | None = None, parts: Parts | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; dropout goes down with the share of the quarters that is kept."""
        share = 1.0 if parts is None else parts.share
        hidden = drop(F.silu(first(self.up, self.norm(x), parts)), noise, share)
        return drop(last(self.down, hidden, parts), noise, share)
