"""Costs of subnets: known counts by hand, exact interpolation, and an estimate that agrees with the
file.
"""

from __future__ import annotations

import pytest

from core import cost
from core.records import FixedTensor, ModelSpec, PrunableMatrix, Subnet
from core.storage import packing
from tests import standin

SMALL = ModelSpec(
    "tiny",
    40.0,
    0.0,
    0.0,
    (
        PrunableMatrix("a", "feed-forward", 0, "b0", 16, 10),
        PrunableMatrix("b", "attention", 0, "b1", 8, 4),
    ),
    (FixedTensor("head", 30, 500.0),),
)


def test_counts_by_hand():
    a, b = SMALL.units
    assert (a.blocks, b.blocks) == (20, 4)
    assert [cost.blocks_kept(a, k) for k in (0.0, 0.124, 0.125, 0.5, 1.0, 7.0, -1.0)] == [
        0,
        2,
        3,
        10,
        20,
        20,
        0,
    ]
    keep = {"a": 0.5, "b": 0.25}
    assert cost.sparsity_reached(SMALL, keep) == pytest.approx(1 - 11 / 24)
    assert cost.parameters(SMALL) == 192 + 30
    assert cost.nonzero_parameters(SMALL, keep) == 88 + 30
    assert cost.macs_per_second(SMALL) == 192 * 25 + 500
    assert cost.macs_nonzero_per_second(SMALL, keep) == 88 * 25 + 500
    assert cost.whole_sparsity(SMALL, keep) == pytest.approx(1 - 118 / 222)


@pytest.mark.parametrize("sparsity", [0.30, 0.41, 0.555, 0.7])
def test_between_reaches_what_is_asked_and_stays_nested(sparsity):
    shape = standin.spec()
    a = {u.name: 0.7 for u in shape.units}
    b = {u.name: 0.1 + 0.4 * (i % 2) for i, u in enumerate(shape.units)}
    middle = cost.between(shape, a, b, sparsity)
    blocks = sum(u.blocks for u in shape.units)
    assert abs(cost.sparsity_reached(shape, middle) - sparsity) <= 0.5 / blocks + 1e-9
    for low, mid, high in zip(
        cost.counts(shape, b), cost.counts(shape, middle), cost.counts(shape, a)
    ):
        assert low <= mid <= high


def test_between_refuses_what_lies_outside():
    shape = standin.spec()
    with pytest.raises(ValueError, match="not between"):
        cost.between(shape, cost.uniform(shape, 0.2), cost.uniform(shape, 0.5), 0.8)


def test_unknown_unit_and_wrong_share_are_named():
    with pytest.raises(ValueError, match="nosuch"):
        cost.sparsity_reached(SMALL, {"nosuch": 0.5})
    with pytest.raises(ValueError, match="0..1"):
        cost.sparsity_reached(SMALL, {"a": 1.5})


@pytest.mark.slow
def test_estimate_agrees_with_the_file(tmp_path):
    shape = standin.spec()
    run = standin.make_run(tmp_path)
    for sparsity in (0.0, 0.02, 0.5, 0.95):
        subnet = Subnet("x", "standin", cost.uniform(shape, sparsity), sparsity)
        real = len(packing.pack(run, subnet))
        assert abs(cost.file_bytes(shape, subnet.keep) - real) < 6_500, (
            "tokens and settings take some kB"
        )
