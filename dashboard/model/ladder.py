"""The ladder: the stored sizes that the slider walks over, and the sizes between them that nobody
has measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from core import cost
from core.records import Origin, Subnet
from dashboard import data
from dashboard.shares import whole

# points of sparsity within which only one of several subnets is a rung, if they share a percentage
# or are not measured
NEAR = 1.5
# the first wins among measured ones
ORIGINS = (Origin.SEARCHED, Origin.TRAINED, Origin.UNIFORM, Origin.BETWEEN)


@dataclass(frozen=True)
class Rung:
    """A stored size on the slider: percent zeros (rounded), exact sparsity 0..1, name."""

    percent: int
    sparsity: float
    name: str


def rungs(run: str) -> list[Rung]:
    """The stored sizes the slider stops at, densest first. Of sizes nearer than NEAR points a
    measured one stays, a searched one
    before others: never the one that happens to do best on the test speech. A measured size at a
    percentage where no other one stops
    stays, too, so that the slider never estimates there what was measured.
    """
    try:
        key = data.stamp(run)
        data.subnets(run)
    except ValueError:
        return []
    return _rungs(run, key, data.default_split(run))


@st.cache_data(max_entries=32, show_spinner=False)
def _rungs(run: str, key: tuple, split: str) -> list[Rung]:
    try:
        measured = {r.subnet for r in data.reports(run) if r.split == split or not split}
    except ValueError:
        measured = set()

    def quality(subnet: Subnet) -> tuple:
        rank = ORIGINS.index(subnet.origin) if subnet.origin in ORIGINS else len(ORIGINS)
        return (subnet.name not in measured, rank, subnet.name)

    chosen: list[Subnet] = []
    for candidate in sorted(data.subnets(run).values(), key=quality):
        far = all(abs(candidate.sparsity - other.sparsity) * 100 >= NEAR for other in chosen)
        alone = whole(candidate.sparsity) not in {whole(other.sparsity) for other in chosen}
        if far or alone and (candidate.sparsity == 0.0 or candidate.name in measured):
            chosen.append(candidate)
    return [
        Rung(whole(s.sparsity), s.sparsity, s.name)
        for s in sorted(chosen, key=lambda s: s.sparsity)
    ]


def first_subnet(run: str) -> str:
    """The size a visitor sees first: the rung nearest to 70 % sparsity, else any stored size, else
    "dense".
    """
    stops = rungs(run)
    if stops:
        return min(stops, key=lambda rung: abs(rung.percent - 70)).name
    return next(iter(data.subnet_names(run)), "dense")


def neighbors(rungs: list[Rung], percent: float) -> tuple[Rung, Rung]:
    """The two rungs around `percent`. ValueError outside the ladder or on one rung alone."""
    below = [rung for rung in rungs if rung.percent <= percent]
    above = [rung for rung in rungs if rung.percent >= percent]
    if not below or not above:
        span = f"{rungs[0].percent} to {rungs[-1].percent} %" if rungs else "no size"
        raise ValueError(f"{percent:g} % sparsity is outside what this net offers ({span}).")
    return below[-1], above[0]


def mixable(run: str) -> bool:
    """Whether sizes between the stored ones can be made: not where each has an output layer of its
    own or was individually pruned.
    """
    sizes = [data.subnet(run, rung.name) for rung in rungs(run)]
    return len({(s.ranks_sha256, s.head) for s in sizes}) == 1


def between(run: str, percent: int) -> Subnet:
    """The subnet with `percent` % sparsity mixed from its two neighbors on the ladder; nobody has
    measured it.
    """
    return data.guard(run, f"size at {percent} % sparsity", _between, run, percent, data.stamp(run))


@st.cache_data(max_entries=256, show_spinner=False)
def _between(run: str, percent: int, key: tuple) -> Subnet:
    low, high = neighbors(rungs(run), percent)
    a, b = data.subnet(run, low.name), data.subnet(run, high.name)
    if a.ranks_sha256 != b.ranks_sha256 or a.head != b.head:
        raise ValueError(
            f"its neighbors {a.name} and {b.name} were individually pruned: nothing lies between"
            " them"
        )
    keep = cost.between(data.spec(run), a.keep, b.keep, percent / 100)
    return Subnet(
        name=f"s{percent:02d}-between",
        run=run,
        keep=keep,
        pattern=a.pattern,
        head=a.head,
        bits=a.bits,
        sparsity=cost.sparsity_reached(data.spec(run), keep),
        ranks_sha256=a.ranks_sha256,
        origin=Origin.BETWEEN,
    )
