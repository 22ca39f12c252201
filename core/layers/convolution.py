"""The convolution branch of a Conformer block, causal, with LayerNorm instead of BatchNorm.

BatchNorm statistics would mix over the subnets of a supernet (DESIGN: facts); LayerNorm has none.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.layers.dropout import Noise, drop


class Convolution(nn.Module):
    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.inner_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, noise: Noise | None = None, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, D], history [B, D, K-1] of the frames before (zeros at the start) -> ([B, T, D], new history)."""
        gated = F.glu(self.expand(self.norm(x)), dim=-1).transpose(1, 2)
        if history is None:
            history = gated.new_zeros(gated.shape[0], gated.shape[1], self.kernel - 1)
        padded = torch.cat([history, gated], dim=2)
        y = self.depthwise(padded).transpose(1, 2)
        y = F.silu(self.inner_norm(y))
        return drop(self.project(y), noise), padded[:, :, -(self.kernel - 1):]
