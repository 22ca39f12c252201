"""Transcripts side by side, with their differences in color, and as files."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from core.records import Subnet
from dashboard.components import diff
from dashboard.markdown import escape
from dashboard.model import listening, transcription
from dashboard.shares import percent


def speed_words(rtf: float) -> str:
    return (
        f"{1 / rtf:.0f} times faster than speech"
        if rtf < 0.67
        else ("about as fast as speech" if rtf <= 1 else f"{rtf:.1f} times slower than speech")
    )


def show_results(
    run: str,
    sizes: dict[str, Subnet],
    name: str,
    transcripts: list[listening.Transcript],
    reference: str,
) -> None:
    st.subheader("Transcripts")
    dense = next((t for t in transcripts if t.subnet == "dense"), None)
    if len(transcripts) == 1:
        dense = None
    target = _compare_with(reference, dense)
    for column, transcript in zip(st.columns(len(transcripts)), transcripts):
        with column.container(border=True):
            _show(transcript, sizes[transcript.subnet].sparsity, target)
    _show_conditions(transcripts[0].conditions)
    downloads(run, name, transcripts, reference)


def _compare_with(
    reference: str, dense: listening.Transcript | None
) -> str | listening.Transcript | None:
    """What the visitor wants differences from: the reference, the dense subnet's transcript, or
    None where there is neither.
    """
    targets: dict[str, str | listening.Transcript] = {}
    if reference:
        targets["the reference"] = reference
    if dense:
        targets["the dense subnet"] = dense
    if not targets:
        st.caption(
            "Type the reference, or add “dense” to the sizes, to see the differences in color."
        )
        return None
    choice = st.segmented_control(
        "Color the differences from",
        list(targets),
        default=next(iter(targets)),
        required=True,
        key=f"way.{len(targets)}.{bool(reference)}",
    )
    target = targets[choice]
    st.html(diff.legend(_name(target)))
    return target


def _name(target: str | listening.Transcript) -> str:
    """The size that is compared with; "" for the reference."""
    return target.subnet if isinstance(target, listening.Transcript) else ""


def _show(
    transcript: listening.Transcript,
    sparsity: float,
    target: str | listening.Transcript | None,
) -> None:
    st.markdown(f"**{escape(transcript.subnet)}** &nbsp; :gray[{percent(sparsity)} sparsity]")
    compared = target is not None and target is not transcript
    text = target.text if isinstance(target, listening.Transcript) else target
    pieces = diff.align(text if compared else transcript.text, transcript.text)
    if not transcript.text:
        st.caption("No speech found.")
    st.html(diff.markup(pieces))
    if compared and target is not None:
        st.markdown(escape(diff.sentence(pieces, _name(target))))
    st.caption(
        f"{transcript.seconds:.2f} s of computing for {transcript.audio_seconds:.1f} s of sound: "
        f"{speed_words(transcript.rtf)} (RTF {transcript.rtf:.3f})."
    )


def _show_conditions(conditions: dict) -> None:
    threads, decoder = conditions.get("threads"), conditions.get("decoder", "greedy")
    if decoder != "greedy":
        st.caption(
            f"Words were found by {escape(decoder.replace('_', ' '))}; language model: "
            f"{escape(conditions['language_model'])}."
        )
    st.caption(
        "RTF is computing time divided by the length of the sound, smaller is faster"
        + (f"; {threads} processor thread{'s' if threads != 1 else ''}" if threads else "")
        + ". The sizes take turns on one machine, so small differences in time are chance."
    )


def downloads(run: str, name: str, transcripts: list[listening.Transcript], reference: str) -> None:
    lines = (
        [f"{transcript.subnet}: {transcript.text}" for transcript in transcripts]
        if len(transcripts) > 1
        else [transcripts[0].text]
    )
    document = transcription.as_document(name, run, reference, transcripts)
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
