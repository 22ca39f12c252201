"""Greedy CTC: a known answer, and any cut into chunks gives the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.decoding.ctc import GreedyState, greedy

FRAMES = [0, 3, 3, 0, 3, 1, 1, 2, 2, 0, 0, 2, 4]
ANSWER = [3, 3, 1, 2, 2, 4]


def log_probs(frames, vocabulary=5):
    return np.log(np.eye(vocabulary)[frames] * 0.9 + 0.02).astype(np.float32)


def test_known_answer_and_lengths():
    both = np.stack([log_probs(FRAMES)] * 2)
    assert greedy(both, [len(FRAMES), 6]) == [ANSWER, [3, 3, 1]]
    assert greedy(torch.from_numpy(both), torch.tensor([0, 13])) == [[], ANSWER]


@pytest.mark.parametrize("cuts", [[], [1], [2, 6], [3, 4, 5, 8], list(range(1, 13))])
def test_chunks_give_the_same_tokens(cuts):
    state = GreedyState()
    pieces = np.split(log_probs(FRAMES), cuts)
    new = [token for piece in pieces for token in state.accept(piece)]
    assert new == state.ids == state.finish() == ANSWER
    assert state.accept(np.zeros((0, 5), np.float32)) == []
