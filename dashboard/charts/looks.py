"""Colors and markers of methods: Okabe and Ito's colors (safe for color-blind people), and a
marker shape for every method.
"""

from __future__ import annotations

from dataclasses import replace

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


SPARE = (
    (ORANGE, "cross"),
    (GRAY, "x"),
    (YELLOW, "hexagon"),
    (VERMILLION, "square-open"),
    (GREEN, "diamond-open"),
    (PURPLE, "triangle-up-open"),
    (SKY, "star"),
    (ORANGE, "cross-open"),
    (GRAY, "x-open"),
    (YELLOW, "hexagon-open"),
    (SKY, "star-open"),
    (BLUE, "circle-open"),
)  # far from the supernet's blue first: it is sky blue on a dark page


def display(method: str) -> Display:
    """How a method's plug-in wants to be shown; of a method that is not here only its name."""
    known = method in plugins.names("methods")
    shown = catalog.card("methods", method).display if known else Display()
    return shown if shown.name else replace(shown, name=method.replace("_", " "))


def style(method: str, methods: list[str], dark: bool = False) -> tuple[str, str]:
    """(color, marker) of a method; blue becomes sky blue on a dark page."""
    shown = display(method)
    color, marker = shown.color, shown.marker
    if not color or not marker:
        others = sorted(m for m in methods if not display(m).color)
        color, marker = SPARE[others.index(method) % len(SPARE)] if method in others else SPARE[-1]
    return (SKY if dark and color == BLUE else color), marker
