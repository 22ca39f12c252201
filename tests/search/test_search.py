"""The search: candidates stay in their window, it beats random search on a problem with a known
answer, and resumes.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from core import cost
from core.records import Interrupted
from core.search import allocation
from core.search.allocation import baselines, budgets_of
from core.search.evolution import Options, RandomSearch, Search
from core.search.ladders import run_ladder
from tests import standin

SHAPE = standin.spec(4, 64, 4)
SIZES = [0.5, 0.7, 0.9]
OPTIONS = Options(sparsities=SIZES, evaluations=150, population=24, minutes=10.0)
NEED = {
    u.name: w
    for u, w in zip(SHAPE.units, np.random.default_rng(0).exponential(1.0, len(SHAPE.units)) ** 2)
}


def loss(keep):
    """Convex with a known structure: some matrices matter much more than others."""
    return sum(NEED[name] * (1 - k) ** 2 for name, k in keep.items())


@pytest.mark.slow
@pytest.mark.parametrize("group", ["unit", "branch"])
def test_candidates_are_new_inside_the_window_and_grouped(group):
    budgets = budgets_of(SHAPE, SIZES)
    search = Search(
        SHAPE, budgets, dataclasses.replace(OPTIONS, group=group), [cost.uniform(SHAPE, 0.7)]
    )
    seen = set()
    for _ in range(10):
        keeps = search.ask(6)
        for keep in keeps:
            assert min(abs(cost.file_bytes(SHAPE, keep) / b - 1) for b in budgets) <= 0.01
            seen.add(json.dumps(keep))
            if group == "branch":
                assert len({(u.branch, keep[u.name]) for u in SHAPE.units}) == len(
                    {u.branch for u in SHAPE.units}
                )
        search.tell([(k, loss(k)) for k in keeps])
    assert len(seen) == 60 and search.measured == 60
    assert all(len(place) >= 8 for place in search.front)


def test_first_candidate_is_the_start_and_nan_is_forgotten():
    start = allocation.uniform_at(SHAPE, budgets_of(SHAPE, [0.7])[0])
    search = Search(SHAPE, budgets_of(SHAPE, [0.7]), OPTIONS, [start])
    assert search.ask(1) == [start]
    search.tell([(start, float("nan"))])
    assert search.front == [[]] and search.measured == 1


@pytest.mark.slow
def test_search_beats_random_search_uniform_and_magnitude():
    rng = np.random.default_rng(1)
    norms = {u.name: rng.exponential(1.0, (u.rows // 8, u.columns)) for u in SHAPE.units}
    searched = run_ladder(SHAPE, OPTIONS, loss, norms=norms)
    at_random = run_ladder(SHAPE, OPTIONS, loss, method="random")
    others = baselines(SHAPE, SIZES, norms)
    assert [s.name for s in searched] == ["s50", "s70", "s90"] and at_random[0].name == "r50"
    assert [s.name for s in others] == ["u50", "m50", "u70", "m70", "u90", "m90"]
    for i, (mine, drawn) in enumerate(zip(searched, at_random)):
        budget = budgets_of(SHAPE, SIZES)[i]
        assert loss(mine.keep) < loss(drawn.keep)
        assert loss(mine.keep) < 0.9 * min(loss(s.keep) for s in others[2 * i : 2 * i + 2])
        assert abs(cost.file_bytes(SHAPE, mine.keep) / budget - 1) <= 0.01
        assert (
            mine.sparsity == cost.sparsity_reached(SHAPE, mine.keep) and mine.origin == "searched"
        )


@pytest.mark.slow
def test_resumed_is_not_stopping(tmp_path):
    options = dataclasses.replace(OPTIONS, evaluations=60)
    whole = run_ladder(SHAPE, options, loss, state_path=tmp_path / "whole.json")
    calls = []
    with pytest.raises(Interrupted, match="stopped after 21 of 60"):
        run_ladder(
            SHAPE,
            options,
            loss,
            state_path=tmp_path / "part.json",
            progress=lambda share, text, left: calls.append(share) or len(calls) < 8,
        )
    counted = []
    again = run_ladder(
        SHAPE, options, lambda k: counted.append(k) or loss(k), state_path=tmp_path / "part.json"
    )
    assert again == whole and len(counted) < 60
    with pytest.raises(ValueError, match="budgets"):
        run_ladder(
            SHAPE,
            dataclasses.replace(options, sparsities=[0.2]),
            loss,
            state_path=tmp_path / "part.json",
        )


@pytest.mark.slow
def test_rerank_chooses_among_the_best():
    best_by = run_ladder(
        SHAPE, dataclasses.replace(OPTIONS, evaluations=60), loss, rerank=lambda keep: -loss(keep)
    )
    plain = run_ladder(SHAPE, dataclasses.replace(OPTIONS, evaluations=60), loss)
    assert all(loss(a.keep) > loss(b.keep) for a, b in zip(best_by, plain))


def test_magnitude_allocation_is_one_threshold_at_the_asked_bytes():
    weights = standin.weights(4, 64, 4)
    norms = allocation.block_norms(weights, SHAPE)
    unit = SHAPE.units[0]
    block = weights[unit.name + ".weight"][8:16, 2].astype(float)
    assert norms[unit.name][1, 2] == pytest.approx(np.linalg.norm(block))
    size = budgets_of(SHAPE, [0.6])[0]
    keep = allocation.global_magnitude(norms, SHAPE, size)
    assert abs(cost.file_bytes(SHAPE, keep) / size - 1) < 0.01
    dropped = max(
        np.sort(n.reshape(-1))[::-1][cost.blocks_kept(u, keep[u.name]) :].max(initial=0)
        for u, n in ((u, norms[u.name]) for u in SHAPE.units)
    )
    held = min(
        np.sort(n.reshape(-1))[::-1][: cost.blocks_kept(u, keep[u.name])].min(initial=9e9)
        for u, n in ((u, norms[u.name]) for u in SHAPE.units)
    )
    assert dropped < held
    with pytest.raises(ValueError, match="too few"):
        allocation.uniform_at(SHAPE, 100)


@pytest.mark.slow
def test_unreachable_window_is_said():
    one = dataclasses.replace(SHAPE, units=SHAPE.units[:1], fixed=())
    options = dataclasses.replace(OPTIONS, grid=2, window=0.001)
    with pytest.raises(ValueError, match="search.window"):
        RandomSearch(one, budgets_of(one, [0.6]), options).ask(1)


@pytest.mark.slow
def test_probing_finds_what_matters_and_counts_as_measuring(tmp_path):
    calls = []
    options = dataclasses.replace(OPTIONS, evaluations=200)
    found = run_ladder(
        SHAPE, options, lambda k: calls.append(k) or loss(k), state_path=tmp_path / "s.json"
    )
    assert len(calls) == 200, "probes are measurements, too"
    probes = calls[1 : 1 + len(SHAPE.units)]
    assert all(sum(k[n] != calls[0][n] for n in k) == 1 for k in probes)
    blind = run_ladder(SHAPE, dataclasses.replace(options, probe=False), loss)
    assert all(loss(a.keep) < loss(b.keep) for a, b in zip(found, blind))
    again = []
    run_ladder(SHAPE, options, lambda k: again.append(k) or loss(k), state_path=tmp_path / "s.json")
    assert not again, "a finished search measures nothing"
    for steepness in (4.0, 16.0):
        keep = allocation.by_harm(NEED, SHAPE, budgets_of(SHAPE, [0.7])[0], steepness)
        assert (
            min(keep.values()) > 0 and cost.file_bytes(SHAPE, keep) <= budgets_of(SHAPE, [0.7])[0]
        )


@pytest.mark.slow
@pytest.mark.parametrize("group", ["unit", "branch"])
@pytest.mark.parametrize("kind", [Search, RandomSearch])
def test_branches_are_left_out_whole_or_not_at_all(kind, group):
    budgets = budgets_of(SHAPE, SIZES)
    search = kind(SHAPE, budgets, dataclasses.replace(OPTIONS, group=group), left_out=0.4)
    branches = {u.branch for u in SHAPE.units}
    counts = []
    for _ in range(20):
        keeps = search.ask(6)
        for keep in keeps:
            off = cost.branches_off(SHAPE, keep)
            assert all((keep[u.name] == 0) == (u.branch in off) for u in SHAPE.units), (
                "nothing in half a branch is 0"
            )
            assert min(abs(cost.file_bytes(SHAPE, keep) / b - 1) for b in budgets) <= 0.01
            counts.append(len(off))
        search.tell([(k, loss(k)) for k in keeps])
    assert min(counts) == 0 and 1 < max(counts) <= int(0.4 * len(branches)) and len(set(counts)) > 2
    assert all(not cost.branches_off(SHAPE, k) for k in kind(SHAPE, budgets, OPTIONS).ask(20)), (
        "unless they may be"
    )


@pytest.mark.slow
def test_depth_is_found_where_it_pays():
    """Some branches are of no use at all: leaving them out buys bytes for the others."""
    useless = sorted({u.branch for u in SHAPE.units})[:4]

    def deep(keep):
        return sum(
            0.0 if u.branch in useless else NEED[u.name] * (1 - keep[u.name]) ** 2
            for u in SHAPE.units
        )

    options = dataclasses.replace(OPTIONS, evaluations=400, sparsities=[0.7])
    flat, shallow = (run_ladder(SHAPE, options, deep, left_out=share)[0] for share in (0.0, 0.4))
    assert len(cost.branches_off(SHAPE, shallow.keep) & set(useless)) >= 2
    assert deep(shallow.keep) < deep(flat.keep)
    assert cost.macs_per_second(SHAPE, shallow.keep) < cost.macs_per_second(SHAPE, flat.keep)


def test_starts_are_made_whole_and_a_finished_search_of_another_depth_is_not_taken_for_this_one(
    tmp_path,
):
    units = [u.name for u in SHAPE.units]
    branch = SHAPE.units[0].branch
    start = (
        cost.uniform(SHAPE, 0.6)
        | {u.name: 0.0 for u in SHAPE.units if u.branch == branch}
        | {units[-1]: 0.0}
    )
    budgets = budgets_of(SHAPE, [0.7])
    for left_out, off in ((0.0, frozenset()), (0.2, frozenset({branch}))):
        made = Search(SHAPE, budgets, OPTIONS, [start], left_out).ask(1)[0]
        assert cost.branches_off(SHAPE, made) == off and made[units[-1]] > 0
    options = dataclasses.replace(OPTIONS, evaluations=20, sparsities=[0.7])
    run_ladder(SHAPE, options, loss, state_path=tmp_path / "s.json")
    with pytest.raises(ValueError, match="may leave out 0 branches, this one"):
        run_ladder(SHAPE, options, loss, state_path=tmp_path / "s.json", left_out=0.4)
