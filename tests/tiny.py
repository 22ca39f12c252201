"""Stand-ins for training tests: a tiny model and seeded batches that no disk is needed for."""

from __future__ import annotations

import numpy as np
import torch

from core.data.batches import Batch
from core.models import conformer_ctc

VOCABULARY = 12


def model(seed: int = 0, **changes) -> conformer_ctc.ConformerCTC:
    torch.manual_seed(seed)
    options = {"blocks": 2, "width": 32, "heads": 2, "kernel": 5} | changes
    return conformer_ctc.build(conformer_ctc.Options(**options), VOCABULARY)


def batch(seed: int = 0, utterances: int = 3, frames: int = 120) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(frames // 2, frames + 1, utterances)
    lengths[0] = frames
    tokens = rng.integers(1, VOCABULARY, (utterances, 6))
    # every token has its own pattern in time, so that a model can learn it
    patterns = np.random.default_rng(99).standard_normal((VOCABULARY, 80))
    features = rng.standard_normal((utterances, frames, 80)) * 0.1
    for b in range(utterances):
        for u, token in enumerate(tokens[b]):
            start = int(lengths[b]) * u // 6
            features[b, start : start + 4] += patterns[token]
        features[b, lengths[b] :] = 0
    return Batch(
        features=torch.tensor(features, dtype=torch.float32),
        lengths=torch.tensor(lengths),
        tokens=torch.tensor(tokens),
        token_lengths=torch.full((utterances,), 6),
        ids=[f"u{seed}-{i}" for i in range(utterances)],
        seconds=float(lengths.sum()) / 100,
    )


class Batches:
    """Four fixed batches an epoch, with the interface the loop uses."""

    def iterate(self, epoch: int, start: int = 0, augment: bool = True):
        for i in range(start, 4):
            yield batch(seed=i)
