"""The position-wise feed-forward branch of a Conformer block (Gulati et al. 2020)."""
from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core.layers.dropout import Noise, drop


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        hidden = drop(F.silu(self.up(self.norm(x))), noise)
        return drop(self.down(hidden), noise)
