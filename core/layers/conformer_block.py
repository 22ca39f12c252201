"""One Conformer block of four gated residual branches: 1/2 feed-forward, convolution, attention,
1/2 feed-forward, LayerNorm.

Convolution before attention and no positional encoding, after Xu et al. 2024 (arXiv 2407.18930).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.layers.attention import Attention, Layout
from core.layers.convolution import Convolution
from core.layers.dropout import Noise
from core.layers.feed_forward import FeedForward
from core.layers.parts import Parts

BRANCHES = {
    "feed_forward_1": 0.5,
    "convolution": 1.0,
    "attention": 1.0,
    "feed_forward_2": 0.5,
}  # name: residual scale
Gate = float | Tensor | Parts


def gated(x: Tensor, scale: float, gate: Gate, branch) -> Tensor:
    """x + gate * scale * branch(x). The number 0 means that the branch is not run; a tensor is a
    scalar or [B]; parts are the branch's.
    """
    if isinstance(gate, Parts):
        return torch.add(x, branch(x, gate), alpha=scale)
    if not isinstance(gate, Tensor):
        return x if gate == 0 else torch.add(x, branch(x), alpha=scale * gate)
    return x + scale * (gate if gate.dim() == 0 else gate.view(-1, 1, 1)) * branch(x)


class ConformerBlock(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, kernel: int):
        super().__init__()
        self.feed_forward_1 = FeedForward(width, hidden)
        self.convolution = Convolution(width, kernel)
        self.attention = Attention(width, heads)
        self.feed_forward_2 = FeedForward(width, hidden)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, layout: Layout, gates: dict[str, Gate], noise: Noise | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D]; gates by branch name, missing = 1."""
        runs = {
            "feed_forward_1": lambda y, *parts: self.feed_forward_1(y, noise, *parts),
            "convolution": lambda y: self.convolution(y, noise)[0],
            "attention": lambda y, *parts: self.attention(y, layout, noise, *parts),
            "feed_forward_2": lambda y, *parts: self.feed_forward_2(y, noise, *parts),
        }
        for name, scale in BRANCHES.items():
            x = gated(x, scale, gates.get(name, 1.0), runs[name])
        return self.norm(x)

    def stream(
        self,
        x: Tensor,
        gates: dict[str, Gate],
        keys: Tensor,
        history: Tensor,
        cached: Tensor,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One chunk [B, c, D] with this block's caches -> (output, new keys, new history). Parts
        are gated in training
        alone: a stored size has zeros for them.
        """
        assert not any(isinstance(gate, Parts) for gate in gates.values()), "see above"
        state = {"keys": keys, "history": history}

        def convolve(y: Tensor) -> Tensor:
            z, state["history"] = self.convolution(y, None, history)
            return z

        def attend(y: Tensor) -> Tensor:
            z, state["keys"] = self.attention.stream(y, keys, cached, valid)
            return z

        runs = {
            "feed_forward_1": self.feed_forward_1,
            "convolution": convolve,
            "attention": attend,
            "feed_forward_2": self.feed_forward_2,
        }
        for name, scale in BRANCHES.items():
            x = gated(x, scale, gates.get(name, 1.0), runs[name])
        return self.norm(x), state["keys"], state["history"]
