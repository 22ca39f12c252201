"""Which utterances of a batch each pass of an update runs on: all, or its part of them.

Letters: B utterances of a batch, all first views before all second ones where there are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from core.data.batches import Batch
from core.methods.base import Pass


def dealt(
    plan: Sequence[Pass], batch: Batch, rng: np.random.Generator, views: int = 1
) -> list[Batch]:
    """What each pass runs on; of a small batch a part may be empty."""
    counts = {a_pass.part[1] for a_pass in plan if a_pass.part}
    parts = {n: deal(batch.lengths[: len(batch.ids) // views].tolist(), n, rng) for n in counts}
    return [
        picked(batch, parts[a_pass.part[1]][a_pass.part[0]], views) if a_pass.part else batch
        for a_pass in plan
    ]


def deal(lengths: Sequence[int], parts: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices of utterances, each in exactly one part; parts differ by at most the longest
    utterance. Who gets which is drawn.
    """
    order = sorted(rng.permutation(len(lengths)).tolist(), key=lambda i: -lengths[i])
    hands: list[list[int]] = [[] for _ in range(parts)]
    total = [0] * parts
    turns = rng.permutation(parts).tolist()  # who is first while all are equal
    for i in order:
        shortest = min(turns, key=lambda part: total[part])
        hands[shortest].append(i)
        total[shortest] += lengths[i]
    return [sorted(hand) for hand in hands]


def picked(batch: Batch, utterances: Sequence[int], views: int = 1) -> Batch:
    """These utterances of the batch, in all their views and as long as the whole batch."""
    count = len(batch.ids) // views
    rows = [view * count + i for view in range(views) for i in utterances]
    index = torch.tensor(rows, dtype=torch.int64, device=batch.lengths.device)
    return replace(
        batch,
        features=batch.features[index],
        lengths=batch.lengths[index],
        tokens=batch.tokens[index],
        token_lengths=batch.token_lengths[index],
        ids=[batch.ids[row] for row in rows],
    )


def frames(plan: Sequence[Pass], lengths: Tensor) -> Tensor:
    """Encoder frames of the whole batch, from those that each pass heard [passes]."""
    parts = [n for a_pass, n in zip(plan, lengths) if a_pass.part]
    return torch.stack(parts).sum() if parts else lengths[0]
