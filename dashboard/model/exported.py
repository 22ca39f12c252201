"""Exported files that were measured in the stock runtime that loads them, beside our own engines'
points: series of their own, in the color of their run.
"""

from __future__ import annotations

import pandas as pd

from core.registry import plugins
from dashboard import measurements
from dashboard.charts.looks import Series

MARK = "@"  # parts a run from the format and precision; no run's name has one
FREE = ("precision", "engine")  # of measurements.CONDITION


def beside(
    points: pd.DataFrame, split: str, condition: tuple, drawn: dict[str, Series]
) -> tuple[pd.DataFrame, dict[str, Series]]:
    """(the rows of `points` measured as exported, `run` naming their series; those series), under
    this condition but for engine and precision. `drawn`: {run: how it is drawn}.
    """
    keep = points["engine"].isin(set(plugins.names("export")) - set(plugins.names("runtime")))
    keep &= points["split"] == split
    for name, value in zip(measurements.CONDITION[1:], condition):
        keep &= (points[name] == value) | (name in FREE)
    rows = points[keep].copy()
    series = {}
    for run, engine, precision in rows[["run", *reversed(FREE)]].drop_duplicates().values:
        look = drawn[run]
        series[f"{run}{MARK}{engine}-{precision}"] = Series(
            f"{look.name}, exported ({engine}, {precision})",
            look.color,
            f"{look.marker.removesuffix('-open')}-open{'-dot' * (precision != 'fp32')}",
        )
    rows["run"] = rows["run"] + MARK + rows["engine"] + "-" + rows["precision"]
    return rows, series


def run_of(series: str) -> str:
    """The run that a series belongs to."""
    return series.partition(MARK)[0]
