"""Colors and markers of series: Okabe and Ito's colors (safe for color-blind people), and a marker
shape; no two series of a page look the same.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from core.registry import catalog, plugins
from core.registry.cards import Display

BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, YELLOW, GRAY = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
    "#F0E442",
    "#8C8C8C",
)
PAPER = {False: "#FFFFFF", True: "#171614"}  # the page behind, by whether it is dark
CONTRAST = 3.0  # that a mark has against the page, at least (WCAG 1.4.11)
FREE_COLORS = (ORANGE, GRAY, VERMILLION, GREEN, PURPLE, SKY, YELLOW)  # far from the supernet's blue
SHAPES = (
    *("cross", "x", "hexagon", "star", "triangle-down", "pentagon", "bowtie", "hourglass"),
    *("square", "diamond", "triangle-up", "circle", "star-square", "triangle-left"),
)
FREE = [
    (color, f"{shape}{end}") for end in ("", "-open") for shape in SHAPES for color in FREE_COLORS
]


@dataclass(frozen=True)
class Series:
    """How one run is drawn: its name in legends, and what tells it apart."""

    name: str
    color: str
    marker: str


def display(method: str) -> Display:
    """How a method's plug-in wants to be shown; of a method that is not here only its name."""
    known = method in plugins.names("methods")
    shown = catalog.card("methods", method).display if known else Display()
    return shown if shown.name else replace(shown, name=method.replace("_", " "))


def styles(methods: dict[str, str], dark: bool = False) -> dict[str, tuple[str, str]]:
    """{series: (color, marker)} of {series: its method}, no pair twice: the first series of a
    method has what its plug-in says, all others a pair that is as far as can be from those in use.
    """
    looks: dict[str, tuple[str, str]] = {}
    for series, method in methods.items():
        shown = display(method)
        look = (legible(shown.color, dark), shown.marker) if shown.color else ("", "")
        if all(look) and look not in looks.values():
            looks[series] = look
    for series in methods:
        if series not in looks:
            looks[series] = _free(list(looks.values()), dark)
    return {series: looks[series] for series in methods}


def _free(used: list[tuple[str, str]], dark: bool) -> tuple[str, str]:
    """A pair that is not in use, of the marker and then of the color used least."""
    colors, markers = [color for color, _ in used], [marker for _, marker in used]
    pairs = [(legible(color, dark), marker) for color, marker in FREE]
    return min(
        [pair for pair in pairs if pair not in used] or pairs,  # more series than pairs
        key=lambda pair: (markers.count(pair[1]), colors.count(pair[0])),
    )


@functools.cache
def legible(color: str, dark: bool) -> str:
    """The color, darker or lighter where it could not be seen on the page; blue becomes sky blue
    on a dark page.
    """
    if dark and color == BLUE:
        return SKY
    parts = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    while contrast(color, PAPER[dark]) < CONTRAST:
        parts = [part + (255 - part) // 8 + 1 if dark else part * 15 // 16 for part in parts]
        color = "#" + "".join(f"{min(255, part):02X}" for part in parts)
    return color


def contrast(color: str, other: str) -> float:
    """Contrast of two colors "#rrggbb", 1 to 21 (WCAG 2)."""
    low, high = sorted(map(_luminance, (color, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))
