"""One comparison's arms: errors and sizes, how training went, which parts are kept."""

from __future__ import annotations

import streamlit as st

from dashboard.charts import arms as arm_charts, compare as compare_charts
from dashboard.markdown import escape
from dashboard.model import comparisons


def learning(name: str) -> None:
    """WER and size of all arms; how the losses of one arm's passes fell, a line per pass
    and seed; which parts the sizes keep.
    """
    try:
        arms = comparisons.arms(name)
    except ValueError as error:
        st.warning(escape(error))
        return
    if not arms:
        return
    points = arm_charts.arms_points(arms)
    if len(points):
        st.plotly_chart(
            arm_charts.arms_figure(points, st.context.theme.type == "dark"),
            key=f"arms:{name}",
            config={"displayModeBar": False},
            alt="WER over megabytes, a line per way of training",
        )
        st.caption(
            "**What to see:** lower is better, further left is smaller. Every point is the mean of"
            " the trainings from different seeds, its thin bar goes from the best to the worst of"
            " them: where bars overlap, the difference may be chance."
        )
    arm = st.selectbox("How the errors fell while it was trained", list(arms), key=f"arm:{name}")
    st.plotly_chart(
        arm_charts.learning_figure(arms[arm], st.context.theme.type == "dark"),
        key=f"learning:{name}",
        config={"displayModeBar": False},
        alt=f"Training loss of {arm} over hours of training audio, a line per size and seed",
    )
    st.caption(
        "**What to see:** a lower line has learned more; lines of one color are the same pass of a"
        " training that was done again from another seed. A pass called random or shrinking is"
        " another size at every step."
    )
    table = arm_charts.arms_kept_table(arms)
    if len(table):
        st.plotly_chart(
            compare_charts.kept_figure(table),
            key=f"kept:{name}",
            config={"displayModeBar": False},
            alt="Share of the parts of each kind that every size keeps",
        )
        st.caption(
            "**What to see:** which parts are kept by sizes that leave some out, mean of the"
            f" seeds. {escape(arm_charts.arms_kept_sentence(table))}"
        )
