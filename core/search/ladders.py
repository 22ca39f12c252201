"""A whole ladder of sizes searched: what it starts from, progress, resume, and the best of each
budget by word errors.
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
from core.records import Anatomy, Interrupted, Origin, ProgressCallback, Subnet
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
    anatomy: Anatomy,
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
    few of each budget.
    norms (allocation.block_norms) add the global-magnitude starts. method "random" draws every
    candidate independently
    and starts from nothing. `left_out`: share of the residual branches that may be left out. With
    state_path the search goes on
    where it was. `many` measures the fitness of several at once, elsewhere. Raises Interrupted when
    `progress` says
    stop, and ValueError when a budget cannot be reached.
    """
    many = many or (lambda keeps: [fitness(keep) for keep in keeps])
    sparsities = sorted(options.sparsities)
    budgets = budgets_of(anatomy, sparsities)
    starts = [] if method == "random" else [uniform_at(anatomy, b) for b in budgets]
    if norms is not None and method != "random":
        starts += [global_magnitude(norms, anatomy, b) for b in budgets]
    began, harm, before = time.monotonic(), {}, _saved(state_path)
    macs = before.get(
        "macs_per_second", math.nan if before else 0.0
    )  # a search of an earlier version did not count them
    if method != "random" and options.probe and 4 * (len(anatomy.units) + 1) <= options.evaluations:
        if "search" not in before:
            harm = _harm(
                anatomy,
                budgets[len(budgets) // 2],
                many,
                len(budgets),
                progress,
                options.minutes / 3,
            )
        harm = before.get("harm", harm)
        macs = macs or (len(harm) + 1) * cost.macs_per_second(anatomy) if harm else macs
    if harm:
        starts += [by_harm(harm, anatomy, b, c) for b in budgets for c in STEEPNESS]
        starts += [
            keep
            for b in budgets
            for keep in _shallower(anatomy, harm, uniform_at(anatomy, b), left_out)
        ]
    search = (RandomSearch if method == "random" else Search)(
        anatomy, budgets, options, starts, left_out
    )
    search.told = len(harm) + 1 if harm else 0  # as many measurements in all as random search has
    began -= _load(search, before)
    while search.told < options.evaluations and time.monotonic() - began < 60 * options.minutes:
        elapsed = time.monotonic() - began
        left = elapsed / search.told * (options.evaluations - search.told) if search.told else None
        if not progress(search.told / options.evaluations, _said(search, options), left):
            raise Interrupted(f"stopped after {search.told} of {options.evaluations} candidates")
        keeps = search.ask(min(len(budgets), options.evaluations - search.told))
        search.tell(list(zip(keeps, many(keeps), strict=True)))
        macs += sum(cost.macs_per_second(anatomy, keep) for keep in keeps)
        if state_path is not None:
            _save(state_path, search, time.monotonic() - began, macs, harm)
    chosen = []
    for b, sparsity in enumerate(sparsities):
        candidates = [keep for _, keep in search.best(b)[: options.best]]
        if not candidates:
            raise ValueError(
                f"no candidate of {budgets[b]} bytes was measured: raise search.evaluations or"
                " minutes"
            )
        if rerank is not None:
            if not progress(
                1.0, f"comparing the best {len(candidates)} of {sparsity:.0%} by word errors", None
            ):
                raise Interrupted(
                    "stopped before the last comparison by word errors; the candidates are kept"
                )
            candidates.sort(key=rerank)
            macs += sum(cost.macs_per_second(anatomy, keep) for keep in candidates)
        chosen.append(
            subnet_of(
                anatomy,
                candidates[0],
                sparsity,
                run,
                ranks_sha256,
                Origin.RANDOM if method == "random" else Origin.SEARCHED,
            )
        )
    if state_path is not None:
        _save(
            state_path, search, time.monotonic() - began, macs, harm
        )  # the last comparison is part of what choosing took
    return chosen


def _save(
    state_path: Path, search: Search, seconds: float, macs: float, harm: dict[str, float]
) -> None:
    """`macs`: multiply-accumulates that all measurements so far executed in a second of the speech,
    summed.
    """
    writing.write_json(
        state_path,
        {
            "search": search.state(),
            "seconds": seconds,
            "told": search.told,
            "macs_per_second": macs,
            "harm": harm,
        },
    )


def _said(search: Search, options: Options) -> str:
    best = [f"{place[0][0]:.3f}" if place else "-" for place in search.front]
    return (
        f"{search.told} of {options.evaluations} candidates; best loss per size, dense to sparse:"
        f" {' '.join(best)}"
    )


def _harm(
    anatomy: Anatomy,
    budget: int,
    many: Callable[[list[Keep]], list[float]],
    at_once: int,
    progress: ProgressCallback,
    minutes: float,
) -> dict[str, float]:
    """{unit: rise of the loss when it alone keeps half as much} at the uniform size of a budget; {}
    where that takes over `minutes`.
    """
    uniform, until = uniform_at(anatomy, budget), time.monotonic() + 60 * minutes
    before, harm = many([uniform])[0], dict[str, float]()
    for i in range(0, len(anatomy.units), at_once):
        if time.monotonic() > until:
            return {}
        if not progress(0.0, f"how much every matrix matters: {i} of {len(anatomy.units)}", None):
            raise Interrupted(
                "stopped while measuring how much every matrix matters; that begins anew"
            )
        some = anatomy.units[i : i + at_once]
        losses = many([uniform | {unit.name: 0.5 * uniform[unit.name]} for unit in some])
        harm |= {unit.name: loss - before for unit, loss in zip(some, losses, strict=True)}
    return harm


def _shallower(anatomy: Anatomy, harm: dict[str, float], keep: Keep, left_out: float) -> list[Keep]:
    """`keep` without the branches whose matrices matter least, a quarter, half and all of those
    that may go.
    """
    branches: dict[str, float] = {}
    for unit in anatomy.units:
        if unit.branch:
            branches[unit.branch] = branches.get(unit.branch, 0.0) + harm[unit.name]
    most, least = int(left_out * len(branches)), sorted(branches, key=branches.__getitem__)
    counts = sorted({round(most * share) for share in (0.25, 0.5, 1.0)} - {0})
    return [
        {u.name: 0.0 if u.branch in least[:count] else keep[u.name] for u in anatomy.units}
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
