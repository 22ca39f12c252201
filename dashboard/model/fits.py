"""“Fits my device”: limits on size, memory, time and errors pick the best measured subnet, or name
the nearest one and what it misses; no widgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from dashboard.markdown import escape


@dataclass(frozen=True)
class Limits:
    """The most a device allows: MB of the file, MB of RAM, ms per chunk (median), WER in %."""

    mb: float
    ram: float
    ms: float
    wer: float


# Starting points to change, not promises about any product; errors as the shipped sizes make. ms
# and RAM are measured on the machine that is named.
PRESETS = {
    "wearable": Limits(3.0, 64.0, 20.0, 40.0),
    "phone": Limits(8.0, 1000.0, 40.0, 35.0),
    "laptop": Limits(30.0, 4000.0, 80.0, 30.0),
    "server": Limits(200.0, 16000.0, 160.0, 27.0),
}
START = PRESETS["phone"]
FACTS = {  # limit: (column, its factor, how it is shown)
    "mb": ("file_bytes", 1e-6, "{:.2f} MB as a file"),
    "ram": ("peak_rss_mb", 1.0, "{:.0f} MB of RAM"),
    "ms": ("chunk_median_ms", 1.0, "{:.1f} ms per chunk"),
    "wer": ("wer", 100.0, "{:.1f} % WER"),
}
UNKNOWN = {"ram": "RAM not measured", "ms": "not timed"}
LISTED = 4  # of the sizes that fit
TIMED = ("ram", "ms")  # of a device these may be predicted


@dataclass(frozen=True)
class Answer:
    """`rows` fit, best first (lowest WER, then fewest bytes), at most LISTED; where none does there
    is the nearest miss alone, nothing without any point. `text` says it in words.
    """

    rows: list[dict]
    fits: bool
    text: str

    @property
    def row(self) -> dict | None:
        """The best."""
        return self.rows[0] if self.rows else None


def pick(points: pd.DataFrame, limits: Limits) -> Answer:
    """The best of the measured points (the columns of FACTS, subnet, run, title) within limits."""
    if points.empty:
        return Answer([], False, "Nothing has been measured on this test set yet.")
    over = pd.DataFrame({limit: _over(points, limit, limits) for limit in FACTS})
    # what nobody measured counts as a miss, the farthest
    fitting = points[(over <= 1).all(axis=1)]
    if not fitting.empty:
        rows = fitting.sort_values(["wer", "file_bytes"]).head(LISTED).to_dict("records")
        best = rows[0]
        facts = ", ".join(_fact(best, limit) for limit in FACTS)
        count = f"{len(fitting)} of {len(points)} measured sizes fit."
        return Answer(rows, True, f"{_name(best)} fits best: {facts}. {count}")
    nearest = over.assign(worst=over.max(axis=1), sum=over.sum(axis=1)).sort_values(
        ["worst", "sum"]
    )
    row = points.loc[nearest.index[0]].to_dict()
    missed = [limit for limit in FACTS if not over.loc[nearest.index[0], limit] <= 1]
    facts = ", ".join(f"{_fact(row, n)} (limit {getattr(limits, n):g})" for n in missed)
    others = ", ".join(_fact(row, n) for n in FACTS if n not in missed)
    kept = f" It keeps the others: {others}." if others else ""
    return Answer([row], False, f"None fits. The nearest is {_name(row)}: {facts}.{kept}")


def listed(row: dict) -> str:
    """A size that fits, in a list."""
    return ", ".join([row["subnet"], *(_fact(row, limit) for limit in FACTS)])


def _over(points: pd.DataFrame, limit: str, limits: Limits) -> pd.Series:
    """How many times the limit each point needs; infinite where it was not measured."""
    column, factor, _ = FACTS[limit]
    value = factor * points[column].astype(float) / getattr(limits, limit)
    return value.fillna(math.inf)


def _name(row: dict) -> str:
    return f"**{escape(row['subnet'])}** of “{escape(row['title'] or row['run'])}”"


def _fact(row: dict, limit: str) -> str:
    column, factor, form = FACTS[limit]
    if pd.isna(row[column]):
        return UNKNOWN[limit]
    sign = "≈ " if limit in TIMED and row.get("predicted") else ""
    return sign + form.format(factor * row[column])
