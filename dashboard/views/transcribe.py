"""Transcribe: hear the network at up to three sizes side by side, on your own voice, a file or a
sample.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import time
from pathlib import Path

import numpy as np
import streamlit as st

from core import paths
from core.records import Subnet
from dashboard import data, visit
from dashboard.charts import audio as audio_view
from dashboard.components import choice, diff
from dashboard.markdown import escape
from dashboard.model import transcription as hearing

TITLE = "Transcribe"
ICON = ":material/mic:"
ORDER = 30
SOURCES = ("A sample", "A file", "My voice")
CHUNKS = (160, 320, 640, 1280)  # ms of sound the network waits for before it writes
OPEN, COMMANDS, TYPED, TOKENS = (
    "Open speech",
    "Built-in commands",
    "Only these sentences",
    "Letters or sounds as they come",
)
UNDERSTOOD = {
    OPEN: (
        "Any English sentence of some 46 000 words. A language model made from books helps with"
        " what was said unclearly."
    ),
    COMMANDS: (
        "Home, phone, travel, timer and media commands, as in the built-in test set, and nothing"
        " else."
    ),
    TYPED: "A recognizer for exactly these sentences, at any size, without training.",
    TOKENS: (
        "What the network itself writes, without knowing any words. Transducers always work so."
    ),
}
EXAMPLE = """turn (on | off) the {thing} [in the {room}]
set a timer for {1..60} minutes
thing = light | heating | radio | coffee machine
room = kitchen | bedroom | living room"""
PATTERNS = (
    "One sentence a line. `(a | b)` is a choice, `[a]` may be left out, `{1..60}` is a number, `a+`"
    " comes once or more, and `thing = light | radio` says what `{thing}` stands for."
)
NO_SPEECH = "No speech found."
QUIET = {"displayModeBar": False}


@st.cache_resource(show_spinner=False)
def seats() -> hearing.Seats:
    """One set of seats for the whole server, whoever visits."""
    return hearing.Seats()


@st.cache_resource(max_entries=3, show_spinner=False)
def opened(run: str, stamp: tuple, subnet: Subnet, chunk_ms: int, way: hearing.Way):
    """A loaded recogniser of the packed file; at most three stay in memory. `stamp` drops one whose
    run changed.
    """
    return hearing.recogniser(data.packed(run, subnet), chunk_ms, way)


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
                result = hearing.load(content, name, changes.append), changes
            except hearing.NotUsable as problem:
                result = problem
        note.empty()
        kept = st.session_state["sound"] = (mark, name), result
    if isinstance(kept[1], hearing.NotUsable):
        raise kept[1]
    return kept[1]


def waiting(note, seconds: float) -> None:
    note.info(
        f"{hearing.AT_ONCE} transcriptions are running on this server already. Yours starts as soon"
        f" as one of them ends ({seconds:.0f} s waited).",
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
        "What should be listened to?",
        sources,
        required=True,
        key="source",
        default=sources[0] if samples_shipped() else sources[-1],
    )
    if source == "A file":
        file = st.file_uploader(
            "Speech in English: WAV, FLAC, OGG, Opus, MP3, M4A, WebM or a video, up to"
            f" {hearing.MOST_MB} MB and {hearing.MOST_MINUTES} minutes",
            max_upload_size=hearing.MOST_MB,
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
        f"See the sound ({len(samples) / hearing.RATE:.1f} seconds)", icon=":material/graphic_eq:"
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
            "“dense” is the whole network, nothing cut away. The number in “s70” is the share of"
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


def pick_way() -> hearing.Way:
    """What the recognizer understands: open speech until somebody asks for something else."""
    files = {path.name: path for path in data.language_models()}
    name = st.selectbox("What it understands", [OPEN, COMMANDS, TYPED, *files, TOKENS], key="way")
    st.caption(
        escape(
            UNDERSTOOD.get(
                name, "Sentences like those of the text that this language model was made from."
            )
        )
    )
    if name == TOKENS:
        return hearing.Way(tokens=True)
    if name == COMMANDS:
        return hearing.Way(lm="", grammar="commands")
    if name == TYPED:
        text = st.text_area(
            "What this device must understand",
            EXAMPLE,
            height=130,
            key="grammar",
            max_chars=20_000,
            help=PATTERNS,
        )
        return hearing.Way(lm="", grammar=text)
    typed = st.text_input(
        "Names and rare words to expect (optional)",
        key="hot_words",
        max_chars=1000,
        help="Separated by commas. New words are pronounced by rule.",
    )
    hot_words = tuple(word.strip().lower() for word in typed.split(",") if word.strip())
    if name in files:
        return hearing.Way(
            lm=str(files[name]), hot_words=hot_words, changed=data.time_of(files[name])
        )
    return hearing.Way(hot_words=hot_words)


def transcribe(
    run: str, sizes: dict[str, Subnet], chunk: int, way: hearing.Way, samples: np.ndarray
) -> list[hearing.Heard]:
    """Wait for a seat, load what is not loaded, and write words into the page as they come."""
    with st.container(border=True):
        note, bar = st.empty(), st.empty()
        boxes = {}
        for column, name in zip(st.columns(len(sizes)), sizes):
            column.markdown(f"**{escape(name)}**")
            boxes[name] = column.empty()

    def progress(share: float, texts: dict[str, str]) -> None:
        bar.progress(share, f"{share:.0%} heard")
        for name, text in texts.items():
            boxes[name].markdown(escape(text) + " ▌" if share < 1 else escape(text or NO_SPEECH))

    with seats().taken(lambda seconds: waiting(note, seconds)):
        note.caption(
            "Loading the network; a new vocabulary takes about a minute the first time ..."
        )
        loaded = {
            name: opened(run, data.stamp(run), subnet, chunk, way) for name, subnet in sizes.items()
        }
        note.caption("Listening ...")
        return hearing.listen(loaded, samples, progress)


def speed_words(rtf: float) -> str:
    return (
        f"{1 / rtf:.0f} times faster than speech"
        if rtf < 0.67
        else ("about as fast as speech" if rtf <= 1 else f"{rtf:.1f} times slower than speech")
    )


def show_results(
    run: str, sizes: dict[str, Subnet], name: str, heard: list[hearing.Heard], reference: str
) -> None:
    st.subheader("What was heard")
    full = next((one for one in heard if one.subnet == "dense"), None)
    ways = (["what was said"] if reference else []) + (
        ["the whole network (dense)"] if full and len(heard) > 1 else []
    )
    way = (
        st.segmented_control(
            "Colour the differences from",
            ways,
            default=ways[0],
            required=True,
            key=f"way.{len(ways)}.{bool(reference)}",
        )
        if ways
        else None
    )
    if way:
        st.html(diff.legend())
    else:
        st.caption(
            "Type what was said, or add “dense” to the sizes, to see the differences in colour."
        )
    for column, one in zip(st.columns(len(heard)), heard):
        with column.container(border=True):
            st.markdown(
                f"**{escape(one.subnet)}** &nbsp; :gray[{100 * sizes[one.subnet].sparsity:.0f} %"
                " zeros]"
            )
            target = (
                reference
                if way == "what was said"
                else full.text
                if way and one is not full
                else one.text
            )
            pieces = diff.align(target, one.text)
            if not one.text:
                st.caption(NO_SPEECH)
            st.html(diff.markup(pieces))
            if way and target is not one.text:
                st.markdown(diff.sentence(pieces))
            st.caption(
                f"{one.seconds:.2f} s of computing for {one.audio_seconds:.1f} s of sound: "
                f"{speed_words(one.rtf)} (RTF {one.rtf:.3f})."
            )
    threads, decoder = (
        heard[0].conditions.get("threads"),
        heard[0].conditions.get("decoder", "greedy"),
    )
    if decoder != "greedy":
        st.caption(
            f"Words were found by {escape(decoder.replace('_', ' '))}; language model: "
            f"{escape(heard[0].conditions['language_model'])}."
        )
    st.caption(
        "RTF is computing time divided by the length of the sound, smaller is faster"
        + (f"; {threads} processor thread{'s' if threads != 1 else ''}" if threads else "")
        + ". The sizes take turns on one machine, so small differences in time are chance."
    )
    downloads(run, name, heard, reference)


def downloads(run: str, name: str, heard: list[hearing.Heard], reference: str) -> None:
    lines = [f"{one.subnet}: {one.text}" for one in heard] if len(heard) > 1 else [heard[0].text]
    document = hearing.as_document(name, run, reference, heard)
    stem = Path(name).stem
    with st.container(horizontal=True):
        st.download_button(
            "Text (.txt)",
            "\n".join(lines) + "\n",
            f"{stem}.txt",
            "text/plain",
            on_click="ignore",
            icon=":material/download:",
        )
        st.download_button(
            "Everything (.json)",
            json.dumps(document, indent=1, ensure_ascii=False),
            f"{stem}.json",
            "application/json",
            on_click="ignore",
            icon=":material/download:",
        )


def main() -> None:
    st.title("Transcribe")
    st.markdown(
        "Speak, and read what networks of different sizes understand. Smaller ones fit smaller"
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
    except (hearing.NotUsable, visit.Refused) as problem:
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
        "What was said (if you know it)",
        known,
        key=f"said.{name}",
        help="Then the words each size got wrong are counted.",
    )
    way = pick_way()
    mark = digest + repr((chosen.run, sizes, chunk, way))
    if st.button(
        "Transcribe", type="primary", icon=":material/play_arrow:", key="go", disabled=not allowed
    ):
        place = st.empty()
        try:
            visit.ledger().take(visit.visitor(), f"{time.time()}")
            with place.container():
                heard = transcribe(chosen.run, sizes, chunk, way, samples)
        except (ValueError, RuntimeError, OSError, ImportError) as problem:
            place.empty()
            st.error(f"This size could not be used to transcribe: {escape(problem)}")
            return
        st.session_state["heard"] = (mark, heard)
        place.empty()
    kept = st.session_state.get("heard")
    if kept and kept[0] == mark:
        from core.speech import normalizer as text

        show_results(chosen.run, sizes, name, kept[1], text.normalise(spoken))


main()
