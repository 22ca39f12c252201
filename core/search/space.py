"""What a searched subnet may be: a share kept per group of matrices, on a grid of levels, moved
until its file fits a budget. Knows no fitness and no front.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core import cost
from core.records import ModelSpec
from core.search.allocation import Keep

STEPS = 200  # single moves towards the window before a draw is given up


class Space:
    """Candidates as lists of shares kept, one per group: a matrix, or all matrices of a branch. Up
    to the share `left_out` of the residual branches may keep nothing at all: they are then 0 in all
    their groups, and only so. `options` are those of the search; `rng` is shared with it.
    """

    def __init__(
        self, spec: ModelSpec, options: Any, left_out: float, rng: np.random.Generator
    ) -> None:
        self.spec, self.o, self.rng = spec, options, rng
        owner = [u.name if options.group == "unit" else u.branch or u.name for u in spec.units]
        names = list(dict.fromkeys(owner))
        self.group_of = [names.index(n) for n in owner]
        self.groups = len(names)
        branches: dict[str, set[int]] = {}
        for unit, group in zip(spec.units, self.group_of):
            if unit.branch:
                branches.setdefault(unit.branch, set()).add(group)
        self.branches = [
            sorted(groups) for groups in branches.values()
        ]  # groups of each residual branch
        self.most_off = int(left_out * len(self.branches))
        low = 1.0 - options.sparsest
        self.levels = low + (1.0 - low) * (np.arange(options.grid + 1) / options.grid) ** 2

    def whole(self, values: list[float]) -> list[float]:
        """Nothing is 0 but whole branches, and no more of them than may be: others get the least
        there is.
        """
        off = [groups for groups in self.branches if self.is_off(values, groups)]
        stay = {g for groups in off[: self.most_off] for g in groups}
        return [v if v or g in stay else float(self.levels[0]) for g, v in enumerate(values)]

    def is_off(self, values: list[float], groups: list[int]) -> bool:
        return not any(values[g] for g in groups)

    def many_off(self, values: list[float]) -> int:
        return sum(self.is_off(values, groups) for groups in self.branches)

    def toggle(self, values: list[float]) -> None:
        """One branch is left out, or one that was comes back with as much as the others keep on
        average.
        """
        groups = self.branches[int(self.rng.integers(len(self.branches)))]
        level = 0.0
        if self.is_off(values, groups):
            level = float(
                self.levels[np.abs(self.levels - np.mean([v for v in values if v])).argmin()]
            )
        elif self.many_off(values) >= self.most_off:
            return
        for g in groups:
            values[g] = level

    def near(self, value: float) -> float:
        """A level not far from `value` (ours): drawing a fifth of 80 matrices anew hardly ever gave
        a child better than its parent.
        """
        place = int(np.abs(self.levels - value).argmin()) + round(
            float(self.rng.normal(0.0, self.o.reach))
        )
        return float(self.levels[min(max(place, 0), self.o.grid)])

    def random(self, target: int) -> list[float]:
        """Independent levels for every group, moved into the budget."""
        values = [float(v) for v in self.rng.choice(self.levels, self.groups)]
        if self.most_off and self.rng.random() < 0.5:
            for place in self.rng.permutation(len(self.branches))[
                : self.rng.integers(self.most_off + 1)
            ]:
                for g in self.branches[place]:
                    values[g] = 0.0
        return self.move_into(values, target)

    def move_into(self, values: list[float], target: int) -> list[float]:
        """Every group is moved by one factor on the grid's scale, then single groups step by step,
        until it fits.
        """
        if abs(self.file_bytes(values) / target - 1) > 4 * self.o.window:
            values = self._scaled(values, target)
        for _ in range(STEPS):
            file_bytes = self.file_bytes(values)
            if abs(file_bytes / target - 1) <= self.o.window:
                break
            values = self._step(values, up=file_bytes < target)
        return values

    def _scaled(self, values: list[float], target: int) -> list[float]:
        low = self.levels[0]
        place = np.sqrt(
            (np.asarray(values) - low).clip(0) / max(1 - low, 1e-9)
        )  # 0..1 on the grid's scale
        place = place.clip(0.5 / self.o.grid)
        small, large = 0.0, 2.0 * self.o.grid
        for _ in range(30):
            factor = (small + large) / 2
            moved = self.levels[
                (place * factor * self.o.grid).round().clip(0, self.o.grid).astype(int)
            ]
            moved = np.where(
                np.asarray(values) > 0, moved, 0.0
            ).tolist()  # what is left out stays so
            small, large = (factor, large) if self.file_bytes(moved) < target else (small, factor)
        return moved

    def _step(self, values: list[float], up: bool) -> list[float]:
        """One random group moved to its next level."""
        values = list(values)
        for i in self.rng.permutation(self.groups):
            if not values[i]:
                continue  # left out
            further = (
                self.levels[self.levels > values[i] + 1e-9]
                if up
                else self.levels[self.levels < values[i] - 1e-9]
            )
            if len(further):
                values[i] = float(further[0] if up else further[-1])
                break
        return values

    def file_bytes(self, values: list[float]) -> int:
        return cost.file_bytes(self.spec, self.to_keep(values))

    def inside(self, values: list[float], target: int) -> bool:
        return abs(self.file_bytes(values) / target - 1) <= self.o.window

    def to_keep(self, values: list[float]) -> Keep:
        return {u.name: values[g] for u, g in zip(self.spec.units, self.group_of)}

    def from_keep(self, keep: Keep) -> list[float]:
        """A group's share is its matrices' mean, weighted by parameters."""
        sums = np.zeros((2, self.groups))
        for unit, g in zip(self.spec.units, self.group_of):
            sums[:, g] += unit.parameters * keep.get(unit.name, 1.0), unit.parameters
        single = np.bincount(self.group_of, minlength=self.groups) == 1
        exact = {
            g: keep.get(u.name, 1.0) for u, g in zip(self.spec.units, self.group_of) if single[g]
        }
        return [float(exact.get(g, round(sums[0, g] / sums[1, g], 9))) for g in range(self.groups)]
