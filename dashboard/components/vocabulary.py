"""The menu of what the recognizer understands: open speech, commands, sentences of one's own."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import data
from dashboard.markdown import escape
from dashboard.model import transcription

OPEN, COMMANDS, TYPED, TOKENS = (
    "Open speech",
    "Built-in commands",
    "Only these sentences",
    "Letters or sounds as they come",
)


UNDERSTOOD = {
    OPEN: (
        "Any English sentence of some 46 000 words. A language model made from books helps with"
        " unclear speech."
    ),
    COMMANDS: (
        "Home, phone, travel, timer and media commands, as in the built-in test set, and nothing"
        " else."
    ),
    TYPED: "A recognizer for exactly these sentences, at any size, without training.",
    TOKENS: (
        "What the model itself writes, without knowing any words. Transducers always work so."
    ),
}


EXAMPLE = """turn (on | off) the {thing} [in the {room}]
set a timer for {1..60} minutes
thing = light | heating | radio | coffee machine
room = kitchen | bedroom | living room"""


PATTERNS = (
    "One sentence a line. `(a | b)` is a choice, `[a]` may be left out, `{1..60}` is a number, `a+`"
    " comes once or more, and `thing = light | radio` says what `{thing}` stands for. `3 stop` is"
    " three times as likely as a sentence without a number in front; `#` begins a comment."
)


def pick_way(place: DeltaGenerator) -> transcription.Way:
    """What the recognizer understands, open speech until somebody asks for something else; the menu
    stands in `place`, what belongs to a choice below.
    """
    files = {path.name: path for path in transcription.language_models()}
    name = place.selectbox(
        "What it understands",
        [OPEN, COMMANDS, TYPED, *files, TOKENS],
        key="way",
        help="  \n".join(f"**{title}**: {text}" for title, text in UNDERSTOOD.items()),
    )
    if name != OPEN:
        st.caption(
            escape(
                UNDERSTOOD.get(
                    name, "Sentences like those of the text that this language model was made from."
                )
            )
        )
    if name == TOKENS:
        return transcription.Way(tokens=True)
    if name == COMMANDS:
        return transcription.Way(lm="", grammar="commands")
    if name == TYPED:
        text = st.text_area(
            "What this device must understand",
            EXAMPLE,
            height=130,
            key="grammar",
            max_chars=20_000,
            help=PATTERNS,
        )
        if problem := _grammar_problem(text):
            st.error(escape(problem))
        return transcription.Way(lm="", grammar=text)
    typed = st.text_input(
        "Names and rare words to expect (optional)",
        key="hot_words",
        max_chars=1000,
        placeholder="Names and rare words to expect, separated by commas (optional)",
        label_visibility="collapsed",
    )
    hot_words, problems = _sayable(typed)
    for problem in problems:
        st.warning(f"Left out: {escape(problem)}")
    if name in files:
        return transcription.Way(
            lm=str(files[name]), hot_words=hot_words, changed=data.time_of(files[name])
        )
    return transcription.Way(hot_words=hot_words)


@st.cache_data(max_entries=32, show_spinner=False)
def _grammar_problem(text: str) -> str:
    """What is wrong with typed patterns, before anything is transcribed; "" where nothing is."""
    from core.lm import languages

    try:
        languages.check(languages.Language(lm="", grammar=text))
    except ValueError as error:
        return str(error)
    return ""


@st.cache_data(max_entries=32, show_spinner=False)
def _sayable(typed: str) -> tuple[tuple[str, ...], list[str]]:
    """The phrases between commas that can be pronounced, and why the others cannot."""
    from core.speech import lexicon

    phrases, problems = list[str](), list[str]()
    for phrase in filter(None, (part.strip().lower() for part in typed.split(","))):
        try:
            for word in phrase.split():
                lexicon.pronounce(word)
        except ValueError as error:
            problems.append(str(error))
            continue
        phrases.append(phrase)
    return tuple(phrases), problems
