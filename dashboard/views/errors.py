"""Errors: what a size stops understanding, against another one: utterance by utterance, word by
word, and where.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import Utterance
from dashboard import data, measurements
from dashboard.components import choice, conditions, error_parts, utterances
from dashboard.markdown import escape
from dashboard.model import errors, lost_words

TITLE = "Errors"
ICON = ":material/spellcheck:"
ORDER = 5
TEST_SET, SAMPLES = SOURCES = ("Test set", "Samples with sound")
UTTERANCES, WORDS, GROUPS = PARTS = ("Utterances", "Words", "Speakers, length, noise")


def wanted_size() -> str:
    """The size that the address or another page chose; "" on a first visit."""
    return str(st.session_state.get(choice.MEMORY, {}).get("subnet", ""))


def stored(sizes: list[errors.Size]) -> list[errors.Size]:
    """The sizes whose results of every utterance can be read; says what is damaged."""
    readable = []
    for size in sizes:
        try:
            if len(errors.hypotheses(size)):
                readable.append(size)
        except ValueError as problem:
            st.warning(escape(problem))
    return readable


def pick_test(
    chosen: choice.Chosen, points: pd.DataFrame
) -> tuple[list[errors.Size], pd.DataFrame]:
    """(sizes with results of every utterance, points under the same condition) of what the visitor
    wants to look at.
    """
    samples = errors.sample_sizes(chosen.run)
    source = TEST_SET
    with st.container(horizontal=True, vertical_alignment="center"):
        if points.empty:
            conditions.pick_run(chosen)
        else:
            points = conditions.pick_conditions(chosen, points)
        if samples and not points.empty:
            source = st.segmented_control(
                "Speech",
                SOURCES,
                default=TEST_SET,
                required=True,
                key="errors_source",
                label_visibility="collapsed",
            )
    if samples and (points.empty or source == SAMPLES):
        return stored(samples), points.iloc[:0]
    return stored(errors.sizes(points)), points


def pick_sizes(
    chosen: choice.Chosen, sizes: list[errors.Size], wanted: str
) -> tuple[errors.Size, errors.Size]:
    """(the size to start from, the size to look at): the densest and the chosen one at first, or
    the sparsest where none was chosen.
    """
    by_name = {size.name: size for size in sizes}
    left, right = st.columns(2)
    key = ":".join(by_name)
    base = left.selectbox(
        "From",
        list(by_name),
        format_func=lambda name: by_name[name].label,
        key=f"errors_base:{chosen.run}:{key}",
    )
    others = [name for name in by_name if name != base]
    start = wanted if wanted in others else others[-1]
    other = right.selectbox(
        "To",
        others,
        index=others.index(start),
        format_func=lambda name: by_name[name].label,
        key=f"errors_other:{chosen.run}:{key}:{base}:{start}",
    )
    if other != start or not wanted:
        choice.choose(run=chosen.run, subnet=other)
    elif wanted not in by_name:
        st.caption(
            f"The chosen size {escape(wanted)} has no results on this speech, so you see"
            f" {escape(other)}."
        )
    return by_name[base], by_name[other]


def known_references(
    base: errors.Size, other: errors.Size, rows: pd.DataFrame
) -> dict[str, Utterance]:
    """{id: Utterance} where this machine has what was said and it gives the errors that were
    counted; else {}, and the page says so.
    """
    said = errors.references(other, rows)
    if not said:
        st.info(
            "What was said in this test set is not on this machine, so the two sizes are compared"
            " with each other; their errors were counted when they were measured. To see the"
            " references, start the dashboard with SPEECH_ROOT set to the folder of this speech."
        )
        return {}
    ids = list(rows.index)
    for size, column in ((base, "base_errors"), (other, "other_errors")):
        tally = lost_words.tally_of(size, said, ids)
        if tally is None or tally.errors != rows[column].sum():
            st.warning(
                "The references on this machine do not give the errors that were counted when"
                f" {escape(size.name)} was measured, so they are not shown. Measure it again."
            )
            return {}
    return said


def too_few(chosen: choice.Chosen, sizes: list[errors.Size], points: pd.DataFrame) -> None:
    """Why there is nothing to compare, and what to do."""
    if points.empty:
        st.info(
            "No size of this model has been measured yet. Open **Train** to see whether that is"
            " under way, or run `python -m core evaluate --help` in a terminal."
        )
        return
    command = f"python -m core evaluate {chosen.run} --splits {points.iloc[0]['split']}"
    if sizes:
        name = sizes[0].label
        st.info(
            f"Only {escape(name)} has results of every utterance here, so there is nothing to"
            f" compare it with. Measure another size: {escape(command)}."
        )
    else:
        st.info(
            "The reports of this test set hold no results of single utterances. Measure again:"
            f" {escape(command)}."
        )


def show(
    base: errors.Size, other: errors.Size, sizes: list[errors.Size], points: pd.DataFrame
) -> None:
    """The headline, then the part that the visitor wants to see."""
    rows = errors.table(errors.hypotheses(base), errors.hypotheses(other), {})
    place = st.empty()
    said = known_references(base, other, rows)
    rows = errors.table(errors.hypotheses(base), errors.hypotheses(other), said)
    sentence = errors.headline(base, other, rows, errors.interval(base, other, rows))
    place.markdown(f"##### {escape(sentence)}")
    part = st.segmented_control(
        "Show", PARTS, default=UTTERANCES, required=True, key="errors_part", width="stretch"
    )
    if part == UTTERANCES:
        utterances.browse(base, other, rows, bool(said))
    elif part == WORDS:
        words(base, other, sizes, rows, said)
    else:
        error_parts.speakers(rows)
        error_parts.lengths(base, other, rows)
        if not points.empty:
            error_parts.noise(base.run, measurements.points((base.run,)), points)


def words(
    base: errors.Size,
    other: errors.Size,
    sizes: list[errors.Size],
    rows: pd.DataFrame,
    said: dict[str, Utterance],
) -> None:
    """The words that get lost, where it is known what was said."""
    if not said:
        st.info("Which words get lost can be counted only where it is known what was said.")
        return
    with st.spinner("Counting words ..."):
        tallies = error_parts.tallies(sizes, rows, said)
    error_parts.words(base, other, tallies, list(rows["speaker"]))
    error_parts.sounds(base, other, rows, said)


def main() -> None:
    st.title("What does a smaller size stop understanding?")
    wanted = wanted_size()
    chosen = choice.need_run()
    try:
        data.reports(chosen.run)
        points = measurements.points((chosen.run,))
    except ValueError as error:
        conditions.pick_run(chosen)
        st.error(f"{escape(error)}\n\nChoose another model, or repair this run's folder.")
        return
    sizes, points = pick_test(chosen, points)
    if any(errors.writes_phonemes(errors.hypotheses(size)) for size in sizes):
        st.info(
            "These results are phonemes, as the model itself writes them, not words. Choose a"
            " streaming mode with the decoder “graph”, or measure with it."
        )
        return
    if len(sizes) < 2:
        too_few(chosen, sizes, points)
        return
    base, other = pick_sizes(chosen, sizes, wanted)
    show(base, other, sizes, points)


main()
