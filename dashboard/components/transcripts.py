"""Transcripts side by side, with their differences in color, and as files."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from core.records import Subnet
from dashboard.components import diff
from dashboard.markdown import escape
from dashboard.model import transcription


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
    transcripts: list[transcription.Transcript],
    reference: str,
) -> None:
    st.subheader("Transcripts")
    full = next((item for item in transcripts if item.subnet == "dense"), None)
    ways = (["the reference"] if reference else []) + (
        ["the dense subnet"] if full and len(transcripts) > 1 else []
    )
    way = (
        st.segmented_control(
            "Color the differences from",
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
            "Type the reference, or add “dense” to the sizes, to see the differences in color."
        )
    for column, item in zip(st.columns(len(transcripts)), transcripts):
        with column.container(border=True):
            st.markdown(
                f"**{escape(item.subnet)}** &nbsp; :gray[{100 * sizes[item.subnet].sparsity:.0f} %"
                " zeros]"
            )
            target = (
                reference
                if way == "the reference"
                else full.text
                if way and item is not full
                else item.text
            )
            pieces = diff.align(target, item.text)
            if not item.text:
                st.caption("No speech found.")
            st.html(diff.markup(pieces))
            if way and target is not item.text:
                st.markdown(diff.sentence(pieces))
            st.caption(
                f"{item.seconds:.2f} s of computing for {item.audio_seconds:.1f} s of sound: "
                f"{speed_words(item.rtf)} (RTF {item.rtf:.3f})."
            )
    threads, decoder = (
        transcripts[0].conditions.get("threads"),
        transcripts[0].conditions.get("decoder", "greedy"),
    )
    if decoder != "greedy":
        st.caption(
            f"Words were found by {escape(decoder.replace('_', ' '))}; language model: "
            f"{escape(transcripts[0].conditions['language_model'])}."
        )
    st.caption(
        "RTF is computing time divided by the length of the sound, smaller is faster"
        + (f"; {threads} processor thread{'s' if threads != 1 else ''}" if threads else "")
        + ". The sizes take turns on one machine, so small differences in time are chance."
    )
    downloads(run, name, transcripts, reference)


def downloads(
    run: str, name: str, transcripts: list[transcription.Transcript], reference: str
) -> None:
    lines = (
        [f"{item.subnet}: {item.text}" for item in transcripts]
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
