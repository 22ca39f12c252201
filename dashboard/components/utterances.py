"""The utterances of a test set as cards, a page at a time: what was said, what two sizes wrote, the
errors marked, and the sound where it is on this machine.
"""

from __future__ import annotations

import html
import io
import math
import os
from pathlib import Path

import pandas as pd
import streamlit as st

from core.jobs import confinement, policy
from core.storage import spoken
from dashboard import data
from dashboard.components import diff
from dashboard.look import one_look
from dashboard.markdown import escape
from dashboard.model import errors

PER_PAGE = 10
EVERYBODY = "Everybody"
LABEL = "font-size:.8rem;font-weight:600;"


@st.fragment
@one_look()
def browse(base: errors.Size, other: errors.Size, rows: pd.DataFrame, known: bool) -> None:
    """Filters, the order, and one page of cards; `known`: whether the references are here."""
    shown = errors.ordered(*_filters(base, other, rows, known))
    if shown.empty:
        st.info("No utterance fits these filters: shorten the text, or choose everybody.")
        return
    pages = math.ceil(len(shown) / PER_PAGE)
    facts = f"{len(shown):,} of {len(rows):,}"
    st.caption(f"{escape(facts)} utterances")
    st.html(diff.legend("" if known else base.name))
    place = st.container()
    page = 1
    if pages > 1:
        page = st.pagination(pages, key=f"utterances_page:{hash(tuple(shown.index))}")
    cards = shown.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    folders = _folders()
    sounds = [_playable(row.audio, folders) for row in cards.itertuples()]
    with place:
        if not any(sounds):
            st.caption("The sound of this test set is not on this machine.")
        for row, sound in zip(cards.itertuples(), sounds):
            _card(base, other, row, known, sound)


def _filters(
    base: errors.Size, other: errors.Size, rows: pd.DataFrame, known: bool
) -> tuple[pd.DataFrame, str]:
    """(the rows that fit, their order) as the visitor asks."""
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    text = left.text_input(
        "Text in the reference or a transcript" if known else "Text in a transcript",
        key="utterances_text",
    )
    order = middle.selectbox("Order", list(errors.ORDERS), key="utterances_order")
    people = sorted(set(rows["speaker"]) - {""})
    speaker = EVERYBODY
    if len(people) > 1:
        speaker = right.selectbox("Speaker", [EVERYBODY, *people], key="utterances_speaker")
    only = st.toggle(
        f"Only where {escape(base.name)} is right and {escape(other.name)} is wrong",
        key="utterances_only",
    )
    chosen = "" if speaker == EVERYBODY else speaker
    return errors.filtered(rows, text, only, chosen), order


def _card(base: errors.Size, other: errors.Size, row, known: bool, sound: bool) -> None:
    with st.container(border=True):
        st.html(card(base.name, other.name, row, known))
        if sound:
            _player(row)


def card(base: str, other: str, row, known: bool) -> str:
    """One utterance as HTML, all of it escaped. Without a reference the other size's words are
    marked where they differ from the base's.
    """
    counts = f"{base}: {_errors(row.base_errors)}, {other}: {_errors(row.other_errors)}"
    facts = [f"speaker {row.speaker}"] if row.speaker else []
    facts += [f"{row.seconds:.1f} s"] if row.seconds == row.seconds else []
    facts += [f"{row.words} words", counts]
    lines = [f'<div style="font-size:.85rem">{html.escape(" · ".join(facts))}</div>']
    if known:
        lines += [_line("Said", diff.align(row.reference, row.reference))]
        lines += [_line(base, diff.align(row.reference, row.base))]
        lines += [_line(other, diff.align(row.reference, row.other))]
    else:
        lines += [_line(base, diff.align(row.base, row.base))]
        lines += [_line(f"{other}, beside {base}", diff.align(row.base, row.other))]
    return "".join(lines)


def _errors(count: int) -> str:
    return "1 error" if count == 1 else f"{count} errors"


def _line(label: str, pieces: list[diff.Edit]) -> str:
    return f'<div style="{LABEL}">{html.escape(label)}</div>{diff.markup(pieces)}'


# sound


def _folders() -> tuple[Path, ...]:
    """Where sound that visitors may hear can lie."""
    try:
        return (*policy.load().folders, spoken.folder())
    except ValueError:
        return (spoken.folder(),)


def _playable(file: str, folders: tuple[Path, ...]) -> bool:
    return bool(file) and confinement.offered(file, folders) and os.path.isfile(file)


def _player(row) -> None:
    try:
        sound = _wav(row.audio, row.offset, row.seconds, data.time_of(row.audio))
    except (ValueError, OSError) as problem:
        st.caption(f"This sound cannot be played: {escape(problem)}")
        return
    st.audio(sound)


@st.cache_resource(max_entries=64, show_spinner=False)
def _wav(file: str, offset: float, seconds: float, stamp: int) -> bytes:
    import soundfile

    from core.speech import audio

    wav = io.BytesIO()
    samples = audio.read(file, offset, seconds)
    soundfile.write(wav, samples, audio.SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return wav.getvalue()
