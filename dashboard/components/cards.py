"""Plain-word cards: what a size means for a person who never heard of sparsity; words here, numbers from data."""
from __future__ import annotations

import html
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from core.records import Report

STUDENT_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31}  # two-sided 95 % t, by freedom
TIMING = ("chunk_ms", "threads", "hardware", "runtime", "precision", "decoder")
LESS = 0.995  # of the dense net's multiplications: below it parts are left out, which saves time
STYLE = """<style>
.cards {display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0.6rem;}
.card {border: 1px solid rgba(128, 128, 128, 0.35); border-radius: 0.5rem; padding: 0.6rem 0.8rem; font-size: 0.85rem;
       line-height: 1.35;}
.card .label {opacity: 0.75;}
.card .headline {font-size: 1.5rem; font-weight: 600; line-height: 1.5;}
</style>"""


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the dense net, with its 95 % interval; above 1 is faster."""
    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """True when the interval excludes 1."""
        return self.low > 1.0 or self.high < 1.0


def words_wrong(wer: float) -> str:
    """A word error rate 0..1 in a person's words, e.g. "about 12 of 100 words"."""
    hundred = 100 * wer
    if hundred < 0.5:
        return "fewer than 1 of 100 words"
    if hundred >= 100:
        return "as many errors as words"
    return f"about {hundred:.0f} of 100 words"


def speed_ratio(reports: list[Report], dense: str, subnet: str) -> Ratio | None:
    """Measured speed of `subnet` against `dense`; None when nothing allows an interval.

    The interval comes from the chunk times of the same conditions on different splits (Student's t over log ratios, at
    least three different timings).
    """
    times: dict[tuple, dict[str, float]] = {}
    for report in reports:
        if report.chunk_median_ms and report.subnet in (dense, subnet):
            key = (report.split, *(getattr(report, name) for name in TIMING))
            times.setdefault(key, {})[report.subnet] = report.chunk_median_ms
    # one timing may be stored with several splits: the same numbers again are no further evidence
    pairs = {(pair[dense], pair[subnet]) for pair in times.values() if len(pair) == 2}
    logs = [math.log(slow / quick) for slow, quick in sorted(pairs)]
    if len(logs) < 3 or dense == subnet:
        return None
    mean, error = float(np.mean(logs)), float(np.std(logs, ddof=1) / math.sqrt(len(logs)))
    reach = STUDENT_95.get(len(logs) - 1, 2.26) * error
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def speed_words(ratio: Ratio | None, work: float = 1.0) -> tuple[str, str]:
    """(headline, explanation) of the speed card. `work`: multiplications over the dense net's; below 1 where parts are left out."""
    less = f"parts are left out: {100 * work:.0f} % of the dense net's multiplications" if work < LESS else ""
    if ratio is None:
        return ("less to compute", f"{less}; not timed often enough to say how much faster") if less else (
            "same speed", "zeros save bytes, not time")
    interval = f"interval {ratio.low:.2f} to {ratio.high:.2f}"
    if not ratio.certain:
        return ("about the same speed" if less else "same speed",
                f"{less or 'zeros save bytes, not time'} (measured {ratio.value:.2f} times, {interval})")
    word = "faster" if ratio.value > 1 else "slower"
    times = ratio.value if ratio.value > 1 else 1 / ratio.value
    return f"{times:.2f} times {word}", f"measured; 95 % {interval}" + (f"; {less}" if less else "")


def grid(items: list[tuple[str, str, str]]) -> None:
    """Cards (label, headline, sentence) side by side, two in a row on a phone. Texts are escaped."""
    made = "".join(f'<div class="card"><div class="label">{html.escape(label)}</div>'
                   f'<div class="headline">{html.escape(headline)}</div><div>{html.escape(text)}</div></div>'
                   for label, headline, text in items)
    st.html(f"{STYLE}<div class='cards'>{made}</div>")


def row_cards(point: dict, dense: dict | None, ratio: Ratio | None) -> None:
    """The cards of the chosen size. `point`: {"wer", "low", "high", "measured", "file_bytes", "zstd_bytes",
    "sparsity", "sparsity_whole"} (wer may be None); `dense` the same of the dense net or None."""
    sign = "" if point["measured"] else "≈ "
    download = f"{sign}{point['zstd_bytes'] / 1e6:.2f} MB to download" if point["zstd_bytes"] else ""
    against = f"dense: {dense['file_bytes'] / 1e6:.2f} MB" if dense else ""
    executed = (point.get("mmacs_per_second"), dense and dense.get("mmacs_per_second"))
    headline, text = speed_words(ratio, executed[0] / executed[1] if all(executed) else 1.0)
    grid([_errors_card(point),
          ("File on disk", f"{sign}{point['file_bytes'] / 1e6:.2f} MB", "; ".join(filter(None, (download, against)))),
          ("Zeros", f"{100 * point['sparsity']:.0f} %",
           f"of the prunable weights, {100 * point['sparsity_whole']:.0f} % of the whole network"),
          ("Speed against dense", headline, text)])


def _errors_card(point: dict) -> tuple[str, str, str]:
    if point["wer"] is None:
        return "Words wrong", "not measured", "nobody has measured this size on these recordings"
    percent = f"{100 * point['wer']:.1f} %"
    if point["measured"]:
        return ("Words wrong", percent, f"{words_wrong(point['wer'])} "
                                        f"(95 % interval {100 * point['low']:.1f} to {100 * point['high']:.1f} %)")
    return "Words wrong", f"≈ {percent}", f"{words_wrong(point['wer'])}, estimated from the measured sizes beside it"


def dense_row(points: pd.DataFrame, run: str) -> dict | None:
    """The row of the run's densest measured size, None without one."""
    rows = points[points["run"] == run].sort_values("sparsity", kind="stable")
    return None if rows.empty or rows.iloc[0]["sparsity"] > 0.01 else rows.iloc[0].to_dict()
