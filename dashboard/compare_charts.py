"""Tables and figures of the Compare page: training cost, which parts are kept; no Streamlit, no files, no torch."""
from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from core import cost
from core.records import KINDS, Anatomy, Subnet


def told_apart(points: pd.DataFrame) -> pd.DataFrame:
    """`method` names the network, too, where several of one method are shown: each is a series of its own."""
    runs = points.groupby("method")["run"].nunique()
    shared = points["method"].map(runs) > 1
    return points.assign(method=points["method"].where(~shared, points["method"] + " " + points["run"].str.rsplit("-", n=1).str[-1]))


def cost_row(title: str, stages: list[dict[str, Any]], subnets: dict[str, Subnet]) -> dict[str, Any]:
    """One network's training, its stages summed; "-" where a stage did not note a number."""
    def total(name: str, scale: float = 1.0) -> str:
        values = [s.get(name) for s in stages]
        return "-" if None in values or not values else f"{sum(values) / scale:,.0f}"
    return {"network": title, "trainings": " → ".join(str(s.get("method") or "not here") for s in stages), "sizes": len(subnets),
            "updates": total("updates"), "hours heard": total("audio_hours"), "minutes": total("seconds", 60.0),
            "on": ", ".join(dict.fromkeys(str(s.get("hardware") or "not noted") for s in stages))}


def kept_table(anatomy: Anatomy, subnets: list[Subnet]) -> pd.DataFrame:
    """Share of the weights kept, 0..1: a row per kind of part, a column per size with zeros, dense to sparse."""
    columns = {}
    for subnet in sorted(subnets, key=lambda s: (s.sparsity, s.name)):
        if subnet.sparsity <= 0 or subnet.name.startswith(("u", "r", "m")):  # uniform keeps all alike; the searches' rivals are no choice
            continue
        kept = dict(zip(anatomy.units, cost.counts(anatomy, subnet.keep)))
        kinds = [k for k in KINDS if any(u.kind == k for u in anatomy.units)]
        columns[f"{subnet.name}: {100 * subnet.sparsity:.0f} % zeros"] = {
            kind: sum(n for u, n in kept.items() if u.kind == kind) / sum(u.blocks for u in kept if u.kind == kind) for kind in kinds}
    return pd.DataFrame(columns)


def kept_figure(table: pd.DataFrame) -> go.Figure:
    """Heat map of `kept_table`, in %."""
    return go.Figure(data=[{"type": "heatmap", "z": 100 * table.to_numpy(), "x": list(table.columns), "y": list(table.index),
                            "xgap": 2, "ygap": 2, "colorscale": "Cividis", "zmin": 0, "zmax": 100, "texttemplate": "%{z:.0f}",
                            "colorbar": {"title": {"text": "kept %"}, "thickness": 12},
                            "hovertemplate": "%{x}, %{y}: %{z:.1f} % kept<extra></extra>"}],
                     layout={"height": 140 + 45 * len(table), "margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "dragmode": False,
                             "yaxis": {"automargin": True}, "xaxis": {"tickangle": -40, "automargin": True}})


def kept_sentence(table: pd.DataFrame) -> str:
    """Which kind keeps most and which least at the sparsest size."""
    last = table.iloc[:, -1].sort_values()
    if last.iloc[-1] - last.iloc[0] < 0.01:
        return f"at the sparsest size, {table.columns[-1]}, all kinds of parts keep about the same share."
    return (f"at the sparsest size ({table.columns[-1]}) {last.index[-1]} keeps most ({100 * last.iloc[-1]:.0f} % of its weights), "
            f"{last.index[0]} least ({100 * last.iloc[0]:.0f} %).")
