"""All matrices of a subnet as small multiples: a tile each, layers downwards; no Streamlit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.layers import PLAIN
from dashboard.charts.looks import BLUE, SKY
from dashboard.shares import percent

SIDE, GAP = 22, 9  # cells of a tile and between tiles, where its share stands
ROW_PX = 58
BRIGHT = 3  # a patch has the full color where so many times the mean share is kept
EMPTY = {False: "#E9E9E6", True: "#3A3A37"}  # what is pruned, in the light and in the dark
TEXT = {False: "#4A4A46", True: "#E6E6E0"}


def pooled(mask: np.ndarray) -> np.ndarray:
    """bool [R, C] -> uint8 [SIDE, SIDE]: of every patch the share that is kept, in %."""
    shares = mask.astype(np.float32)
    for axis, length in enumerate(mask.shape):
        bins = min(SIDE, length)
        edges = np.arange(bins) * length // bins
        counts = np.diff([*edges, length])
        shares = np.add.reduceat(shares, edges, axis) / np.expand_dims(counts, 1 - axis)
        shares = shares.take(np.arange(SIDE) * bins // SIDE, axis)
    return np.rint(100 * shares).astype(np.uint8)


def crowding(tile: np.ndarray) -> float:
    """The share of what a tile keeps that lies in the fullest fifth of its rows or of its columns,
    whichever is more; 0.2 where all are alike.
    """
    kept = tile.astype(float)
    fifth = round(SIDE / 5)
    most = max(np.sort(kept.sum(axis))[-fifth:].sum() for axis in (0, 1))
    return float(most / max(1.0, kept.sum()) * SIDE / 5 / fifth)


def crowded(table: pd.DataFrame, tiles: dict[str, np.ndarray]) -> str:
    """Of matrices that all keep the same share: in which kind what is kept lies close together."""
    shares = table["unit"].map({name: crowding(tile) for name, tile in tiles.items()})
    by_kind = shares.groupby(table["short"]).mean().sort_values()
    top = table.loc[shares.idxmax()]
    return (
        f"every matrix keeps the same share, {percent(1 - table['sparsity'].mean())}, and what"
        f" differs is where. A fifth of the rows or columns holds {percent(by_kind.iloc[-1])} of"
        f" what is kept in {by_kind.index[-1]} and {percent(by_kind.iloc[0])} in"
        f" {by_kind.index[0]} (20 % would be evenly spread); most of all in {top['short']} of layer"
        f" {top['layer']}, {percent(shares.max())}."
    )


def figure(table: pd.DataFrame, tiles: dict[str, np.ndarray], dark: bool = False) -> go.Figure:
    """`table`: layers.unit_table's rows; `tiles` {unit: pooled mask}. Every tile shows where its
    matrix is kept, and above it the share; × where its branch is not run.
    """
    columns = list(dict.fromkeys(table["short"]))
    layers = sorted(set(table["layer"]))
    step = SIDE + GAP
    grid = np.full((step * len(layers), step * len(columns)), np.nan, np.float32)
    places = []
    for row in table.itertuples():
        top, left = step * layers.index(row.layer) + GAP, step * columns.index(row.short)
        grid[top : top + SIDE, left : left + SIDE] = tiles[row.unit]
        places.append((left + SIDE / 2 - 0.5, top - GAP / 2 - 0.5))
    share = 100 * (1 - table["sparsity"])
    heat = go.Heatmap(
        z=grid,
        zmin=0,
        zmax=float(np.clip(BRIGHT * share.mean(), 1, 100)),
        colorscale=[[0, EMPTY[dark]], [1, SKY if dark else BLUE]],
        showscale=False,
        hoverinfo="skip",
    )
    words = go.Scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="text",
        text=["×" if off else percent(kept / 100) for off, kept in zip(table["off"], share)],
        textfont={"size": 11, "color": TEXT[dark]},
        customdata=np.stack([table["unit"], table["kind"], share], axis=1),
        hovertemplate="%{customdata[0]} (%{customdata[1]}): %{customdata[2]:.1f} % kept"
        "<extra></extra>",
        showlegend=False,
    )
    drawn = go.Figure([heat, words])
    drawn.update_layout(height=90 + ROW_PX * len(layers), **PLAIN)
    centers = SIDE / 2 - 0.5
    drawn.update_xaxes(
        tickvals=[step * i + centers for i in range(len(columns))],
        ticktext=columns,
        tickangle=-30,
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    drawn.update_yaxes(
        tickvals=[step * i + GAP + centers for i in range(len(layers))],
        ticktext=[str(layer) for layer in layers],
        title="Layer (1 is next to the sound)",
        range=[len(grid) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return drawn
