"""DataFrames and arrays to Plotly figures for the Explore and Evidence pages; no Streamlit, no
files, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.hover import hover, predicted
from dashboard.charts.looks import Series, display
from dashboard.markdown import plot_text

FAINT = 0.35  # opacity of measured points that another point beats
BUTTONS_OFF = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


def config(camera: bool = True) -> dict:
    """Plotly's buttons; without the camera while an estimate is drawn, because estimates are never
    exported.
    """
    return {
        "displaylogo": False,
        "displayModeBar": True,
        "scrollZoom": False,
        "modeBarButtonsToRemove": BUTTONS_OFF + ([] if camera else ["toImage"]),
        "toImageButtonOptions": {
            "format": "png",
            "filename": "front",
            "width": 1200,
            "height": 700,
            "scale": 2,
        },
    }


@dataclass(frozen=True)
class Axis:
    """A size a visitor can choose: column of the points, divisor to the shown unit, and words for
    it. `timed`: it is of one machine, and may be predicted.
    """

    column: str
    divisor: float
    short: str
    title: str
    unit: str
    timed: bool = False


AXES = {
    axis.short: axis
    for axis in (
        Axis("file_bytes", 1e6, "MB on disk", "Size of the file on disk (MB)", "MB"),
        Axis(
            "zstd_bytes", 1e6, "MB to download", "Size to download, compressed with zstd (MB)", "MB"
        ),
        Axis(
            "nonzero_parameters",
            1e6,
            "Parameters",
            "Parameters that are not zero (millions)",
            "million",
        ),
        Axis(
            "mmacs_nonzero_per_second",
            1.0,
            "Arithmetic needed",
            "Multiplications that meet a non-zero weight (millions per second of audio)",
            "MMAC/s",
        ),
        Axis(
            "mmacs_per_second",
            1.0,
            "Arithmetic done",
            "Multiplications really executed, zeros included (millions per second of audio)",
            "MMAC/s",
        ),
        Axis(
            "chunk_median_ms",
            1.0,
            "ms per chunk",
            "Time to process one chunk, median (ms)",
            "ms",
            timed=True,
        ),
        Axis(
            "rtf",
            1.0,
            "Real-time factor",
            "Real-time factor: processing time over the audio's duration",
            "",
            timed=True,
        ),
        Axis("peak_rss_mb", 1.0, "RAM", "Highest resident memory (MB)", "MB", timed=True),
    )
}


def pareto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool [N]: points that no other point beats (smaller or equal in both, smaller in one). NaN is
    never on it.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    beaten = (
        (x[None] <= x[:, None])
        & (y[None] <= y[:, None])
        & ((x[None] < x[:, None]) | (y[None] < y[:, None]))
    )
    return ~beaten.any(axis=1) & np.isfinite(x) & np.isfinite(y)


SAME_SIZE = (
    0.01  # the search's window: a size that is smaller by less than this is not worth more errors
)


def front(points: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """The points that have a value on this axis, sorted by it; adds x, on_front (of all), beaten
    (by its run).
    """
    points_with_axis = points[points[axis.column].notna()].reset_index(drop=True)
    points_with_axis["x"] = points_with_axis[axis.column].astype(float) / axis.divisor
    points_with_axis["on_front"] = pareto(
        points_with_axis["x"].to_numpy(), points_with_axis["wer"].to_numpy()
    )
    points_with_axis["beaten"] = True  # by a size of the same run: what is drawn faint
    for _, rows in points_with_axis.groupby("run"):
        x, wer = rows["x"].to_numpy(), rows["wer"].to_numpy()
        better = (x <= (1 + SAME_SIZE) * x[:, None]) & (wer < wer[:, None])  # [beaten, by]
        points_with_axis.loc[rows.index, "beaten"] = ~pareto(x, wer) | better.any(1)
    return points_with_axis.sort_values(["x", "wer"]).reset_index(drop=True)


def front_figure(
    points: pd.DataFrame,
    axis: Axis,
    series: dict[str, Series],
    chosen: dict | None = None,
    dark: bool = False,
) -> go.Figure:
    """WER in % over a size, a series for every run. `points` come from `front`; `chosen` is
    {"x", "wer", "measured"} or None.
    """
    by_run: dict[str, list] = {}
    for row in (
        points.itertuples()
    ):  # plain rows: each selection of a frame of sixty columns takes milliseconds
        by_run.setdefault(row.run, []).append(row)
    # the main method is drawn on top
    runs = sorted(by_run, key=lambda run: (display(by_run[run][0].method).main, run))
    traces = [t for run in runs for t in _run_traces(by_run[run], series[run], axis.timed)]
    if chosen and chosen["x"] is not None and chosen["wer"] is not None:
        traces.append(_chosen_trace(chosen, dark))
    rows = sum(
        bool(trace.get("showlegend", True)) for trace in traces
    )  # of the legend on a phone: they must not take the chart's place
    # in one piece: traces and layout added one by one are checked and copied again each time
    return go.Figure(
        data=traces,
        layout={
            "height": 440 + 28 * max(0, rows - 4),
            "margin": {"l": 8, "r": 8, "t": 34, "b": 8},
            "hovermode": "closest",
            "dragmode": False,
            "clickmode": "event+select",
            "hoverlabel": {"align": "left", "font": {"size": 12}},
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
            "xaxis": {"title": {"text": axis.title}, "rangemode": "tozero", "automargin": True},
            "yaxis": {"title": {"text": "WER (%)"}, "automargin": True},
        },
    )


def _run_traces(rows: list, look: Series, timed: bool) -> list[dict]:
    """One run: a line through its best points, the points that count in full, the beaten ones
    faint; hollow where a `timed` axis shows predictions.
    """
    run, shown = rows[0].run, display(rows[0].method)
    traces: list[dict] = []
    line = [row for row in rows if not shown.ranked or not row.beaten]
    if shown.line != "none" and len(line) > 1:
        traces.append(
            {
                "type": "scatter",
                "x": [row.x for row in line],
                "y": [100 * row.wer for row in line],
                "mode": "lines",
                "hoverinfo": "skip",
                "showlegend": False,
                "legendgroup": run,
                "line": {"color": look.color, "width": 2, "dash": shown.line},
            }
        )
    faint = [row for row in rows if shown.ranked and row.beaten]
    for part, opacity in ((line, 1.0), (faint, FAINT)):
        if not part:
            continue
        traces.append(
            {
                "type": "scatter",
                "x": [row.x for row in part],
                "y": [100 * row.wer for row in part],
                "mode": "markers",
                "name": plot_text(look.name),
                "legendgroup": run,
                "showlegend": opacity == 1.0,
                "opacity": opacity,
                "legendrank": 1 if shown.main else 1000,
                "marker": {
                    "color": look.color,
                    "symbol": _symbols(part, look.marker, timed),
                    "size": 11,
                },
                "selected": {"marker": {"opacity": opacity}},
                "unselected": {"marker": {"opacity": opacity}},
                "error_y": {
                    "type": "data",
                    "array": [100 * (row.wer_high - row.wer) for row in part],
                    "arrayminus": [100 * (row.wer - row.wer_low) for row in part],
                    "thickness": 1.2,
                    "width": 3,
                    "color": look.color,
                },
                "customdata": [[row.run, row.subnet] for row in part],
                "text": [hover(row) for row in part],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    return traces


def _symbols(rows: list, marker: str, timed: bool) -> str | list[str]:
    hollow = marker if marker.endswith("-open") else f"{marker}-open"
    if not timed or not any(predicted(row) for row in rows):
        return marker
    return [hollow if predicted(row) else marker for row in rows]


def _chosen_trace(chosen: dict, dark: bool) -> dict:
    """The visitor's point: a ring around a measured one, a hollow dot between measured ones."""
    ink = "#FFFFFF" if dark else "#000000"
    mark = {
        "symbol": "circle-open",
        "size": 22 if chosen["measured"] else 13,
        "color": ink,
        "line": {"width": 2.5, "color": ink},
    }
    sign = "" if chosen["measured"] else "≈ "
    text = f"{sign}{100 * chosen['wer']:.1f} %"
    return {
        "type": "scatter",
        "x": [chosen["x"]],
        "y": [100 * chosen["wer"]],
        "mode": "markers+text",
        "text": [f"<b>{text}</b>"],
        "marker": mark,
        "textposition": "top right",
        "textfont": {"color": ink, "size": 14},
        "hoverinfo": "skip",
        "cliponaxis": False,
        "name": "your choice" if chosen["measured"] else "your choice (estimated)",
    }
