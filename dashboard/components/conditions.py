"""Menus for runs, test sets and streaming conditions."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import data, measurements
from dashboard.charts import explore as charts
from dashboard.components import choice


def shown_runs(run: str) -> tuple[str, ...]:
    """The runs of the chart: the chosen one and those to compare with, which are the released ones
    at first.
    """
    infos = [info for info in data.run_infos() if info.id != run]
    if not infos:
        return (run,)
    start = [info.id for info in infos if info.released] or [info.id for info in infos][:5]
    beside = st.multiselect(
        "Compare with",
        [info.id for info in infos],
        default=start,
        key=f"beside:{run}",
        format_func=data.run_title,
        placeholder="other models",
    )
    return (run, *beside)


def pick_run(chosen: choice.Chosen) -> None:
    """A menu of runs, when there are several."""
    ids = data.run_ids()
    if len(ids) < 2:
        return
    if st.session_state.get("run_menu") != chosen.run:
        st.session_state["run_menu"] = chosen.run
    st.selectbox(
        "Model",
        ids,
        key="run_menu",
        format_func=data.run_title,
        on_change=lambda: choice.choose(run=st.session_state["run_menu"]),
    )


def pick_conditions(chosen: choice.Chosen, points: pd.DataFrame) -> pd.DataFrame:
    """Menus for network, recordings and streaming conditions; the rows measured under exactly
    these.
    """
    run = chosen.run
    local = points[points["run"] == run]
    splits = sorted((local if len(local) else points)["split"].unique())
    several = len(data.run_ids()) > 1
    columns = st.columns(3 if several else 2)
    if several:
        with columns[0]:
            pick_run(chosen)
    if not splits:
        return points
    first = data.default_split(run)
    split = columns[-2].selectbox(
        "Test set",
        splits,
        key=f"split:{run}",
        index=splits.index(first) if first in splits else 0,
    )
    tested = local[local["split"] == split] if len(local) else points[points["split"] == split]
    result = measurements.conditions(tested)
    condition = columns[-1].selectbox(
        "Streaming mode",
        result,
        key=f"condition:{run}:{split}",
        format_func=charts.condition_words,
        index=_headline(result),
    )
    return measurements.same_condition(points, split, condition)


def _headline(result: list[tuple]) -> int:
    """320 ms chunks, greedy, no language model come first where they were measured."""
    scores = [(value[0] == 320.0) * 2 + (value[3] == "greedy") for value in result]
    return scores.index(max(scores)) if scores else 0
