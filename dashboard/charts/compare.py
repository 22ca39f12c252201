"""Tables and figures of the Compare page: training cost, which parts are kept; no Streamlit, no
files, no torch.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from core import cost
from core.records import BRANCH_KINDS, ModelSpec, Origin, Subnet
from dashboard.charts.layers import branch_name

# sizes that nothing chose: uniform keeps all alike, the others are what searches are held against
UNCHOSEN = (Origin.UNIFORM, Origin.RANDOM, Origin.MAGNITUDE)
SPENT = (
    ("minutes", "minutes a training", 1),
    ("selection_minutes", "minutes of choosing sizes", 1),
    ("tmacs", "10^12 MACs a training", 2),
    ("selection_tmacs", "10^12 MACs of choosing sizes", 2),
)


def told_apart(points: pd.DataFrame) -> pd.DataFrame:
    """`method` names the model, too, where several of one method are shown: each is a series of
    its own.
    """
    runs = points.groupby("method")["run"].nunique()
    shared = points["method"].map(runs) > 1
    return points.assign(
        method=points["method"].where(
            ~shared, points["method"] + " " + points["run"].str.rsplit("-", n=1).str[-1]
        )
    )


def cost_row(
    title: str, stages: list[dict[str, Any]], subnets: dict[str, Subnet]
) -> dict[str, Any]:
    """One network's training, its stages summed; "-" where a stage did not note a number."""

    def total(name: str, scale: float = 1.0) -> str:
        values = [s.get(name) for s in stages]
        return "-" if None in values or not values else f"{sum(values) / scale:,.0f}"

    return {
        "network": title,
        "trainings": " → ".join(str(s.get("method") or "not here") for s in stages),
        "sizes": len(subnets),
        "updates": total("updates"),
        "training audio, hours": total("audio_hours"),
        "minutes": total("seconds", 60.0),
        "10^12 MACs": total("training_tmacs"),
        "on": ", ".join(dict.fromkeys(str(s.get("hardware") or "not noted") for s in stages)),
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
        columns[f"{subnet.name}: {100 * subnet.sparsity:.0f} % sparsity"] = {
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
                "type": "heatmap",
                "z": 100 * table.to_numpy(),
                "x": list(table.columns),
                "y": list(table.index),
                "xgap": 2,
                "ygap": 2,
                "colorscale": "Cividis",
                "zmin": 0,
                "zmax": 100,
                "texttemplate": "%{z:.0f}",
                "colorbar": {"title": {"text": "kept %"}, "thickness": 12},
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
        f" ({100 * last.iloc[-1]:.0f} % of its weights), {last.index[0]} least"
        f" ({100 * last.iloc[0]:.0f} %)."
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
        for (layer, branch), (kept, whole) in totals.items():
            columns.setdefault((subnet.name, branch_name(branch, layer).replace("_", " ")), {})[
                layer + 1
            ] = kept / whole
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
                "type": "heatmap",
                "z": z,
                "x": [[size for size, _ in names], [kind for _, kind in names]],
                "y": [str(layer) for layer in table.index],
                "xgap": 2,
                "ygap": 2,
                "colorscale": "Cividis",
                "zmin": 0,
                "zmax": 100,
                "text": [["×" if v == 0 else "" for v in row] for row in z],
                "texttemplate": "%{text}",
                "textfont": {"color": "#FFFFFF"},
                "colorbar": {"title": {"text": "kept %"}, "thickness": 12},
                "hovertemplate": "%{x}, block %{y}: %{z:.0f} % kept<extra></extra>",
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


def claims_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The claims as sentences; the verdict stands first, for a phone shows two columns."""

    def more(row: dict[str, Any]) -> str:
        return (
            "-"
            if row["relative"] is None
            else (
                f"{100 * row['relative']:+.1f} % ({100 * row['low']:+.1f} to"
                f" {100 * row['high']:+.1f})"
            )
        )

    return pd.DataFrame(
        [
            {
                "no.": row["number"],
                "verdict": row["verdict"],
                "claim": f"{row['arm']}, against {row['against']}: {row['text']}",
                "size": row["size"],
                "more errors": more(row),
                "trainings of each": str(len(row["seeds"]) or "-"),
                "tested on": row["split"] or "-",
                **{
                    name: " / ".join(f"{m:.{digits}f}" for m in row[part]) or "-"
                    for part, name, digits in SPENT
                },
            }
            for row in rows
        ]
    )
