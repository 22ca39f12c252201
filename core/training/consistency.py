"""CR-CTC: two differently augmented views of an utterance should give the same posteriors.

After Yao et al. 2024 (arXiv 2410.05101, section 3): each view learns from the other one, which is
held still. Letters: B utterances, T encoder frames, V tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

VIEWS = 2


def consistency_loss(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Sum over valid frames of both views of KL(other view || own), log_probs [2B, T, V]: first all
    first views, then all second.
    """
    first, second = log_probs.chunk(VIEWS)
    other = torch.cat([second, first]).detach()
    divergence = (other.exp() * (other - log_probs)).sum(-1)  # [2B, T]
    valid = torch.arange(log_probs.shape[1], device=lengths.device) < lengths.unsqueeze(1)
    return divergence.masked_fill(~valid, 0.0).sum()
