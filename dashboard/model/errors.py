"""What the sizes of a run made of every utterance of a test set: stored hypotheses side by side,
with the references where this machine has them.

A table has a row per utterance, its index the id, and the columns words, base, other (hypotheses),
base_errors, other_errors, added, reference, speaker, seconds, audio, offset. Where references are
not here, reference, speaker and audio are "" and seconds NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from core import paths
from core.jobs import policy
from core.records import Utterance
from core.storage import spoken, store
from dashboard import data
from dashboard.shares import whole

SAMPLES = "samples"  # the test set of the spoken samples that ship
DENSE = "dense"  # the size that reports are paired with
EDITS = ("insertions", "deletions", "substitutions")
ORDERS = {
    "Most errors added": (["added", "other_errors"], False),
    "Most errors": (["other_errors", "added"], False),
    "Longest": (["words"], False),
    "As in the test set": (["place"], True),
}
NBSP = "\u00a0"  # a line that ends in a number without its unit reads badly
REPETITIONS = 2000  # of a bootstrap while somebody waits: reports take 10,000


@dataclass(frozen=True)
class Size:
    """A measured size on one test set. delta: difference of its WER from the dense size's, with the
    ends of its 95 % interval, as its report has it.
    """

    run: str
    split: str
    name: str
    sparsity: float
    chunk_ms: float = 320.0
    decoder: str = "greedy"
    language_model: str = "none"
    delta: tuple[float, float, float] | None = None
    engine: str = ""

    @property
    def label(self) -> str:
        percent = whole(self.sparsity)
        return f"{self.name} ({percent}{NBSP}% sparsity)" if percent else self.name


def sizes(points: pd.DataFrame) -> list[Size]:
    """The sizes of measured points under one condition, densest first."""
    measured = []
    for row in points.sort_values(["sparsity", "subnet"]).drop_duplicates("subnet").itertuples():
        delta = float(row.delta_wer), float(row.delta_low), float(row.delta_high)
        measured.append(
            Size(
                row.run,
                row.split,
                row.subnet,
                float(row.sparsity),
                float(row.chunk_ms),
                row.decoder,
                row.language_model,
                None if any(map(math.isnan, delta)) else delta,
                paths.engine_label(row.engine, row.precision),
            )
        )
    return measured


def sample_sizes(run: str) -> list[Size]:
    """The sizes that transcribed the shipped samples, densest first; [] where none did."""
    try:
        texts, decoder = spoken.read(run)
        known = data.subnets(run)
    except ValueError:
        return []
    given = [Size(run, SAMPLES, n, known[n].sparsity, decoder=decoder) for n in texts if n in known]
    return sorted(given, key=lambda size: (size.sparsity, size.name))


def hypotheses(size: Size) -> pd.DataFrame:
    """A row per utterance (index id): hypothesis, errors, words. Empty where none are stored;
    ValueError where they are damaged.
    """
    stamps = data.stamp(size.run), spoken.stamp(size.run)
    return data.guard(size.run, f"hypotheses of {size.name}", _hypotheses, size, stamps)


@st.cache_resource(max_entries=48, show_spinner=False)
def _hypotheses(size: Size, stamps: tuple) -> pd.DataFrame:
    rows = _of_samples(size) if size.split == SAMPLES else _of_report(size)
    table = pd.DataFrame(rows, columns=["id", "hypothesis", "errors", "words"])
    return table.drop_duplicates("id").set_index("id")


def writes_phonemes(table: pd.DataFrame) -> bool:
    """Whether hypotheses are what a phoneme model itself writes, "DH AH": words have small
    letters.
    """
    return table["hypothesis"].head(100).str.cat(sep=" ").isupper()


def _of_report(size: Size) -> list[tuple]:
    where = size.split, size.chunk_ms, size.decoder, size.language_model, size.engine
    file = paths.hypotheses_file(paths.ROOT, size.name, *where).name
    if not any(p.name == file for p in store.files(size.run, paths.REPORTS, "*.jsonl.zst")):
        return []
    return [
        (
            str(row["id"]),
            str(row["hypothesis"]),
            sum(int(row[kind]) for kind in EDITS),
            int(row["words"]),
        )
        for row in store.hypotheses(size.run, size.name, *where)
    ]


def _of_samples(size: Size) -> list[tuple]:
    from core.evaluation import scoring
    from core.speech import normalizer

    transcripts, known = spoken.read(size.run)[0][size.name], spoken.texts()
    names = [name for name in known if name in transcripts]
    if not names:
        return []
    texts = [normalizer.normalize(known[name]) for name in names]
    edits = scoring.word_edits(texts, [transcripts[name] for name in names])
    return [
        (n, transcripts[n], int(e), int(w)) for n, e, w in zip(names, edits.errors, edits.words)
    ]


def references(size: Size, measured: pd.DataFrame) -> dict[str, Utterance]:
    """{id: Utterance} of a test set; {} where this machine does not have what was said."""
    try:
        folders = policy.load().folders
    except ValueError:  # the sidebar says what is wrong with the operator's file
        folders = ()
    stamps = data.stamp(size.run), data.time_of(paths.prepared()), spoken.stamp(size.run)
    return _references(
        size.run, size.split, folders, measured, (*stamps, hash(tuple(measured.index)))
    )


@st.cache_resource(max_entries=8, show_spinner="Reading what was said ...")
def _references(
    run: str, split: str, folders: tuple, _measured: pd.DataFrame, key: tuple
) -> dict[str, Utterance]:
    if split == SAMPLES:
        return _of_shipped()
    from core.data import references as known

    try:
        recipe = store.recipe(run)
    except ValueError:
        return {}
    return known.references(recipe, split, _measured["words"].to_dict(), folders)


def _of_shipped() -> dict[str, Utterance]:
    from core.speech import audio, normalizer

    said = {}
    for name, text in spoken.texts().items():
        file = spoken.sound_file(name)
        seconds = audio.duration(file) if file.is_file() else math.nan
        said[name] = Utterance(name, str(file), 0.0, seconds, normalizer.normalize(text), "")
    return said


# two sizes


def table(base: pd.DataFrame, other: pd.DataFrame, said: dict[str, Utterance]) -> pd.DataFrame:
    """The utterances that both sizes were measured on, in the order of the first."""
    joined = base.merge(other, left_index=True, right_index=True, suffixes=("_base", "_other"))
    joined = joined[joined["words_base"] == joined["words_other"]]
    rows = pd.DataFrame(
        {
            "place": range(len(joined)),
            "words": joined["words_base"],
            "base": joined["hypothesis_base"],
            "other": joined["hypothesis_other"],
            "base_errors": joined["errors_base"],
            "other_errors": joined["errors_other"],
            "added": joined["errors_other"] - joined["errors_base"],
        },
        index=joined.index,
    )
    unknown = Utterance("", "", 0.0, math.nan, "", "")
    known = [said.get(id, unknown) for id in rows.index]
    return rows.assign(
        reference=[u.text for u in known],
        speaker=[u.speaker for u in known],
        seconds=[u.seconds for u in known],
        audio=[u.audio for u in known],
        offset=[u.offset for u in known],
    )


def filtered(
    rows: pd.DataFrame, text: str = "", only_added: bool = False, speaker: str = ""
) -> pd.DataFrame:
    """The rows whose reference or hypotheses hold `text` (in any case), of a speaker, or which the
    base got right and the other wrong.
    """
    keep = pd.Series(True, rows.index)
    if wanted := " ".join(text.split()).casefold():
        keep &= sum(
            rows[column].str.casefold().str.contains(wanted, regex=False)
            for column in ("reference", "base", "other")
        ).astype(bool)
    if only_added:
        keep &= (rows["base_errors"] == 0) & (rows["other_errors"] > 0)
    if speaker:
        keep &= rows["speaker"] == speaker
    return rows[keep]


def ordered(rows: pd.DataFrame, order: str) -> pd.DataFrame:
    """Sorted by one of ORDERS; equal rows stay as in the test set."""
    columns, rising = ORDERS[order]
    return rows.sort_values(columns, ascending=rising, kind="stable")


def interval(base: Size, other: Size, rows: pd.DataFrame) -> tuple[float, float] | None:
    """95 % interval of the difference of WER between two sizes, paired by utterance: the report's
    own beside the dense size, else a bootstrap over speakers. None where the speakers are unknown.
    """
    change = rows["added"].sum() / max(1, rows["words"].sum())
    if base.name == DENSE and other.delta and math.isclose(other.delta[0], change, abs_tol=1e-9):
        return other.delta[1:]
    if rows.empty or not rows["speaker"].all():
        return None
    return _paired(rows, (base, other, data.stamp(base.run)))


@st.cache_data(max_entries=64, show_spinner=False)
def _paired(_rows: pd.DataFrame, key: tuple) -> tuple[float, float]:
    from core.evaluation import scoring

    errors, base_errors, words = (
        _rows[name].to_numpy() for name in ("other_errors", "base_errors", "words")
    )
    speakers = list(_rows["speaker"])
    _, low, high, _ = scoring.paired(errors, base_errors, words, speakers, REPETITIONS)
    return low, high


def headline(
    base: Size, other: Size, rows: pd.DataFrame, between: tuple[float, float] | None
) -> str:
    """How many more errors the other size makes, in one sentence."""
    added, words = int(rows["added"].sum()), int(rows["words"].sum())
    way = f"From {base.label} to {other.label}"
    if not words:
        return f"{base.label} and {other.label} were not measured on the same utterances."
    if not added:
        return f"{way}, the number of word errors in {words:,} words stays the same."
    more, sign = ("more", 1) if added > 0 else ("fewer", -1)
    sentence = (
        f"{way}, there are {abs(added):,} {more} word errors in {words:,} words:"
        f" {abs(100 * added / words):.1f} {more} per 100 words"
    )
    if between is None:
        return f"{sentence}."
    low, high = sorted(100 * sign * end for end in between)
    return f"{sentence} (95{NBSP}% CI {low:.1f} to {high:.1f})."
