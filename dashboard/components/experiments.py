"""Every comparison: a list to search, and of each its claims, its arms' errors and sizes, how
training went, which parts are kept, and its page.
"""

from __future__ import annotations

import re

import streamlit as st

from dashboard.charts import arms as arm_charts, kept as kept_charts
from dashboard.components import claims as claim_cards, tables
from dashboard.markdown import escape
from dashboard.model import comparisons, test_sets
from dashboard.model.comparisons import Claim, Experiment, Row

CLAIM = re.compile(r"\bclaim (\d+)(?:,? (table \w+))?", re.IGNORECASE)  # in a search
SMALLER = (
    "A larger comparison has repeated these claims, and decides them: these verdicts are corrected"
    " among themselves only."
)


def shown() -> None:
    """The list, what is searched for alone."""
    experiments = comparisons.experiments()
    if not experiments:
        st.info("No comparison has been run here yet: `python -m core compare --help`.")
        return
    try:
        claims = comparisons.claims()
    except ValueError as error:
        st.warning(escape(error))
        claims = []
    wanted = st.text_input(
        "Search",
        key="experiments_search",
        placeholder="title, way of training, size, test set, words of a claim, or: claim 1",
        icon=":material/search:",
        bind="query-params",
    )
    matching = [e for e in experiments if matches(e, rows_of(e, claims), wanted)]
    st.caption(f"{len(matching)} of {len(experiments)} comparisons. Open one for all of it.")
    for experiment in matching:
        _row(experiment, claims)


def rows_of(experiment: Experiment, claims: list[Claim]) -> tuple[Row, ...]:
    """Of the claims those that this comparison tested."""
    return tuple(row for claim in claims for row in claim.rows if row.set == experiment.name)


def matches(experiment: Experiment, rows: tuple[Row, ...], wanted: str) -> bool:
    """Whether every word stands in the comparison's title, page (arms, sizes, test sets) or
    claims; "claim 1" means that claim was tested.
    """
    if asked := CLAIM.search(wanted):
        if not any(_is_claim(row.number, *asked.groups()) for row in rows):
            return False
        wanted = wanted.replace(asked[0], " ")
    texts = [experiment.name, experiment.title, experiment.text]
    texts += [f"{row.text} {row.arm} {row.against} {row.size} {row.split}" for row in rows]
    text = " ".join(texts)
    named = [words for split, words in test_sets.NAMES.items() if split in text]
    text = " ".join([text, *named]).casefold()
    return all(word in text for word in wanted.casefold().split())


def _is_claim(number: str, wanted: str, table: str | None) -> bool:
    """Whether "1, table C" is the claim 1, of that table where one is asked for."""
    own, _, own_table = number.partition(", ")
    return own == wanted and (not table or own_table.casefold() == table.casefold())


def verdicts_of(rows: tuple[Row, ...]) -> str:
    """How many came out how, as on the Claims tab; what a larger comparison decides is counted
    apart.
    """
    parts = []
    for said, smaller in (("", False), ("repeated by a larger comparison, which counts: ", True)):
        counts = claim_cards.verdict_counts(tuple(row for row in rows if row.smaller == smaller))
        if counts:
            parts.append(said + ", ".join(f"{many} {word}" for word, many in counts.items()))
    return "; ".join(parts)


def _row(experiment: Experiment, claims: list[Claim]) -> None:
    verdicts = escape(verdicts_of(rows_of(experiment, claims)))
    with st.expander(
        f"{escape(experiment.title)}{f' — *{verdicts}*' if verdicts else ''}",
        key=f"page:{experiment.name}",
        on_change="rerun",
    ) as box:
        if box.open:
            _claims_of(experiment, claims)
            learning(experiment.name)
            for part in tables.split(experiment.text):
                if isinstance(part, tables.Table):
                    tables.show(part)
                else:
                    st.markdown(part.replace("\n## ", "\n#### "))


def _claims_of(experiment: Experiment, claims: list[Claim]) -> None:
    """The claims that stand nowhere else: those that a larger comparison decides."""
    smaller = [
        Claim(c.number, c.text, tuple(row for row in c.rows if row.set == experiment.name))
        for c in comparisons.deciding(claims, smaller=True)
    ]
    if any(claim.rows for claim in smaller):
        st.caption(SMALLER)
        claim_cards.cards([claim for claim in smaller if claim.rows])


def learning(name: str) -> None:
    """WER and size of all arms; how the losses of one arm's passes fell, a line per pass
    and seed; which parts the sizes keep.
    """
    try:
        arms = comparisons.arms(name)
    except ValueError as error:
        st.warning(escape(error))
        return
    if not arms:
        return
    points = arm_charts.arms_points(arms)
    if len(points):
        st.plotly_chart(
            arm_charts.arms_figure(points, st.context.theme.type == "dark"),
            key=f"arms:{name}",
            config={"displayModeBar": False},
            alt="WER over megabytes, a line per way of training",
        )
        st.caption(
            "**What to see:** lower is better, further left is smaller. Every point is the mean of"
            " the trainings from different seeds, its thin bar goes from the best to the worst of"
            " them: where bars overlap, the difference may be chance."
        )
    arm = st.selectbox("How the errors fell while it was trained", list(arms), key=f"arm:{name}")
    st.plotly_chart(
        arm_charts.learning_figure(arms[arm], st.context.theme.type == "dark"),
        key=f"learning:{name}",
        config={"displayModeBar": False},
        alt=f"Training loss of {arm} over hours of training audio, a line per size and seed",
    )
    st.caption(
        "**What to see:** a lower line has learned more; lines of one color are the same pass of a"
        " training that was done again from another seed. A pass called random or shrinking is"
        " another size at every step."
    )
    table = arm_charts.arms_kept_table(arms)
    if len(table):
        st.plotly_chart(
            kept_charts.kept_figure(table),
            key=f"kept:{name}",
            config={"displayModeBar": False},
            alt="Share of the parts of each kind that every size keeps",
        )
        st.caption(
            "**What to see:** which parts are kept by sizes that leave some out, mean of the"
            f" seeds. {escape(arm_charts.arms_kept_sentence(table))}"
        )
