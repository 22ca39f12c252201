"""Evolutionary search for the best share kept of every matrix at given file sizes; ask/tell, knows no network.

METHODS.md section 1: all budgets of a ladder are searched together, parents come from the present front (also the neighbouring
budgets'), a mutation changes each layer with probability 0.2, candidates are drawn again until their file is inside the budget's
window. Fitness is the caller's (CTC loss per frame on the search split; lower is better).
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import cost, store
from core.allocation import Keep, budgets_of, by_harm, global_magnitude, subnet_of, uniform_at
from core.records import Anatomy, Subnet, option
from core.training import Interrupted

Progress = Callable[[float, str, float | None], bool]  # (0..1, message, seconds left) -> go on?
TRIES = 200      # draws of one candidate before the window is called unreachable
STEPS = 200      # single moves towards the window before a draw is given up
STEEPNESS = (4.0, 8.0, 16.0)  # of the allocations by harm that the search starts from
NEIGHBOUR = 0.3  # share of parents taken from the next denser or sparser budget's front (ours)


@dataclass(frozen=True)
class Options:
    """How the sizes of a ladder are searched."""
    sparsities: list = option([0.3, 0.5, 0.6, 0.7, 0.8, 0.9], "budgets: bytes of the uniform subnet with this share "
                              "of zeros", low=0.0, high=0.999)
    population: int = option(64, "candidates kept, shared by the budgets", low=4, high=100000)
    evaluations: int = option(600, "candidates measured for the whole ladder", low=1, high=1000000)
    mutation: float = option(0.2, "probability that a mutation changes a layer", low=0.0, high=1.0)
    small: float = option(0.75, "share of the mutations that move a layer a little; the others draw it anew", low=0.0, high=1.0)
    reach: float = option(1.5, "how far a small mutation moves a layer, standard deviation in steps of the grid", low=0.1, high=100.0)
    crossover: float = option(0.5, "share of children of two parents; the others are mutations", low=0.0, high=1.0)
    window: float = option(0.01, "how far a candidate's file may be from its budget", low=0.0001, high=0.5)
    grid: int = option(32, "steps of the share kept, finer where little is kept", low=2, high=1000)
    sparsest: float = option(0.97, "largest sparsity of one matrix", low=0.0, high=1.0)
    group: str = option("unit", "what gets its own sparsity: a matrix or a residual branch", choices=("unit", "branch"))
    best: int = option(5, "candidates of each budget measured again by WER", low=1, high=100)
    probe: bool = option(True, "measure first how much every matrix matters, and begin with sizes made from that")
    minutes: float = option(20.0, "for the search, without the last measurement", unit="min", low=0.01, high=100000.0)
    seconds: float = option(300.0, "speech a candidate is measured on", unit="s", low=1.0, high=100000.0)
    threads: int = option(2, "CPU threads", low=1, high=256)
    seed: int = option(1, "of every draw", low=0, high=2147483647)


class Search:
    """The evolution. `budgets` in bytes, dense to sparse; `starts` are allocations worth trying first.

    A candidate is a list of shares kept, one per group (a matrix, or all matrices of a branch).
    """

    def __init__(self, anatomy: Anatomy, budgets: Sequence[int], options: Options, starts: Sequence[Keep] = ()):
        self.anatomy, self.o = anatomy, options
        self.budgets = sorted(budgets, reverse=True)
        owner = [u.name if options.group == "unit" else u.branch or u.name for u in anatomy.units]
        names = list(dict.fromkeys(owner))
        self.group_of = [names.index(n) for n in owner]
        self.groups = len(names)
        low = 1.0 - options.sparsest
        self.levels = low + (1.0 - low) * (np.arange(options.grid + 1) / options.grid) ** 2
        self.rng = np.random.default_rng(options.seed)
        self.asked = self.told = 0
        self.seen: set[tuple[float, ...]] = set()
        self.front: list[list[tuple[float, list[float]]]] = [[] for _ in self.budgets]  # best first, per budget
        self.waiting = []
        for values in map(self._from_keep, starts):  # a branch's mean may have left the window
            self.waiting.append(self._move_into(values, self.budget_of(values)))

    # ask and tell

    def ask(self, count: int) -> list[Keep]:
        """The next `count` candidates, each inside the window of one budget and never asked before."""
        return [self._to_keep(self._next()) for _ in range(count)]

    def tell(self, results: Sequence[tuple[Keep, float]]) -> None:
        """Fitness of candidates, lower is better; NaN and infinite ones are forgotten."""
        for keep, fitness in results:
            self.told += 1
            if np.isfinite(fitness):
                values = self._from_keep(keep)
                place = self.front[self.budget_of(values)]
                place.append((float(fitness), values))
                place.sort(key=lambda pair: pair[0])
                del place[max(self.o.population // len(self.budgets), 2):]

    def best(self, budget: int) -> list[tuple[float, Keep]]:
        """(fitness, keep) of a budget (index, densest first), best first."""
        return [(fitness, self._to_keep(values)) for fitness, values in self.front[budget]]

    def budget_of(self, values: list[float]) -> int:
        """Index of the budget nearest to a candidate's bytes."""
        size = self._bytes(values)
        return min(range(len(self.budgets)), key=lambda b: abs(np.log(self.budgets[b] / size)))

    # drawing

    def _next(self) -> list[float]:
        for attempt in range(TRIES):
            budget = self.asked % len(self.budgets)
            values = self.waiting.pop(0) if self.waiting else self._child(budget) if attempt < TRIES // 2 \
                else self.random(budget)
            if tuple(values) not in self.seen and self._inside(values, self.budget_of(values)):
                self.seen.add(tuple(values))
                self.asked += 1
                return values
        raise ValueError(f"no new candidate lies within {self.o.window:.1%} of {self.budgets[budget]} bytes: "
                         "make search.window wider, search.grid finer or the budget another")

    def _child(self, budget: int) -> list[float]:
        """A mutation or a crossing of the front, moved into the budget."""
        if len(self.front[budget]) < 2:
            return self.random(budget)
        first = self._parent(budget)
        if self.rng.random() < self.o.crossover:
            second = self._parent(budget)
            child = [a if self.rng.random() < 0.5 else b for a, b in zip(first, second)]
        else:
            change = self._near if self.rng.random() < self.o.small else lambda _: float(self.rng.choice(self.levels))
            child = [change(a) if self.rng.random() < self.o.mutation else a for a in first]
        return self._move_into(child, budget)

    def _near(self, value: float) -> float:
        """A level not far from `value` (ours): drawing a fifth of 80 matrices anew hardly ever gave a child better than its parent."""
        place = int(np.abs(self.levels - value).argmin()) + round(float(self.rng.normal(0.0, self.o.reach)))
        return float(self.levels[min(max(place, 0), self.o.grid)])

    def _parent(self, budget: int) -> list[float]:
        near = [b for b in (budget - 1, budget + 1) if 0 <= b < len(self.front) and self.front[b]]
        if near and self.rng.random() < NEIGHBOUR:
            budget = int(self.rng.choice(near))
        place = self.front[budget]
        return place[int(self.rng.integers(len(place), size=2).min())][1]  # the better of two drawn

    def random(self, budget: int) -> list[float]:
        """Independent levels for every group, moved into the budget."""
        return self._move_into([float(v) for v in self.rng.choice(self.levels, self.groups)], budget)

    def _move_into(self, values: list[float], budget: int) -> list[float]:
        """Every group is moved by one factor on the grid's scale, then single groups step by step, until it fits."""
        target = self.budgets[budget]
        if abs(self._bytes(values) / target - 1) > 4 * self.o.window:
            values = self._scaled(values, target)
        for _ in range(STEPS):
            size = self._bytes(values)
            if abs(size / target - 1) <= self.o.window:
                break
            values = self._step(values, up=size < target)
        return values

    def _scaled(self, values: list[float], target: int) -> list[float]:
        low = self.levels[0]
        place = np.sqrt((np.asarray(values) - low).clip(0) / max(1 - low, 1e-9))      # 0..1 on the grid's scale
        place = place.clip(0.5 / self.o.grid)
        small, large = 0.0, 2.0 * self.o.grid
        for _ in range(30):
            factor = (small + large) / 2
            moved = self.levels[(place * factor * self.o.grid).round().clip(0, self.o.grid).astype(int)].tolist()
            small, large = (factor, large) if self._bytes(moved) < target else (small, factor)
        return moved

    def _step(self, values: list[float], up: bool) -> list[float]:
        """One random group moved to its next level."""
        values = list(values)
        for i in self.rng.permutation(self.groups):
            further = self.levels[self.levels > values[i] + 1e-9] if up else self.levels[self.levels < values[i] - 1e-9]
            if len(further):
                values[i] = float(further[0] if up else further[-1])
                break
        return values

    def _bytes(self, values: list[float]) -> int:
        return cost.file_bytes(self.anatomy, self._to_keep(values))

    def _inside(self, values: list[float], budget: int) -> bool:
        return abs(self._bytes(values) / self.budgets[budget] - 1) <= self.o.window

    def _to_keep(self, values: list[float]) -> Keep:
        return {u.name: values[g] for u, g in zip(self.anatomy.units, self.group_of)}

    def _from_keep(self, keep: Keep) -> list[float]:
        """A group's share is its matrices' mean, weighted by parameters."""
        sums = np.zeros((2, self.groups))
        for unit, g in zip(self.anatomy.units, self.group_of):
            sums[:, g] += unit.parameters * keep.get(unit.name, 1.0), unit.parameters
        single = np.bincount(self.group_of, minlength=self.groups) == 1
        exact = {g: keep.get(u.name, 1.0) for u, g in zip(self.anatomy.units, self.group_of) if single[g]}
        return [float(exact.get(g, round(sums[0, g] / sums[1, g], 9))) for g in range(self.groups)]

    # resume

    def state(self) -> dict:
        """JSON-ready; candidates asked but not told are forgotten, so save it after `tell`."""
        return {"asked": self.asked, "told": self.told, "rng": self.rng.bit_generator.state, "front": self.front,
                "waiting": self.waiting, "seen": sorted(self.seen), "budgets": self.budgets}

    def load_state(self, state: dict) -> None:
        """The counterpart of state(); ValueError when it belongs to other budgets."""
        if state["budgets"] != self.budgets:
            raise ValueError(f"the saved search is for budgets {state['budgets']} bytes, not {self.budgets}: delete it "
                             "or search the same budgets")
        self.asked, self.told, self.waiting = state["asked"], state["told"], state["waiting"]
        self.rng.bit_generator.state = state["rng"]
        self.front = [[(fitness, values) for fitness, values in place] for place in state["front"]]
        self.seen = {tuple(values) for values in state["seen"]}


# ladders

def run_ladder(anatomy: Anatomy, options: Options, fitness: Callable[[Keep], float], *,
               rerank: Callable[[Keep], float] | None = None, norms: dict[str, np.ndarray] | None = None,
               progress: Progress = lambda *_: True, state_path: Path | None = None, run: str = "",
               ranks_sha256: str = "", method: str = "search") -> list[Subnet]:
    """Searches all of options.sparsities and returns one Subnet each, densest first ("s70": searched, "r70": random).

    fitness and rerank are called with a keep, lower is better; rerank (WER) chooses among the best few of each budget.
    norms (allocation.block_norms) add the global-magnitude starts. method "random" draws every candidate independently
    and starts from nothing. With state_path the search goes on where it was. Raises Interrupted when `progress` says
    stop, and ValueError when a budget cannot be reached.
    """
    sparsities = sorted(options.sparsities)
    budgets = budgets_of(anatomy, sparsities)
    starts = [] if method == "random" else [uniform_at(anatomy, b) for b in budgets]
    if norms is not None and method != "random":
        starts += [global_magnitude(norms, anatomy, b) for b in budgets]
    began, harm = time.monotonic(), {}
    if method != "random" and options.probe and 4 * (len(anatomy.units) + 1) <= options.evaluations:
        saved = _saved(state_path)
        if "search" not in saved:
            harm = _harm(anatomy, budgets[len(budgets) // 2], fitness, progress, options.minutes / 3)
        harm = saved.get("harm", harm)
    if harm:
        starts += [by_harm(harm, anatomy, b, c) for b in budgets for c in STEEPNESS]
    search = (RandomSearch if method == "random" else Search)(anatomy, budgets, options, starts)
    search.told = len(harm) + 1 if harm else 0  # as many measurements in all as random search has
    began -= _load(search, _saved(state_path))
    while search.told < options.evaluations and time.monotonic() - began < 60 * options.minutes:
        elapsed = time.monotonic() - began
        left = elapsed / search.told * (options.evaluations - search.told) if search.told else None
        if not progress(search.told / options.evaluations, _said(search, options), left):
            raise Interrupted(f"stopped after {search.told} of {options.evaluations} candidates")
        keeps = search.ask(min(len(budgets), options.evaluations - search.told))
        search.tell([(keep, fitness(keep)) for keep in keeps])
        if state_path is not None:
            store.write_json(state_path, {"search": search.state(), "seconds": time.monotonic() - began, "harm": harm})
    chosen = []
    for b, sparsity in enumerate(sparsities):
        candidates = [keep for _, keep in search.best(b)[:options.best]]
        if not candidates:
            raise ValueError(f"no candidate of {budgets[b]} bytes was measured: raise search.evaluations or minutes")
        if rerank is not None:
            if not progress(1.0, f"comparing the best {len(candidates)} of {sparsity:.0%} by word errors", None):
                raise Interrupted("stopped before the last comparison by word errors; the candidates are kept")
            candidates.sort(key=rerank)
        chosen.append(subnet_of(anatomy, candidates[0], sparsity, run, ranks_sha256,
                                "random search" if method == "random" else "searched"))
    return chosen


class RandomSearch(Search):
    """The baseline: as many evaluations, every candidate drawn on its own."""

    def _child(self, budget: int) -> list[float]:
        return self.random(budget)


def _said(search: Search, options: Options) -> str:
    best = [f"{place[0][0]:.3f}" if place else "-" for place in search.front]
    return f"{search.told} of {options.evaluations} candidates; best loss per size, dense to sparse: {' '.join(best)}"


def _harm(anatomy: Anatomy, budget: int, fitness: Callable[[Keep], float], progress: Progress, minutes: float) -> dict[str, float]:
    """{unit: rise of the loss when it alone keeps half as much} at the uniform size of a budget; {} where that takes over `minutes`."""
    uniform, until = uniform_at(anatomy, budget), time.monotonic() + 60 * minutes
    before, harm = fitness(uniform), {}
    for i, unit in enumerate(anatomy.units):
        if time.monotonic() > until:
            return {}
        if not progress(0.0, f"how much every matrix matters: {i} of {len(anatomy.units)}", None):
            raise Interrupted("stopped while measuring how much every matrix matters; that begins anew")
        harm[unit.name] = fitness(uniform | {unit.name: 0.5 * uniform[unit.name]}) - before
    return harm


def _saved(state_path: Path | None) -> dict:
    """What an interrupted search left; {} when there is none."""
    return json.loads(state_path.read_text()) if state_path is not None and state_path.is_file() else {}


def _load(search: Search, saved: dict) -> float:
    """Seconds already spent by the saved search, which is loaded; 0 when there is none."""
    if not saved:
        return 0.0
    search.load_state(saved["search"])
    return saved["seconds"]
