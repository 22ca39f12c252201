"""What a visitor may see and do of a job, and the buttons that do it."""

from __future__ import annotations

import time

import streamlit as st

from core.jobs import queue, visitors
from core.jobs.job import Job
from dashboard import visit

REFUSED = "refused"  # in the session: what was refused, and until when it is said
SAID_S = 15.0  # seconds that a refusal stays on the page


def act(action, number: int) -> None:
    """Run a button's action on a job; what is refused is said at the top of the list."""
    try:
        action(visit.visitor(), number)
        if action is visitors.resume or queue.get(number).remote:  # a cluster is told by a worker
            visitors.wake_worker(visit.visitor())
    except (ValueError, OSError) as problem:
        st.session_state[REFUSED] = (str(problem), time.time() + SAID_S)


def visible(job: Job) -> bool:
    """Whether this visitor sees what a job printed and why it failed: paths and words of whoever
    queued it.
    """
    who = visit.visitor()
    return who.local or job.payload.get("visitor") == who.name


def changeable(job: Job) -> bool:
    return visit.visitor().may(visit.JOBS) and visible(job)
