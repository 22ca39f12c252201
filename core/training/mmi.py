"""Lattice-free maximum mutual information with CTC's topology: what was said must beat every other
sequence of tokens, each weighed by a trigram model of tokens.

After Xiang and Ou 2019 (CTC-CRF, arXiv 1904.05047) and Povey et al. 2016 (LF-MMI); the dense
recursion over pairs of tokens is ours: with some forty phonemes it needs no graph library.

Letters: B utterances, T encoder frames, U tokens, V tokens with the blank, 0. A state is the last
two tokens (i, j), and whether the last frame was blank; arrays lie as [j, B, i].
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.data.batches import Batch
from core.models.base import Model, Output
from core.records import option
from core.registry import plugins

MOST_TOKENS = 64  # V ** 3 weights are multiplied for each frame
DISCOUNT = 0.75  # of every count, given to the shorter history


@dataclass(frozen=True)
class Options:
    weight: float = option(
        0.9, "share of the loss; the rest stays CTC, which keeps it stable", low=0.0, high=1.0
    )


def trigrams(sequences: Iterable[Sequence[int]], size: int) -> np.ndarray:
    """float32 [V, V, V]: p(k | i, j) of tokens, interpolated absolute discounting; index 0 is what
    stands before the first token and after the last.
    """
    counts = np.zeros((size, size, size))
    for tokens in sequences:
        padded = np.array([0, 0, *tokens, 0])
        np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), 1.0)
    shorter = (counts.sum((0, 1)) + 1.0) / (counts.sum() + size)
    for known in (counts.sum(0), counts):
        total = known.sum(-1, keepdims=True)
        freed = DISCOUNT * np.count_nonzero(known, axis=-1, keepdims=True)
        discounted = np.maximum(known - DISCOUNT, 0.0) + freed * shorter
        shorter = np.where(total > 0, discounted / np.maximum(total, 1.0), shorter)
    return shorter.astype(np.float32)


@dataclass(frozen=True)
class MMI:
    """`chances`: trigrams(), on the device of the training."""

    chances: Tensor
    weight: float

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """What makes CTC's loss of the batch, summed, this one: weight * (log of the sum over all
        sequences - log probability of the tokens said).
        """
        assert output.log_probs is not None
        everything = log_sum(output.log_probs.float(), output.lengths, self.chances)
        return self.weight * (everything - self._tokens(batch)).sum()

    def _tokens(self, batch: Batch) -> Tensor:
        """Log probability [B] of each utterance's tokens and their end."""
        zeros = batch.tokens.new_zeros(len(batch.tokens), 1)
        padded = torch.cat([zeros, zeros, batch.tokens, zeros], 1)
        scores = self.chances[padded[:, :-2], padded[:, 1:-1], padded[:, 2:]].log()
        place = torch.arange(scores.shape[1], device=scores.device)
        return (scores * (place <= batch.token_lengths[:, None])).sum(1)


def chosen(
    given: dict[str, Any],
    model: Model,
    sequences: Iterable[Sequence[int]] = (),
    device: str = "cpu",
) -> MMI | None:
    """What training.mmi asks for, with the trigrams of the training speech; None for nothing.
    ValueError for a model without posteriors and for too many tokens.
    """
    if not given:
        return None
    options = plugins.make_options(Options, given, "training.mmi")
    size = model.vocabulary
    if not model.posteriors or size > MOST_TOKENS:
        raise ValueError(
            f"training.mmi sums over all sequences of tokens, which needs a CTC model with at most"
            f" {MOST_TOKENS} of them, e.g. tokens.kind = 'phonemes'; this one has {size}: leave it"
            " out"
        )
    return MMI(torch.from_numpy(trigrams(sequences, size)).to(device), options.weight)


def log_sum(log_probs: Tensor, lengths: Tensor, chances: Tensor) -> Tensor:
    """log_probs [B, T, V], lengths [B], chances [V, V, V] -> [B]: log of the sum, over all token
    sequences, of p(sequence) * p_CTC(sequence | frames). Its gradient is found by a second
    recursion, not by autograd.
    """
    result: Tensor = _LogSum.apply(log_probs, lengths, chances)
    return result


def _one_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """A frame is small: two threads, each waiting for the other, take thirty times as long on two
    busy cores, and as long on idle ones (both measured).
    """

    @functools.wraps(function)
    def wrapped(*given: Any) -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*given)
        finally:
            torch.set_num_threads(threads)

    return wrapped


class _LogSum(torch.autograd.Function):
    @staticmethod
    @_one_thread
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, chances: Tensor) -> Tensor:
        frames = log_probs.exp().permute(1, 2, 0).unsqueeze(-1)  # [T, V, B, 1]
        moves, again, ends = _weights(chances)
        size, batch = len(chances), len(log_probs)
        blank, token = (frames.new_zeros(2, size, batch, size)).unbind()
        blank[0, :, 0] = 1.0
        total, kept = frames.new_zeros(batch), []
        for t, frame in enumerate(frames):
            either = blank + token
            new = torch.bmm(either, moves)  # [i, B, j] of the new state
            new.diagonal(dim1=0, dim2=2).sub_((token * again).sum(-1).T)  # a repeat needs a blank
            new = (new.transpose(0, 2) + token) * frame
            stay = either * frame[0]
            scale = new.sum((0, 2)) + stay.sum((0, 2))
            goes_on = t < lengths
            token = torch.where(goes_on[:, None], new / scale[:, None], token)
            blank = torch.where(goes_on[:, None], stay / scale[:, None], blank)
            total = total + torch.where(goes_on, scale.log(), 0.0)
            kept.append((blank, token))
        ctx.frames, ctx.kept, ctx.lengths = frames, kept, lengths
        ctx.weights = moves, again, ends
        return total + ((blank + token) * ends).sum((0, 2)).log()

    @staticmethod
    @_one_thread
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        frames, (moves, again, ends) = ctx.frames, ctx.weights
        count, size, batch, _ = frames.shape
        backwards = moves.transpose(1, 2).contiguous()
        blank = token = ends.expand(size, batch, size)
        shares = frames.new_zeros(count, size, batch)
        for t in range(count - 1, -1, -1):
            frame, (before_blank, before_token) = frames[t], ctx.kept[t]
            goes_on = t < ctx.lengths
            share = (before_token * token).sum(2)
            share[0] = (before_blank * blank).sum((0, 2))
            shares[t] = share / share.sum(0) * goes_on
            said = token * frame
            by_first = said.transpose(0, 2).contiguous()  # [i, B, j]
            stay = blank * frame[0] + torch.bmm(by_first, backwards)
            repeated = by_first.diagonal(dim1=0, dim2=2).T[:, :, None]
            other = stay + said - again * repeated
            scale = stay.sum((0, 2))[:, None]
            blank = torch.where(goes_on[:, None], stay / scale, blank)
            token = torch.where(goes_on[:, None], other / scale, token)
        return shares.permute(2, 0, 1) * grad[:, None, None], None, None


def _weights(chances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(p(k | i, j) as [j, i, k], of k = j as [j, 1, i], of the end as [j, 1, i]); the blank is no
    token, so that it follows nothing.
    """
    moves = chances.permute(1, 0, 2).clone()
    ends = moves[:, None, :, 0].clone()
    moves[:, :, 0] = 0.0
    again = moves.diagonal(dim1=0, dim2=2).T[:, None].clone()
    return moves, again, ends
