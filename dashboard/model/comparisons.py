"""Cached reads of what `python -m core compare` left: the claims, each comparison's page, and the
trainings of every arm.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import streamlit as st

from core import paths
from dashboard import data

ANEW = "`python -m core compare --pages` writes it anew from the trainings' records, in seconds."


@dataclass(frozen=True)
class Row:
    """A claim at one size of one arm, as claims.json has it. `relative`: share of errors that the
    arm makes more, with its 95 % CI; the claim holds where it is below `margin`. `seeds`: (the
    arm's, the other's) of each pair of trainings: WER, or, without a margin, the share of branches
    kept. `p` is corrected for all claims. Costs: the arm's, then the other's; () where unknown.
    """

    number: str
    text: str
    set: str
    arm: str
    against: str
    size: str
    verdict: str
    split: str
    margin: float | None
    relative: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds: tuple[tuple[float, float], ...]
    minutes: tuple[float, ...]
    selection_minutes: tuple[float, ...]
    tmacs: tuple[float, ...]
    selection_tmacs: tuple[float, ...]
    megabytes: tuple[float, ...]
    unequal: bool
    smaller: bool

    @property
    def differences(self) -> list[float]:
        """Of each pair of trainings what `relative` is of all; in points where there is no
        margin.
        """
        if self.margin is None:
            return [arm - other for arm, other in self.seeds]
        return [arm / other - 1 for arm, other in self.seeds if other]


@dataclass(frozen=True)
class Claim:
    """A claim with all the rows that test it."""

    number: str
    text: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Experiment:
    """A comparison's page: the name of its set, its title and its further text (Markdown)."""

    name: str
    title: str
    text: str


@st.cache_data(max_entries=32, show_spinner=False)
def _json_files(files: tuple[str, ...], key: tuple) -> list:
    return [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]


def _row(stored: dict[str, Any]) -> Row:
    """ValueError, TypeError or KeyError where a field is not of its kind."""

    def field(name: str, kind: str) -> Any:
        value = stored[name]
        if kind == "str":
            return str(value)
        if kind == "bool":
            return bool(value)
        if kind == "float | None":
            return None if value is None else _finite(value)
        if kind.startswith("tuple[tuple"):
            return tuple((_finite(arm), _finite(other)) for arm, other in value)
        return tuple(_finite(part) for part in value)

    return Row(**{f.name: field(f.name, str(f.type)) for f in fields(Row)})


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {value}")
    return number


def _rows(file: str) -> list[Row]:
    stored = _json_files((file,), (data.time_of(file),))[0]
    if not isinstance(stored, list):
        raise ValueError(f"expected a list, got {type(stored).__name__}")
    return [_row(row) for row in stored]


def claims() -> list[Claim]:
    """Every claim with its rows, in the order of the numbers; [] before any comparison was run.
    ValueError, for the visitor, when the file is damaged or of another version.
    """
    file = paths.COMPARED / paths.CLAIMS
    if not file.is_file():
        return []
    try:
        rows = _rows(str(file))
    except data.UNREADABLE as error:
        raise ValueError(
            "The table of claims cannot be read: it is damaged or of another version"
            f" ({type(error).__name__}: {error}). {ANEW}"
        ) from error
    by_claim: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_claim.setdefault((row.number, row.text), []).append(row)
    return [
        Claim(number, text, tuple(rows))
        for (number, text), rows in sorted(by_claim.items(), key=lambda item: _order(item[0][0]))
    ]


def _order(number: str) -> list[tuple[bool, int, str]]:
    """ "2" before "10", "2" before "2, table C"."""
    parts = re.findall(r"\d+|\D+", number)
    return [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in parts]


def deciding(claims: list[Claim], smaller: bool = False) -> list[Claim]:
    """The claims with the rows that decide them; or, `smaller`, with those that a larger
    comparison has repeated.
    """
    kept = [
        Claim(c.number, c.text, tuple(row for row in c.rows if row.smaller == smaller))
        for c in claims
    ]
    return [claim for claim in kept if claim.rows]


def experiments() -> list[Experiment]:
    """Every comparison that has a page, in the order of their names."""
    found = []
    for page in sorted(paths.COMPARED.glob("*.md")) if paths.COMPARED.is_dir() else []:
        if page.name == paths.CLAIMS_PAGE:
            continue
        head, _, text = page.read_text(encoding="utf-8", errors="replace").partition("\n")
        found.append(Experiment(page.stem, head.removeprefix("# ").strip() or page.stem, text))
    return found


def arms(name: str) -> dict[str, list[dict]]:
    """{arm: its trainings' records} of a comparison. ValueError when one is damaged."""
    files = tuple(map(str, sorted((paths.COMPARED / name).glob("*.json"))))
    by_arm: dict[str, list[dict]] = {}
    for record in data.guard(
        name, "trainings", _json_files, files, tuple(map(data.time_of, files))
    ):
        by_arm.setdefault(str(record.get("arm")), []).append({"seed": 0, "curve": [], **record})
    return by_arm
