"""The list of jobs: what waits and runs, live, and what has ended."""

from __future__ import annotations

import time

import streamlit as st

from core.jobs import database, queue, visitors
from core.jobs.job import Job
from dashboard import visit
from dashboard.components import job_card, job_details, job_words, machines
from dashboard.components.job_access import REFUSED
from dashboard.markdown import escape

SHOWN, OPEN = 30, 8  # jobs on the page; of them outside of the fold
UNFINISHED = ("running", "queued")
# seconds between two looks at the queue while something waits or runs, and otherwise
BUSY_S, IDLE_S = 3.0, 15.0
DRAW_S = 6.0  # seconds between two drawings of the curves of a running job
WOKEN = "worker woken"  # in the session: when this page last started a worker
WAKES_S = 20.0  # seconds until a worker that was started is at work
KNOWN = "known jobs"  # in the session: {job: its state} as the page was last drawn


def show() -> None:
    """All of it: the jobs in work above the others."""
    unfinished()
    ended()


def unfinished() -> bool:
    """What waits and runs, each running job with its curves; whether there is any. Fragments look
    again by themselves.
    """
    jobs = _jobs() or []  # of a queue that cannot be read the fragment says why
    in_work = [job for job in jobs if job.state in UNFINISHED]
    st.session_state[KNOWN] = {job.id: job.state for job in jobs}
    st.fragment(_in_work, run_every=BUSY_S if in_work else IDLE_S)()
    for job in in_work:
        if job.state == "running":
            st.fragment(job_details.show, run_every=DRAW_S)(job.id)
    return bool(in_work)


def ended() -> None:
    """The jobs that have ended, and a closer look at one of them."""
    jobs = [job for job in _jobs() or [] if job.state not in UNFINISHED]
    if not jobs:
        return
    st.subheader("Ended jobs")
    now = time.time()
    for job in jobs[:OPEN]:
        job_card.show(job, now)
    if len(jobs) > OPEN:
        with st.expander(f"{len(jobs[OPEN:])} older jobs"):
            for job in jobs[OPEN:]:
                job_card.show(job, now)
    st.markdown("**A closer look**")
    number = st.selectbox(
        "Job",
        [job.id for job in jobs],
        key="closer",
        label_visibility="collapsed",
        format_func=job_words.name_of,
    )
    job_details.show(number)


def _jobs() -> list[Job] | None:
    """The newest jobs: running, then waiting in their order, then ended ones from the newest; None
    where the queue cannot be read.
    """
    try:
        jobs = queue.list_jobs(SHOWN)
    except (ValueError, OSError):
        return None
    order = {"running": 0, "queued": 1}
    key = lambda job: (order.get(job.state, 2), job.id if job.state == "queued" else -job.id)  # noqa: E731
    return sorted(jobs, key=key)


def _in_work() -> None:
    """The cards of the jobs in work; the page is drawn anew when a job came, began or ended."""
    try:
        jobs = queue.list_jobs(SHOWN)
        if lost := database.said(database.damaged()):
            st.warning(escape(lost), icon=":material/healing:")
        _worker_line(jobs)
    except (ValueError, OSError) as problem:
        st.error(f"The queue cannot be read: {escape(problem)}")
        return
    refused, until = st.session_state.get(REFUSED, ("", 0.0))
    if time.time() < until:
        st.warning(escape(refused))
    states = {job.id: job.state for job in jobs}
    if states != st.session_state.get(KNOWN):
        st.session_state[KNOWN] = states
        st.rerun()
    now = time.time()
    for job in _jobs() or []:
        if job.state in UNFINISHED:
            job_card.show(job, now)
    if visit.visitor().may(visit.JOBS):
        machines.show(jobs)


def _worker_line(jobs: list[Job]) -> None:
    """Whether something works on the queue, and a button that starts it."""
    waiting = any(job.state == "queued" or queue.lost(job) for job in jobs)
    if queue.worker_alive():
        if any(job.state in UNFINISHED for job in jobs):
            st.caption(
                ":material/check_circle: A worker is alive: it takes the jobs in their order, one"
                " at a time for every device, also after you close this page."
            )
        return
    if not waiting:  # one starts by itself with the next job
        return
    if time.time() - st.session_state.get(WOKEN, 0.0) < WAKES_S:
        st.caption(":material/hourglass: The worker starts ...")
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.warning("No worker is alive, so nothing in the queue runs.")
    if right.button("Start a worker", key="worker", disabled=not visit.visitor().may(visit.JOBS)):
        try:
            visitors.wake_worker(visit.visitor())
        except (OSError, visitors.Refused) as problem:
            st.error(
                f"No worker could be started ({escape(problem)}). In a terminal: `python -m"
                " core.jobs.worker`."
            )
        else:
            st.caption("Starting ...")
