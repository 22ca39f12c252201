"""One job as a card: what it is, its stage with count and time left, its buttons, why it failed."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.jobs import queue, visitors
from core.jobs.job import Job
from dashboard.components import job_words, links
from dashboard.components.job_access import act, changeable, visible
from dashboard.components.starts import RETRY
from dashboard.markdown import escape


def show(job: Job, now: float) -> None:
    color, icon, word = job_words.LOST if queue.lost(job) else job_words.STATES[job.state]
    if job.cancel and job.state == "running":
        word = "stopping"
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.markdown(
            f"**{job.id} · {escape(job_words.WORDS.get(job.kind, job.kind))}** &nbsp;"
            f" :{color}-badge[{icon} {word}]  \n{escape(job_words.subject(job))}"
        )
        with right:
            _buttons(job)
        if job.state == "running" and job_words.stage_line(job):
            st.markdown(job_words.stage_line(job))
        if job.state == "running" or (0 < job.progress < 1):
            share, text = job_words.progress_of(job)
            st.progress(share, escape(text))
        st.caption(job_words.when(job, now))
        if job.kind == "export" and visible(job) and job.state == "done":
            st.caption(f":material/folder: {escape(job.message)}")
        if job.error and visible(job):
            with st.expander("Why it failed", icon=":material/bug_report:"):
                st.markdown(f"**{escape(job_words.reason(job))}**")
                st.code(job.error, language=None, wrap_lines=True)


def _buttons(job: Job) -> None:
    if job.state in ("queued", "running"):
        tip = "A running training writes a checkpoint first, so that it can continue later."
        _button("Cancel", visitors.cancel, job, tip, disabled=job.cancel)
    elif job.state in ("failed", "cancelled"):
        tip = "Puts it back into the queue; a training continues from its last checkpoint."
        _button("Resume", visitors.resume, job, tip)
        if job.state == "failed" and job.kind == "train" and "recipe" in job.payload:
            fix = st.button(
                "Fix and retry",
                key=f"fix.{job.id}",
                disabled=not changeable(job),
                help="Opens the form with this job's settings, and the error beside its field.",
            )
            if fix:
                st.session_state[RETRY] = job.id
                links.open_page("train")


def _button(
    label: str, change: Callable[..., None], job: Job, tip: str, disabled: bool = False
) -> None:
    st.button(
        label,
        key=f"{label.lower()}.{job.id}",
        on_click=act,
        args=(change, job.id),
        disabled=disabled or not changeable(job),
        help=tip,
    )
