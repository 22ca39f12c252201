"""Models side by side: errors and sizes on one chart, what each cost to train, which parts each
keeps.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from core.records import Subnet
from core.storage import metrics
from dashboard import data, measurements
from dashboard.charts import explore as charts, kept as kept_charts
from dashboard.components import conditions, tables
from dashboard.markdown import escape
from dashboard.model import test_sets
from dashboard.model.series import series

COSTS = (
    "model",
    "trainings",
    "sizes",
    "updates",
    "training audio, hours",
    "minutes",
    "10¹² MACs",
    "on",
)


def shown() -> None:
    """All of it, for the models that are picked."""
    runs = pick_runs()
    if not runs:
        st.info(
            "Choose at least one model above."
            if data.run_infos()
            else "No model has been trained yet: start one on **Train**."
        )
        return
    points = measurements.points(tuple(runs))
    if points.empty:
        st.info("None of these models has been measured yet: `python -m core evaluate --help`.")
    else:
        fronts(same_conditions(points, runs))
    costs(runs)
    kept(runs)


def pick_runs() -> list[str]:
    """The models to compare; the released ones at first."""
    infos = data.run_infos()
    start = [info.id for info in infos if info.released] or [info.id for info in infos][:5]
    asked = st.query_params.get_all("compared")  # the menu below has not read the address yet
    now = len(st.session_state.get("compared", asked or start))
    with st.popover(f"Models: {now} of {len(infos)}", icon=":material/checklist:"):
        return st.multiselect(
            "Models",
            [info.id for info in infos],
            default=start,
            key="compared",
            format_func=data.run_title,
            placeholder="choose two or more",
            bind="query-params",
        )


def same_conditions(points: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """Menus for test set and streaming mode; the rows measured under exactly these. Says which
    models are left out, and why.
    """
    left, right = st.columns(2)
    order = test_sets.to_compare(points)
    splits = list(dict.fromkeys(split for split, _ in order))
    _forget("compared_split", splits)
    split = left.selectbox(
        "Test set",
        splits,
        key="compared_split",
        format_func=test_sets.name,
        bind="query-params",
    )
    modes = [condition for measured, condition in order if measured == split]
    key = f"compared_condition:{split}"
    _forget(key, modes)
    condition = right.selectbox(
        "Streaming mode", modes, key=key, format_func=test_sets.mode, bind="query-params"
    )
    same = measurements.same_condition(points, split, condition)
    absent = [run for run in runs if run not in set(same["run"])]
    if absent:
        there = points[points["split"] == split]
        _left_out(absent, len(runs), there, condition)
        _offer_more(there, modes, condition, key)
    return same


def _forget(key: str, options: list) -> None:
    """A choice that other models do not offer is none."""
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)


def _left_out(absent: list[str], many: int, there: pd.DataFrame, condition: tuple) -> None:
    """`there`: what was measured on the test set, in whatever mode."""
    st.info(
        f"{len(absent)} of {many} models are left out: on this test set their errors were counted"
        " in another streaming mode or with another decoder or language model, or not at all, and"
        " such numbers cannot be compared."
    )
    with st.expander("Which are left out, and how to measure them"):
        st.markdown("\n".join(f"- {escape(_measured(run, there))}" for run in absent))
        split = there.iloc[0]["split"]
        st.markdown(
            f"python -m core evaluate RUN --splits {escape(split)} --chunk-ms {condition[0]:g}"
        )


def _measured(run: str, there: pd.DataFrame) -> str:
    """A model's title and the modes in which it was measured on a test set."""
    own = there.loc[there["run"] == run, list(measurements.CONDITION[1:])].drop_duplicates()
    modes = dict.fromkeys(map(test_sets.mode, own.itertuples(index=False, name=None)))
    return f"{data.run_title(run)}: {'; '.join(modes) or 'not measured on this test set'}"


def _offer_more(points: pd.DataFrame, modes: list[tuple], now: tuple, key: str) -> None:
    """A button for the mode in which most models were measured on this test set, where it is not
    the one that is shown.
    """
    grouped = points.groupby(list(measurements.CONDITION[1:]), dropna=False)["run"].nunique()
    counts = {condition: int(grouped[condition]) for condition in modes}
    most = max(modes, key=counts.__getitem__)
    if counts[most] > counts[now]:
        st.button(
            f"Show the {counts[most]} models measured as “{escape(test_sets.mode(most))}”",
            key="compared_most",
            on_click=st.session_state.__setitem__,
            args=(key, most),
        )


def fronts(points: pd.DataFrame) -> None:
    """Every measured size of every model."""
    st.subheader("WER and size")
    axis, drawn = conditions.pick_axis(points, "compared_axis")
    if drawn.empty:
        return
    if axis.timed and drawn[["hardware", "threads", "runtime"]].drop_duplicates().shape[0] > 1:
        st.warning(
            "These times come from different machines, thread counts or runtimes: they cannot be"
            " compared."
        )
        return
    dark = st.context.theme.type == "dark"
    st.plotly_chart(
        charts.front_figure(drawn, axis, series(dark), None, dark),
        key="fronts",
        config=charts.config(True),
        alt=f"Word error rate over {axis.title} for every size of the compared models",
    )
    st.caption(
        "**What to see:** lower is better, further left is smaller. A model wins where its points"
        " lie below the others' at the same size and the thin bars (95 % CI) do not overlap"
        " much; faint points are beaten by another size of the same model."
    )


def costs(runs: list[str]) -> None:
    """What training each model took, all its stages together."""
    st.subheader("What training cost")
    rows = []
    for run in runs:
        title = data.run_title(run)
        try:
            stages = data.guard(run, "stages", metrics.stages, run)
            rows.append(cost_row(title, stages, data.subnets(run)))
        except ValueError as error:
            st.warning(f"{escape(title)}: {escape(error)}")
    if rows:
        tables.show(tables.Table(list(COSTS), rows))
        st.caption(
            "**What to see:** how many sizes one training gives. Stages that several models share"
            " (a common dense start) are counted for each of them. Minutes from different machines"
            " cannot be compared; multiplications really executed (MACs) can."
        )


def cost_row(title: str, stages: list[dict[str, Any]], subnets: dict[str, Subnet]) -> list[str]:
    """The cells of COSTS: a model's training, its stages summed; "-" where a stage did not note a
    number.
    """

    def total(name: str, scale: float = 1.0) -> str:
        values = [stage.get(name) for stage in stages]
        return "-" if None in values or not values else f"{sum(values) / scale:,.0f}"

    return [
        title,
        " → ".join(str(stage.get("method") or "not here") for stage in stages),
        str(len(subnets)),
        total("updates"),
        total("audio_hours"),
        total("seconds", 60.0),
        total("training_tmacs"),
        ", ".join(dict.fromkeys(str(stage.get("hardware") or "not noted") for stage in stages)),
    ]


def kept(runs: list[str]) -> None:
    """Which parts each model keeps at its sizes."""
    st.subheader("Which parts are kept")
    shares = {}
    for run in runs:
        try:
            table = kept_charts.kept_table(data.spec(run), list(data.subnets(run).values()))
        except ValueError:
            continue  # already said above
        if len(table):
            shares[run] = table
    if not shares:
        st.info(
            "None of these models has sizes that chose what to keep: a uniform size (u..) keeps"
            " the same share of every part."
        )
        return
    run = (
        st.selectbox("Model", list(shares), key="kept_run", format_func=data.run_title)
        if len(shares) > 1
        else next(iter(shares))
    )
    st.plotly_chart(
        kept_charts.kept_figure(shares[run]),
        key="kept",
        config={"displayModeBar": False},
        alt="Share of the weights that each kind of part keeps at every size",
    )
    st.caption(f"**What to see:** {escape(kept_charts.kept_sentence(shares[run]))}")
    parts = kept_charts.parts_table(data.spec(run), list(data.subnets(run).values()))
    if len(parts):
        st.plotly_chart(
            kept_charts.parts_figure(parts),
            key="parts",
            config={"displayModeBar": False},
            alt="Which parts of every block each size keeps",
        )
        st.caption(
            "**What to see:** a cross is a part that the size leaves out altogether, which saves"
            f" time, too. {escape(kept_charts.parts_sentence(parts))}"
        )
