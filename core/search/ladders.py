"""A whole ladder of sizes searched: what it starts from, progress, resume, and the best of each
budget by WER.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core import cost
from core.common import writing
from core.records import Interrupted, ModelSpec, Origin, ProgressCallback, Subnet
from core.search.allocation import (
    Keep,
    budgets_of,
    by_harm,
    global_magnitude,
    subnet_of,
    uniform_at,
)
from core.search.evolution import Options, RandomSearch, Search

STEEPNESS = (4.0, 8.0, 16.0)  # of the allocations by harm that the search starts from


def run_ladder(
    spec: ModelSpec,
    options: Options,
    fitness: Callable[[Keep], float],
    *,
    rerank: Callable[[Keep], float] | None = None,
    norms: dict[str, np.ndarray] | None = None,
    progress: ProgressCallback = lambda *_: True,
    state_path: Path | None = None,
    run: str = "",
    ranks_sha256: str = "",
    method: str = "search",
    left_out: float = 0.0,
    many: Callable[[list[Keep]], list[float]] | None = None,
) -> list[Subnet]:
    """Searches all of options.sparsities and returns one Subnet each, densest first ("s70":
    searched, "r70": random).

    fitness and rerank are called with a keep, lower is better; rerank (WER) chooses among the best
    few of each budget. norms (allocation.block_norms) add the global-magnitude starts. method
    "random" draws every candidate independently and starts from nothing. `left_out`: share of the
    residual branches that may be left out. With state_path the search goes on where it was. `many`
    measures the fitness of several at once, elsewhere. Raises Interrupted when `progress` says
    stop, and ValueError when a budget cannot be reached.
    """
    ladder = _Ladder(
        spec,
        options,
        budgets_of(spec, sorted(options.sparsities)),
        many or (lambda keeps: [fitness(keep) for keep in keeps]),
        progress,
        state_path,
        left_out,
    )
    if method == "random":
        ladder.prepare(RandomSearch)
    else:
        ladder.probe()
        ladder.prepare(Search, norms)
    ladder.explore()
    origin = Origin.RANDOM if method == "random" else Origin.SEARCHED
    subnets = [
        subnet_of(spec, ladder.best(b, sparsity, rerank), sparsity, run, ranks_sha256, origin)
        for b, sparsity in enumerate(sorted(options.sparsities))
    ]
    ladder.save()  # the last comparison is part of what choosing took
    return subnets


class _Ladder:
    """A search in the course of going on: what it measured so far, and what that took."""

    def __init__(
        self,
        spec: ModelSpec,
        options: Options,
        budgets: list[int],
        many: Callable[[list[Keep]], list[float]],
        progress: ProgressCallback,
        state_path: Path | None,
        left_out: float,
    ):
        self.spec, self.options, self.budgets = spec, options, budgets
        self.many, self.progress, self.state_path = many, progress, state_path
        self.left_out = left_out
        self.began, self.saved = time.monotonic(), _saved(state_path)
        self.harm: dict[str, float] = {}
        # multiply-accumulates that all measurements so far executed in a second of the speech,
        # summed; a search of an earlier version did not count them
        self.macs = self.saved.get("macs_per_second", math.nan if self.saved else 0.0)

    def probe(self) -> None:
        """How much every matrix matters, where the options want to know and there is room for it.
        As many measurements in all as random search has: these count.
        """
        room = 4 * (len(self.spec.units) + 1) <= self.options.evaluations
        if not (self.options.probe and room):
            return
        if "search" in self.saved:
            self.harm = self.saved.get("harm", {})
        else:
            self.harm = _harm(
                self.spec,
                self.budgets[len(self.budgets) // 2],
                self.many,
                len(self.budgets),
                self.progress,
                self.options.minutes / 3,
            )
        if self.harm and not self.macs:
            self.macs = (len(self.harm) + 1) * cost.macs_per_second(self.spec)

    def prepare(self, search: type[Search], norms: dict[str, np.ndarray] | None = None) -> None:
        """The search at its starts, or where it was."""
        starts = [] if search is RandomSearch else self._starts(norms)
        self.search = search(self.spec, self.budgets, self.options, starts, self.left_out)
        self.search.measured = len(self.harm) + 1 if self.harm else 0
        self.began -= _load(self.search, self.saved)

    def _starts(self, norms: dict[str, np.ndarray] | None) -> list[Keep]:
        spec, budgets, harm = self.spec, self.budgets, self.harm
        starts = [uniform_at(spec, b) for b in budgets]
        if norms is not None:
            starts += [global_magnitude(norms, spec, b) for b in budgets]
        if harm:
            starts += [by_harm(harm, spec, b, c) for b in budgets for c in STEEPNESS]
            starts += [
                keep
                for b in budgets
                for keep in _shallower(spec, harm, uniform_at(spec, b), self.left_out)
            ]
        return starts

    def explore(self) -> None:
        """Candidate after candidate, until their number or the time is used up."""
        search, allowed = self.search, self.options.evaluations
        while search.measured < allowed and self.seconds < 60 * self.options.minutes:
            done, left = search.measured, None
            if done:
                left = self.seconds / done * (allowed - done)
            if not self.progress(done / allowed, _progress_text(search, self.options), left):
                raise Interrupted(f"stopped after {search.measured} of {allowed} candidates")
            keeps = search.ask(min(len(self.budgets), allowed - search.measured))
            search.tell(list(zip(keeps, self.many(keeps), strict=True)))
            self.macs += sum(cost.macs_per_second(self.spec, keep) for keep in keeps)
            self.save()

    def best(self, b: int, sparsity: float, rerank: Callable[[Keep], float] | None) -> Keep:
        """The best of a budget; of the best few the one with the lowest WER, if that is
        measured.
        """
        candidates = [keep for _, keep in self.search.best(b)[: self.options.best]]
        if not candidates:
            raise ValueError(
                f"no candidate of {self.budgets[b]} bytes was measured: raise search.evaluations or"
                " minutes"
            )
        if rerank is None:
            return candidates[0]
        text = f"comparing the best {len(candidates)} of {sparsity:.0%} by WER"
        if not self.progress(1.0, text, None):
            raise Interrupted("stopped before the last comparison by WER; the candidates are kept")
        candidates.sort(key=rerank)
        self.macs += sum(cost.macs_per_second(self.spec, keep) for keep in candidates)
        return candidates[0]

    @property
    def seconds(self) -> float:
        """Spent on this search, in all its attempts."""
        return time.monotonic() - self.began

    def save(self) -> None:
        if self.state_path is not None:
            writing.write_json(
                self.state_path,
                {
                    "search": self.search.state(),
                    "seconds": self.seconds,
                    "told": self.search.measured,
                    "macs_per_second": self.macs,
                    "harm": self.harm,
                },
            )


def _progress_text(search: Search, options: Options) -> str:
    best = [f"{place[0][0]:.3f}" if place else "-" for place in search.front]
    return (
        f"{search.measured} of {options.evaluations} candidates; best loss per size, dense to"
        f" sparse: {' '.join(best)}"
    )


def _harm(
    spec: ModelSpec,
    budget: int,
    many: Callable[[list[Keep]], list[float]],
    at_once: int,
    progress: ProgressCallback,
    minutes: float,
) -> dict[str, float]:
    """{unit: rise of the loss when it alone keeps half as much} at the uniform size of a budget; {}
    where that takes over `minutes`.
    """
    uniform, until = uniform_at(spec, budget), time.monotonic() + 60 * minutes
    before, harm = many([uniform])[0], dict[str, float]()
    for i in range(0, len(spec.units), at_once):
        if time.monotonic() > until:
            return {}
        if not progress(0.0, f"how much every matrix matters: {i} of {len(spec.units)}", None):
            raise Interrupted(
                "stopped while measuring how much every matrix matters; that begins anew"
            )
        some = spec.units[i : i + at_once]
        losses = many([uniform | {unit.name: 0.5 * uniform[unit.name]} for unit in some])
        harm |= {unit.name: loss - before for unit, loss in zip(some, losses, strict=True)}
    return harm


def _shallower(spec: ModelSpec, harm: dict[str, float], keep: Keep, left_out: float) -> list[Keep]:
    """`keep` without the branches whose matrices matter least, a quarter, half and all of those
    that may go.
    """
    branches: dict[str, float] = {}
    for unit in spec.units:
        if unit.branch:
            branches[unit.branch] = branches.get(unit.branch, 0.0) + harm[unit.name]
    most, least = int(left_out * len(branches)), sorted(branches, key=branches.__getitem__)
    counts = sorted({round(most * share) for share in (0.25, 0.5, 1.0)} - {0})
    return [
        {u.name: 0.0 if u.branch in least[:count] else keep[u.name] for u in spec.units}
        for count in counts
    ]


def _saved(state_path: Path | None) -> dict:
    """What an interrupted search left; {} when there is none."""
    return (
        json.loads(state_path.read_text())
        if state_path is not None and state_path.is_file()
        else {}
    )


def _load(search: Search, saved: dict) -> float:
    """Seconds already spent by the saved search, which is loaded; 0 when there is none."""
    if not saved:
        return 0.0
    search.load_state(saved["search"])
    return saved["seconds"]
