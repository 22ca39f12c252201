"""Transcribe: hear the model at up to three sizes side by side, on your own voice, a file or a
sample.
"""

from __future__ import annotations

import hashlib
import mimetypes
import time
from pathlib import Path

import numpy as np
import streamlit as st

from core import paths
from core.records import Subnet
from dashboard import data, visit
from dashboard.charts import audio as audio_view
from dashboard.components import choice, transcripts, vocabulary
from dashboard.markdown import escape
from dashboard.model import transcription

TITLE = "Transcribe"
ICON = ":material/mic:"
ORDER = 30
SOURCES = ("A sample", "A file", "My voice")
CHUNKS = (160, 320, 640, 1280)  # ms of sound the network waits for before it writes
QUIET = {"displayModeBar": False}


@st.cache_resource(show_spinner=False)
def seats() -> transcription.Seats:
    """One set of seats for the whole server, whoever visits."""
    return transcription.Seats()


@st.cache_resource(max_entries=3, show_spinner=False)
def opened(run: str, stamp: tuple, subnet: Subnet, chunk_ms: int, way: transcription.Way):
    """A loaded recognizer of the packed file; at most three stay in memory. `stamp` drops one whose
    run changed.
    """
    return transcription.recognizer(data.packed(run, subnet), chunk_ms, way)


def decoded(content: bytes, name: str, mark: str) -> tuple[np.ndarray, list[str]]:
    """Samples [N] of the picked sound and what was changed in it; the last one is kept for this
    visitor alone, a refusal, too.
    """
    kept = st.session_state.get("sound")
    if not kept or kept[0] != (mark, name):
        note, changes = st.empty(), []
        with (
            seats().taken(lambda seconds: waiting(note, seconds)),
            st.spinner("Reading the sound ..."),
        ):
            try:
                outcome = transcription.load(content, name, changes.append), changes
            except transcription.NotUsable as problem:
                outcome = problem
        note.empty()
        kept = st.session_state["sound"] = (mark, name), outcome
    if isinstance(kept[1], transcription.NotUsable):
        raise kept[1]
    return kept[1]


def waiting(note, seconds: float) -> None:
    note.info(
        f"{transcription.AT_ONCE} transcriptions are running on this server already. Yours starts"
        f" as soon as one of them ends ({seconds:.0f} s waited).",
        icon=":material/hourglass_top:",
    )


def samples_shipped() -> list[Path]:
    folder = paths.RELEASED / paths.SAMPLES
    return sorted(file for file in folder.glob("*") if file.suffix in (".opus", ".flac", ".wav"))


def pick_audio(sources: tuple[str, ...]) -> tuple[bytes, str, str] | None:
    """(bytes, file name, text known to be spoken) of what the visitor picked; None while nothing
    is.
    """
    source = st.segmented_control(
        "Audio",
        sources,
        required=True,
        key="source",
        default=sources[0] if samples_shipped() else sources[-1],
    )
    if source == "A file":
        file = st.file_uploader(
            "Speech in English: WAV, FLAC, OGG, Opus, MP3, M4A, WebM or a video, up to"
            f" {transcription.MOST_MB} MB and {transcription.MOST_MINUTES} minutes",
            max_upload_size=transcription.MOST_MB,
            key="upload",
            help=(
                "The file stays on the machine that runs this page and is forgotten when you leave."
            ),
        )
        return (file.getvalue(), file.name, "") if file else None
    if source == "My voice":
        file = st.audio_input("Press the microphone, speak, press again", key="voice")
        return (file.getvalue(), "my-voice.wav", "") if file else None
    shipped = samples_shipped()
    if not shipped:
        st.info("No spoken samples came with this copy. Choose “A file” or “My voice” above.")
        return None
    file = st.selectbox(
        "Sample", shipped, format_func=lambda path: path.stem.replace("_", " "), key="sample"
    )
    st.caption("Spoken by a machine (espeak-ng), not by a person.")
    text = file.with_suffix(".txt")
    return (
        file.read_bytes(),
        file.name,
        text.read_text(encoding="utf-8").strip() if text.exists() else "",
    )


def show_audio(content: bytes, name: str, samples: np.ndarray) -> None:
    st.audio(content, format=mimetypes.guess_type(name)[0] or "audio/ogg")
    with st.expander(
        f"See the sound ({len(samples) / transcription.RATE:.1f} seconds)",
        icon=":material/graphic_eq:",
    ):
        st.caption(audio_view.WAVE_SENTENCE)
        st.plotly_chart(audio_view.wave_figure(samples), key="wave", config=QUIET)
        st.caption(audio_view.SPECTROGRAM_SENTENCE)
        st.plotly_chart(audio_view.spectrogram_figure(samples), key="spectrogram", config=QUIET)


def pick_sizes(chosen: choice.Chosen) -> tuple[dict[str, Subnet], int]:
    """The chosen subnet and up to two others, and the chunk in ms."""
    others = [name for name in data.subnet_names(chosen.run) if name != chosen.subnet]
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    beside = left.multiselect(
        "Sizes to hear beside it",
        others,
        default=[name for name in others if name == "dense"],
        max_selections=2,
        key=f"beside.{chosen.run}.{chosen.subnet}",
        help=(
            "“dense” is the whole model, nothing cut away. The number in “s70” is the share of"
            " weights that are zero, in percent: the higher, the smaller the file."
        ),
    )
    known = sorted(data.chunks_ms(chosen.run)) or CHUNKS
    chunk = right.selectbox(
        "Writes after every",
        known,
        index=known.index(320) if 320 in known else 0,
        key=f"chunk:{known}",
        format_func=lambda ms: f"{ms} ms of sound",
        help="Waiting longer makes the words surer and later. All sizes are compared at the same.",
    )
    names = [chosen.subnet, *beside]
    return {name: choice.record(choice.Chosen(chosen.run, name)) for name in names}, chunk


def transcribe(
    run: str, sizes: dict[str, Subnet], chunk: int, way: transcription.Way, samples: np.ndarray
) -> list[transcription.Transcript]:
    """Wait for a seat, load what is not loaded, and write words into the page as they come."""
    with st.container(border=True):
        note, bar = st.empty(), st.empty()
        boxes = {}
        for column, name in zip(st.columns(len(sizes)), sizes):
            column.markdown(f"**{escape(name)}**")
            boxes[name] = column.empty()

    def progress(share: float, texts: dict[str, str]) -> None:
        bar.progress(share, f"{share:.0%}")
        for name, text in texts.items():
            boxes[name].markdown(
                escape(text) + " ▌" if share < 1 else escape(text or "No speech found.")
            )

    with seats().taken(lambda seconds: waiting(note, seconds)):
        note.caption("Loading the model; a new vocabulary takes about a minute the first time ...")
        loaded = {
            name: opened(run, data.stamp(run), subnet, chunk, way) for name, subnet in sizes.items()
        }
        note.caption("Transcribing ...")
        return transcription.transcribe(loaded, samples, progress)


def main() -> None:
    st.title("Transcribe")
    st.markdown(
        "Speak, and read what models of different sizes understand. Smaller ones fit smaller"
        " devices and mishear more: here you see how much more."
    )
    chosen = choice.need_run()
    st.markdown(choice.describe(chosen))
    allowed = visit.may(visit.TRANSCRIBE)
    picked = pick_audio(SOURCES if allowed else SOURCES[:1])
    if picked is None:
        return
    content, name, known = picked
    digest = hashlib.sha256(content).hexdigest()
    try:
        if st.session_state.get("source") in SOURCES[1:]:
            visit.ledger().take(visit.visitor(), digest, len(content))
        samples, changes = decoded(content, name, digest)
    except (transcription.NotUsable, visit.Refused) as problem:
        st.error(escape(problem), icon=":material/hearing_disabled:")
        return
    for change in changes:
        st.caption(escape(change))
    show_audio(content, name, samples)
    try:
        sizes, chunk = pick_sizes(chosen)
    except ValueError as problem:
        st.error(f"This size cannot be opened: {escape(problem)}")
        return
    spoken = st.text_input(
        "Reference (if you know it)",
        known,
        key=f"said.{name}",
        help="Then the words each size got wrong are counted.",
    )
    way = vocabulary.pick_way()
    mark = digest + repr((chosen.run, sizes, chunk, way))
    if st.button(
        "Transcribe", type="primary", icon=":material/play_arrow:", key="go", disabled=not allowed
    ):
        place = st.empty()
        try:
            visit.ledger().take(visit.visitor(), f"{time.time()}")
            with place.container():
                received = transcribe(chosen.run, sizes, chunk, way, samples)
        except (ValueError, RuntimeError, OSError, ImportError) as problem:
            place.empty()
            st.error(f"This size could not be used to transcribe: {escape(problem)}")
            return
        st.session_state["heard"] = (mark, received)
        place.empty()
    kept = st.session_state.get("heard")
    if kept and kept[0] == mark:
        from core.speech import normalizer as text

        transcripts.show_results(chosen.run, sizes, name, kept[1], text.normalize(spoken))


main()
