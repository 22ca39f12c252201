"""Which sounds (phonemes of American English) a size no longer recognizes: words are written as
their likeliest pronunciations and counted as words are.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import Utterance
from dashboard import data
from dashboard.model import lost_words
from dashboard.model.errors import Size, hypotheses
from dashboard.shares import percent, whole

LEAST = 200  # times that a sound must have been said: then chance moves its share by 7 points
NAMED = 3  # sounds in the sentence
_EXAMPLES = """
AA odd AE at AH hut AO ought AW cow AY hide EH red ER hurt EY ate IH it IY eat OW oat
OY toy UH hood UW two B be CH cheese D dog DH that F fee G green HH he JH joy K key L lip M me N no
NG sing P pea R red S sea SH she T tea TH thin V vote W we Y yes Z zoo ZH measure"""
EXAMPLES = dict(zip(_EXAMPLES.split()[::2], _EXAMPLES.split()[1::2]))  # as CMUdict explains them


def in_sounds(text: str) -> str:
    """The phonemes of a text, e.g. "DH AH D AO R"; words that the lexicon lacks are left out."""
    from core.speech import lexicon

    known = lexicon.shipped()
    return " ".join(" ".join(known[word][0]) for word in text.split() if word in known)


def tally_of(size: Size, said: dict[str, Utterance], ids: list[str]) -> lost_words.Tally:
    """The tally of a size's sounds over these utterances, which it was measured on."""
    rows = hypotheses(size).loc[ids]
    return _tally(size, said, rows, (data.stamp(size.run), hash(tuple(ids))))


@st.cache_resource(max_entries=16, show_spinner=False)
def _tally(
    size: Size, _said: dict[str, Utterance], _rows: pd.DataFrame, key: tuple
) -> lost_words.Tally:
    pairs = [
        (spoken, in_sounds(text))
        for id, text in _rows["hypothesis"].items()
        if (spoken := in_sounds(_said[id].text))
    ]
    return lost_words.tally([spoken for spoken, _ in pairs], [written for _, written in pairs])


def lost(tallies: dict[str, lost_words.Tally], base: str, other: str) -> pd.DataFrame:
    """As lost_words.lost, of sounds said at least LEAST times, with an example beside each."""
    table = lost_words.lost(tallies, base, other, LEAST).rename(columns={"word": "sound"})
    table.insert(1, "as in", [EXAMPLES.get(sound, "") for sound in table["sound"]])
    return table


def sentence(table: pd.DataFrame, base: str, other: str) -> str:
    """The sounds that are lost most; "" where none is."""
    worst = [row for _, row in table.head(NAMED).iterrows() if row["lost"] > 0]
    facts = [
        f"{row['sound']} (as in {row['as in']}) from"
        f" {whole(row[lost_words.at(base)])} to {percent(row[lost_words.at(other)])}"
        for row in worst
    ]
    return f"Lost most: {', '.join(facts)} recognized." if facts else ""
