"""What a plug-in says about itself: options, title, how it is shown. Plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CardOption:
    name: str
    type: str
    default: Any
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    table: str = ""  # whose Options a dict holds (core.records.option)


@dataclass(frozen=True)
class Display:
    """How charts and model cards show the runs of a method; a plug-in's DISPLAY, of literals."""

    name: str = ""  # in a legend; "" = the plug-in's name
    color: str = ""  # "#rrggbb"; "" = one that is free
    marker: str = ""  # Plotly's name of a shape; "" = one that is free
    line: str = "solid"  # between its sizes: solid, dash, or none where each was trained alone
    ranked: bool = True  # whether a size that another of its sizes beats is drawn faint
    main: bool = False  # drawn above the others, first in the legend
    sentence: str = ""  # what it is, for the model card; "" = said by what its sizes leave out


@dataclass(frozen=True)
class Card:
    """What a plug-in says about itself, read from its source without importing it."""

    room: str
    name: str
    title: str
    version: int
    options: tuple[CardOption, ...]
    path: str
    broken: str = ""  # why it could not be read; "" if fine
    display: Display = Display()
