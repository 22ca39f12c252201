"""Which parts every size keeps, as tables, figures and sentences; no Streamlit, no files."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from core import cost
from core.records import BRANCH_KINDS, ModelSpec, Origin, Subnet
from dashboard.charts.layers import branch_name
from dashboard.shares import percent, whole

# sizes that nothing chose: uniform keeps all alike, the others are what searches are held against
UNCHOSEN = (Origin.UNIFORM, Origin.RANDOM, Origin.MAGNITUDE)


HEATMAP = {
    "type": "heatmap",
    "xgap": 2,
    "ygap": 2,
    "colorscale": "Cividis",
    "zmin": 0,
    "zmax": 100,
    "colorbar": {"title": {"text": "kept %"}, "thickness": 12},
}


def kept_table(spec: ModelSpec, subnets: list[Subnet]) -> pd.DataFrame:
    """Share of the weights kept, 0..1: a row per kind of part, a column per size with zeros, dense
    to sparse.
    """
    columns = {}
    for subnet in sorted(subnets, key=lambda s: (s.sparsity, s.name)):
        if subnet.sparsity <= 0 or subnet.origin in UNCHOSEN:
            continue
        kept = dict(zip(spec.units, cost.counts(spec, subnet.keep)))
        kinds = [k for k in BRANCH_KINDS if any(u.kind == k for u in spec.units)]
        columns[f"{subnet.name}: {percent(subnet.sparsity)} sparsity"] = {
            kind: (
                sum(n for u, n in kept.items() if u.kind == kind)
                / sum(u.blocks for u in kept if u.kind == kind)
            )
            for kind in kinds
        }
    return pd.DataFrame(columns)


def kept_figure(table: pd.DataFrame) -> go.Figure:
    """Heat map of `kept_table`, in %."""
    return go.Figure(
        data=[
            {
                **HEATMAP,
                "z": 100 * table.to_numpy(),
                "text": [
                    ["" if pd.isna(share) else whole(share) for share in row]
                    for row in table.to_numpy()
                ],
                "x": list(table.columns),
                "y": list(table.index),
                "texttemplate": "%{text}",
                "hovertemplate": "%{x}, %{y}: %{z:.1f} % kept<extra></extra>",
            }
        ],
        layout={
            "height": 140 + 45 * len(table),
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "dragmode": False,
            "yaxis": {"automargin": True},
            "xaxis": {"tickangle": -40, "automargin": True},
        },
    )


def kept_sentence(table: pd.DataFrame) -> str:
    """Which kind keeps most and which least at the sparsest size."""
    last = table.iloc[:, -1].sort_values()
    if last.iloc[-1] - last.iloc[0] < 0.01:
        return (
            f"at the sparsest size, {table.columns[-1]}, all kinds of parts keep about the same"
            " share."
        )
    return (
        f"at the sparsest size ({table.columns[-1]}) {last.index[-1]} keeps most"
        f" ({percent(last.iloc[-1])} of its weights), {last.index[0]} least"
        f" ({percent(last.iloc[0])})."
    )


def parts_table(spec: ModelSpec, subnets: list[Subnet]) -> pd.DataFrame:
    """Which residual branches each size keeps, for sizes that leave some out: a row per block (from
    1), columns (size, kind of branch),
    share of its weights kept, 0 = not run. Empty where no such size is stored.
    """
    columns: dict[tuple[str, str], dict[int, float]] = {}
    for subnet in sorted(subnets, key=lambda s: (s.sparsity, s.name)):
        if not cost.branches_off(spec, subnet.keep) or subnet.origin in UNCHOSEN:
            continue
        totals: dict[tuple[int, str], list[int]] = {}
        for unit, kept in zip(spec.units, cost.counts(spec, subnet.keep)):
            if unit.branch:
                both = totals.setdefault((unit.layer, unit.branch), [0, 0])
                both[0], both[1] = both[0] + kept * unit.block, both[1] + unit.parameters
        for (layer, branch), (kept, all_of_it) in totals.items():
            columns.setdefault((subnet.name, branch_name(branch, layer).replace("_", " ")), {})[
                layer + 1
            ] = kept / all_of_it
    return pd.DataFrame(columns).sort_index()


def parts_figure(table: pd.DataFrame) -> go.Figure:
    """Heat map of `parts_table`, in %: blocks downwards, for each size its kinds of branches
    across; a cross where one is left out.
    """
    names = table.columns.to_list()
    z = 100 * table.to_numpy(float)
    return go.Figure(
        data=[
            {
                **HEATMAP,
                "z": z,
                "x": [[size for size, _ in names], [kind for _, kind in names]],
                "y": [str(layer) for layer in table.index],
                "text": [["×" if v == 0 else "" for v in row] for row in z],
                "texttemplate": "%{text}",
                "textfont": {"color": "#FFFFFF"},
                "hovertemplate": "%{x}, block %{y}: %{z:.1f} % kept<extra></extra>",
            }
        ],
        layout={
            "height": 170 + 30 * len(table),
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "dragmode": False,
            "xaxis": {"automargin": True, "tickangle": -40},
            "yaxis": {
                "title": {"text": "Block (1 is next to the sound)"},
                "autorange": "reversed",
                "type": "category",
                "automargin": True,
            },
        },
    )


def parts_sentence(table: pd.DataFrame) -> str:
    """For each size how many of each kind of branch are kept, most kept first."""
    facts = []
    for size in dict.fromkeys(size for size, _ in table.columns):
        local = table[size]
        counts = {
            kind: (int((local[kind] > 0).sum()), int(local[kind].notna().sum()))
            for kind in local.columns
        }
        order = sorted(counts, key=lambda kind: -counts[kind][0] / counts[kind][1])
        facts.append(
            f"{size} keeps " + ", ".join(f"{counts[k][0]} of {counts[k][1]} {k}" for k in order)
        )
    return "; ".join(facts) + "."
