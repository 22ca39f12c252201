"""OrthoSoftmax: sizes of given parameters or multiply-accumulates, chosen from quarters of
feed-forwards, heads and convolutions.

Xu et al. 2025 (arXiv 2501.18895; METHODS.md section 4). Known: the two steps of Xu et al. 2024
(core/methods/_depth.py); the components; scores G, P = row softmax(G / tau), gates z = the sum of
P's first k rows, k by the expected cost; a penalty on P_k P_k' for rows that are not orthogonal; a
subnet's loss weighs 1 - exp(-loss); feed-forward dropout goes down with the share of the quarters
that is kept. Ours: G begins as small noise; the budget falls linearly over step 1; the penalty is
|P_k P_k' - I|^2 / k; the loss is per frame, its weight a constant for the gradient; gates stay soft
until each size is frozen: what the smaller one keeps, then the largest gates that still fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from core import cost
from core.data.batches import Batch
from core.methods import _depth, base
from core.methods._components import Components
from core.models import base as models
from core.models.base import Model, Output
from core.records import ModelSpec, Origin, Recipe, Subnet, option
from core.registry.cards import Display

VERSION = 1
DISPLAY = Display(
    name="parts left out (OrthoSoftmax)",
    color="#009E73",
    marker="diamond-open",
    sentence="It is a *supernet*: one set of weights out of which every size below is cut without "
    "training again, by leaving out quarters of feed-forwards, attention heads and "
    "convolutions that it learned to do without while it was trained. Time is saved by "
    "feed-forwards, attentions and convolutions of which nothing is left.",
)


@dataclass(frozen=True)
class Options:
    sizes: list[float] = option(
        [0.35, 0.6], "share of the dense net's cost that each smaller size may have"
    )
    budget: str = option(
        "parameters",
        "what a size is paid in: parameters, or multiply-accumulates (FLOPs / 2)",
        choices=("parameters", "macs"),
    )
    selection: float = option(
        0.62, "share of the updates in which components are chosen (step 1)", low=0.01, high=0.99
    )
    tau: float = option(0.1, "temperature of the rows of P", low=0.001, high=100.0)
    orthogonality: float = option(
        1.0,
        "weight of the penalty on rows of P that choose the same component",
        low=0.0,
        high=1000.0,
    )
    subnet_weight: float = option(
        1.0,
        "weight of a smaller size's loss, times 1 - exp(-loss); the largest has 1",
        low=0.0,
        high=10.0,
    )
    layer_dropout: float = option(
        0.3,
        "chance that the largest net leaves out a branch the smallest lacks (step 2)",
        low=0.0,
        high=0.9,
    )


class Method(_depth.Depth):
    @classmethod
    def resolve(cls, recipe: Recipe, options: Options, vocabulary: int) -> Recipe:
        """One output layer per size; ValueError for shares that no size can have."""
        base.need_outputs(recipe)
        sizes, changed = options.sizes, models.changed(recipe.model, outputs=len(options.sizes) + 1)
        model = models.build(changed, vocabulary)
        components = Components(model.spec(), model.cuts())
        whole = torch.ones(len(components), dtype=torch.bool)
        # the parts of a branch cost the same
        alone = whole.diag()[[components.names.index(n) for n in components.firsts]]
        cheapest = min(components.cost(component, options.budget) for component in alone)
        least = cheapest / components.cost(whole, options.budget)
        wrong = [s for s in sizes if not least <= s < 1]
        if wrong or not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(
                f"method.sizes are shares of the dense net's {options.budget}, each once, below 1"
                f" and at least {least:.3f} (what is never left out, and one component); got"
                f" {list(sizes)}"
            )
        return replace(recipe, model=changed)

    def __init__(
        self, options: Options, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.components = Components(spec, model.cuts())
        self.fixed, self.costs = self.components.costs(options.budget)
        count = len(self.components)
        noise = torch.randn(count, count, generator=torch.Generator().manual_seed(seed))
        self.scores = torch.nn.Parameter(options.tau * noise)  # G, [N, N]
        self.chosen = torch.zeros(len(self.sizes), count, dtype=torch.bool)

    @property
    def whole(self) -> float:
        """Cost of the dense net."""
        return self.fixed + float(self.costs.sum())

    def rows(self) -> Tensor:
        """P [N, N]: what each place in the order chooses."""
        return (self.scores / self.options.tau).softmax(-1)

    def count(self, rows: Tensor, share: float) -> int:
        """k: the most rows whose expected cost is within a share of the dense net's; 1 at least."""
        expected = self.fixed + (rows.detach().double() @ self.costs.to(rows.device)).cumsum(0)
        return max(1, int((expected <= share * self.whole).sum()))

    def share(self, step: int) -> float:
        """The budget of step 1: from all to the smallest size's."""
        return 1.0 - (1.0 - self.sizes[-1]) * min(1.0, (step + 1) / self.end)

    def soft_gates(self, step: int) -> Tensor:
        rows = self.rows()
        return rows[: self.count(rows, self.share(step))].sum(0)

    def gates(self, subnet: Subnet | None, step: int) -> dict[str, Any]:
        if subnet is None:
            return {}
        if subnet.name == "shrinking":
            return self.components.soft(self.soft_gates(step))
        return self.components.hard(self._choices()[subnet.head - 1])

    def penalty(self, step: int) -> Tensor | None:
        if step >= self.end or not self.options.orthogonality:
            return None
        rows = self.rows()
        return self.options.orthogonality * overlap(rows[: self.count(rows, self.share(step))])

    def loss(
        self, a_pass: base.Pass, output: Output, batch: Batch, teacher: Output | None
    ) -> Tensor:
        loss = super().loss(a_pass, output, batch, teacher)
        if a_pass.subnet is None:
            return loss
        weight = -torch.expm1(-loss.detach() / output.lengths.sum())
        return loss.detach() + weight * (
            loss - loss.detach()
        )  # the curves show the loss, the gradient is weighted

    def _choices(self) -> Tensor:
        """bool [sizes, N]: what each size keeps, frozen or as it would be now."""
        if self.chosen.any():
            return self.chosen
        choices, chosen, rows = (
            torch.zeros_like(self.chosen),
            torch.zeros(len(self.components), dtype=torch.bool),
            self.rows().detach().cpu(),
        )
        for index in reversed(range(len(self.sizes))):
            gates = rows[: self.count(rows, self.sizes[index])].sum(0)
            for component in gates.argsort(descending=True, stable=True).tolist():
                with_it = chosen.clone()
                with_it[component] = True
                if (
                    self.components.cost(with_it, self.options.budget)
                    <= self.sizes[index] * self.whole
                ):
                    chosen = with_it
            choices[index] = chosen
        return choices

    def size(self, index: int) -> Subnet:
        """A size as it is chosen, or would be now; its name says its share of the cost."""
        return self._subnet(index, self._choices()[index])

    def _subnet(self, index: int, chosen: Tensor) -> Subnet:
        keep, name = self.components.keep(chosen), f"c{100 * self.sizes[index]:g}"
        return Subnet(
            name,
            "",
            keep,
            cost.sparsity_reached(self.spec, keep),
            head=index + 1,
            origin=Origin.TRAINED,
        )

    def freeze(self) -> None:
        self.chosen = self._choices()
        self.scores.requires_grad_(False)

    def results(self, averaged: dict[str, Tensor]) -> base.Results:
        choices = self._choices()
        places = (~choices).sum(0)  # how many sizes lack a component: sizes are nested
        dense = Subnet("dense", "", {}, 0.0, origin=Origin.TRAINED)
        return base.Results(
            self.components.ranks(averaged, places),
            [dense, *map(self._subnet, range(len(choices)), choices)],
        )


def overlap(rows: Tensor) -> Tensor:
    """|P P' - I|^2 / k of rows [k, N]: 0 where every row chooses one component and no two the
    same.
    """
    product = rows @ rows.T
    return (product - torch.eye(len(rows), device=rows.device)).square().sum() / len(rows)
