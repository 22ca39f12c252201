"""“Your own recordings”: upload speech with what was said, and measure this model's sizes on it."""

from __future__ import annotations

import hashlib
from typing import Any

import streamlit as st

from core.jobs import visitors
from core.jobs.job import Job
from dashboard import data, visit
from dashboard.components import choice
from dashboard.markdown import escape
from dashboard.model import ladder, uploads

SAID = "own_recordings_said"  # key: what was found in the files
ACTIVE = ("queued", "running")
JOB = "own_recordings_job"  # key in st.session_state: number of the job that measures
HOW_TO_GIVE = (
    "Sound files and, beside each, a text file of the same name with what was said"
    " (`a.wav`, `a.txt`), or one CSV with the columns `audio` and `text`. A zip of them does, too."
)


def box(run: str) -> None:
    """An expander with a form or, once it was sent, what is under way; and the sets that are
    here.
    """
    with st.expander(
        "Measure it on your own recordings", key="own_recordings", on_change="rerun"
    ) as opened:
        if not opened.open or not visit.may(visit.JOBS):
            return
        number = st.session_state.get(JOB)
        if number is None:
            _form(run)
        else:
            follow(number)
        _known()


def _form(run: str) -> None:
    st.markdown(HOW_TO_GIVE)
    sizes = data.subnet_names(run)
    with st.form("own_recordings_form", border=False):
        files = st.file_uploader(
            f"Recordings and transcripts, up to {uploads.MOST_MB} MB",
            accept_multiple_files=True,
            max_upload_size=uploads.MOST_MB,
            key="own_files",
            help="They stay on the machine that runs this page until you delete them.",
        )
        left, right = st.columns([2, 3])
        title = left.text_input("Name", "my-recordings", max_chars=40, key="own_name")
        chosen = right.multiselect(
            "Sizes", sizes, _start(run), key="own_sizes", placeholder="one or more"
        )
        pressed = st.form_submit_button("Measure", icon=":material/straighten:")
    if pressed:
        try:
            _begin(run, title, [(f.name, f.getvalue()) for f in files or []], chosen)
        except (ValueError, OSError) as error:
            words = uploads.without_paths(str(error))
            st.error(f"{escape(words[:1].upper() + words[1:])}.")
        else:
            st.rerun()


def _begin(run: str, title: str, files: list[uploads.Upload], sizes: list[str]) -> None:
    """Keep the recordings and queue their measurement. ValueError says what is missing."""
    from core.data import test_sets

    if not files:
        raise ValueError("no files were chosen: add recordings and their transcripts first")
    if not sizes:
        raise ValueError("no size was chosen: choose at least one to measure")
    total = sum(len(content) for _, content in files)
    if total > uploads.MOST_MB * 1e6:
        raise ValueError(
            f"these files have {total / 1e6:.0f} MB; at most {uploads.MOST_MB} MB are taken at once"
        )
    digest = hashlib.sha256(b"".join(content for _, content in files)).hexdigest()
    visit.ledger().take(visit.visitor(), digest, total)
    name = uploads.store(title, files, visit.visitor().name)
    content = test_sets.content(name)
    try:
        st.session_state[JOB] = visitors.add(
            visit.visitor(),
            "evaluate",
            {"run": run, "subnets": sizes, "splits": [test_sets.split(name)]},
            run=run,
        )
    except BaseException:
        test_sets.remove(name)
        raise
    visitors.wake_worker(visit.visitor())
    st.session_state[SAID] = [
        f"{content.utterances} recordings with {content.seconds:.0f} s of speech.",
        *(f"Left out: {reason}" for reason in content.dropped[:5]),
    ]


@st.fragment(run_every=2.0)
def follow(number: int) -> None:
    """The measurement's progress, then where its result is."""
    from core.jobs import queue

    for sentence in st.session_state.get(SAID, ()):
        st.caption(escape(sentence))
    try:
        job = queue.get(number)
    except data.UNREADABLE:
        _forget()
        st.rerun()
    if job.state in ACTIVE:
        eta = f", about {job.eta_s / 60:.0f} min left" if job.eta_s else ""
        waiting = "waits for its turn" if job.state == "queued" else job.message or "has begun"
        st.progress(min(max(job.progress, 0.0), 1.0), f"Job {job.id}: {escape(waiting)}{eta}")
        return
    _ended(job)


def _ended(job: Job) -> None:
    if job.state != "done":
        lines = [line for line in job.error.splitlines() if line.strip()]
        why = uploads.without_paths(lines[-1]) if lines else job.state
        st.error(f"They could not be measured: {escape(why)}")
    else:
        st.success("Measured: they are a test set of this model now.", icon=":material/check:")
        st.button("Show the result", key="own_show", on_click=_show, args=(job.payload,))
    if st.button("Measure other recordings", key="own_again"):
        _forget()
        st.rerun()


def _forget() -> None:
    """The form stands here again."""
    for key in (JOB, SAID):
        st.session_state.pop(key, None)


def _show(payload: dict[str, Any]) -> None:
    _forget()
    st.session_state[f"split:{payload['run']}"] = payload["splits"][0]
    choice.choose(run=payload["run"])


def _start(run: str) -> list[str]:
    """Four sizes from the densest to the sparsest."""
    stops = [rung.name for rung in ladder.rungs(run)]
    return list(dict.fromkeys(stops[round(k * (len(stops) - 1) / 3)] for k in range(4) if stops))


def _known() -> None:
    """The visitor's sets, each with a button that deletes its recordings."""
    from core.data import test_sets

    who = visit.visitor()
    for name in test_sets.names():
        if not who.local and test_sets.owner(name) != who.name:
            continue
        row = st.container(horizontal=True, vertical_alignment="center")
        row.markdown(escape(name))
        if row.button("Delete", key=f"own_delete:{name}", icon=":material/delete:"):
            test_sets.remove(name)
            st.rerun()
