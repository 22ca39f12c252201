"""Parts of the Layers page: the menus of a matrix, and where two sizes differ."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import data
from dashboard.charts import layers as layer_charts
from dashboard.markdown import escape


def pick_unit(run: str, key: str):
    """Menus for layer and matrix; the matrix picked."""
    units = data.spec(run).units
    left, right = st.columns(2)
    layers = sorted({unit.layer for unit in units})
    layer = left.selectbox(
        "Layer", layers, format_func=lambda number: str(number + 1), key=f"{key}:layer"
    )
    inside = [unit for unit in units if unit.layer == layer]
    index = right.selectbox(
        "Matrix",
        range(len(inside)),
        key=f"{key}:matrix",
        format_func=lambda i: (
            f"{layer_charts.short_name(inside[i].name, layer)} "
            f"({inside[i].kind}, {inside[i].rows} × {inside[i].columns})"
        ),
    )
    return inside[min(index, len(inside) - 1)]


def difference(units: pd.DataFrame, first: str, second: str) -> None:
    """Where `second` keeps more or less than `first`; `units` are masks.compare's. A picture of one
    color is a sentence instead.
    """
    change = units["difference"]
    if change.max() - change.min() < layer_charts.DIFFERENT:
        st.markdown(
            f"Every matrix keeps the same in {escape(second)}:"
            f" {100 * change.mean():+.0f} points of its weights."
        )
        return
    st.plotly_chart(
        layer_charts.heat_figure(units, "difference", "kept %"),
        key="difference",
        config=layer_charts.CONFIG,
        alt=f"Where {second} keeps more or fewer weights than {first}",
    )
    st.caption(
        f"**What to see:** blue matrices are fuller in {escape(second)}, orange ones fuller in"
        f" {escape(first)}, gray ones alike."
    )
