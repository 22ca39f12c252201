"""Compare: several models on one chart, what each cost to train, and which parts each keeps at
which size.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core import paths
from core.storage import metrics
from dashboard import data, measurements
from dashboard.charts import compare as compare_charts, explore as charts
from dashboard.components import arms
from dashboard.markdown import escape
from dashboard.model import comparisons

TITLE = "Compare"
ICON = ":material/balance:"
ORDER = 10


def pick_runs() -> list[str]:
    """The networks to compare; the released ones at first."""
    infos = data.run_infos()
    start = [info.id for info in infos if info.released] or [info.id for info in infos][:5]
    return st.multiselect(
        "Models",
        [info.id for info in infos],
        default=start,
        key="compared",
        format_func=data.run_title,
        placeholder="choose two or more",
    )


def same_conditions(points: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """Menus for recordings and listening; the rows measured under exactly these. Says which
    networks are left out, and why.
    """
    left, right = st.columns(2)
    splits = sorted(
        points["split"].unique(),
        key=lambda s: (-points[points["split"] == s]["run"].nunique(), "strings" not in s, s),
    )
    split = left.selectbox("Test set", splits, key="compared_split")
    choices = measurements.conditions(points[points["split"] == split])
    condition = right.selectbox(
        "Streaming mode", choices, key="compared_condition", format_func=charts.condition_words
    )
    same = measurements.same_condition(points, split, condition)
    absent = [run for run in runs if run not in set(same["run"])]
    if absent:
        st.info(
            "Left out, because nobody measured them on this test set in this streaming mode,"
            " and numbers from different conditions cannot be compared: "
            + "; ".join(escape(data.run_title(run)) for run in absent)
            + ". Measure them with python -m core evaluate RUN"
            f" --splits {escape(split)} --chunk-ms {condition[0]:g}."
        )
    return same


def fronts(points: pd.DataFrame) -> None:
    """Every measured size of every network."""
    st.subheader("WER and size")
    axis = charts.AXES[
        st.segmented_control(
            "Size means",
            list(charts.AXES),
            default="MB on disk",
            required=True,
            key="compared_axis",
            width="stretch",
        )
    ]
    drawn = charts.front(points, axis)
    if drawn.empty:
        st.info(f"No size has been measured for “{axis.short}” on this test set.")
        return
    if axis.timed and drawn[["hardware", "threads", "runtime"]].drop_duplicates().shape[0] > 1:
        st.warning(
            "These times come from different machines, thread counts or runtimes: they cannot be"
            " compared."
        )
        return
    st.plotly_chart(
        charts.front_figure(drawn, axis, None, st.context.theme.type == "dark"),
        key="fronts",
        config=charts.config(True),
        alt=f"Word error rate over {axis.title} for every size of the compared models",
    )
    st.caption(
        "**What to see:** lower is better, further left is smaller. A method wins where its points"
        " lie below the others' at the same size and the thin bars (95 % CI) do not overlap"
        " much; faint points are beaten by the same method."
    )


def costs(runs: list[str]) -> None:
    """What training each network took, all its stages together."""
    st.subheader("What training cost")
    rows = []
    for run in runs:
        try:
            rows.append(
                compare_charts.cost_row(
                    data.run_title(run),
                    data.guard(run, "stages", metrics.stages, run),
                    data.subnets(run),
                )
            )
        except ValueError as error:
            st.warning(f"{escape(data.run_title(run))}: {escape(error)}")
    if rows:
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            column_config={
                n: st.column_config.TextColumn(width=width)
                for n, width in (("network", "medium"), ("trainings", "small"))
            },
        )
        st.caption(
            "**What to see:** how many sizes one training gives. Stages that several models share"
            " (a common dense start) are counted for each of them. Minutes from different machines"
            " cannot be compared; multiplications really executed (MACs) can."
        )


def kept(runs: list[str]) -> None:
    """Which parts each network keeps at its sizes."""
    st.subheader("Which parts are kept")
    tables = {}
    for run in runs:
        try:
            table = compare_charts.kept_table(data.spec(run), list(data.subnets(run).values()))
        except ValueError:
            continue  # already said above
        if len(table):
            tables[run] = table
    if not tables:
        st.info(
            "None of these models has sizes that chose what to keep: a uniform size (u..) keeps"
            " the same share of every part."
        )
        return
    run = (
        st.selectbox("Network", list(tables), key="kept_run", format_func=data.run_title)
        if len(tables) > 1
        else next(iter(tables))
    )
    st.plotly_chart(
        compare_charts.kept_figure(tables[run]),
        key="kept",
        config={"displayModeBar": False},
        alt="Share of the weights that each kind of part keeps at every size",
    )
    st.caption(f"**What to see:** {escape(compare_charts.kept_sentence(tables[run]))}")
    parts = compare_charts.parts_table(data.spec(run), list(data.subnets(run).values()))
    if len(parts):
        st.plotly_chart(
            compare_charts.parts_figure(parts),
            key="parts",
            config={"displayModeBar": False},
            alt="Which parts of every block each size keeps",
        )
        st.caption(
            "**What to see:** a cross is a part that the size leaves out altogether, which saves"
            f" time, too. {escape(compare_charts.parts_sentence(parts))}"
        )


def claims() -> None:
    """What the comparisons say of the claims, sentence by sentence."""
    try:
        rows = comparisons.claims()
    except ValueError as error:
        st.warning(escape(error))
        return
    if not rows:
        return
    st.subheader("What has been claimed, and what we measured")
    wide = {"claim": st.column_config.TextColumn(width="large")}
    st.dataframe(
        compare_charts.claims_table([r for r in rows if not r["smaller"]]),
        hide_index=True,
        column_config=wide,
    )
    st.caption(
        "**What to see:** a claim is *confirmed* or *refuted* only when chance alone would hardly"
        " have done it (over several trainings and many speakers); otherwise it is *undecided*."
        " “More errors” is relative: +10 % means 11 wrong words instead of 10, with the range it"
        " likely lies in. All of it is small: minutes of training each."
    )
    if smaller := [r for r in rows if r["smaller"]]:
        with st.expander("The same claims from smaller trainings"):
            st.dataframe(compare_charts.claims_table(smaller), hide_index=True, column_config=wide)
            st.caption(
                "Each of these comparisons was repeated with more speech: that one, above, decides."
            )


def pages() -> None:
    """Every comparison, written by `python -m core compare`."""
    files = (
        [p for p in sorted(paths.COMPARED.glob("*.md")) if p.name != paths.CLAIMS_PAGE]
        if paths.COMPARED.is_dir()
        else []
    )
    if files:
        st.subheader("Every comparison, one by one")
    for page in files:
        text = page.read_text(encoding="utf-8")
        with st.expander(
            text.splitlines()[0].removeprefix("# "), key=f"page:{page.stem}", on_change="rerun"
        ) as box:
            if box.open:
                arms.learning(page.stem)
                st.markdown("\n".join(text.splitlines()[1:]))


def of_networks(runs: list[str]) -> None:
    """Fronts, costs and what is kept."""
    points = measurements.points(tuple(runs))
    if points.empty:
        st.info("None of these models has been measured yet: `python -m core evaluate --help`.")
    else:
        fronts(compare_charts.told_apart(same_conditions(points, runs)))
    costs(runs)
    kept(runs)


def main() -> None:
    st.title("Side by side")
    st.markdown(
        "Different ways to make a speech recognizer small, on one chart. Only numbers measured in"
        " the same way are shown together."
    )
    runs = pick_runs()
    if runs:
        of_networks(runs)
    else:
        st.info(
            "Choose at least one model above."
            if data.run_infos()
            else "No model has been trained yet: start one on **Train**."
        )
    claims()
    pages()


main()
