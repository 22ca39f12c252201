"""DataFrames and masks to Plotly figures for the Layers page; no Streamlit, no files, no torch.

Colors: Okabe and Ito's, which color-blind people tell apart.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core import cost
from core.records import BRANCH_KINDS, ModelSpec, Subnet
from dashboard.charts.looks import BLUE, GRAY, GREEN, ORANGE, PURPLE, VERMILLION, legible
from dashboard.shares import percent

KIND_STYLE = {
    "feed-forward": (BLUE, "circle"),
    "attention": (VERMILLION, "square"),
    "convolution": (GREEN, "diamond"),
    "input": (GREEN, "star"),
    "recurrent": (BLUE, "hexagon"),
    "projection": (ORANGE, "cross"),
    "predictor": (PURPLE, "triangle-up"),
    "joiner": (GRAY, "x"),
}
PLAIN = {"margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "dragmode": False}
CONFIG = {"displaylogo": False, "displayModeBar": False}
MASK_CONFIG = {
    "displaylogo": False,
    "displayModeBar": True,
    "scrollZoom": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
DIFFERENT = 0.01  # of sparsity, between matrices: whole blocks alone make less
PRUNED = "rgba(128,128,128,0.18)"


def short_name(unit: str, layer: int) -> str:
    """ "attention.qkv" from "blocks.3.attention.qkv"; the whole name when the layer's number is not
    in it.
    """
    parts = unit.split(".")
    return ".".join(parts[parts.index(str(layer)) + 1 :]) if str(layer) in parts[:-1] else unit


def unit_table(spec: ModelSpec, subnet: Subnet) -> pd.DataFrame:
    """One row per unit: unit, short, kind, layer (from 1), branch, off (its branch is not run),
    weights, zeros, sparsity 0..1 as reached
    in whole blocks.
    """
    rows, off = [], cost.branches_off(spec, subnet.keep)
    for unit in spec.units:
        kept = cost.blocks_kept(unit, subnet.keep.get(unit.name, 1.0))
        rows.append(
            {
                "unit": unit.name,
                "short": short_name(unit.name, unit.layer),
                "kind": unit.kind,
                "layer": unit.layer + 1,
                "branch": unit.branch,
                "off": unit.branch in off,
                "weights": unit.parameters,
                "zeros": (unit.blocks - kept) * unit.block,
                "sparsity": 1 - kept / unit.blocks,
            }
        )
    return pd.DataFrame(rows)


def branch_name(branch: str, layer: int) -> str:
    """ "attention" of "blocks.3.attention"; "whole layer" where a layer is one branch."""
    return "whole layer" if branch.endswith(f".{layer}") else short_name(branch, layer)


def left_out(table: pd.DataFrame) -> str:
    """What a size leaves out altogether, in words; "" when every residual branch has a weight.
    `table` is unit_table's.
    """
    branches = table[table["branch"] != ""].drop_duplicates("branch")
    rows = branches[branches["off"]]
    if rows.empty:
        return ""
    by_layer: dict[int, list[str]] = {}
    for branch, layer in zip(rows["branch"], rows["layer"]):
        by_layer.setdefault(layer, []).append(branch_name(branch, layer - 1).replace("_", " "))
    named = "; ".join(f"layer {layer}: {', '.join(names)}" for layer, names in by_layer.items())
    return f"{len(rows)} of {len(branches)} parts are left out ({named})."


def kind_table(table: pd.DataFrame) -> pd.DataFrame:
    """Zeros per layer and kind, weighted by the matrices' sizes: layer, kind, weights, sparsity
    0..1.
    """
    summed = table.groupby(["layer", "kind"], as_index=False)[["weights", "zeros"]].sum()
    summed["sparsity"] = summed["zeros"] / summed["weights"]
    return summed


def kinds_figure(table: pd.DataFrame, dark: bool = False) -> go.Figure:
    """Zeros in % over the layers, a line per kind."""
    figure = go.Figure()
    summed = kind_table(table)
    for kind in [k for k in BRANCH_KINDS if k in set(summed["kind"])] + sorted(
        set(summed["kind"]) - set(BRANCH_KINDS)
    ):
        rows = summed[summed["kind"] == kind]
        color, marker = KIND_STYLE.get(kind, (ORANGE, "cross"))
        color = legible(color, dark)
        figure.add_trace(
            go.Scatter(
                x=rows["layer"],
                y=100 * rows["sparsity"],
                mode="lines+markers",
                name=kind,
                line={"color": color},
                marker={"symbol": marker, "size": 10, "color": color},
                customdata=rows["weights"],
                hovertemplate="layer %{x}, "
                + kind
                + ": %{y:.1f} % of %{customdata:,} weights are zero<extra></extra>",
            )
        )
    figure.update_layout(
        height=320, legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0}, **PLAIN
    )
    figure.update_xaxes(
        title="Layer (1 is next to the sound)", dtick=max(1, int(table["layer"].max()) // 12)
    )
    figure.update_yaxes(title="Sparsity (%)", range=[-3, 103])
    return figure


def differ(table: pd.DataFrame) -> bool:
    """Whether matrices differ in sparsity by more than whole blocks make them."""
    return float(table["sparsity"].max() - table["sparsity"].min()) >= DIFFERENT


def kinds_sentence(table: pd.DataFrame) -> str:
    """Which kind lost most and which least, in one sentence."""
    summed = table.groupby("kind")[["weights", "zeros"]].sum()
    shares = (100 * summed["zeros"] / summed["weights"]).sort_values()
    if shares.iloc[-1] - shares.iloc[0] < 1.0:
        return f"all kinds of parts have about the same sparsity, {percent(shares.mean() / 100)}."
    return (
        f"{shares.index[-1]} lost most ({percent(shares.iloc[-1] / 100)} sparsity),"
        f" {shares.index[0]} least ({percent(shares.iloc[0] / 100)}): a high line means the net can"
        " do without it."
    )


def heat_figure(table: pd.DataFrame, value: str, title: str) -> go.Figure:
    """The whole model: a cell per matrix, layers downwards, matrices across; `value` is a share
    -1..1.
    """
    order = list(dict.fromkeys(table["short"]))
    grid = (
        100 * table.pivot_table(index="layer", columns="short", values=value, aggfunc="mean")[order]
    )
    names = table.pivot_table(index="layer", columns="short", values="unit", aggfunc="first")[order]
    reach = max(float(np.nanmax(np.abs(grid.to_numpy()))), 1.0)
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=order,
            y=[str(layer) for layer in grid.index],
            xgap=2,
            ygap=2,
            customdata=names.to_numpy(),
            colorscale=[[0, VERMILLION], [0.5, "#E8E8E8"], [1, BLUE]],
            zmin=-reach,
            zmax=reach,
            colorbar={"title": {"text": title}, "thickness": 12, "len": 1.0},
            hovertemplate="%{customdata}: %{z:.1f} %<extra></extra>",
        )
    )
    figure.update_layout(height=150 + 30 * len(grid), **PLAIN)
    figure.update_xaxes(tickangle=-40, automargin=True)
    figure.update_yaxes(title="Layer", autorange="reversed", type="category", automargin=True)
    return figure


def mask_figure(mask: np.ndarray, dark: bool = False, block: int = 8) -> go.Figure:
    """The blocks of one matrix, bool [R/b, C]: a cell per block of b outputs, colored where it is
    kept.
    """
    return _blocks(mask.astype(np.uint8), block, ["pruned", "kept"], [PRUNED, legible(BLUE, dark)])


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """uint8 [R/b, C]: 0 in neither mask, 1 only in the first, 2 only in the second, 3 in both."""
    if a.shape != b.shape:
        raise ValueError(
            f"the two masks have different shapes, {a.shape} and {b.shape}: compare nets of one"
            " size"
        )
    return a.astype(np.uint8) + 2 * b.astype(np.uint8)


def overlap_figure(
    a: np.ndarray, b: np.ndarray, first: str, second: str, dark: bool = False, block: int = 8
) -> go.Figure:
    """Two masks of one matrix on top of each other."""
    return _blocks(
        overlap(a, b),
        block,
        ["in neither", f"only in {first}", f"only in {second}", "in both"],
        [PRUNED, *(legible(color, dark) for color in (VERMILLION, ORANGE, BLUE))],
    )


def _blocks(codes: np.ndarray, block: int, names: list[str], colors: list[str]) -> go.Figure:
    """Codes uint8 [R/b, C] as an image to the block, with one legend entry per code."""
    count = len(names)
    steps = [
        [edge, color] for i, color in enumerate(colors) for edge in (i / count, (i + 1) / count)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=codes,
            y0=0,
            dy=block,
            zmin=-0.5,
            zmax=count - 0.5,
            colorscale=steps,
            showscale=False,
            hovertemplate="outputs from %{y}, input %{x}<extra></extra>",
        )
    )
    present = set(np.unique(codes).tolist())
    for i, (name, color) in enumerate(zip(names, colors)):
        if i in present:
            share = float((codes == i).mean())
            figure.add_trace(
                go.Scatter(
                    x=[None],
                    y=[None],
                    mode="markers",
                    name=f"{name} ({100 * share:.1f} %)",
                    marker={"symbol": "square", "size": 12, "color": color},
                )
            )
    height = int(min(max(160 + 5 * codes.shape[0], 260), 620))
    legend = {
        "orientation": "h",
        "y": -60 / (height - 100),
        "yanchor": "top",
        "x": 0,
    }  # 60 pixels below the matrix
    figure.update_layout(
        height=height, legend=legend, **{**PLAIN, "margin": {"l": 8, "r": 8, "t": 34, "b": 8}}
    )
    figure.update_xaxes(
        title="Input (column)", showgrid=False, zeroline=False, range=[-0.5, codes.shape[1] - 0.5]
    )
    figure.update_yaxes(
        title="Output (row)",
        showgrid=False,
        zeroline=False,
        range=[block * (codes.shape[0] - 0.5), -block / 2],
    )
    return figure


def steps_figure(rows: pd.DataFrame, dark: bool = False) -> go.Figure:
    """Share of the final mask's blocks that were already chosen, over training steps; rows: step,
    name, agree 0..1.
    """
    figure = go.Figure()
    looks = ((legible(BLUE, dark), "circle"), (legible(ORANGE, dark), "square"))
    for (name, part), (color, marker) in zip(rows.groupby("name", sort=False), looks):
        figure.add_trace(
            go.Scatter(
                x=part["step"],
                y=100 * part["agree"],
                mode="lines+markers",
                name=name,
                line={"color": color},
                marker={"size": 9, "symbol": marker, "color": color},
                hovertemplate="step %{x}: %{y:.1f} % of the final blocks<extra>"
                + name
                + "</extra>",
            )
        )
    figure.update_layout(
        height=300, legend={"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0}, **PLAIN
    )
    figure.update_xaxes(title="Training step")
    figure.update_yaxes(title="Already final (%)", range=[0, 103])
    return figure
