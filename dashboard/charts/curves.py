"""Rows of a run's metrics as live Plotly curves, one line per subnet or pass; at most some 20 kB
per figure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.charts.looks import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    legible,
)
from dashboard.markdown import plot_text

POINTS = 300  # per line; longer histories are averaged
# (color, dash): Okabe-Ito, and a dash of its own for who cannot tell two colors apart
LINES = (
    (BLUE, "solid"),
    (ORANGE, "dash"),
    (GREEN, "dot"),
    (PURPLE, "dashdot"),
    (VERMILLION, "longdash"),
    (SKY, "longdashdot"),
    (GRAY, "solid"),
)
ON_DARK = {
    BLUE: SKY,
    SKY: YELLOW,
}  # blue is hard to see on a dark page, as in the other charts; yellow, in its turn, on a light one
MOST_LINES = 12
SENTENCES = {
    "loss": (
        "Loss is how surprised the model is by the right words. It should fall, quickly first and"
        " then slowly; sparser sizes lie higher."
    ),
    "wer": (
        "Word error rate on speech held out of training, in percent. Lower is better; the sparser"
        " sizes end higher."
    ),
}


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics as one level, {"wer": {"dense": 0.1}} -> {"wer_dense": 0.1}; finite numbers
    only.
    """
    values: dict[str, float] = {}
    for key, value in row.items():
        name = f"{prefix}_{key}" if prefix else str(key)
        if isinstance(value, dict):
            values |= flat(value, name)
        elif (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        ):
            values[name] = float(value)
    return values


def series(
    rows: list[dict[str, Any]], word: str, over: str = "step"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{line: (`over` [n], value [n])} of all metrics whose name has `word` as a part ("loss",
    "loss_dense").

    A row that says which "subnet" or "pass" it is about gives lines of that name.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows):
        numbers = flat(row)
        about = row.get("subnet") or row.get("pass")
        for name, value in numbers.items():
            parts = name.split("_")
            if word not in parts:
                continue
            rest = " ".join(part for part in parts if part != word)
            line = " ".join(str(part) for part in (about, rest) if part) or "all passes together"
            points.setdefault(line, []).append((numbers.get(over, float(number)), value))
    return {
        line: thin(np.array(line_points)) for line, line_points in list(points.items())[:MOST_LINES]
    }


def thin(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS means of neighboring points [n, 2]."""
    pieces = np.array_split(points, POINTS) if len(points) > POINTS else points[:, None]
    means = np.array([piece.mean(0) for piece in pieces])
    return means[:, 0].round(2).astype(np.float32), means[:, 1].astype(np.float32)


def figure(
    rows: list[dict[str, Any]],
    word: str,
    over: str = "step",
    title: str = "training step",
    dark: bool = False,
) -> go.Figure | None:
    """Curves of all metrics of this word over training steps, or over another field; None when
    there is nothing to draw.
    """
    lines = series(rows, word, over)
    if not lines:
        return None
    chart = go.Figure()
    percent = word == "wer"
    for number, (name, (x, y)) in enumerate(lines.items()):
        color, dash = LINES[number % len(LINES)]
        color = legible(ON_DARK.get(color, color) if dark else color, dark)
        chart.add_scatter(
            x=x,
            y=100 * y if percent else y,
            name=plot_text(name),
            mode="lines+markers" if len(x) < 15 else "lines",
            line={"color": color, "dash": dash, "width": 2},
            hovertemplate="%{y:.1f} %" if percent else "%{y:.3f}",
        )
    chart.update_layout(
        height=280,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        uirevision=word,
    )
    chart.update_xaxes(title=title)
    chart.update_yaxes(
        title="WER (%)" if percent else word, rangemode="tozero" if percent else "normal"
    )
    return chart
