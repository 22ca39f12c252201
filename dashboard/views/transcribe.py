"""Transcribe: words of up to three sizes side by side while you speak, or while a file or a sample
plays.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.records import Subnet
from dashboard import data, visit
from dashboard.charts import audio as audio_view
from dashboard.components import choice, links, microphone, sound, transcripts, vocabulary
from dashboard.live import speech
from dashboard.markdown import escape
from dashboard.model import listening, transcription
from dashboard.shares import percent

TITLE = "Transcribe"
ICON = ":material/mic:"
ORDER = 30
CHUNKS = (160, 320, 640, 1280)  # ms of sound the network waits for before it writes
QUIET = {"displayModeBar": False}
CAN = (
    "English, one person near the microphone. Not far away, not several at once; strong accents,"
    " children's voices and noise cost words, and small sizes lose more of them."
)


@st.cache_resource(max_entries=3, show_spinner=False)
def opened(run: str, stamp: tuple, subnet: Subnet, chunk_ms: int, way: transcription.Way):
    """A loaded recognizer of the packed file; at most three stay in memory. `stamp` drops one whose
    run changed.
    """
    return transcription.recognizer(data.packed(run, subnet), chunk_ms, way)


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
            "“dense” is the whole model, nothing cut away. The number in “u70” is the share of"
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
) -> list[listening.Transcript]:
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

    with sound.seats().taken(lambda seconds: sound.waiting(note, seconds)):
        note.caption("Loading the model; a new vocabulary takes about a minute the first time ...")
        loaded = open_all()
        note.caption("Transcribing ...")
        return transcription.transcribe(loaded, samples, progress)


def play(
    samples: np.ndarray,
    sizes: dict[str, Subnet],
    received: list[listening.Transcript],
    new: bool,
) -> None:
    """The sound, and what each size understood of it, word by word; `new`: it begins to play."""
    boxes = [
        {
            "name": item.subnet,
            "label": f"{percent(sizes[item.subnet].sparsity)} sparsity",
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
    played = speech.sound(samples, listening.RATE)
    speech.player("player", speech.recording(played, boxes, note, new))


def spoken(names: list[str], open_all: microphone.Load, how: str) -> sound.Speech | None:
    """The microphone and what was said into it last, whose transcripts are kept; None before."""
    microphone.listen(names, open_all, lambda: sound.seats().taken(lambda seconds: None), how)
    take = microphone.recorded()
    if take is None:
        return None
    if take.how == how:
        st.session_state["transcripts"] = (take.session + how, take.transcripts)
    if take.lost():
        sound.missing(take.lost())
    return sound.Speech(take.samples(), take.session, "my-voice.wav")


def known_transcripts(mark: str) -> list[listening.Transcript]:
    kept = st.session_state.get("transcripts")
    return kept[1] if kept and kept[0] == mark else []


def transcribed(
    mark: str, work: Callable[[], list[listening.Transcript]]
) -> list[listening.Transcript]:
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
    st.session_state["transcripts"] = (mark, received)
    return received


def main() -> None:
    st.title("Transcribe")
    chosen = choice.need_run()
    st.markdown(f"{choice.describe(chosen)} · **Made for** {CAN}")
    allowed = visit.may(visit.TRANSCRIBE)
    source = sound.pick_source(allowed)
    try:
        left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
        sizes, chunk = pick_sizes(chosen, left, right)
    except ValueError as problem:
        st.error(f"This size cannot be opened: {escape(problem)}")
        return
    way = vocabulary.pick_way(middle)
    how = repr((chosen.run, sizes, chunk, way))
    open_all = functools.partial(load, chosen.run, sizes, chunk, way)
    given = (
        spoken(list(sizes), open_all, how) if source == sound.VOICE else sound.picked_speech(source)
    )
    if given is None:
        return
    mark = given.mark + how
    received, new = known_transcripts(mark), False
    if (source != sound.VOICE or not received) and st.button(
        "Transcribe and play",
        type="primary",
        icon=":material/play_arrow:",
        key="go",
        disabled=not allowed,
    ):
        received = transcribed(mark, lambda: transcribe(open_all, list(sizes), given.samples))
        new = bool(received)
    play(given.samples, sizes, received, new)
    if received:
        compare(chosen.run, sizes, given, received)
    see_the_sound(given.samples)


def compare(
    run: str, sizes: dict[str, Subnet], given: sound.Speech, received: list[listening.Transcript]
) -> None:
    """Errors against what was really said, and the transcripts as files."""
    from core.speech import normalizer

    reference = st.text_input(
        "What was really said (if you know it)",
        given.known,
        key=f"said.{given.name}",
        help="Then the words each size got wrong are counted.",
    )
    transcripts.show_results(run, sizes, given.name, received, normalizer.normalize(reference))
    links.to_page("errors", "What sizes get wrong in whole test sets", ":material/spellcheck:")


main()
