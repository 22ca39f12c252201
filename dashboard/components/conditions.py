"""Menus for runs, test sets, streaming conditions and what size means."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import data, measurements
from dashboard.charts import explore
from dashboard.components import choice
from dashboard.markdown import escape
from dashboard.model import test_sets


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
    """Menus for model, test set and streaming mode behind one button that says what is chosen; the
    rows measured under exactly these.
    """
    run = chosen.run
    of_run = points[points["run"] == run]
    splits = sorted((of_run if len(of_run) else points)["split"].unique(), key=test_sets.name)
    if not splits:
        pick_run(chosen)
        return points
    first = data.default_split(run)
    first = first if first in splits else splits[0]
    now = st.session_state.get(f"split:{run}", first)
    label = f"{escape(data.run_title(run))} · {escape(test_sets.name(now))}"
    with st.popover(label, icon=":material/tune:", width="content"):
        pick_run(chosen)
        split = st.selectbox(
            "Test set",
            splits,
            key=f"split:{run}",
            index=splits.index(first),
            format_func=test_sets.name,
        )
        tested = (
            of_run[of_run["split"] == split] if len(of_run) else points[points["split"] == split]
        )
        choices = measurements.conditions(tested)
        condition = st.selectbox(
            "Streaming mode",
            choices,
            key=f"condition:{run}:{split}",
            format_func=test_sets.mode,
            index=_headline(choices),
        )
    return measurements.same_condition(points, split, condition)


def pick_axis(points: pd.DataFrame, key: str) -> tuple[explore.Axis, pd.DataFrame]:
    """A menu of what size means, and the points over it; says so where there are none."""
    axis = explore.AXES[
        st.segmented_control(
            "Size means",
            list(explore.AXES),
            default="MB on disk",
            required=True,
            key=key,
            width="stretch",
        )
    ]
    drawn = explore.front(points, axis)
    if drawn.empty:
        st.info(f"No size has been measured for “{axis.short}” on this test set.")
    return axis, drawn


def _headline(choices: list[tuple]) -> int:
    """320 ms chunks, greedy, no language model come first where they were measured."""
    scores = [(value[0] == 320.0) * 2 + (value[3] == "greedy") for value in choices]
    return scores.index(max(scores)) if scores else 0
