"""Causal x4 subsampling of features by two strided convolutions: 10 ms frames in, 40 ms frames out,
no look-ahead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FACTOR = 4
HISTORY = 3  # input frames before the first of a chunk that its first output sees


class Subsampling(nn.Module):
    """Two convolutions over time (kernel 3, stride 2), as in Whisper's stem but causal.

    Output frame t sees input frames 4t-3 .. 4t+3, so a chunk of c output frames needs its own 4c
    frames and 3 before them.
    """

    def __init__(self, bins: int, width: int):
        super().__init__()
        self.first = nn.Conv1d(bins, width, 3, stride=2)
        self.second = nn.Conv1d(width, width, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 3 + 4 T', bins], the first three frames being history -> [B, T', D]."""
        x = F.gelu(self.first(features.transpose(1, 2)))
        return F.gelu(self.second(x)).transpose(1, 2)


def with_history(features: Tensor) -> Tensor:
    """Pad [B, T, F] to [B, 3 + 4 ceil(T/4), F]: zeros (the mean, after normalization) before and
    after.
    """
    tail = -features.shape[1] % FACTOR
    return F.pad(features, (0, 0, HISTORY, tail))


def out_lengths(lengths: Tensor) -> Tensor:
    """Frames of 40 ms that hold at least one 10 ms frame. lengths [B] -> [B]."""
    return torch.div(lengths + FACTOR - 1, FACTOR, rounding_mode="floor")
