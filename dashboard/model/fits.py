"""“Fits my device”: limits on size, time and errors pick the best measured subnet, or say why none
fits; no widgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from dashboard.markdown import escape


@dataclass(frozen=True)
class Limits:
    """The most a device allows: MB on disk, ms per chunk (median), WER in %."""

    mb: float
    ms: float
    wer: float


# Starting points to change, not promises about any product. ms is measured on the machine named in
# the reports.
PRESETS = {
    "wearable": Limits(3.0, 20.0, 40.0),
    "phone": Limits(8.0, 40.0, 25.0),
    "laptop": Limits(30.0, 80.0, 15.0),
    "server": Limits(200.0, 160.0, 10.0),
}


@dataclass(frozen=True)
class Answer:
    """`best` is the row that fits (lowest WER, then fewest bytes) or None; `text` says it in
    words.
    """

    best: dict | None
    text: str


def pick(points: pd.DataFrame, limits: Limits) -> Answer:
    """The best of the measured points (wer, file_bytes, chunk_median_ms, subnet, run, title) within
    limits.
    """
    if points.empty:
        return Answer(None, "Nothing has been measured on this test set yet.")
    small = points["file_bytes"] / 1e6 <= limits.mb
    quick = (
        points["chunk_median_ms"].astype(float) <= limits.ms
    )  # not timed (NaN) does not count as quick
    good = 100 * points["wer"] <= limits.wer
    fitting = points[small & quick & good]
    if not fitting.empty:
        best = fitting.sort_values(["wer", "file_bytes"]).iloc[0].to_dict()
        return Answer(
            best,
            f"**{escape(best['subnet'])}** of “{escape(best['title'] or best['run'])}” fits best: "
            f"{100 * best['wer']:.1f} % WER, "
            f"{best['file_bytes'] / 1e6:.2f} MB, {best['chunk_median_ms']:.1f} ms per chunk. "
            f"{len(fitting)} of {len(points)} measured sizes fit.",
        )
    return Answer(None, "None fits. " + " ".join(_reasons(points, limits, small, quick, good)))


def _reasons(
    points: pd.DataFrame, limits: Limits, small: pd.Series, quick: pd.Series, good: pd.Series
) -> list[str]:
    """Which limit stands in the way: the one nobody meets, or the two that exclude each other."""
    reasons = []
    if not small.any():
        smallest = points["file_bytes"].min() / 1e6
        reasons.append(f"The smallest file has {smallest:.2f} MB, the limit is {limits.mb:g} MB.")
    if not quick.any():
        fastest = points["chunk_median_ms"].astype(float).min()
        reasons.append(
            "No size has been timed."
            if math.isnan(fastest)
            else f"The fastest needs {fastest:.1f} ms per chunk, the limit is {limits.ms:g} ms."
        )
    if not good.any():
        reasons.append(
            f"The best has {100 * points['wer'].min():.1f} % WER, the limit is {limits.wer:g} %."
        )
    if reasons:
        return reasons
    if (small & quick).any():
        best = points[small & quick].sort_values("wer").iloc[0]
        return [
            f"The best of those small and quick enough, {escape(best['subnet'])}, has"
            f" {100 * best['wer']:.1f} % WER; the limit is {limits.wer:g} %. Allow more"
            " MB, more ms or more errors."
        ]
    return [f"Those small enough (≤ {limits.mb:g} MB) need more than {limits.ms:g} ms per chunk."]
