"""Where a size's further errors come from, as figures; none has fewer than POINTS points."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.looks import BLUE, ORANGE, SKY, VERMILLION
from dashboard.markdown import plot_text

POINTS = 3  # that a chart must have
MOST_SPEAKERS = 60


def _figure(title: str, y: str, height: int = 300) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 50, "r": 10, "t": 10, "b": 40},
        dragmode=False,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(title=title, automargin=True)
    figure.update_yaxes(title=y, automargin=True, rangemode="tozero")
    return figure


def _bars(center: pd.Series, low: pd.Series, high: pd.Series) -> dict:
    """Error bars in %."""
    return {
        "type": "data",
        "symmetric": False,
        "array": 100 * (high - center),
        "arrayminus": 100 * (center - low),
        "thickness": 1,
        "width": 3,
    }


def speakers(table: pd.DataFrame, dark: bool) -> go.Figure | None:
    """Further errors of every speaker, with intervals; None for fewer than POINTS speakers."""
    if len(table) < POINTS:
        return None
    shown = table.head(MOST_SPEAKERS)
    figure = _figure("Speaker", "More errors per 100 words")
    figure.add_scatter(
        x=[plot_text(speaker) for speaker in shown["speaker"]],
        y=100 * shown["change"],
        error_y=_bars(shown["change"], shown["low"], shown["high"]),
        mode="markers",
        marker={"color": SKY if dark else BLUE, "size": 7},
        customdata=shown[["base", "other", "words", "utterances"]] * [100, 100, 1, 1],
        hovertemplate=(
            "%{x}: %{y:+.1f} per 100 words<br>WER %{customdata[0]:.1f} to %{customdata[1]:.1f} %"
            "<br>%{customdata[2]} words, %{customdata[3]} utterances<extra></extra>"
        ),
        showlegend=False,
    )
    figure.update_xaxes(type="category", showticklabels=len(shown) <= 20)
    return figure


def _lines(figure: go.Figure, x: pd.Series, lines: list[tuple], counts: pd.DataFrame) -> go.Figure:
    """(name, color, dash, marker, values, error bars) as lines with points, in %."""
    for name, color, dash, symbol, values, bars in lines:
        figure.add_scatter(
            x=x,
            y=100 * values,
            name=plot_text(name),
            mode="lines+markers",
            error_y=bars,
            line={"color": color, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 8},
            customdata=counts,
            hovertemplate=("WER %{y:.1f} %<br>%{customdata[0]} words, %{customdata[1]} utterances"),
        )
    return figure


def lengths(table: pd.DataFrame, base: str, other: str, dark: bool) -> go.Figure | None:
    """WER of two sizes over the length of an utterance; None for fewer than POINTS lengths."""
    if len(table) < POINTS:
        return None
    figure = _figure("Words in the utterance", "WER (%)")
    figure.update_xaxes(type="category")
    return _lines(
        figure,
        table["length"],
        [
            (
                label,
                color,
                dash,
                symbol,
                table[size],
                _bars(table[size], table[f"{size}_low"], table[f"{size}_high"]),
            )
            for size, label, color, dash, symbol in (
                ("base", base, SKY if dark else BLUE, "solid", "circle"),
                ("other", other, ORANGE if dark else VERMILLION, "dash", "diamond"),
            )
        ],
        table[["words", "utterances"]],
    )


def noise(table: pd.DataFrame, dark: bool) -> go.Figure | None:
    """WER over sparsity without and with noise; None for fewer than POINTS sizes."""
    if len(table) < POINTS:
        return None
    return _lines(
        _figure("Sparsity (%)", "WER (%)"),
        100 * table["sparsity"],
        [
            ("without noise", SKY if dark else BLUE, "solid", "circle", table["clean"], None),
            ("with noise", ORANGE if dark else VERMILLION, "dash", "diamond", table["noisy"], None),
        ],
        table[["words", "utterances"]],
    )
