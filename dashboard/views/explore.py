"""Explore: one slider from dense to tiny; what each size costs in WER and saves in
megabytes.
"""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from core import cost
from core.records import Subnet
from dashboard import data, measurements
from dashboard.charts import curves, explore as charts
from dashboard.charts.looks import Series
from dashboard.components import (
    cards,
    choice,
    conditions,
    links,
    measure,
    own_recordings,
    takeaway,
    times,
)
from dashboard.live import component, data as live_data
from dashboard.look import one_look
from dashboard.markdown import escape
from dashboard.model import device_times, exported, ladder
from dashboard.model.series import series

TITLE = "Explore"
ICON = ":material/tune:"
ORDER = 1
TIMES = tuple(axis.column for axis in charts.AXES.values() if axis.timed)
WORDS = """
- **Sparsity**: a model is a large table of numbers (weights). Pruning sets many of them to zero, in
  blocks (of 8, mostly), and zeros need not be stored. One training yields *all* sizes; the slider
  picks one.
- **WER (word error rate)**: substituted, deleted and inserted words, divided by the words spoken.
  The thin bars are 95 % confidence intervals: with other speakers the number would likely fall
  within them.
- **≈ and a hollow dot**: nobody has measured this size; the number is read off the straight line
  between the measured sizes beside it and is never written to a file.
- **Times of** a device: its own measurements (`python -m core bench device`); a hollow point or
  ≈ is predicted from the sizes that were measured there.
- **Beaten (faint)**: another measured point has no more bytes (to 1 %) *and* fewer errors.
- One chart only ever shows one test set, one streaming mode, one decoder, one language model and
  one way of writing words (normalizer). Spoken by people and spoken by a computer are never
  averaged.
"""


def point_of(chosen: choice.Chosen, subnet: Subnet, points: pd.DataFrame) -> dict:
    """The chosen size as the cards and the chart show it: measured, or estimated from its measured
    neighbors.
    """
    local = points[points["run"] == chosen.run]
    rows = local[local["subnet"] == subnet.name]
    if len(rows):
        row = rows.iloc[0]
        return {**row.to_dict(), "low": row["wer_low"], "high": row["wer_high"], "measured": True}
    spec = data.spec(chosen.run)
    point = {
        "measured": False,
        "wer": None,
        "sparsity": subnet.sparsity,
        "sparsity_whole": cost.whole_sparsity(spec, subnet.keep),
        "zstd_bytes": None,
        "mmacs_per_second": cost.macs_per_second(spec, subnet.keep) / 1e6,
        **dict.fromkeys(TIMES),
    }
    rungs = [rung for rung in ladder.rungs(chosen.run) if rung.name in set(local["subnet"])]
    percent = 100 * subnet.sparsity
    below = [rung for rung in rungs if 100 * rung.sparsity <= percent]
    above = [rung for rung in rungs if 100 * rung.sparsity >= percent]
    if below and above:
        a, b = (local[local["subnet"] == rung.name].iloc[0] for rung in (below[-1], above[0]))
        width = b["sparsity"] - a["sparsity"]
        share = (subnet.sparsity - a["sparsity"]) / width if width > 0 else 0.0
        for column in ("wer", "zstd_bytes", "mmacs_per_second", *TIMES):
            value = (
                a[column] + share * (b[column] - a[column])
                if pd.notna(a[column]) and pd.notna(b[column])
                else None
            )
            point[column] = value
    return {
        **point,
        "file_bytes": cost.file_bytes(spec, subnet.keep),
        "nonzero_parameters": cost.nonzero_parameters(spec, subnet.keep),
        "mmacs_nonzero_per_second": cost.macs_nonzero_per_second(spec, subnet.keep) / 1e6,
    }


def clicked(key: str) -> None:
    """A point of the chart was clicked: choose its run and subnet."""
    selected = st.session_state.get(key) or {}
    for point in selected.get("selection", {}).get("points", []):
        named = point.get("customdata")
        if named is not None and len(named) >= 2:
            choice.choose(run=exported.run_of(str(named[0])), subnet=str(named[1]))
            return


def chart(points: pd.DataFrame, point: dict, looks: dict[str, Series]) -> None:
    """The front with the chosen point; `looks` {series: how it is drawn}."""
    axis, drawn = conditions.pick_axis(points, "axis")
    if drawn.empty:
        return
    if axis.timed:
        drawn = same_machine(drawn, axis)
    value = point.get(axis.column)
    where = None if value is None or math.isnan(value) else value / axis.divisor
    dark = st.context.theme.type == "dark"
    figure = charts.front_figure(
        drawn,
        axis,
        looks,
        {"x": where, "wer": point["wer"], "measured": point["measured"]},
        dark,
    )
    st.plotly_chart(
        figure,
        key="front",
        on_select=lambda: clicked("front"),
        selection_mode="points",
        config=charts.config(point["measured"]),
        alt=f"Word error rate over {axis.title} for every measured size",
    )
    st.caption(
        "**What to see:** lower is better, further left is smaller, so the lower left corner is the"
        " place to be. Faint points are beaten by another size of the same model. Click a point to"
        " choose it."
    )


def same_machine(drawn: pd.DataFrame, axis: charts.Axis) -> pd.DataFrame:
    """Only times from one machine and thread count can be compared: the one most sizes were timed
    on.
    """
    groups = drawn.groupby(["hardware", "threads", "runtime"]).size().sort_values(ascending=False)
    hardware, threads, runtime = groups.index[0]
    st.caption(f"Timed on {escape(hardware)}, {threads} thread(s), {escape(runtime)}.")
    same = (
        (drawn["hardware"] == hardware)
        & (drawn["threads"] == threads)
        & (drawn["runtime"] == runtime)
    )
    return charts.front(drawn[same].drop(columns=["x", "on_front"]), axis)


@st.fragment
@one_look()
def board() -> None:
    """Everything that moves with the slider; a fragment, so that nothing else is computed again."""
    chosen = choice.need_run()
    try:
        subnet = choice.record(chosen)
        data.reports(chosen.run)
    except ValueError as error:
        conditions.pick_run(chosen)
        st.error(f"{escape(error)}\n\nChoose another model, or repair this run's folder.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    with row:
        points = conditions.pick_conditions(chosen, measurements.points((chosen.run,)))
    if points.empty:
        st.info(
            "No size of this model has been measured yet. Open **Train** to see whether that is"
            " under way, or run `python -m core evaluate --help` in a terminal."
        )
        return
    source = times.pick(points, row)
    timed = device_times.timed(points, source)
    point = point_of(chosen, subnet, timed)
    if not screen(chosen, subnet, timed):
        st.info("One measured size so far. For the slider, choose a supernet under “Model”.")
        cards.row_cards(point, cards.dense_row(timed, chosen.run))
    if not point["measured"]:
        measure.offer(chosen.run, subnet, points.iloc[0].to_dict())
    fits_column, files_column = st.columns(2)
    with fits_column:
        takeaway.fits_my_device(chosen, timed)
    with files_column:
        takeaway.downloads(chosen, subnet, points, timed)
    links.to_page("errors", "What this size gets wrong", ":material/spellcheck:")
    own_recordings.box(chosen.run)
    comparison(chosen, point, points, source)
    learning(chosen.run)
    details()


def screen(chosen: choice.Chosen, subnet: Subnet, points: pd.DataFrame) -> bool:
    """The live component; False where the model has too few measured sizes for it."""
    feed = live_data.payload(chosen.run, points, 100 * subnet.sparsity, [], takeaway.limits_now())
    if feed is None:
        return False
    key = f"live:{chosen.run}"
    component.live(feed, key, lambda: released(chosen.run, key), lambda: dragged(key))
    return True


def released(run: str, key: str) -> None:
    """The thumb was let go: choose the measured size there, else the one between its neighbors."""
    size = component.chosen_size(key)
    if size:
        percent, name = size
        choice.choose(run=run, subnet=name or choice.between_name(round(percent)))


def dragged(key: str) -> None:
    """The box of the chart was dragged: the form below has its limits."""
    if limits := component.chosen_limits(key):
        takeaway.limit(limits)


def comparison(
    chosen: choice.Chosen,
    point: dict,
    points: pd.DataFrame,
    source: device_times.Source | None,
) -> None:
    """Other models' curves beside this one, on demand."""
    with st.expander("Compare with other models", key="comparison_box", on_change="rerun") as box:
        if not box.open:
            return
        beside = conditions.shown_runs(chosen.run)
        condition = tuple(points.iloc[0][name] for name in measurements.CONDITION[1:])
        split, measured = points.iloc[0]["split"], measurements.points(beside)
        others = measurements.same_condition(measured, split, condition)
        looks = series(st.context.theme.type == "dark")
        rows, more = exported.beside(measured, split, condition, looks)
        shown = [device_times.timed(others, source), rows]
        chart(pd.concat([frame for frame in shown if len(frame)]), point, looks | more)


def learning(run: str) -> None:
    """How the errors fell while the model was trained."""
    try:
        rows = data.learning(run)
    except ValueError as error:
        st.warning(escape(error))
        return
    if not any("wer" in row for row in rows):
        return
    with st.expander(
        "How its errors fell while it was trained", key="learning_box", on_change="rerun"
    ) as box:
        if not box.open:  # drawn when somebody looks: the slider need not draw it again and again
            return
        figure = curves.figure(
            rows, "wer", "audio_hours", "hours of training audio", st.context.theme.type == "dark"
        )
        st.plotly_chart(
            figure,
            key="learning",
            config={"displayModeBar": False},
            alt="Word error rate on held-out speech over hours of training audio",
        )
        st.caption(
            "**What to see:** how fast the WER falls with the training audio, and which test sets"
            " are hard. “Dense” is the whole model, “sparsest” the smallest size trained with it."
            " Measured on a little speech held out of training."
        )


def details() -> None:
    with st.expander("What do these words mean?"):
        st.markdown(WORDS)


def main() -> None:
    st.title("One model, every size")
    st.markdown(
        "Drag the slider: the same trained speech recognizer gets"
        " **smaller** and makes **more errors**. Find the size that fits."
    )
    board()
    broken = data.problems()
    if broken:
        with st.expander(f":material/warning: {len(broken)} run(s) cannot be read completely"):
            for run, reason in broken.items():
                st.markdown(f"**{escape(run)}**: {escape(reason)}")


main()
