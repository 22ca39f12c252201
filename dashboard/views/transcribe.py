"""Transcribe: words of up to three sizes side by side while you speak, or while a file or a sample
plays.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core import paths
from core.records import Subnet
from dashboard import data, visit
from dashboard.charts import audio as audio_view
from dashboard.components import choice, microphone, transcripts, vocabulary
from dashboard.live import speech
from dashboard.markdown import escape
from dashboard.model import transcription

TITLE = "Transcribe"
ICON = ":material/mic:"
ORDER = 30
VOICE, FILE, SAMPLE = SOURCES = ("My voice", "A file", "A sample")
CHUNKS = (160, 320, 640, 1280)  # ms of sound the network waits for before it writes
QUIET = {"displayModeBar": False}
CAN = (
    "English, one person near the microphone. Not far away, not several at once; strong accents,"
    " children's voices and noise cost words, and small sizes lose more of them."
)


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


def see_the_sound(samples: np.ndarray) -> None:
    with st.expander("Pitch over time", icon=":material/graphic_eq:", on_change="rerun") as box:
        if box.open:
            st.caption(audio_view.SPECTROGRAM_SENTENCE)
            figure = audio_view.spectrogram_figure(samples)
            st.plotly_chart(figure, key="spectrogram", config=QUIET)


def pick_sizes(
    chosen: choice.Chosen, left: DeltaGenerator, right: DeltaGenerator
) -> tuple[dict[str, Subnet], int]:
    """The chosen subnet and up to two others, and the chunk in ms."""
    others = [name for name in data.subnet_names(chosen.run) if name != chosen.subnet]
    beside = left.multiselect(
        "Sizes beside it",
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


def load(run: str, sizes: dict[str, Subnet], chunk: int, way: transcription.Way) -> dict:
    """{subnet: recognizer}."""
    return {
        name: opened(run, data.stamp(run), subnet, chunk, way) for name, subnet in sizes.items()
    }


def transcribe(
    open_all: microphone.Load, names: list[str], samples: np.ndarray
) -> list[transcription.Transcript]:
    """Wait for a seat, load what is not loaded, and write words into the page as they come."""
    with st.container(border=True):
        note, bar = st.empty(), st.empty()
        boxes = {}
        for column, name in zip(st.columns(len(names)), names):
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
        loaded = open_all()
        note.caption("Transcribing ...")
        return transcription.transcribe(loaded, samples, progress)


def play(
    samples: np.ndarray,
    sizes: dict[str, Subnet],
    received: list[transcription.Transcript],
    new: bool,
) -> None:
    """The sound, and what each size understood of it, word by word; `new`: it begins to play."""
    boxes = [
        {
            "name": item.subnet,
            "label": f"{100 * sizes[item.subnet].sparsity:.0f} % zeros",
            "text": item.text,
            "words": speech.timed(item.words),
            "partial": item.partial,
        }
        for item in received
    ]
    note = (
        "Click a word to hear it. Gray words are those the model is unsure of."
        if any(item.words for item in received)
        else ""
    )
    heard = speech.sound(samples, transcription.RATE)
    speech.player("player", speech.recording(heard, boxes, note, new))


def file_samples(picked: tuple[bytes, str, str], source: str) -> tuple[np.ndarray, str] | None:
    """(samples [N], their mark) of what was picked; None, with the reason shown, where it cannot be
    used.
    """
    content, name, _ = picked
    digest = hashlib.sha256(content).hexdigest()
    try:
        if source == FILE:
            visit.ledger().take(visit.visitor(), digest, len(content))
        samples, changes = decoded(content, name, digest)
    except (transcription.NotUsable, visit.Refused) as problem:
        st.error(escape(problem), icon=":material/hearing_disabled:")
        return None
    for change in changes:
        st.caption(escape(change))
    return samples, digest


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


def spoken(names: list[str], open_all: microphone.Load, how: str) -> Speech | None:
    """The microphone and what was said into it last, whose transcripts are kept; None before."""
    microphone.listen(names, open_all, lambda: seats().taken(lambda seconds: None), how)
    take = microphone.recorded()
    if take is None:
        return None
    if take.how == how:
        st.session_state["heard"] = (take.session + how, take.transcripts)
    return Speech(take.samples(), take.session, "my-voice.wav")


def known_transcripts(mark: str) -> list[transcription.Transcript]:
    kept = st.session_state.get("heard")
    return kept[1] if kept and kept[0] == mark else []


def transcribed(
    mark: str, work: Callable[[], list[transcription.Transcript]]
) -> list[transcription.Transcript]:
    """Transcribe now; [] with the reason shown where that fails."""
    place = st.empty()
    try:
        visit.ledger().take(visit.visitor(), f"{time.time()}")
        with place.container():
            received = work()
    except (ValueError, RuntimeError, OSError, ImportError) as problem:
        place.empty()
        st.error(f"This size could not be used to transcribe: {escape(problem)}")
        return []
    place.empty()
    st.session_state["heard"] = (mark, received)
    return received


def main() -> None:
    st.title("Transcribe")
    chosen = choice.need_run()
    st.markdown(f"{choice.describe(chosen)} **What it understands:** {CAN}")
    allowed = visit.may(visit.TRANSCRIBE)
    source = pick_source(allowed)
    try:
        left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
        sizes, chunk = pick_sizes(chosen, left, right)
    except ValueError as problem:
        st.error(f"This size cannot be opened: {escape(problem)}")
        return
    way = vocabulary.pick_way(middle)
    how = repr((chosen.run, sizes, chunk, way))
    open_all = functools.partial(load, chosen.run, sizes, chunk, way)
    sound = spoken(list(sizes), open_all, how) if source == VOICE else picked_speech(source)
    if sound is None:
        return
    mark = sound.mark + how
    received, new = known_transcripts(mark), False
    if (source != VOICE or not received) and st.button(
        "Transcribe and play",
        type="primary",
        icon=":material/play_arrow:",
        key="go",
        disabled=not allowed,
    ):
        received = transcribed(mark, lambda: transcribe(open_all, list(sizes), sound.samples))
        new = bool(received)
    play(sound.samples, sizes, received, new)
    if received:
        compare(chosen.run, sizes, sound, received)
    see_the_sound(sound.samples)


def compare(
    run: str, sizes: dict[str, Subnet], sound: Speech, received: list[transcription.Transcript]
) -> None:
    """Errors against what was really said, and the transcripts as files."""
    from core.speech import normalizer

    reference = st.text_input(
        "What was really said (if you know it)",
        sound.known,
        key=f"said.{sound.name}",
        help="Then the words each size got wrong are counted.",
    )
    transcripts.show_results(run, sizes, sound.name, received, normalizer.normalize(reference))


main()
