"""Sections of the Errors page: the words that get lost, and where the further errors come from."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from core.storage import store
from dashboard import measurements
from dashboard.charts import errors as charts
from dashboard.markdown import escape
from dashboard.model import error_groups, errors, lost_sounds, lost_words, test_sets

LEAST = (5, 10, 20, 50, 100)  # times that a word must have been said to be listed
LOST = "lost, points"
QUIET = {"displayModeBar": False}


def words(
    base: errors.Size,
    other: errors.Size,
    tallies: dict[str, lost_words.Tally],
    speakers: list[str],
) -> None:
    """The words that get lost, with what stands in their place."""
    most = max(tallies[other.name].said.values(), default=0)
    choices = [least for least in LEAST if least <= most] or [1]
    least = choices[-1]
    if len(choices) > 1:
        least = st.select_slider(
            "Words said at least so many times",
            choices,
            value=20 if 20 in choices else least,
            key=f"least:{choices}",
        )
    table = lost_words.lost(tallies, base.name, other.name, least)
    about = lost_words.function_words(tallies[base.name], tallies[other.name], speakers)
    if about:
        st.markdown(escape(about))
    _shares(table, list(tallies), other.name, "lost_words")
    margin = 98 / math.sqrt(least)
    facts = f"{len(table)} words, said at least {least} times"
    st.caption(
        f"{escape(facts)}. **What to see:** the share of a word's occurrences that each size"
        f" recognizes; “lost” is the difference between {escape(base.name)} and"
        f" {escape(other.name)} in points. At so few occurrences chance alone moves a share by up"
        f" to {margin:.0f} points, so the head of the list looks worse than these words are."
    )


def sounds(base: errors.Size, other: errors.Size, rows: pd.DataFrame, said: dict) -> None:
    """The sounds that get lost, counted when somebody looks."""
    with st.expander("Which sounds get lost?", key="sounds_box", on_change="rerun") as box:
        if not box.open:
            return
        with st.spinner("Counting sounds ..."):
            counted = {
                size.name: lost_sounds.tally_of(size, said, list(rows.index))
                for size in (base, other)
            }
        table = lost_sounds.lost(counted, base.name, other.name)
        if table.empty:
            st.info(f"No sound was said {lost_sounds.LEAST:d} times in words of the lexicon.")
            return
        about = lost_sounds.sentence(table, base.name, other.name)
        st.markdown(escape(about))
        _shares(table, list(counted), other.name, "lost_sounds")
        st.caption(
            "**What to see:** words are compared as they are pronounced, by the lexicon's likeliest"
            f" pronunciation; sounds said fewer than {lost_sounds.LEAST:d} times are left out."
        )


def _shares(table: pd.DataFrame, sizes: list[str], other: str, key: str) -> None:
    """A table of lost_words.lost, its shares in per cent."""
    columns = [lost_words.at(name) for name in sizes]
    percent = st.column_config.NumberColumn(format="%.0f %%")
    st.dataframe(
        table.assign(**{name: 100 * table[name] for name in [*columns, "lost"]}).rename(
            columns={"instead": f"instead, at {other}", "lost": LOST}
        ),
        hide_index=True,
        height=420,
        column_config=dict.fromkeys(columns, percent)
        | {LOST: st.column_config.NumberColumn(format="%.0f")},
        key=key,
        alt="Share recognized by each size",
    )


def speakers(rows: pd.DataFrame) -> None:
    """Whom the smaller size understands less."""
    st.subheader("By speaker")
    table = error_groups.by_speaker(rows)
    if table.empty:
        st.caption("Who spoke is not known on this machine.")
        return
    figure = charts.speakers(table, st.context.theme.type == "dark")
    if figure is None:
        facts = "; ".join(
            f"{row.speaker}: {100 * row.change:+.1f} per 100 words ({row.words} words)"
            for row in table.itertuples()
        )
        st.markdown(f"More errors: {escape(facts)}.")
        return
    st.plotly_chart(
        figure, key="by_speaker", config=QUIET, alt="Further errors per 100 words by speaker"
    )
    worse = int((table["low"] > 0).sum())
    fewest = error_groups.FEWEST
    st.caption(
        f"**What to see:** each point is one of {len(table)} speakers, the bar a 95 % CI over"
        f" their utterances (none with fewer than {escape(fewest)}). For {escape(worse)} of them"
        " the whole bar lies above zero."
    )


def lengths(base: errors.Size, other: errors.Size, rows: pd.DataFrame) -> None:
    """Whether short or long utterances suffer."""
    st.subheader("By length")
    table = error_groups.by_length(rows)
    figure = charts.lengths(table, base.label, other.label, st.context.theme.type == "dark")
    if figure is None:
        st.caption("Too few utterances of different lengths to compare them.")
        return
    st.plotly_chart(
        figure, key="by_length", config=QUIET, alt="WER over the number of words in the utterance"
    )
    fewest = error_groups.FEWEST
    st.caption(
        "**What to see:** WER of both sizes by the number of words said; the bars are 95 % CIs."
        f" Lengths with fewer than {escape(fewest)} utterances are left out."
    )


def noise(run: str, points: pd.DataFrame, shown: pd.DataFrame) -> None:
    """The same words without and with noise. points: all of the run; shown: those of the page."""
    try:
        copies = error_groups.noisy_copies(store.recipe(run))
    except ValueError:
        return
    split = str(shown.iloc[0]["split"])
    pairs = {clean: noisy for noisy, clean in copies.items()}
    clean, noisy = (copies[split], split) if split in copies else (split, pairs.get(split, ""))
    condition = tuple(shown.iloc[0][name] for name in measurements.CONDITION[1:])
    quiet, loud = (
        errors.sizes(measurements.same_condition(points, name, condition))
        for name in (clean, noisy)
    )
    try:
        table = error_groups.in_noise(quiet, loud)
    except ValueError as problem:
        st.warning(escape(problem))
        return
    if not table.empty:
        _noise(table, noisy)


def _noise(table: pd.DataFrame, noisy: str) -> None:
    st.subheader("In noise")
    figure = charts.noise(table, st.context.theme.type == "dark")
    if figure is not None:
        st.plotly_chart(figure, key="in_noise", config=QUIET, alt="WER without and with noise")
    for row in table.itertuples() if figure is None else ():
        facts = (
            f"{row.size}: WER {100 * row.clean:.1f} % without noise, {100 * row.noisy:.1f} % with"
        )
        st.markdown(f"{escape(facts)}.")
    first = table.iloc[0]
    facts = f"{first['utterances']} utterances ({first['words']:,} words)"
    st.caption(
        f"The same {escape(facts)} as they are and as a copy with noise and reverberation"
        f" ({escape(test_sets.name(noisy))}). Sizes that were measured on one of the two only are"
        " left out."
    )


def tallies(
    sizes: list[errors.Size], rows: pd.DataFrame, said: dict
) -> dict[str, lost_words.Tally]:
    """{size: its tally} over the utterances of the page, densest first; sizes that were measured on
    other utterances are left out.
    """
    counted = {size.name: lost_words.tally_of(size, said, list(rows.index)) for size in sizes}
    return {name: tally for name, tally in counted.items() if tally is not None}
