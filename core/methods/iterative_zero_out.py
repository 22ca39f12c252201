"""Iterative-Zero-Out: round by round the branches with the smallest scores are pushed to zero, then
all sizes train together.

Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3), complete: gates are sigmoids of trained
scores that start at 10; a loss draws their sum to the round's count; at a round's end the n
smallest scores are set to -5, stay trainable and may recover. Ours: rounds are equal parts of step
1 (but for the first, if it is to be longer), and a size keeps what is not set to zero at the end of
the round that reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.methods import _depth
from core.records import option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="parts left out (Iterative-Zero-Out)",
    color="#D55E00",
    marker="square-open",
)
ZEROED = -5.0


@dataclass(frozen=True)
class Options:
    sizes: list[int] = option(
        [16, 24], "branches kept by each smaller size; the dense net keeps all"
    )
    selection: float = option(
        0.62, "share of the updates in which branches are chosen (step 1)", low=0.01, high=0.99
    )
    rounds: int = option(8, "rounds of step 1", low=1, high=1000)
    first_round: float = option(
        0.0, "the first round's share of step 1; 0 = as long as the others", low=0.0, high=0.99
    )
    sparsity_weight: float = option(
        5.0,
        "weight of the loss that draws the gates' sum to the round's count",
        low=0.0,
        high=1000.0,
    )
    score_rate: float = option(
        1.0,
        "learning rate of the scores over the weights'; short runs need more (ours)",
        low=0.01,
        high=100_000.0,
    )
    subnet_weight: float = option(
        0.3, "weight of a smaller size's loss; the largest has 1", low=0.0, high=10.0
    )
    layer_dropout: float = option(
        0.3,
        "chance that the largest net leaves out a branch the smallest lacks (step 2)",
        low=0.0,
        high=0.9,
    )


class Method(_depth.Depth):
    initial_score = 10.0

    def zeroed(self, index: int) -> int:
        """How many branches are zero after round `index` (from 0)."""
        return round((len(self.branches) - self.sizes[-1]) * (index + 1) / self.options.rounds)

    def round_of(self, step: int) -> int:
        if not self.options.first_round or self.options.rounds == 1:
            return min(self.options.rounds - 1, step * self.options.rounds // self.end)
        first, others = round(self.options.first_round * self.end), self.options.rounds - 1
        return (
            0
            if step < first
            else min(others, 1 + (step - first) * others // max(1, self.end - first))
        )

    def soft_gates(self, step: int) -> Tensor:
        return self.scaled().sigmoid()

    def penalty(self, step: int) -> Tensor | None:
        if step >= self.end:
            return None
        count = len(self.branches)
        gone = (count - self.scaled().sigmoid().sum()) / count
        return (
            self.options.sparsity_weight * (gone - self.zeroed(self.round_of(step)) / count).abs()
        )

    def after_step(self, step: int) -> None:
        index = self.round_of(step)
        if step < self.end and (step + 1 == self.end or self.round_of(step + 1) != index):
            before = self.zeroed(index - 1) if index else 0
            self.zero_out(before, self.zeroed(index))
        super().after_step(step)

    def zero_out(self, before: int, now: int) -> None:
        """The end of a round: the smallest scores are set back, and sizes that are reached are
        noted.
        """
        smallest = self.scores.detach().topk(now, largest=False).indices
        for i, size in enumerate(self.sizes):
            if before < len(self.branches) - size <= now:
                self.chosen[i] = self.choice(size)
        with torch.no_grad():
            self.scores[smallest] = ZEROED / self.rate

    def freeze(self) -> None:
        """Sizes were noted when they were reached; those of a run stopped before that are chosen
        now.
        """
        for i, size in enumerate(self.sizes):
            if not self.chosen[i].any():
                self.chosen[i] = self.choice(size)
        self.scores.requires_grad_(False)

    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        self.scores.requires_grad_(not bool(self.chosen.any(1).all()))
