"""A closer look at one job: curves while it trains, the front while its sizes are measured, its
log.
"""

from __future__ import annotations

import streamlit as st

from core import paths
from core.jobs import queue
from core.jobs.job import Job
from core.storage import metrics, store
from dashboard import data, measurements
from dashboard.charts import curves, explore, looks
from dashboard.components.job_access import visible
from dashboard.markdown import escape

LOG_LINES = 60
SIZE = explore.AXES["MB on disk"]


def show(number: int) -> None:
    """Front, curves and log of one job; a fragment, live while it runs."""
    try:
        job = queue.get(number)
    except (ValueError, OSError) as problem:
        st.error(escape(problem))
        return
    show_front(job)
    show_curves(job)
    if not visible(job):
        st.caption("What it wrote is shown to whoever queued it.")
        return
    with st.expander("Log", icon=":material/description:", expanded=job.state == "failed"):
        show_log(job)


def show_log(job: Job) -> None:
    """What it wrote, oldest first as it was written, with the end in view."""
    written = "\n".join(filter(None, (queue.log(job.id, LOG_LINES).strip(), run_log(job))))
    if not written:
        ended = job.state not in ("queued", "running")
        st.caption("This job printed nothing." if ended else "It has printed nothing yet.")
        return
    with st.container(height=280, autoscroll=True, border=False):
        st.code(written, language=None, wrap_lines=True)


def run_log(job: Job) -> str:
    """The last rows that a training wrote beside its run, "" before the first one."""
    if job.kind != "train" or not job.run:
        return ""
    try:
        text = (store.run_folder(job.run) / paths.LOG).read_text(errors="replace")
    except (OSError, ValueError):
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])


def show_front(job: Job) -> None:
    """WER over size of what is measured of the job's run, as the points come."""
    if not job.run or job.kind not in ("train", "evaluate"):
        return
    points = measurements.points((job.run,))
    if points.empty:
        return
    first = points.iloc[0]
    condition = tuple(first[name] for name in measurements.CONDITION[1:])
    shown = explore.front(measurements.same_condition(points, first["split"], condition), SIZE)
    dark = st.context.theme.type == "dark"
    style = looks.styles({job.run: str(first["method"])}, dark)[job.run]
    series = {job.run: looks.Series(data.run_title(job.run), *style)}
    chart = explore.front_figure(shown, SIZE, series, dark=dark)
    chart.update_layout(height=300, uirevision="front")
    st.caption(
        f"WER of its sizes on {escape(first['split'])}, over their files: {len(shown)}"
        f" size{'s' if len(shown) != 1 else ''} measured."
    )
    st.plotly_chart(chart, key=f"front.{job.id}", config={"displayModeBar": False})


def show_curves(job: Job) -> None:
    if not job.run:
        return
    try:
        rows = metrics.metrics(job.run)
    except (ValueError, OSError) as problem:
        st.warning(f"The curves cannot be read: {escape(problem)}")
        return
    drawn = False
    for word, sentence in curves.SENTENCES.items():
        chart = curves.figure(rows, word, dark=st.context.theme.type == "dark")
        if chart is not None:
            drawn = True
            st.caption(sentence)
            st.plotly_chart(chart, key=f"curve.{job.id}.{word}", config={"displayModeBar": False})
    if not drawn and job.kind == "train":
        st.caption("The curves begin with the first update.")
