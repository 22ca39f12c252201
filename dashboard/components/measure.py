"""“Measure this size”: queues the evaluation of a size between measured ones and follows it until it appears."""
from __future__ import annotations

import streamlit as st

from core.records import Job, Subnet, as_dict
from dashboard import data

ACTIVE = ("queued", "running")


def offer(run: str, subnet: Subnet, split: str, chunk_ms: float) -> None:
    """A button that queues the measurement under the chart's conditions, or the state of the one that is under way."""
    try:
        job = measuring(run, subnet.name, split, chunk_ms)
    except ImportError:
        st.caption("There is no job queue here, so this size cannot be measured.")
        return
    if job is not None and job.state in ACTIVE:
        follow(run, subnet.name, split, chunk_ms)
        return
    if job is not None and job.state == "failed":
        st.warning(f"The last measurement of this size failed: {_last_line(job)} (all of it is on the Jobs page).")
    if st.button("Measure this size", icon=":material/straighten:", key="measure",
                 help=f"Starts a job that decodes “{split}” with this very file; minutes on a laptop."):
        try:
            queue(run, subnet, split, chunk_ms)
        except (ValueError, OSError) as error:
            st.error(f"The measurement could not be queued: {error}")
            return
        st.rerun()


@st.fragment(run_every=2.0)
def follow(run: str, name: str, split: str, chunk_ms: float) -> None:
    """Progress of the job, every two seconds; the whole page is drawn again when it ends."""
    job = measuring(run, name, split, chunk_ms)
    if job is None or job.state not in ACTIVE:
        st.rerun()
        return
    if job.state == "queued":
        st.info(f"Job {job.id} waits for its turn; its point appears here when it is done.",
                icon=":material/hourglass_empty:")
        return
    eta = f", about {job.eta_s / 60:.0f} min left" if job.eta_s else ""
    st.progress(min(max(job.progress, 0.0), 1.0),
                text=f"Job {job.id} measures this size: {job.message or 'started'}{eta}")


def measuring(run: str, name: str, split: str, chunk_ms: float) -> Job | None:
    """The newest job that measures this new size on this split in these chunks, in whatever state; None if there never was."""
    from core import jobs
    try:
        known = jobs.list_jobs(50)
    except data.UNREADABLE:
        return None
    for job in sorted(known, key=lambda job: -job.id):
        new = job.payload.get("new") or {}
        if job.kind == "evaluate" and job.payload.get("run") == run and new.get("name") == name \
                and split in job.payload.get("splits", []) and job.payload.get("chunk_ms") == chunk_ms:
            return job
    return None


def queue(run: str, chosen: Subnet, split: str, chunk_ms: float) -> int:
    """Queue the evaluation of a new size and make sure that a worker lives; returns the job's id."""
    from core import jobs
    number = jobs.add("evaluate", {"run": run, "subnets": [], "splits": [split], "new": as_dict(chosen), "chunk_ms": chunk_ms}, run=run)
    jobs.start_worker()
    return number


def _last_line(job: Job) -> str:
    lines = [line for line in job.error.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
