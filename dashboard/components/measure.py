"""“Measure this size”: queues the evaluation of a size between measured ones and follows it until
it appears.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from core.jobs import visitors
from core.jobs.job import Job
from core.records import Subnet, as_dict
from core.storage import store
from dashboard import data, visit
from dashboard.components import starts
from dashboard.markdown import escape

ACTIVE = ("queued", "running")


def conditions(row: dict[str, Any]) -> dict[str, Any] | None:
    """What a job is told so that its report falls under the conditions of `row`, a point of the
    chart; None beside a language model that does not ship, whose file a report names but does not
    hold.
    """
    model = row["language_model"]
    if model not in ("", "none") and model != open_speech():
        return None
    decoder, _, beam = str(row["decoder"]).partition(" ")
    return {
        "splits": [str(row["split"])],
        "chunk_ms": float(row["chunk_ms"]),
        "decoding": {
            "decoder": decoder,
            "beam": int(beam or 0),
            "lm": "" if model in ("", "none") else "open",
            "precision": str(row["precision"]),
            "engine": str(row["engine"]),
        },
    }


def open_speech() -> str:
    """The shipped language model with its usual weights, as reports name them; "" without it."""
    from core.decoding.graph_search import Weights
    from core.lm.languages import Language

    try:
        return f"{Language().name()}, {Weights().text()}"
    except (ValueError, OSError):
        return ""


def lacks_recordings(run: str, split: str) -> bool:
    """Whether the part of a run's speech that a test set belongs to is not on this machine."""
    corpus = store.recipe(run).corpus
    parts = corpus.options.get("parts") or [{"corpus": corpus.name, "options": corpus.options}]
    named = split.partition("/")[0]
    of_split = [p for p in parts if named in (p.get("prefix"), p["corpus"])]
    return any(starts.not_here(part.get("options", {})) for part in of_split)


def offer(run: str, subnet: Subnet, row: dict[str, Any]) -> None:
    """A button that queues the measurement under the conditions of the chart, of which `row` is a
    point, or the state of the one that
    is under way.
    """
    request = conditions(row)
    if request is None:
        st.caption(
            f"To measure this size beside {escape(row['language_model'])}, use `python -m core"
            " evaluate --help` in a terminal."
        )
        return
    try:
        job = measuring(run, subnet.name, request)
    except ImportError:
        st.caption("There is no job queue here, so this size cannot be measured.")
        return
    if job is not None and job.state in ACTIVE:
        follow(run, subnet.name, request)
        return
    if job is not None and job.state == "failed":
        st.warning(
            f"The last measurement of this size failed: {escape(_last_line(job))} (all of it is on"
            " the Train page)."
        )
    if not visit.may(visit.JOBS):
        return
    if lacks_recordings(run, str(row["split"])):
        st.caption(
            f"A new size is measured on the recordings of {escape(row['split'])}, which are not"
            f" here. {escape(starts.WHERE_THEY_GO)}, or measure it on recordings of your own,"
            " below."
        )
        return
    if st.button(
        "Measure this size",
        icon=":material/straighten:",
        key="measure",
        help=(
            f"Starts a job that decodes “{escape(row['split'])}” with this very file; minutes on a"
            " laptop."
        ),
    ):
        try:
            queue(run, subnet, request)
        except (ValueError, OSError) as error:
            st.error(f"The measurement could not be queued: {escape(error)}")
            return
        st.rerun()


@st.fragment(run_every=2.0)
def follow(run: str, name: str, request: dict[str, Any]) -> None:
    """Progress of the job, every two seconds; the whole page is drawn again when it ends."""
    job = measuring(run, name, request)
    if job is None or job.state not in ACTIVE:
        st.rerun()
        return
    if job.state == "queued":
        st.info(
            f"Job {job.id} waits for its turn; its point appears here when it is done.",
            icon=":material/hourglass_empty:",
        )
        return
    eta = f", about {job.eta_s / 60:.0f} min left" if job.eta_s else ""
    st.progress(
        min(max(job.progress, 0.0), 1.0),
        text=f"Job {job.id} measures this size: {escape(job.message or 'started')}{eta}",
    )


def measuring(run: str, name: str, request: dict[str, Any]) -> Job | None:
    """The newest job that measures this new size under these conditions, in whatever state; None if
    there never was.
    """
    from core.jobs import queue

    try:
        known = queue.list_jobs(50)
    except data.UNREADABLE:
        return None
    for job in sorted(known, key=lambda job: -job.id):
        new = job.payload.get("new") or {}
        if (
            job.kind == "evaluate"
            and job.payload.get("run") == run
            and new.get("name") == name
            and all(job.payload.get(key) == value for key, value in request.items())
        ):
            return job
    return None


def queue(run: str, chosen: Subnet, request: dict[str, Any]) -> int:
    """Queue the evaluation of a new size and make sure that a worker lives; returns the job's
    id.
    """
    number = visitors.add(
        visit.visitor(),
        "evaluate",
        {"run": run, "subnets": [], "new": as_dict(chosen), **request},
        run=run,
    )
    visitors.wake_worker(visit.visitor())
    return number


def _last_line(job: Job) -> str:
    lines = [line for line in job.error.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
