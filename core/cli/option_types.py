"""What the values of the command line's options may be: each says what came and what is allowed."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from collections.abc import Callable

from core.common.reading import excerpt


def names(text: str) -> list[str]:
    """ "a,b" as a list. Nothing is an error: an empty variable of a shell must not mean
    everything.
    """
    words = [part.strip() for part in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(
            f"expected names separated by commas, got {text!r}; leave the option out to mean all or"
            " the usual"
        )
    return words


class Named(argparse.Action):
    """An option that is not empty when it is given."""

    def __call__(self, parser, namespace, values, option_string=None):
        if not values.strip():
            parser.error(
                f"argument {option_string}: expected a name, got {values!r}; leave the option out"
                " to mean the usual"
            )
        setattr(namespace, self.dest, values)


def whole(low: int, high: int = 2**63 - 1) -> Callable[[str], int]:
    """The type of options that are integers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,19}", text.strip()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"expected an integer from {low} to {high}, got {excerpt(text)!r}"
            )
        return int(text)

    return read


def finite(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a finite number, got {excerpt(text)!r}")


def numbers(text: str) -> list[int]:
    return [whole(1)(part) for part in names(text)]
