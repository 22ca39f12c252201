"""torchaudio's Emformer computed segment by segment: its modules and its numbers, in time linear in
the length, with gates.

Shi et al. 2021 (arXiv 2010.10759), memory bank off as in torchaudio's emformer_rnnt_base: every
segment sees itself, its right context (computed again with every segment, never a later segment's
own frames) and a fixed stretch before it. torchaudio's forward pass masks one product of all frames
with all; here a segment meets only the keys it may see, the same way whole and as a stream, and
dropout takes given numbers (core/layers/dropout.py). Tests hold both equal to torchaudio's.

Letters: B utterances, N segments of S frames (40 ms), R frames of right context, L of left context,
P segments that hold it, K = P S + S + R keys, D width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models import Emformer

from core.layers.conformer_block import gated
from core.layers.dropout import Noise, drop

BRANCHES = ("attention", "pos_ff")  # residual branches of a layer, as torchaudio names its modules
FLOOR = -1e9  # as in core/layers/attention.py: finite


def reach(emformer: Emformer) -> int:
    """P: whole segments that hold the left context."""
    return -(-emformer.left_context_length // emformer.segment_length)


def whole(
    emformer: Emformer, x: Tensor, gates: dict | None = None, noise: Noise | None = None
) -> Tensor:
    """x [B, N S + R, D] -> [B, N S, D]; the last R frames are only right context. Frames behind an
    utterance's end are heard as
    they are, so a batch changes nothing and the end of a stream needs no mask. gates {(layer,
    branch): number or tensor}.
    """
    segment, right, before = emformer.segment_length, emformer.right_context_length, reach(emformer)
    count = (x.shape[1] - right) // segment
    segments = x[:, : count * segment].unflatten(1, (count, segment))  # [B, N, S, D]
    following = torch.cat(
        [segments[:, 1:, :right], x[:, None, count * segment :]], 1
    )  # [B, N, R, D], R <= S
    x = torch.cat([segments, following], 2)  # [B, N, S + R, D]
    cached = torch.arange(count, device=x.device) * segment
    mask = _mask(emformer, cached).unsqueeze(0)  # [1, N, 1, 1, K]
    for i, layer in enumerate(emformer.emformer_layers):
        x, _ = _layer(
            layer,
            x,
            lambda new: _windows(new[:, :, :segment], before),
            mask,
            _of_layer(gates, i),
            noise,
        )
    return x[:, :, :segment].flatten(1, 2)


def initial_cache(emformer: Emformer, batch: int, width: int) -> Tensor:
    """Keys beside values of the P segments before a stream's next one, per layer: [B, layers, P S,
    2 D].
    """
    return torch.zeros(
        batch, len(emformer.emformer_layers), reach(emformer) * emformer.segment_length, 2 * width
    )


def chunk(
    emformer: Emformer, x: Tensor, cache: Tensor, cached: Tensor, gates: dict | None = None
) -> tuple[Tensor, Tensor]:
    """One segment x [B, S + R, D] with the cache, of whose frames the last `cached` [B] are real ->
    ([B, S, D], cache).
    """
    segment, kept = emformer.segment_length, []
    mask = _mask(emformer, cached).unsqueeze(1)  # [B, 1, 1, 1, K]
    x = x.unsqueeze(1)
    for i, layer in enumerate(emformer.emformer_layers):
        before = cache[:, i]
        x, new = _layer(layer, x, lambda _: before.unsqueeze(1), mask, _of_layer(gates, i), None)
        kept.append(
            before if new is None else torch.cat([before, new[:, 0, :segment]], 1)[:, segment:]
        )
    return x[:, 0, :segment], torch.stack(kept, 1)


def _of_layer(gates: dict | None, index: int) -> dict[str, float | Tensor]:
    return {b: (gates or {}).get((index, b), 1.0) for b in BRANCHES}


def _mask(emformer: Emformer, cached: Tensor) -> Tensor:
    """cached [X] frames that came before a segment -> [X, 1, 1, K], 0 where its frames may look and
    FLOOR elsewhere.
    """
    segment, right, before = emformer.segment_length, emformer.right_context_length, reach(emformer)
    back = torch.arange(
        before * segment, 0, -1, device=cached.device
    )  # how far a left frame lies back
    seen = back <= cached.clamp(max=emformer.left_context_length).unsqueeze(1)
    mask = torch.zeros(seen.shape, device=cached.device).masked_fill_(~seen, FLOOR)
    return F.pad(mask, (0, segment + right))[:, None, None]


def _windows(segments: Tensor, before: int) -> Tensor:
    """[B, N, S, X] -> what the P segments before each hold, [B, N, P S, X]. By slices: the backward
    of unfold is slow.
    """
    count = segments.shape[1]
    padded = F.pad(segments, (0, 0, 0, 0, before, 0))
    return (
        torch.cat([padded[:, i : i + count] for i in range(before)], 2)
        if before
        else segments[:, :, :0]
    )


def _layer(
    layer: nn.Module,
    x: Tensor,
    left,
    mask: Tensor,
    gates: dict[str, float | Tensor],
    noise: Noise | None,
) -> tuple[Tensor, Tensor | None]:
    """[B, N, S + R, D] -> (the same shape, its keys and values [B, N, S + R, 2 D]; None when
    attention is not run).
    """
    shape, cache = x.shape, {}

    def attend(flat: Tensor) -> Tensor:
        y, cache["new"] = _attention(
            layer.attention, layer.layer_norm_input(flat).view(shape), left, mask
        )
        return drop(y.flatten(1, 2), noise)

    def feed_forward(flat: Tensor) -> Tensor:
        norm, up, activation, _, down, _ = (
            layer.pos_ff
        )  # its own dropouts are built with a rate of 0
        return drop(down(drop(activation(up(norm(flat))), noise)), noise)

    flat = gated(x.flatten(1, 2), 1.0, gates["attention"], attend)  # [B, N (S + R), D]
    flat = gated(flat, 1.0, gates["pos_ff"], feed_forward)
    return layer.layer_norm_output(flat).view(shape), cache.get("new")


def _attention(attention: nn.Module, x: Tensor, left, mask: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, N, S + R, D] normalized; left(own keys and values) are those before each segment ->
    (output, own keys and values).
    """
    if torch.is_autocast_enabled(x.device.type):  # once, not once for each product
        x = x.to(torch.get_autocast_dtype(x.device.type))
    new = attention.emb_to_key_value(x)
    keys, values = torch.cat([left(new).to(new.dtype), new], 2).chunk(2, -1)  # [B, N, K, D] each

    def split(z: Tensor) -> Tensor:
        return z.unflatten(-1, (attention.num_heads, -1)).transpose(2, 3)  # [B, N, H, ., D/H]

    scores = split(attention.emb_to_query(x) * attention.scaling) @ split(keys).transpose(3, 4)
    y = (scores + mask.to(scores.dtype)).softmax(-1) @ split(values)
    return attention.out_proj(y.transpose(2, 3).flatten(3)), new
