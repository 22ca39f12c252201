"""The picture of a claim as HTML: for every row the difference in errors with its 95 % CI and its
pairs of trainings, against the margin. Texts are escaped.
"""

from __future__ import annotations

import html
from dataclasses import dataclass

from dashboard.model.comparisons import Claim, Row
from dashboard.shares import percent

FREE = 0.06  # of the scale, at either end
VERDICTS = {  # word: icon, color on a light and on a dark page
    "confirmed": ("✓", "#00694D", "#4CD3A5"),
    "refuted": ("✗", "#A34700", "#FF9E64"),
    "undecided": ("?", "#57606A", "#AEB6C0"),
}
OTHER = ("…", "#57606A", "#AEB6C0")  # e.g. not run yet
STYLE = """
.rows {display: grid; grid-template-columns: minmax(0, 1fr) 11rem; gap: 0 0.8rem;
  align-items: center; font-size: 0.85rem; line-height: 1.3;}
.rows .what {grid-column: 1 / -1; margin-top: 0.55rem; overflow-wrap: anywhere;}
.rows .verdict {font-weight: 600; white-space: nowrap;}
.track, .scale {position: relative; min-width: 0;}
.track {height: 26px; background: rgba(128, 128, 128, 0.10); border-radius: 3px;}
.track > *, .scale > * {position: absolute;}
.holds {top: 0; bottom: 0; background: rgba(0, 158, 115, 0.14);}
.zero, .margin {top: 0; bottom: 0; width: 0; border-left: 1.5px solid currentColor;}
.zero {opacity: 0.6;}
.margin {border-left: 2px dashed currentColor;}
.interval {top: 11px; height: 4px; border-radius: 2px; background: currentColor;}
.mean {top: 6px; width: 4px; height: 14px; margin-left: -2px; background: currentColor;}
.seed {top: 9px; width: 8px; height: 8px; margin-left: -4px; border-radius: 50%;
  border: 1.5px solid currentColor; box-sizing: border-box; opacity: 0.85;}
.scale {height: 1.2rem; font-size: 0.78rem; white-space: nowrap;}
.rows > .value {overflow-wrap: anywhere;}
@media (max-width: 640px) {.rows {grid-template-columns: minmax(0, 1fr);}
  .rows .blank {display: none;}}
"""


@dataclass(frozen=True)
class Scale:
    """From the lowest to the highest of a claim's values, with zero and the margin."""

    low: float
    high: float

    def left(self, value: float) -> float:
        """Where a value stands, in % of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def scale(rows: tuple[Row, ...]) -> Scale:
    """One for all rows of a claim."""
    values = [0.0]
    for row in rows:
        known = (row.margin, row.relative, row.low, row.high)
        values += [value for value in known if value is not None] + row.differences
    low, high = min(values), max(values)
    free = FREE * (high - low) or 0.01
    return Scale(low - free, high + free)


def verdict(word: str, dark: bool, further: str = "") -> str:
    """The verdict as icon, word and color."""
    icon, *colors = VERDICTS.get(word, OTHER)
    text = html.escape(f"{word[:1].upper()}{word[1:]}{further}")
    return f'<span class="verdict" style="color:{colors[dark]}">{icon} {text}</span>'


def percent_more(share: float) -> str:
    """0.013 as "1.3 % more errors"."""
    amount = f"{100 * abs(share):.1f}"
    if amount == "0.0":
        return "as many errors"
    return f"{amount} % {'more' if share > 0 else 'fewer'} errors"


def margin_words(margin: float) -> str:
    """What the line of the margin says."""
    limit = f"{100 * margin:g} % more errors" if margin else "as many errors"
    return f"limit of the claim: {limit}"


def _signed(share: float) -> str:
    number = f"{100 * share:+.1f}"
    return "0.0" if number[1:] == "0.0" else number.replace("-", "−")


def value_words(row: Row) -> str:
    """What was measured, in a person's words; "" where nothing was."""
    if row.relative is not None and row.low is not None and row.high is not None:
        words = f"{percent_more(row.relative)} ({_signed(row.low)} to {_signed(row.high)})"
        return "; ".join(filter(None, (words, why_undecided(row))))
    if row.margin is None and row.seeds:
        arm, other = (sum(pair[i] for pair in row.seeds) / len(row.seeds) for i in (0, 1))
        return f"{percent(arm)} of them kept, {percent(other)} of the others"
    return ""


def why_undecided(row: Row) -> str:
    """Where the interval alone would say more than the verdict."""
    if row.verdict != "undecided" or None in (row.margin, row.low, row.high):
        return ""
    if row.unequal and len(row.megabytes) == 2:
        return "files of {:.2f} and {:.2f} MB are no fair pair".format(*row.megabytes)
    clear = row.high < row.margin or row.low > row.margin
    p = "" if row.p is None else f" (p {row.p:.2f})"
    return f"clear alone, not among all claims{p}" if clear else ""


def picture(claim: Claim, dark: bool) -> str:
    """Every row on one scale, with the margin's and zero's words above and below."""
    rows = [row for row in claim.rows if row.relative is not None or row.seeds]
    on = scale(tuple(rows))
    margin = rows[0].margin if rows else None
    parts = [_words(on, margin or 0.0, _limit(margin))] if rows else []
    for row in claim.rows:
        what = f"<b>{html.escape(row.arm)}</b> against {html.escape(row.against)}"
        parts.append(
            f'<div class="what">{what}, {html.escape(row.size)}: {verdict(row.verdict, dark)}</div>'
        )
        if row in rows:
            parts.append(_track(row, on, dark))
            parts.append(f'<div class="value">{html.escape(value_words(row))}</div>')
    if rows:
        parts.append(_words(on, 0.0, "as many errors" if margin else "", _ends(margin)))
    return f'<div class="rows">{"".join(parts)}</div>'


def _limit(margin: float | None) -> str:
    return "kept as often as the others" if margin is None else margin_words(margin)


def _ends(margin: float | None) -> tuple[str, str]:
    if margin is None:
        return "← less often", "more often →"
    return "← fewer errors", "more errors →"


def _words(on: Scale, value: float, words: str, ends: tuple[str, ...] = ()) -> str:
    """Words at a value of the scale, kept within it, and at both ends where they do not meet."""
    left = on.left(value)
    shift = 0 if left < 30 else 100 if left > 70 else 50
    spans = f'<span style="left:{left}%;transform:translateX(-{shift}%)">{words}</span>'
    if ends and (left > 45 or not words):
        spans += f'<span style="left:0">{ends[0]}</span>'
    if ends and (left < 55 or not words):
        spans += f'<span style="right:0">{ends[1]}</span>'
    return f'<div class="scale">{spans}</div><div class="blank"></div>'


def _track(row: Row, on: Scale, dark: bool) -> str:
    zero, margin = on.left(0.0), on.left(row.margin or 0.0)
    holds = f"left:0;width:{margin}%" if row.margin is not None else f"left:{margin}%;right:0"
    marks = f'<i class="holds" style="{holds}"></i><i class="zero" style="left:{zero}%"></i>'
    if row.margin is not None:
        marks += f'<i class="margin" style="left:{margin}%"></i>'
    color = VERDICTS.get(row.verdict, OTHER)[1 + dark]
    if row.relative is not None and row.low is not None and row.high is not None:
        low, high = on.left(row.low), on.left(row.high)
        width = round(high - low, 2)
        marks += (
            f'<i class="interval" style="left:{low}%;width:{width}%;color:{color}"></i>'
            f'<i class="mean" style="left:{on.left(row.relative)}%;color:{color}"></i>'
        )
    for value in row.differences:
        marks += f'<i class="seed" style="left:{on.left(value)}%"></i>'
    label = html.escape(f"{row.arm} against {row.against}, {row.size}: {value_words(row)}")
    return f'<div class="track" role="img" aria-label="{label}">{marks}</div>'
