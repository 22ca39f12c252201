"""Measurements of runs as a table for charts, one row each, and their conditions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from core.records import Report, as_dict
from dashboard import data
from dashboard.shares import whole

CONDITION = (
    "split",
    "chunk_ms",
    "lookahead_ms",
    "left_context_ms",
    "decoder",
    "language_model",
    "normaliser",
    "precision",
    "engine",
)


def points(runs: tuple[str, ...]) -> pd.DataFrame:
    """One row per Report of the runs, its fields plus origin and percent; runs that cannot be read
    are left out.
    """
    readable = []
    for run in runs:
        try:
            readable.append((run, data.stamp(run)))
            data.reports(run), data.subnets(run)
        except ValueError:
            readable = [entry for entry in readable if entry[0] != run]
    return _points(tuple(readable))


@st.cache_data(max_entries=16, show_spinner=False)
def _points(keyed: tuple) -> pd.DataFrame:
    rows = []
    for run, _ in keyed:
        known = data.subnets(run)
        for report in data.reports(run):
            origin = known[report.subnet].origin if report.subnet in known else ""
            rows.append(
                {
                    **as_dict(report),
                    "run": run,
                    "origin": origin,
                    "percent": whole(report.sparsity),
                }
            )
    columns = [*Report.__dataclass_fields__, "origin", "percent"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame[np.isfinite(frame["wer"].astype(float))].reset_index(drop=True)


def conditions(frame: pd.DataFrame) -> list[tuple]:
    """The different conditions in `frame` (values of CONDITION without split), the most measured
    first.
    """
    if frame.empty:
        return []
    sizes = frame.groupby(list(CONDITION[1:]), dropna=False).size()
    return list(sizes.sort_values(ascending=False, kind="stable").index)


def same_condition(frame: pd.DataFrame, split: str, condition: tuple) -> pd.DataFrame:
    """The rows measured on `split` under exactly this condition: what one chart may hold."""
    keep = frame["split"] == split
    for name, value in zip(CONDITION[1:], condition):
        keep &= frame[name] == value
    return frame[keep].reset_index(drop=True)
