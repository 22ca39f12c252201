"""Plain-word cards: what a size means for a person who never heard of sparsity; words here, numbers
from data.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboard.shares import percent

LESS = 0.995  # of the dense net's multiplications: below it parts are left out, which saves time
STYLE = """<style>
.cards {display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 0.6rem;}
.card {border: 1px solid rgba(128, 128, 128, 0.35); border-radius: 0.5rem; padding: 0.6rem 0.8rem;
       font-size: 0.85rem; line-height: 1.35;}
.card .label {opacity: 0.75;}
.card .headline {font-size: 1.5rem; font-weight: 600; line-height: 1.5;}
</style>"""


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the dense subnet; the lowest and highest of the rounds they were
    timed in; above 1 is faster.
    """

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """True when the interval excludes 1, also as it is shown, with two decimals."""
        return round(self.low, 2) > 1.0 or round(self.high, 2) < 1.0


def words_wrong(wer: float) -> str:
    """A word error rate 0..1 in a person's words, e.g. "about 12 of 100 words"."""
    hundred = 100 * wer
    if hundred < 0.5:
        return "fewer than 1 of 100 words"
    if hundred >= 100:
        return "as many errors as words"
    return f"about {hundred:.0f} of 100 words"


def speed_ratio(point: dict) -> Ratio | None:
    """Speed of a measured size against its run's dense subnet, as timed in turn with it; None where
    that was not done.

    Times from different reports are never divided: on a shared machine the same net takes 7 ms now
    and 11 ms a minute later.
    """
    facts = [point.get(name) for name in ("speed_ratio", "speed_ratio_low", "speed_ratio_high")]
    return None if any(pd.isna(value) for value in facts) else Ratio(*facts)


def speed_words(ratio: Ratio | None, work: float = 1.0, chunk: str = "") -> tuple[str, str]:
    """(headline, explanation) of the speed card. `work`: multiplications over the dense subnet's;
    below 1 where parts are left out.
    `chunk`: its time as text, e.g. "12.0 ms per chunk", told where nothing was measured against the
    dense subnet.
    """
    less = (
        f"parts are left out: {percent(work)} of the dense subnet's multiplications"
        if work < LESS
        else ""
    )
    if ratio is None:
        headline, why = (
            ("less to compute", less) if less else ("same speed", "zeros save bytes, not time")
        )
        return headline, "; ".join(filter(None, (why, "not timed against the dense subnet", chunk)))
    interval = f"interval {ratio.low:.2f} to {ratio.high:.2f}"
    if not ratio.certain:
        return (
            "about the same speed" if less else "same speed",
            (
                f"{less or 'zeros save bytes, not time'} (measured {ratio.value:.2f} times,"
                f" {interval})"
            ),
        )
    word = "fast" if ratio.value > 1 else "slow"
    times = ratio.value if ratio.value > 1 else 1 / ratio.value
    return f"{times:.2f} times as {word}", f"timed in turn with the dense subnet; {interval}" + (
        f"; {less}" if less else ""
    )


def grid(items: list[tuple[str, str, str]]) -> None:
    """Cards (label, headline, sentence) side by side, two in a row on a phone. Texts are
    escaped.
    """
    created = "".join(
        f'<div class="card"><div class="label">{html.escape(label)}</div>'
        f'<div class="headline">{html.escape(headline)}</div><div>{html.escape(text)}</div></div>'
        for label, headline, text in items
    )
    st.html(f"{STYLE}<div class='cards'>{created}</div>")


def row_cards(point: dict, dense: dict | None) -> None:
    """The cards of the chosen size. `point`: {"wer", "low", "high", "measured", "file_bytes",
    "zstd_bytes",
    "sparsity", "sparsity_whole"} (wer may be None); `dense` the same of the dense subnet or None.
    """
    sign = "" if point["measured"] else "≈ "
    download = (
        f"{sign}{point['zstd_bytes'] / 1e6:.2f} MB to download" if point["zstd_bytes"] else ""
    )
    against = f"dense: {dense['file_bytes'] / 1e6:.2f} MB" if dense else ""
    grid(
        [
            _errors_card(point),
            (
                "File on disk",
                f"{sign}{point['file_bytes'] / 1e6:.2f} MB",
                "; ".join(filter(None, (download, against))),
            ),
            (
                "Zeros",
                percent(point["sparsity"]),
                (
                    f"of the prunable weights, {percent(point['sparsity_whole'])} of the whole"
                    " network"
                ),
            ),
            ("Speed against dense", *_speed_card(point, dense, sign)),
        ]
    )


def _speed_card(point: dict, dense: dict | None, sign: str) -> tuple[str, str]:
    """(headline, explanation) for a point as `row_cards` takes it."""
    ms = point.get("chunk_median_ms")
    chunk = "" if pd.isna(ms) else f"{sign}{ms:.1f} ms per chunk"
    if dense and point.get("subnet") == dense["subnet"]:
        return "this is dense", "; ".join(
            filter(None, ("its other sizes are timed against it", chunk))
        )
    executed = (point.get("mmacs_per_second"), dense and dense.get("mmacs_per_second"))
    return speed_words(
        speed_ratio(point), executed[0] / executed[1] if all(executed) else 1.0, chunk
    )


def _errors_card(point: dict) -> tuple[str, str, str]:
    if point["wer"] is None:
        return "WER", "not measured", "nobody has measured this size on this test set"
    percent = f"{100 * point['wer']:.1f} %"
    if point["measured"]:
        return (
            "WER",
            percent,
            (
                f"{words_wrong(point['wer'])} "
                f"(95 % CI {100 * point['low']:.1f} to {100 * point['high']:.1f} %)"
            ),
        )
    return (
        "WER",
        f"≈ {percent}",
        f"{words_wrong(point['wer'])}, estimated from the measured sizes beside it",
    )


def dense_row(points: pd.DataFrame, run: str) -> dict | None:
    """The row of the run's densest measured size, None without one."""
    rows = points[points["run"] == run].sort_values("sparsity", kind="stable")
    return None if rows.empty or rows.iloc[0]["sparsity"] > 0.01 else rows.iloc[0].to_dict()
