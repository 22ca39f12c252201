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

    def forward(
        self, x: Tensor, noise: Noise | None = None, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x [B, T, D], history [B, D, K-1] of the frames before (zeros at the start) -> ([B, T, D],
        new history).
        """
        gated = F.glu(self.expand(self.norm(x)), dim=-1)
        if history is None:
            padded = F.pad(gated, (0, 0, self.kernel - 1, 0)).transpose(1, 2)
        else:
            padded = torch.cat([history, gated.transpose(1, 2)], dim=2)  # [B, D, K-1 + T]
        y = F.silu(self.inner_norm(self._convolve(padded).transpose(1, 2)))
        return drop(self.project(y), noise), padded[:, :, -(self.kernel - 1) :]

    def _convolve(self, padded: Tensor) -> Tensor:
        """[B, D, K-1 + T] -> [B, D, T]. As a picture one pixel high: channels then lie innermost,
        as they come and go, and forward and
        backward of torch 2.11's one-dimensional kernel took 1.5-2 times as long here (bf16, 1000
        frames).
        """
        convolution = self.depthwise
        return F.conv2d(
            padded.unsqueeze(2),
            convolution.weight.unsqueeze(2),
            convolution.bias,
            groups=padded.shape[1],
        ).squeeze(2)
