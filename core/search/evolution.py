"""Evolutionary search for the best share kept of every matrix at given file sizes; ask/tell, knows
no network.

METHODS.md section 1: all budgets of a ladder are searched together, parents come from the present
front (also the neighboring budgets'), a mutation changes each layer with probability 0.2,
candidates are drawn again until their file is inside the budget's window. Fitness is the caller's
(CTC loss per frame on the search split; lower is better).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.records import ModelSpec, option
from core.search.allocation import Keep
from core.search.space import Space

TRIES = 200  # draws of one candidate before the window is called unreachable
NEIGHBOR = 0.3  # share of parents taken from the next denser or sparser budget's front (ours)
# share of the children of which one branch is left out or taken back, where branches may be left
# out (ours)
TOGGLED = 0.3


@dataclass(frozen=True)
class Options:
    """How the sizes of a ladder are searched."""

    sparsities: list[float] = option(
        [0.3, 0.5, 0.6, 0.7, 0.8, 0.9],
        "budgets: bytes of the uniform subnet with this share of zeros",
        low=0.0,
        high=0.999,
    )
    population: int = option(64, "candidates kept, shared by the budgets", low=4, high=100000)
    evaluations: int = option(600, "candidates measured for the whole ladder", low=1, high=1000000)
    mutation: float = option(0.2, "probability that a mutation changes a layer", low=0.0, high=1.0)
    small: float = option(
        0.75,
        "share of the mutations that move a layer a little; the others draw it anew",
        low=0.0,
        high=1.0,
    )
    reach: float = option(
        1.5,
        "how far a small mutation moves a layer, standard deviation in steps of the grid",
        low=0.1,
        high=100.0,
    )
    crossover: float = option(
        0.5, "share of children of two parents; the others are mutations", low=0.0, high=1.0
    )
    window: float = option(
        0.01, "how far a candidate's file may be from its budget", low=0.0001, high=0.5
    )
    grid: int = option(32, "steps of the share kept, finer where little is kept", low=2, high=1000)
    sparsest: float = option(0.97, "largest sparsity of one matrix", low=0.0, high=0.99)
    group: str = option(
        "unit",
        "what gets its own sparsity: a matrix or a residual branch",
        choices=("unit", "branch"),
    )
    best: int = option(5, "candidates of each budget measured again by WER", low=1, high=100)
    probe: bool = option(
        True, "measure first how much every matrix matters, and begin with sizes made from that"
    )
    minutes: float = option(
        20.0, "for the search, without the last measurement", unit="min", low=0.01, high=100000.0
    )
    seconds: float = option(
        300.0, "speech a candidate is measured on", unit="s", low=1.0, high=100000.0
    )
    threads: int = option(2, "CPU threads", low=1, high=256)
    seed: int = option(1, "of every draw", low=0, high=2147483647)


class Search:
    """The evolution. `budgets` in bytes, dense to sparse; `starts` are allocations worth trying
    first.

    A candidate is a list of shares kept, one per group (a matrix, or all matrices of a branch). Up
    to the share `left_out` of the
    residual branches may keep nothing at all: they are then 0 in all their groups, and only so.
    """

    def __init__(
        self,
        spec: ModelSpec,
        budgets: Sequence[int],
        options: Options,
        starts: Sequence[Keep] = (),
        left_out: float = 0.0,
    ):
        self.spec, self.o = spec, options
        self.budgets = sorted(budgets, reverse=True)
        self.rng = np.random.default_rng(options.seed)
        self.space = Space(spec, options, left_out, self.rng)
        self.proposed = self.measured = 0
        self.seen: set[tuple[float, ...]] = set()
        self.front: list[list[tuple[float, list[float]]]] = [
            [] for _ in self.budgets
        ]  # best first, per budget
        self.waiting = []
        for values in map(
            self.space.whole, map(self.space.from_keep, starts)
        ):  # a branch's mean may have left the window
            self.waiting.append(self.space.move_into(values, self.budgets[self.budget_of(values)]))

    # ask and tell

    def ask(self, count: int) -> list[Keep]:
        """The next `count` candidates, each inside the window of one budget and never asked
        before.
        """
        return [self.space.to_keep(self._next()) for _ in range(count)]

    def tell(self, measurements: Sequence[tuple[Keep, float]]) -> None:
        """Fitness of candidates, lower is better; NaN and infinite ones are forgotten."""
        for keep, fitness in measurements:
            self.measured += 1
            if np.isfinite(fitness):
                values = self.space.from_keep(keep)
                place = self.front[self.budget_of(values)]
                place.append((float(fitness), values))
                place.sort(key=lambda pair: pair[0])
                del place[max(self.o.population // len(self.budgets), 2) :]

    def best(self, budget: int) -> list[tuple[float, Keep]]:
        """(fitness, keep) of a budget (index, densest first), best first."""
        return [(fitness, self.space.to_keep(values)) for fitness, values in self.front[budget]]

    def budget_of(self, values: list[float]) -> int:
        """Index of the budget nearest to a candidate's bytes."""
        file_bytes = self.space.file_bytes(values)
        return min(
            range(len(self.budgets)), key=lambda b: abs(np.log(self.budgets[b] / file_bytes))
        )

    # drawing

    def _next(self) -> list[float]:
        for attempt in range(TRIES):
            budget = self.proposed % len(self.budgets)
            values = (
                self.waiting.pop(0)
                if self.waiting
                else self._child(budget)
                if attempt < TRIES // 2
                else self.space.random(self.budgets[budget])
            )
            if tuple(values) not in self.seen and self.space.inside(
                values, self.budgets[self.budget_of(values)]
            ):
                self.seen.add(tuple(values))
                self.proposed += 1
                return values
        raise ValueError(
            f"no new candidate lies within {self.o.window:.1%} of {self.budgets[budget]} bytes: "
            "make search.window wider, search.grid finer or the budget another"
        )

    def _child(self, budget: int) -> list[float]:
        """A mutation or a crossing of the front, moved into the budget."""
        if len(self.front[budget]) < 2:
            return self.space.random(self.budgets[budget])
        first = self._parent(budget)
        if self.rng.random() < self.o.crossover:
            second = self._parent(budget)
            child = [a if self.rng.random() < 0.5 else b for a, b in zip(first, second)]
            for groups in self.space.branches:
                if self.space.is_off(first, groups) != self.space.is_off(
                    second, groups
                ):  # a branch that one parent lacks comes whole or not at all
                    parent = first if self.rng.random() < 0.5 else second
                    for g in groups:
                        child[g] = parent[g]
            if self.space.many_off(child) > self.space.most_off:
                child = list(first)
        else:
            change = (
                self.space.near
                if self.rng.random() < self.o.small
                else lambda _: float(self.rng.choice(self.space.levels))
            )
            child = [change(a) if a and self.rng.random() < self.o.mutation else a for a in first]
        if self.space.most_off and self.rng.random() < TOGGLED:
            self.space.toggle(child)
        return self.space.move_into(child, self.budgets[budget])

    def _parent(self, budget: int) -> list[float]:
        near = [b for b in (budget - 1, budget + 1) if 0 <= b < len(self.front) and self.front[b]]
        if near and self.rng.random() < NEIGHBOR:
            budget = int(self.rng.choice(near))
        place = self.front[budget]
        return place[int(self.rng.integers(len(place), size=2).min())][1]  # the better of two drawn

    # resume

    def state(self) -> dict:
        """JSON-ready; candidates asked but not told are forgotten, so save it after `tell`."""
        return {
            "asked": self.proposed,
            "told": self.measured,
            "rng": self.rng.bit_generator.state,
            "front": self.front,
            "waiting": self.waiting,
            "seen": sorted(self.seen),
            "budgets": self.budgets,
            "most_off": self.space.most_off,
        }

    def load_state(self, state: dict) -> None:
        """The counterpart of state(); ValueError when it belongs to other budgets."""
        if state["budgets"] != self.budgets:
            raise ValueError(
                f"the saved search is for budgets {state['budgets']} bytes, not {self.budgets}:"
                " delete it or search the same budgets"
            )
        if state.get("most_off", 0) != self.space.most_off:
            raise ValueError(
                f"the saved search may leave out {state.get('most_off', 0)} branches, this one"
                f" {self.space.most_off}: delete it"
            )
        self.proposed, self.measured, self.waiting = state["asked"], state["told"], state["waiting"]
        self.rng.bit_generator.state = state["rng"]
        self.front = [[(fitness, values) for fitness, values in place] for place in state["front"]]
        self.seen = {tuple(values) for values in state["seen"]}


class RandomSearch(Search):
    """The baseline: as many evaluations, every candidate drawn on its own."""

    def _child(self, budget: int) -> list[float]:
        return self.space.random(self.budgets[budget])
