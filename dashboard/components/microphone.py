"""Speech that is transcribed while somebody speaks: the microphone's messages through one stream
for each size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import streamlit as st

from dashboard import visit
from dashboard.live import speech
from dashboard.model import listening

KEY = "microphone"
TAKE = "take"  # session state: the recording that is being made or was made last
MOST_S = 300.0
HINT = (
    "Press Speak and say something in English: words appear while you speak, gray where the model"
    " is unsure. The sound stays on the machine that runs this page and is forgotten when you"
    " leave."
)
Load = Callable[[], dict[str, Any]]


@st.fragment
def listen(
    names: list[str], load: Load, seat: Callable[[], AbstractContextManager], how: str
) -> None:
    """The microphone of sizes `names`; the first sound of a recording has `load` open them, and
    every message holds a `seat`. When a recording has ended the whole page runs again. `how` names
    what it is understood by.
    """
    take = st.session_state.get(TAKE)
    speech.microphone(KEY, content(names, take), lambda: receive(load, seat, how))
    if take is not None and take.transcripts and not take.shown:
        take.shown = True
        st.rerun()


def content(names: list[str], take: listening.Take | None) -> dict[str, Any]:
    """What the component shows: the words so far, and how much sound they are of."""
    return {
        "mode": "microphone",
        "sizes": [{"name": name, "label": ""} for name in names],
        "hint": HINT,
        "most": MOST_S,
        "session": take.session if take else "",
        "received": take.received if take else 0,
        "words": {name: speech.timed(words) for name, words in take.words.items()} if take else {},
        "error": take.error if take else "",
        "lost": take.lost() if take else "",
        "finished": bool(take and take.transcripts),
    }


def receive(load: Load, seat: Callable[[], AbstractContextManager], how: str) -> None:
    """Take one message of the microphone; whatever is wrong with it ends the recording in words."""
    take: listening.Take | None = st.session_state.get(TAKE)
    try:
        message = speech.message(KEY)
        if message is None:
            return
        if take is None or take.session != message.session:
            take = st.session_state[TAKE] = listening.Take(message.session, message.rate, how)
            visit.ledger().take(visit.visitor(), f"{time.time()}")
            visit.ledger().take(visit.visitor(), message.session, int(MOST_S * message.rate))
        with seat():
            if take.listening is None:
                take.listening = listening.Listening(load())
            take.accept(message.begin, message.samples, message.end, MOST_S)
    except (ValueError, RuntimeError, OSError, ImportError) as problem:
        take = take or listening.Take("", 0, how)
        take.error = f"{problem}. Press Speak to begin anew."
        take.listening = None
        st.session_state[TAKE] = take


def recorded() -> listening.Take | None:
    """The last recording that was made to its end."""
    take = st.session_state.get(TAKE)
    return take if take is not None and take.transcripts else None
