"""What the methods that choose residual branches share: two steps, one output layer per size,
frozen choice, joint training.

Xu et al. 2024 (arXiv 2407.18930; METHODS.md section 3). Step 1, selection: the supernet and one
shrinking subnet whose gates come from scores. Step 2, joint training: the largest, the smallest and
one random size between, every size with its own output layer; branches outside the smallest size
are left out at random in the supernet's pass (stochastic depth).

Ours: `score_rate`. In the paper's 468 000 updates of step 1 the learning rates add up to 110, so
scores may travel 110; in 186 updates at 7e-4 they add up to 0.1, and no gate would open or close
before its round ends. A score is score_rate times the trained number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import cost
from core.methods import base
from core.models import base as models
from core.models.base import Model
from core.records import ModelSpec, Origin, Recipe, Subnet
from core.sparsity import blocks

SUPERNET = 1.0  # weight of the largest size's loss
VOCABULARY = 8  # of a model that is built to count its branches


def branches(spec: ModelSpec) -> list[str]:
    """Names of all residual branches, in the order of the network."""
    return list(dict.fromkeys(u.branch for u in spec.units if u.branch))


def subnet(spec: ModelSpec, kept: Sequence[str], head: int, name: str) -> Subnet:
    """The size that runs only these branches."""
    keep = {u.name: 0.0 for u in spec.units if u.branch and u.branch not in set(kept)}
    return Subnet(
        name, "", keep, cost.sparsity_reached(spec, keep), head=head, origin=Origin.TRAINED
    )


class Depth(base.Method):
    """Options need sizes, selection, subnet_weight and layer_dropout. A method says how scores
    become gates and a choice.
    """

    nested = False  # its sizes are those that were trained; the largest is the dense model
    initial_score = 0.0

    @classmethod
    def resolve(cls, recipe: Recipe, options: Any, vocabulary: int) -> Recipe:
        """One output layer per size; ValueError for sizes that the model does not have."""
        base.need_outputs(recipe)
        sizes = options.sizes
        model = models.changed(recipe.model, outputs=len(sizes) + 1)
        count = len(branches(models.build(model, VOCABULARY).spec()))
        wrong = [s for s in sizes if not 1 <= s < count]
        if wrong or not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(
                "method.sizes are numbers of residual branches kept, each once, from 1 to"
                f" {count - 1}: this model has {count}; got {list(sizes)}"
            )
        return replace(recipe, model=model)

    def __init__(
        self, options: Any, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.branches = branches(spec)
        self.sizes = sorted(options.sizes, reverse=True)
        self.end = max(1, round(options.selection * updates))  # of step 1
        self.rate = float(vars(options).get("score_rate", 1.0))
        self.scores = torch.nn.Parameter(
            torch.full((len(self.branches),), self.initial_score / self.rate)
        )  # times rate: the scores
        self.chosen = torch.zeros(len(self.sizes), len(self.branches), dtype=torch.bool)

    def scaled(self) -> Tensor:
        """The scores [branches] that gates are made of."""
        return self.scores * self.rate

    # what a method adds

    def soft_gates(self, step: int) -> Tensor:
        """Gates [branches] of the shrinking subnet, a function of the scores."""
        raise NotImplementedError

    def choice(self, size: int) -> Tensor:
        """bool [branches]: what a size keeps, from the scores as they are."""
        chosen = torch.zeros(len(self.branches), dtype=torch.bool)
        chosen[self.scores.detach().cpu().topk(size).indices] = True
        return chosen

    # the contract

    def plan(self, step: int) -> list[base.Pass]:
        weight = self.options.subnet_weight
        if step < self.end:
            return [
                base.Pass("dense", weight=SUPERNET),
                base.Pass(
                    "shrinking",
                    Subnet("shrinking", "", {}, 0.0),
                    weight,
                    head=len(self.sizes),
                    drawn=True,
                ),
            ]
        off = cost.branches_off(self.spec, self.size(len(self.sizes) - 1).keep)
        dropped = {b: self.options.layer_dropout for b in branches(self.spec) if b in off}
        passes = [
            base.Pass(
                "dense",
                weight=SUPERNET,
                drop_branches=dropped if self.options.layer_dropout else {},
            ),
            self._pass(len(self.sizes) - 1, weight),
        ]
        if len(self.sizes) > 1:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, step]))
            passes.append(self._pass(int(rng.integers(len(self.sizes) - 1)), weight, drawn=True))
        return passes

    def _pass(self, index: int, weight: float, drawn: bool = False) -> base.Pass:
        subnet = self.size(index)
        return base.Pass(
            "random" if drawn else "sparsest", subnet, weight, head=subnet.head, drawn=drawn
        )

    def size(self, index: int) -> Subnet:
        """A size as it is chosen, or would be now; heads count from 1 for the largest of them, 0 is
        the dense net's.
        """
        chosen = self.chosen[index] if self.chosen[index].any() else self.choice(self.sizes[index])
        kept = [b for b, k in zip(self.branches, chosen.tolist()) if k]
        return subnet(self.spec, kept, index + 1, f"d{self.sizes[index]}")

    def gates(self, subnet: Subnet | None, step: int) -> dict[str, float | Tensor]:
        if subnet is not None and subnet.name == "shrinking":
            return dict(zip(self.branches, self.soft_gates(step).unbind()))
        return super().gates(subnet, step)

    def after_step(self, step: int) -> None:
        if step + 1 == self.end:
            self.freeze()

    def freeze(self) -> None:
        """The end of step 1: every size is chosen, and no score moves again."""
        for i, size in enumerate(self.sizes):
            self.chosen[i] = self.choice(size)
        self.scores.requires_grad_(False)

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.scores]

    def state(self) -> dict[str, Tensor]:
        return {"chosen": self.chosen}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.chosen = state["chosen"].cpu()
        self.scores.requires_grad_(not bool(self.chosen.any()))

    def results(self, averaged: dict[str, Tensor]) -> base.Results:
        dense = Subnet("dense", "", {}, 0.0, origin=Origin.TRAINED)
        return base.Results(
            blocks.rank_all(averaged, self.spec.units),
            [dense, *map(self.size, range(len(self.sizes)))],
        )
