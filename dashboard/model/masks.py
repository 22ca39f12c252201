"""Questions about masks that several charts ask: nested or not, where two differ, how early they
settle; NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from core import cost
from core.records import ModelSpec, Subnet
from dashboard import data


@dataclass(frozen=True)
class Comparison:
    """Blocks of two subnets over all matrices; `units` holds a row per matrix with only_a, only_b,
    both, blocks.
    """

    only_a: int
    only_b: int
    both: int
    units: pd.DataFrame

    @property
    def words(self) -> str:
        """Nested or not, in one sentence with {a} and {b} for the names."""
        if self.only_a == 0 and self.only_b == 0:
            return "Both keep exactly the same blocks."
        if self.only_b == 0:
            return "**Nested:** every block of {b} is also in {a}; {a} only adds to it."
        if self.only_a == 0:
            return "**Nested:** every block of {a} is also in {b}; {b} only adds to it."
        share = self.both / max(min(self.both + self.only_a, self.both + self.only_b), 1)
        return (
            f"**Not nested:** each has blocks the other lacks; they share {100 * share:.1f} % of"
            " the smaller one."
        )


def sum_up(units: pd.DataFrame) -> Comparison:
    """The comparison from rows per matrix (unit, short, layer, blocks, only_a, only_b, both)."""
    return Comparison(
        int(units["only_a"].sum()), int(units["only_b"].sum()), int(units["both"].sum()), units
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _compare(run_a: str, _a: Subnet, run_b: str, _b: Subnet, key: tuple) -> pd.DataFrame:
    from dashboard.charts.layers import short_name

    rows = []
    for unit in data.spec(run_a).units:
        a, b = unit_mask(run_a, _a, unit), unit_mask(run_b, _b, unit)
        both = int((a & b).sum())
        rows.append(
            {
                "unit": unit.name,
                "short": short_name(unit.name, unit.layer),
                "layer": unit.layer + 1,
                "blocks": unit.blocks,
                "only_a": int(a.sum()) - both,
                "only_b": int(b.sum()) - both,
                "both": both,
                "difference": (int(b.sum()) - int(a.sum())) / unit.blocks,
            }
        )
    return pd.DataFrame(rows)


def unit_mask(run: str, subnet: Subnet, unit, step: int | None = None) -> np.ndarray:
    """bool [R/b, C] of one unit; a unit that is kept whole needs no ranks."""
    kept = cost.blocks_kept(unit, subnet.keep.get(unit.name, 1.0))
    if kept == unit.blocks:
        return np.ones((unit.blocks // unit.columns, unit.columns), bool)
    return data.mask(run, subnet, unit.name, step)


def pooled(run: str, subnet: Subnet) -> dict[str, np.ndarray]:
    """{unit: its mask as a tile (charts/tiles.py)}. ValueError when masks are missing."""
    return _pooled(run, subnet, (data.stamp(run), subnet.name, subnet.sparsity))


@st.cache_data(max_entries=64, show_spinner=False)
def _pooled(run: str, _subnet: Subnet, key: tuple) -> dict[str, np.ndarray]:
    from dashboard.charts.tiles import pooled

    return {u.name: pooled(unit_mask(run, _subnet, u)) for u in data.spec(run).units}


def compare(run_a: str, a: Subnet, run_b: str, b: Subnet) -> Comparison:
    """Block by block over all matrices. ValueError when the nets are built differently or masks are
    missing.
    """
    if shape(data.spec(run_a)) != shape(data.spec(run_b)):
        raise ValueError(
            "The two models are built differently, or their zeros lie in other patterns, so their"
            " masks cannot be laid over each other."
        )
    key = (data.stamp(run_a), data.stamp(run_b), a.name, a.sparsity, b.name, b.sparsity)
    return sum_up(_compare(run_a, a, run_b, b, key))


def shape(spec: ModelSpec) -> list[tuple]:
    """Names, sizes and blocks of the units: equal for nets whose masks can be compared."""
    return [(unit.name, unit.rows, unit.columns, unit.block) for unit in spec.units]


def inside(run: str, subnet: Subnet) -> bool:
    """Whether any matrix is kept in part; where all are kept whole or not at all, no mask could
    have been another.
    """
    units = data.spec(run).units
    return any(
        0 < cost.blocks_kept(unit, subnet.keep.get(unit.name, 1.0)) < unit.blocks for unit in units
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _agreement(run: str, _subnet: Subnet, step: int, unit_name: str, key: tuple) -> tuple[int, int]:
    agreed = kept = 0
    for unit in data.spec(run).units:
        if unit_name and unit.name != unit_name:
            continue
        final = unit_mask(run, _subnet, unit)
        agreed += int((final & unit_mask(run, _subnet, unit, step)).sum())
        kept += int(final.sum())
    return agreed, kept


def agreement(run: str, subnet: Subnet, step: int, unit_name: str = "") -> float:
    """Share of the final mask's blocks that the mask of `step` also holds, over one unit or ("")
    the whole net.
    """
    key = (data.stamp(run), subnet.name, subnet.sparsity)
    agreed, kept = _agreement(run, subnet, step, unit_name, key)
    return agreed / kept if kept else 1.0
