"""Residual branches and parts of them as components: what each costs, and how a choice of them
becomes gates, shares kept and ranks.

A size that lacks a part has zeros in its rows and columns; a size that lacks all of a branch does
without the branch. Blocks of 8 outputs that two attention heads share are kept while one of both
is. Letters: N components, R outputs, C inputs, b rows of a block.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from core import cost
from core.layers.parts import Parts
from core.models.base import Cut
from core.records import ModelSpec, PrunableMatrix
from core.sparsity import blocks

MEASURES: dict[str, Callable[[ModelSpec, dict[str, float]], float]] = {
    "parameters": cost.nonzero_parameters,
    "macs": cost.macs_nonzero_per_second,
}


class Components:
    """All components of a model, in the order of the network: `names` like "blocks.0.attention.2";
    `firsts` are each branch's first.

    `groups` {unit: [((first, last component that a block is part of), blocks)]}.
    """

    def __init__(self, spec: ModelSpec, cuts: dict[str, Cut]):
        self.spec, self.cuts = spec, cuts
        self.branches = list(dict.fromkeys(u.branch for u in spec.units if u.branch))
        self.parts = [cuts[b].parts if b in cuts else 1 for b in self.branches]
        named = [
            [f"{b}.{i}" if b in cuts else b for i in range(n)]
            for b, n in zip(self.branches, self.parts)
        ]
        self.names, self.firsts = (
            [n for parts in named for n in parts],
            [parts[0] for parts in named],
        )
        self.groups = {u.name: self._groups(u) for u in spec.units if u.branch}

    def __len__(self) -> int:
        return len(self.names)

    def costs(self, budget: str) -> tuple[float, Tensor]:
        """(what is never left out, [N] what each component adds) in parameters or
        multiply-accumulates per second. A branch's norms,
        biases and products, which it has as long as one part is left, are shared out evenly.
        """
        measure, added = MEASURES[budget], []
        whole = measure(self.spec, {})
        for branch, parts in zip(self.branches, self.parts):
            without = measure(
                self.spec, {u.name: 0.0 for u in self.spec.units if u.branch == branch}
            )
            added += [(whole - without) / parts] * parts
        costs = torch.tensor(added, dtype=torch.float64)
        return whole - float(costs.sum()), costs

    def cost(self, chosen: Tensor, budget: str) -> float:
        """What a choice, bool [N], costs as it is stored."""
        return MEASURES[budget](self.spec, self.keep(chosen))

    def soft(self, gates: Tensor) -> dict[str, Tensor | Parts]:
        """Gates [N] of components -> gates of branches."""
        return {
            b: Parts(g) if b in self.cuts else g[0]
            for b, g in zip(self.branches, gates.split(self.parts))
        }

    def hard(self, chosen: Tensor) -> dict[str, float | Parts]:
        """bool [N] -> gates of branches of which not all is kept."""
        split = zip(self.branches, chosen.int().split(self.parts))
        return {
            b: Parts(kept.tolist()) if kept.any() else 0.0 for b, kept in split if not kept.all()
        }

    def keep(self, chosen: Tensor) -> dict[str, float]:
        """bool [N] -> {unit: share of its blocks that are kept}."""
        up_to = [0, *itertools.accumulate(chosen.int().tolist())]
        shares = {
            u.name: (
                sum(
                    count
                    for (first, last), count in self.groups[u.name]
                    if up_to[last + 1] > up_to[first]
                )
                / u.blocks
            )
            for u in self.spec.units
            if u.branch
        }
        return {n: k for n, k in shares.items() if k < 1.0}

    def ranks(self, weights: dict[str, Tensor], places: Tensor) -> blocks.Ranks:
        """Block ranks by the components' places [N] (0 is kept longest), then by size: every choice
        keep() was made of is a mask.
        """
        by_unit = blocks.rank_all(weights, self.spec.units)
        for unit in self.spec.units:
            if unit.branch:
                order = by_unit[unit.name].flatten().argsort()  # largest first
                place = self._places(unit, places).flatten().to(order.device)
                order = order[place[order].argsort(stable=True)]
                ranks = torch.empty_like(order, dtype=torch.int32)
                ranks[order] = torch.arange(len(order), dtype=torch.int32, device=order.device)
                by_unit[unit.name] = ranks.view(by_unit[unit.name].shape)
        return by_unit

    def _groups(self, unit: PrunableMatrix) -> list[tuple[tuple[int, int], int]]:
        everyone, cut = torch.arange(len(self.names)), self.cuts.get(unit.branch)
        first, last = (
            s * self._places(unit, s * everyone) for s in (1, -1)
        )  # of -1, -2, ... the least is the last
        line: tuple[slice, int] | int = (slice(None), 0)
        times = unit.columns
        if not (
            cut and unit.name in cut.rows
        ):  # blocks below each other belong to the same component
            line, times = 0, unit.rows // unit.block
        return [
            (pair, times * n)
            for pair, n in Counter(zip(first[line].tolist(), last[line].tolist())).items()
        ]

    def _places(self, unit: PrunableMatrix, places: Tensor) -> Tensor:
        """[N] -> [R/b, C]: the first place among the components that a block is part of."""
        index = self.branches.index(unit.branch)
        of_branch = places.split(self.parts)[index]
        cut = self.cuts.get(unit.branch)
        shape = (unit.rows // unit.block, unit.columns)
        if cut and unit.name in cut.rows:
            rows = of_branch.repeat_interleave(unit.rows // cut.parts).view(-1, unit.block)
            return rows.amin(1, keepdim=True).expand(shape)
        if cut and unit.name in cut.columns:
            return of_branch.repeat_interleave(unit.columns // cut.parts).expand(shape)
        return of_branch.amin().expand(shape)
