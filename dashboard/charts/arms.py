"""Figures of a comparison's arms: errors and sizes, training, which parts are kept; no files."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts.explore import AXES
from dashboard.charts.looks import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, legible, styles
from dashboard.markdown import plot_text
from dashboard.shares import percent

PASSES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)


def arms_kept_table(arms: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Share of the residual branches kept, 0..1, mean of the seeds: a row per kind, a column per
    arm and size that leaves some out.
    """
    columns: dict[str, dict[str, float]] = {}
    for arm, records in arms.items():
        for size in records[0].get("sizes", {}):
            branches = [
                r["sizes"][size]["branches"]
                for r in records
                if "branches" in r["sizes"].get(size, {})
            ]
            if any(kept < many for counts in branches for kept, many in counts.values()):
                columns[f"{arm}: {size}"] = {
                    kind: sum(counts[kind][0] / counts[kind][1] for counts in branches)
                    / len(branches)
                    for kind in branches[0]
                }
    return pd.DataFrame(columns)


def arms_kept_sentence(table: pd.DataFrame) -> str:
    """What each arm's smallest size keeps, most first; in whole percent."""
    facts = []
    for column in {name.rsplit(": ", 1)[0]: name for name in table.columns}.values():
        kinds = table[column].dropna().sort_values(ascending=False, kind="stable")
        facts.append(
            f"{column} keeps "
            + ", ".join(f"{percent(share)} of {kind}" for kind, share in kinds.items())
        )
    return "; ".join(facts) + "."


def arms_points(arms: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """A row per arm and size that it has for every seed: "megabytes" of the file and "wer" in %,
    means of the seeds, with "low" and
    "high", the best and the worst of them. All arms of a comparison are measured alike.
    """
    rows = []
    for arm, records in arms.items():
        for size in records[0].get("sizes", {}):
            trainings = [
                r["sizes"][size] for r in records if "speakers" in r["sizes"].get(size, {})
            ]
            if len(trainings) < len(records):
                continue
            wers = [
                100
                * sum(s[2] for s in training["speakers"].values())
                / sum(s[3] for s in training["speakers"].values())
                for training in trainings
            ]
            rows.append(
                {
                    "arm": arm,
                    "size": size,
                    "megabytes": sum(training["file_bytes"] for training in trainings)
                    / len(trainings)
                    / 1e6,
                    "wer": sum(wers) / len(wers),
                    "low": min(wers),
                    "high": max(wers),
                }
            )
    return pd.DataFrame(rows, columns=["arm", "size", "megabytes", "wer", "low", "high"])


def arms_figure(points: pd.DataFrame, dark: bool = False) -> go.Figure:
    """WER over MB: a line per arm through the mean of its seeds, thin bars from the best to
    the worst seed.
    """
    arms = styles({arm: arm for arm in points["arm"]}, dark)
    traces = []
    for arm, rows in points.sort_values("megabytes", kind="stable").groupby("arm", sort=False):
        color, marker = arms[str(arm)]
        traces.append(
            {
                "type": "scatter",
                "x": rows["megabytes"].tolist(),
                "y": rows["wer"].tolist(),
                "mode": "lines+markers",
                "name": plot_text(arm),
                "line": {"color": color, "width": 2},
                "marker": {"color": color, "symbol": marker, "size": 10},
                "error_y": {
                    "type": "data",
                    "array": (rows["high"] - rows["wer"]).tolist(),
                    "color": color,
                    "arrayminus": (rows["wer"] - rows["low"]).tolist(),
                    "thickness": 1.2,
                    "width": 3,
                },
                "text": [plot_text(size) for size in rows["size"]],
                "hovertemplate": (
                    f"{plot_text(arm)}, %{{text}}: %{{y:.1f}} % WER at %{{x:.2f}} MB<extra></extra>"
                ),
            }
        )
    # a phone's legend has a line for every arm
    return go.Figure(
        data=traces,
        layout={
            "height": 320 + 18 * len(arms),
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "dragmode": False,
            "legend": {"orientation": "h", "y": -0.3, "yanchor": "top", "x": 0},
            "xaxis": {"title": {"text": AXES["MB on disk"].title}, "automargin": True},
            "yaxis": {"title": {"text": "WER (%)"}, "automargin": True},
        },
    )


def learning_figure(records: list[dict[str, Any]], dark: bool = False) -> go.Figure:
    """Loss per frame over hours of training audio: a line per pass and seed, one color per pass;
    blue becomes
    sky blue on a dark page.
    """
    colors = [legible(color, dark) for color in PASSES]
    passes = list(
        dict.fromkeys(name for record in records for row in record["curve"] for name in row["loss"])
    )
    traces = []
    for record in records:
        for place, name in enumerate(passes):
            rows = [row for row in record["curve"] if name in row["loss"]]
            traces.append(
                {
                    "type": "scatter",
                    "x": [row["audio_hours"] for row in rows],
                    "y": [row["loss"][name] for row in rows],
                    "mode": "lines",
                    "name": name,
                    "legendgroup": name,
                    "showlegend": record is records[0],
                    "line": {"color": colors[place % len(colors)], "width": 2},
                    "hovertemplate": (
                        f"{name}, seed {record['seed']}: %{{y:.3f}} after %{{x:.2f}}"
                        " h<extra></extra>"
                    ),
                }
            )
    return go.Figure(
        data=traces,
        layout={
            "height": 300,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "dragmode": False,
            "legend": {"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0},
            "xaxis": {"title": {"text": "Training audio (hours)"}, "automargin": True},
            "yaxis": {"title": {"text": "Loss per frame"}, "automargin": True},
        },
    )
