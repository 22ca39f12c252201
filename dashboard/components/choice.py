"""The run and the subnet a visitor has chosen: kept in the address, remembered in the session, on
every page.

The address is the truth (it can be shared and survives a restart); the session only carries it over
a page change, where the browser drops the address's parameters. A size that nobody has measured is
named like "s73-between".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import streamlit as st

from core.common.reading import excerpt
from core.records import Subnet
from dashboard import data
from dashboard.markdown import escape
from dashboard.model import ladder
from dashboard.shares import percent

BETWEEN = re.compile(r"^s(\d{1,2})-between$")
MEMORY = "chosen"  # key in st.session_state: {"run": ..., "subnet": ...}


@dataclass(frozen=True)
class Chosen:
    """What the visitor looks at: a run's id and the name of one of its subnets (stored, or
    "s73-between").
    """

    run: str
    subnet: str


def between_name(percent: int) -> str:
    """The name of the not yet measured subnet with so many percent zeros."""
    return f"s{percent:02d}-between"


def between_percent(name: str) -> int | None:
    """73 for "s73-between", None for any other name."""
    match = BETWEEN.match(name)
    return int(match.group(1)) if match else None


def travel() -> None:
    """Write the remembered choice back into an address that lost it; the router calls this on every
    run.
    """
    remembered = st.session_state.get(MEMORY, {})
    for key in ("run", "subnet"):
        if key in st.query_params:
            remembered = {**remembered, key: st.query_params[key]}
    if "run" in st.query_params and "subnet" not in st.query_params:
        remembered.pop("subnet", None)
    if remembered != st.session_state.get(MEMORY):
        st.session_state[MEMORY] = remembered
    _write(remembered)


def choose(run: str | None = None, subnet: str | None = None) -> None:
    """Choose a run, a subnet or both; works in callbacks. A new run alone forgets the subnet of the
    old one.
    """
    chosen = dict(st.session_state.get(MEMORY, {}))
    if run is not None:
        if run != chosen.get("run"):
            chosen.pop("subnet", None)
        chosen["run"] = run
    if subnet is not None:
        chosen["subnet"] = subnet
    st.session_state[MEMORY] = chosen
    for key in ("run", "subnet"):
        if key not in chosen and key in st.query_params:
            del st.query_params[key]
    _write(chosen)


def current() -> Chosen | None:
    """The valid choice: what the address says where that exists, else a sensible start; None
    without any run.
    """
    travel()
    known = data.run_ids()
    if not known:
        return None
    wanted = st.session_state.get(MEMORY, {})
    run = wanted.get("run")
    run = _in_full(run, known)
    if run not in known:  # a size without a run is one of the first
        run, wanted = known[0], {} if run else wanted
    names = data.subnet_names(run)
    subnet = wanted.get("subnet", "")
    if subnet not in names and (between_percent(subnet) is None or len(names) < 2):
        subnet = ladder.first_subnet(run)
    if wanted.get("run") != run or wanted.get("subnet") != subnet:
        choose(run=run, subnet=subnet)
    return Chosen(run, subnet)


def _in_full(run: str | None, known: list[str]) -> str | None:
    """The run that an unambiguous beginning names, as commands take it; other names as they
    came."""
    begins = [name for name in known if run and name.startswith(run)]
    return begins[0] if len(begins) == 1 else run


def need_run() -> Chosen:
    """The choice; without any run the page says in a friendly way what to do and stops."""
    asked = {key: st.query_params.get(key) for key in ("run", "subnet")}
    chosen = current()
    if asked["run"] and chosen and chosen.run != _in_full(asked["run"], data.run_ids()):
        st.info(
            f"There is no finished run called “{escape(excerpt(asked['run']))}” here, so you see"
            f" “{escape(chosen.run)}” instead."
        )
    elif asked["subnet"] and chosen and chosen.subnet != asked["subnet"]:
        st.info(
            f"This run has no size called “{escape(excerpt(asked['subnet']))}”, so you see"
            f" “{escape(chosen.subnet)}” instead."
        )
    if chosen is None:
        empty_state()
        st.stop()
    return chosen


def empty_state() -> None:
    """What a visitor sees before anything has been trained."""
    st.subheader("Nothing to show yet")
    st.markdown(
        "A *run* is one trained model that can be made smaller with a slider. There is none on"
        " this machine.\n\n1. Open **Train** in the menu and press start: the built-in commands"
        " corpus needs no download.\n2. Watch it there.\n3. Come back: measured sizes appear"
        " here on their own.\n\nOr in a terminal: `python -m core train --help`."
    )


def record(chosen: Chosen) -> Subnet:
    """The chosen subnet itself, mixed from its neighbors when it is one between measured sizes.

    Raises ValueError with a sentence for the visitor when it cannot be read."""
    percent = between_percent(chosen.subnet)
    if percent is not None and chosen.subnet not in data.subnet_names(chosen.run):
        return ladder.between(chosen.run, percent)
    return data.subnet(chosen.run, chosen.subnet)


def describe(chosen: Chosen) -> str:
    """One line of Markdown: which net at which size; for the head of every page."""
    try:
        zeros = f"{percent(record(chosen).sparsity)} sparsity"
    except ValueError:
        zeros = "size unknown"
    return f"**{escape(data.run_title(chosen.run))}** · size **{escape(chosen.subnet)}** ({zeros})"


def _write(chosen: dict[str, str]) -> None:
    """Set the address's parameters in one message, and only when they differ."""
    if any(st.query_params.get(key) != value for key, value in chosen.items()):
        st.query_params.update(chosen)
