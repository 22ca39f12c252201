"""Cached reads of what `python -m core compare` left: the claims, and the trainings of every
arm.
"""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from core import paths
from dashboard import data

CLAIM = {
    "number",
    "text",
    "arm",
    "against",
    "size",
    "verdict",
    "relative",
    "low",
    "high",
    "seeds",
    "split",
    "minutes",
    "selection_minutes",
    "tmacs",
    "selection_tmacs",
    "smaller",
}  # what a row has


@st.cache_data(max_entries=8, show_spinner=False)
def _json_files(files: tuple[str, ...], key: tuple) -> list:
    return [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]


def claims() -> list[dict]:
    """What the comparisons say of the claims; [] before any was run. ValueError when the file is
    damaged.
    """
    file = paths.COMPARED / paths.CLAIMS
    rows = (
        data.guard("comparison", "claims", _json_files, (str(file),), data.time_of(file))[0]
        if file.is_file()
        else []
    )
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and set(row) >= CLAIM for row in rows
    ):
        raise ValueError(
            "The table of claims is of another version: `python -m core compare SET` writes it"
            " anew."
        )
    return rows


def arms(name: str) -> dict[str, list[dict]]:
    """{arm: its trainings' records} of a comparison. ValueError when one is damaged."""
    files = tuple(map(str, sorted((paths.COMPARED / name).glob("*.json"))))
    by_arm: dict[str, list[dict]] = {}
    for record in data.guard(
        name, "trainings", _json_files, files, tuple(map(data.time_of, files))
    ):
        by_arm.setdefault(str(record.get("arm")), []).append({"seed": 0, "curve": [], **record})
    return by_arm
