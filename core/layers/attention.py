"""Multi-head self-attention in chunks: a frame sees its own chunk and a fixed stretch before the
chunk.

Three ways through it give the same numbers: whole utterances under a mask (short ones), blocks of
64 queries against 128 keys (long ones: what the mask would hide is mostly never computed), and
chunk by chunk with cached keys and values (streaming). No positional encoding (METHODS.md section
3): the causal convolutions tell positions apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.layers.dropout import Noise, drop
from core.layers.parts import Parts, first, last

LEFT = 64  # frames of 40 ms before the chunk that are seen: 2.56 s
SPAN = 64  # queries per block; every chunk length divides it
SHORT = 160  # up to here one masked product is cheaper than blocks (frames)


def chunk_mask(frames: int, chunk: int, device: torch.device | str = "cpu") -> Tensor:
    """[T, T] True where query (row) sees key (column); chunk 0 = full context."""
    if chunk == 0:
        return torch.ones(frames, frames, dtype=torch.bool, device=device)
    at = torch.arange(frames, device=device)
    start = (at // chunk * chunk).unsqueeze(1)
    return (at >= start - LEFT) & (at < start + chunk)


class Layout:
    """The masks of one batch, made once and shared by all blocks. lengths [B] in frames of 40
    ms.
    """

    def __init__(self, frames: int, lengths: Tensor, chunk: int):
        if chunk and SPAN % chunk:
            raise ValueError(
                f"chunk of {chunk} frames: allowed are 0 (full context) and divisors of {SPAN}"
            )
        self.frames = frames
        self.blocks = 0 if chunk == 0 or frames <= SHORT else -(-frames // SPAN)
        device = lengths.device
        if not self.blocks:
            valid = torch.arange(frames, device=device) < lengths.unsqueeze(1)  # [B, T]
            mask = chunk_mask(frames, chunk, device) & valid.unsqueeze(1)  # [B, T, T]
            self.mask = self._additive(mask).unsqueeze(1)  # [B, 1, T, T]
            return
        query = torch.arange(self.blocks * SPAN, device=device).view(self.blocks, SPAN, 1)
        key = (
            torch.arange(self.blocks, device=device).view(-1, 1, 1) * SPAN
            - LEFT
            + torch.arange(LEFT + SPAN, device=device)
        )  # [N, 1, LEFT + SPAN]
        start = query // chunk * chunk
        seen = (key >= 0) & (key >= start - LEFT) & (key < start + chunk)  # [N, SPAN, LEFT + SPAN]
        valid = key < lengths.view(-1, 1, 1, 1)  # [B, N, 1, LEFT + SPAN]
        mask = (seen & valid).flatten(0, 1)  # [B N, SPAN, LEFT + SPAN]
        self.mask = self._additive(mask).unsqueeze(1)

    @staticmethod
    def _additive(mask: Tensor) -> Tensor:
        # A finite floor, not -inf: rows of padding see no key at all and must not become NaN.
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -1e9)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.size = width // heads  # of a head
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a key bias cancels in the softmax
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, H, T, D/H], of the heads that are run."""
        return x.unflatten(-1, (-1, self.size)).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        if q.is_cuda:
            y = F.scaled_dot_product_attention(
                self._split(q), self._split(k), self._split(v), attn_mask=mask.to(q.dtype)
            )
        # torch 2.11's fused CPU kernel is slow backwards at these sizes: plain products trained
        # 1.2-1.5 times as fast here
        else:
            scores = self._split(q * self.size**-0.5) @ self._split(k).transpose(2, 3)
            y = (scores + mask.to(q.dtype)).softmax(-1) @ self._split(v)
        return y.transpose(1, 2).flatten(2)

    def forward(
        self, x: Tensor, layout: Layout, noise: Noise | None = None, parts: Parts | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D]; parts are the heads."""
        x = self.norm(x)
        if torch.is_autocast_enabled(
            x.device.type
        ):  # once, not once for each of the three products
            x = x.to(torch.get_autocast_dtype(x.device.type))
        q, k, v = (first(linear, x, parts) for linear in (self.query, self.key, self.value))
        y = self._blocks(q, k, v, layout) if layout.blocks else self._attend(q, k, v, layout.mask)
        return drop(last(self.out, y, parts), noise)

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        batch, frames, width = q.shape
        tail = layout.blocks * SPAN - frames
        q = F.pad(q, (0, 0, 0, tail)).view(batch * layout.blocks, SPAN, width)
        y = self._attend(q, self._seen(k, tail), self._seen(v, tail), layout.mask)
        return y.reshape(batch, layout.blocks * SPAN, width)[:, :frames]

    @staticmethod
    def _seen(z: Tensor, tail: int) -> Tensor:
        """[B, T, D] -> [B N, LEFT + SPAN, D]: every block after the one before it, which is what
        LEFT = SPAN makes of the left
        context. Not by unfold: its backward took 3 % of a step.
        """
        before, here = F.pad(z, (0, 0, LEFT, tail)), F.pad(z, (0, 0, 0, tail))
        before = before[:, : here.shape[1]]
        return torch.cat([w.unflatten(1, (-1, SPAN)) for w in (before, here)], dim=2).flatten(0, 1)

    def stream(
        self, x: Tensor, cache: Tensor, cached: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One chunk x [B, c, D]; cache [B, LEFT, 2 D] of keys and values, of which the last
        `cached` [B] are real;
        `valid` [B] frames of the chunk are real -> ([B, c, D], new cache).
        """
        x = self.norm(x)
        new = torch.cat([self.key(x), self.value(x)], dim=-1)
        both = torch.cat([cache, new], dim=1)
        k, v = both.chunk(2, dim=-1)
        at = torch.arange(both.shape[1], device=x.device)
        seen = (at >= LEFT - cached.unsqueeze(1)) & (at < LEFT + valid.unsqueeze(1))
        y = self._attend(self.query(x), k, v, Layout._additive(seen)[:, None, None, :])
        return self.out(y), both[:, -LEFT:]
