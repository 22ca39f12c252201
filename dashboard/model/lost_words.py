"""Which words a size no longer recognizes, and what it writes instead: counts over the alignment of
references and hypotheses that WER is counted by.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from core.records import Utterance
from dashboard import data
from dashboard.model.errors import REPETITIONS, Size, hypotheses
from dashboard.shares import percent, whole

_LIST = """
    a an the and or but nor if as than that this these those of to in on at by for from with into
    i me my you your he him his she her it its we us our they them their who which what
    is are was were be been am do did does has have had will would shall should can could may might
    must not no so there then when"""
FUNCTION_WORDS = frozenset(_LIST.split())
FEWEST = 20  # utterances, to say anything of kinds of words
INSTEAD = 3  # substitutions that are named for a word


@dataclass(frozen=True)
class Tally:
    """How often each word was said and recognized, and what stood in its place; "" = nothing.

    counts: int [N, 4], of each of N utterances function words said and recognized, other words said
    and recognized. errors: of all utterances.
    """

    said: Counter[str]
    recognized: Counter[str]
    instead: dict[str, Counter[str]]
    counts: np.ndarray
    errors: int


def tally(references: list[str], texts: list[str]) -> Tally:
    """Counts over the alignment of every reference with its hypothesis."""
    import jiwer

    said, recognized = Counter[str](), Counter[str]()
    instead: dict[str, Counter[str]] = defaultdict(Counter)
    counts = np.zeros((len(references), 4), np.int64)
    if not references:
        return Tally(said, recognized, {}, counts, 0)
    output = jiwer.process_words(references, texts)
    for row, (spoken, written, chunks) in enumerate(
        zip(output.references, output.hypotheses, output.alignments)
    ):
        for chunk in chunks:
            for step, word in enumerate(spoken[chunk.ref_start_idx : chunk.ref_end_idx]):
                column = 0 if word in FUNCTION_WORDS else 2
                said[word] += 1
                counts[row, column] += 1
                if chunk.type == "equal":
                    recognized[word] += 1
                    counts[row, column + 1] += 1
                else:
                    other = written[chunk.hyp_start_idx + step] if chunk.type != "delete" else ""
                    instead[word][other] += 1
    errors = output.substitutions + output.deletions + output.insertions
    return Tally(said, recognized, dict(instead), counts, errors)


def tally_of(size: Size, said: dict[str, Utterance], ids: list[str]) -> Tally | None:
    """The tally of a size over these utterances; None where it was not measured on all of them."""
    rows = hypotheses(size)
    if not ids or not set(ids) <= set(rows.index):
        return None
    return _tally(size, said, rows.loc[ids], (data.stamp(size.run), hash(tuple(ids))))


@st.cache_resource(max_entries=48, show_spinner=False)
def _tally(size: Size, _said: dict[str, Utterance], _rows: pd.DataFrame, key: tuple) -> Tally:
    return tally([_said[id].text for id in _rows.index], list(_rows["hypothesis"]))


def lost(tallies: dict[str, Tally], base: str, other: str, least: int) -> pd.DataFrame:
    """Words said at least `least` times, the most lost first: word, said, its share recognized at
    each size (0..1, see `at`), lost (shares, base minus other), instead (in words).
    """
    first, last = tallies[base], tallies[other]
    words = [word for word, count in last.said.items() if count >= least]
    rows = [
        {
            "word": word,
            "said": last.said[word],
            "lost": (first.recognized[word] - last.recognized[word]) / last.said[word],
            **{at(n): t.recognized[word] / max(1, t.said[word]) for n, t in tallies.items()},
            "instead": instead(last.instead.get(word, Counter())),
        }
        for word in words
    ]
    columns = ["word", "said", "lost", *map(at, tallies), "instead"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        ["lost", "said", "word"], ascending=[False, False, True], ignore_index=True
    )


def at(size: str) -> str:
    """The column of a size: one may be called "word"."""
    return f"at {size}"


def instead(others: Counter[str]) -> str:
    """The most frequent substitutes with their counts, e.g. "would 12, nothing 5"."""
    first = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:INSTEAD]
    return ", ".join(f"{word or '(deleted)'} {count}" for word, count in first)


def function_words(first: Tally, last: Tally, speakers: list[str]) -> str:
    """Whether short function words are lost more than others, in a sentence that says so where it
    is undecided; "" without words of both kinds or with fewer than FEWEST utterances.
    speakers: of the N utterances.
    """
    from core.evaluation import scoring

    said, gone = first.counts[:, [0, 2]], (first.counts - last.counts)[:, [1, 3]]  # [N, 2]
    if len(said) < FEWEST or not said.sum(0).all():
        return ""
    drawn = scoring.resample(np.concatenate([gone, said], 1), speakers, REPETITIONS)
    shares = drawn[:, :2] / np.maximum(drawn[:, 2:], 1)
    low, high = np.percentile(shares[:, 0] - shares[:, 1], [2.5, 97.5])
    gap = np.diff(gone.sum(0)[::-1] / said.sum(0)[::-1])[0]
    verdict = "more" if low > 0 else "less" if high < 0 else ""
    short, others = (_change(first, last, column) for column in (0, 2))
    return (
        f"Function words (the, of, to ...) are {f'lost {verdict} than' if verdict else 'about as'}"
        f" {'' if verdict else 'often lost as '}other words: {short} recognized, against {others}"
        f" (difference of the loss {100 * gap:+.1f} points, 95 % CI {100 * low:+.1f} to"
        f" {100 * high:+.1f}{'' if verdict else ': undecided'})."
    )


def _change(first: Tally, last: Tally, column: int) -> str:
    said, before = first.counts[:, column : column + 2].sum(0)
    after = last.counts[:, column + 1].sum()
    return f"from {whole(before / said)} to {percent(after / said)} of {said:,}"
