"""Where the sound of the Transcribe page comes from: the microphone, a file or a shipped sample; a
file is decoded once for its visitor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from core import paths
from dashboard import visit
from dashboard.markdown import escape
from dashboard.model import listening, transcription

VOICE, FILE, SAMPLE = SOURCES = ("My voice", "A file", "A sample")


@st.cache_resource(show_spinner=False)
def seats() -> transcription.Seats:
    """One set of seats for the whole server, whoever visits."""
    return transcription.Seats()


def decoded(content: bytes, name: str, mark: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Samples [N] of the picked sound, what was changed in it and what is missing; the last one is
    kept for this visitor alone, a refusal, too.
    """
    kept = st.session_state.get("sound")
    if not kept or kept[0] != (mark, name):
        note, changes, lost = st.empty(), [], []
        with (
            seats().taken(lambda seconds: waiting(note, seconds)),
            st.spinner("Reading the sound ..."),
        ):
            try:
                samples = transcription.load(content, name, changes.append, lost.append)
                outcome = samples, changes, lost
            except transcription.NotUsable as problem:
                outcome = problem
        note.empty()
        kept = st.session_state["sound"] = (mark, name), outcome
    if isinstance(kept[1], transcription.NotUsable):
        raise kept[1]
    return kept[1]


def waiting(note, seconds: float) -> None:
    note.info(
        f"{listening.AT_ONCE} transcriptions are running on this server already. Yours starts"
        f" as soon as one of them ends ({seconds:.0f} s waited).",
        icon=":material/hourglass_top:",
    )


def samples_shipped() -> list[Path]:
    folder = paths.RELEASED / paths.SAMPLES
    return sorted(file for file in folder.glob("*") if file.suffix in (".opus", ".flac", ".wav"))


def pick_source(allowed: bool) -> str:
    """Where the sound comes from: the microphone first; samples where nothing else is allowed."""
    sources = SOURCES if allowed else (SAMPLE,)
    return st.segmented_control(
        "Sound",
        sources,
        required=True,
        key="source",
        default=sources[0],
        width="stretch",
        label_visibility="collapsed",
    )


def pick_file() -> tuple[bytes, str, str] | None:
    """(bytes, file name, "") of the visitor's own recording; None while there is none."""
    file = st.file_uploader(
        "Speech in English: WAV, FLAC, OGG, Opus, MP3, M4A, WebM or a video, up to"
        f" {transcription.MOST_MB} MB and {transcription.MOST_MINUTES} minutes",
        max_upload_size=transcription.MOST_MB,
        key="upload",
        help="The file stays on the machine that runs this page and is forgotten when you leave.",
    )
    return (file.getvalue(), file.name, "") if file else None


def pick_sample() -> tuple[bytes, str, str] | None:
    """(bytes, file name, text spoken) of a sample that came with the model; None without any."""
    shipped = samples_shipped()
    if not shipped:
        st.info("No spoken samples came with this copy. Choose “A file” or “My voice” above.")
        return None
    file = st.selectbox(
        "Sample, spoken by a synthetic voice",
        shipped,
        format_func=lambda path: path.stem.replace("_", " "),
        key="sample",
    )
    text = file.with_suffix(".txt")
    return (
        file.read_bytes(),
        file.name,
        text.read_text(encoding="utf-8").strip() if text.exists() else "",
    )


def file_samples(picked: tuple[bytes, str, str], source: str) -> tuple[np.ndarray, str] | None:
    """(samples [N], their mark) of what was picked; None, with the reason shown, where it cannot be
    used.
    """
    content, name, _ = picked
    digest = hashlib.sha256(content).hexdigest()
    try:
        if source == FILE:
            visit.ledger().take(visit.visitor(), digest, len(content))
        samples, changes, lost = decoded(content, name, digest)
    except (transcription.NotUsable, visit.Refused) as problem:
        st.error(escape(problem), icon=":material/hearing_disabled:")
        return None
    for sentence in lost:
        missing(sentence)
    for change in changes:
        st.caption(escape(change))
    return samples, digest


def missing(sentence: str) -> None:
    """That a recording lacks a part of its sound."""
    st.warning(escape(sentence), icon=":material/content_cut:")


@dataclass(frozen=True)
class Speech:
    """Sound [N] to transcribe: `mark` tells it from others, `known` is what was said in it."""

    samples: np.ndarray
    mark: str
    name: str
    known: str = ""


def picked_speech(source: str) -> Speech | None:
    """A file or a sample, decoded; None while there is none."""
    picked = pick_file() if source == FILE else pick_sample()
    usable = file_samples(picked, source) if picked else None
    return Speech(*usable, *picked[1:]) if picked and usable else None
