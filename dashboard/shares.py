"""How a share is written in whole percent: alike in figures, tables, menus and sentences."""

from __future__ import annotations

import math

TINY = 1e-9  # 100 * 0.145 is a little less than 14.5


def whole(share: float) -> int:
    """A share, 0..1, in whole percent; halves go up, as charts and browsers round them."""
    return math.floor(100 * share + 0.5 + TINY)


def percent(share: float) -> str:
    """A share, 0..1, in words: 0.125 -> "13 %"."""
    return f"{whole(share)} %"
