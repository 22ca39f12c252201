"""A card for every claim: what came out, the claim as a sentence, the picture, and what it took."""

from __future__ import annotations

import html
import statistics

import streamlit as st

from dashboard.components import claim_picture as picture
from dashboard.markdown import escape
from dashboard.model import comparisons, test_sets
from dashboard.model.comparisons import Claim, Row

STYLE = f"""<style>{picture.STYLE}
.claims {{display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
  gap: 1rem; align-items: start;}}
.claim {{border: 1px solid rgba(128, 128, 128, 0.45); border-radius: 0.6rem; padding: 0.8rem 1rem;
  min-width: 0;}}
.claim .head {{display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; align-items: baseline;}}
.claim .head .verdict {{font-size: 1.1rem; font-weight: 650;}}
.claim .number {{margin-left: auto; font-size: 0.8rem; opacity: 0.8;}}
.claim .sentence {{font-size: 1rem; font-weight: 500; line-height: 1.4; margin: 0.3rem 0;}}
.claim .small {{font-size: 0.8rem; line-height: 1.45; margin: 0.6rem 0 0; opacity: 0.85;
  overflow-wrap: anywhere;}}
.claim code {{font-size: 0.78rem; color: inherit; background: rgba(128, 128, 128, 0.15);
  padding: 0.1em 0.3em; border-radius: 0.25rem;}}
</style>"""
TABLES = {"table C": "equal cost", "table U": "equal updates"}
AFTER = {  # shipped comparison: whose way of training it tests; the others' are this project's own
    "pruning": "Yang et al. 2022",
    "depth": "Xu et al. 2024",
    "depth_books": "Xu et al. 2024",
    "csp": "Zhen et al. 2021",
}
SMALL_MINUTES = 60  # of a training: below it a comparison says little about long trainings
ORDER = ("confirmed", "refuted", "undecided")
HOW_TO_READ = """
- **A picture**: the short upright bar is how many more (right) or fewer (left) errors the first way
  of training makes than the second, relative: 10 % more means 11 wrong words instead of 10. The
  thick line is the range it likely lies in (95 % confidence interval), each circle one pair of
  trainings. The claim holds in the shaded part, up to the dashed line.
- **Confirmed, refuted**: chance alone would hardly have done it (p below 0.05, over several
  trainings and many speakers, corrected for the number of claims: among dozens one would come out
  by chance). Everything else is **undecided**, also where an interval looks clear by itself.
- **The number of a claim**: claims of the same number ask the same question in different ways.
  *Table U*: both sides were trained with equal updates. *Table C*: all training of the supernet
  together cost no more than that of one net. *After* names whose way of training it is about:
  omni-sparsity, Yang et al. 2022 (arXiv 2110.08352); dynamic encoder size, Xu et al. 2024
  (arXiv 2407.18930); compressed-sensing pruning, Zhen et al. 2021 (arXiv 2102.04932). What is
  claimed is ours: nets, speech and training here are smaller than theirs.
- **Supernet**: one training that gives a model in every size. **Pruned**, **zeros**: weights of a
  model set to zero, which makes its file smaller. **Branches**, **parts**: pieces of a model that a
  smaller size leaves out. **On par**: no more errors than the limit says.
- **MACs**: multiplications executed, a machine's work whatever its speed.
"""


def shown() -> None:
    """All claims that are decided by their own comparison; says what to do where there are none."""
    try:
        claims = comparisons.deciding(comparisons.claims())
    except ValueError as error:
        st.warning(escape(error))
        return
    if not claims:
        st.info(
            "No claim has been tested here yet. `python -m core compare --help` says how to train"
            " and test the arms of a comparison; its claims then stand here."
        )
        return
    sentence = smallness([row for claim in claims for row in claim.rows])
    st.markdown(f"{escape(counted(claims))} {escape(sentence)}")
    cards(claims)
    with st.expander("How to read the cards, and what the words mean"):
        st.markdown(HOW_TO_READ)


def cards(claims: list[Claim]) -> None:
    """The claims side by side; one below the other on a phone."""
    dark = st.context.theme.type == "dark"
    st.html(f"{STYLE}<div class='claims'>{''.join(card(claim, dark) for claim in claims)}</div>")


def card(claim: Claim, dark: bool) -> str:
    """One claim as HTML. Texts are escaped."""
    verdicts = "".join(
        picture.verdict(word, dark, "" if many == len(claim.rows) else f": {many}")
        for word, many in verdict_counts(claim.rows).items()
    )
    commands = " ".join(
        f"<code>python -m core compare {html.escape(name)}</code>"
        for name in dict.fromkeys(row.set for row in claim.rows)
    )
    return (
        f'<article class="claim"><div class="head">{verdicts}'
        f'<span class="number">{html.escape(number_words(claim))}</span></div>'
        f'<p class="sentence">{html.escape(claim.text.rstrip("."))}.</p>'
        f"{picture.picture(claim, dark)}"
        f'<p class="small">{html.escape(facts(claim.rows))} {commands}</p></article>'
    )


def number_words(claim: Claim) -> str:
    """The number of a claim, such as "1, table C", with what the table and its paper are."""
    table = TABLES.get(claim.number.partition(", ")[2])
    after = dict.fromkeys(AFTER[row.set] for row in claim.rows if row.set in AFTER)
    what = f" ({table})" if table else ""
    return f"Claim {claim.number}{what}" + (f", after {', '.join(after)}" if after else "")


def verdict_counts(rows: tuple[Row, ...]) -> dict[str, int]:
    """{verdict: its rows}, what is decided first."""
    words = [row.verdict for row in rows]
    order = sorted(set(words), key=lambda word: (word not in ORDER, [*ORDER, word].index(word)))
    return {word: words.count(word) for word in order}


def counted(claims: list[Claim]) -> str:
    """How the tests fell, over all claims."""
    rows = tuple(row for claim in claims for row in claim.rows)
    parts = [f"{many} {word}" for word, many in verdict_counts(rows).items()]
    return f"{len(claims)} claims, tested {len(rows)} times: {', '.join(parts)}."


def smallness(rows: list[Row]) -> str:
    """Said once where all trainings were short; "" else, or where it is not known."""
    minutes = [side for row in rows for side in row.minutes]
    seeds = [len(row.seeds) for row in rows if row.seeds]
    if not minutes or max(minutes) > SMALL_MINUTES:
        return ""
    return (
        f"All of it is small: {_range(minutes)} minutes of training each, {_range(seeds, 0)}"
        f" trainings of either side{_level(rows)}. More training may change any of it."
    )


def _level(rows: list[Row]) -> str:
    """The WER of nets so small, which a reader of Explore would not expect."""
    pairs = [pair for row in rows if row.margin is not None for pair in row.seeds]
    if not pairs:
        return ""
    middle = statistics.median(rate for pair in pairs for rate in pair)
    return (
        f", whose median WER is {100 * middle:.0f} %: compare the two"
        " sides of a claim, not these with the model of Explore"
    )


def facts(rows: tuple[Row, ...]) -> str:
    """Test sets, trainings and cost, in a line."""
    splits = dict.fromkeys(split for row in rows for split in row.split.split(", ") if split)
    seeds = [len(row.seeds) for row in rows if row.seeds]
    parts = [
        f"Tested on {' and '.join(map(test_sets.name, splits))}" if splits else "",
        f"{_range(seeds, 0)} trainings of either side" if seeds else "",
        _cost([row.minutes for row in rows], "minutes each"),
        _cost([row.selection_minutes for row in rows], "minutes of choosing sizes"),
        _cost([row.tmacs for row in rows], "· 10¹² MACs each"),
    ]
    said = "; ".join(part for part in parts if part)
    return f"{said}." if said else ""


def _cost(pairs: list[tuple[float, ...]], unit: str) -> str:
    """The arm's costs against the others'; "" where none is known or nothing was spent."""
    known = [pair for pair in pairs if len(pair) == 2 and max(pair) > 0]
    if not known:
        return ""
    arm, other = ([pair[i] for pair in known] for i in (0, 1))
    same = _range(arm) == _range(other)
    return f"{_range(arm)}{'' if same else f' against {_range(other)}'} {unit}"


def _range(values: list[float] | list[int], digits: int = 1) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
