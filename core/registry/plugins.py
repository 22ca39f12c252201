"""Finds plug-ins by scanning folders and checks the options given to them; knows nothing about what
they do.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from core import paths
from core.common import libraries, reading
from core.records import Choice

SIMPLE = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
}
FOLDERS = {
    "runners": "jobs/runners",
    "voices": "speech/voices",
    "frontends": "speech/frontends",
}  # rooms that lie in another folder of core than the one of their name
MOST_DIGITS, MOST_SIGNS = 40, 200  # of a value that an error shows
NEAR_NAMES = 5  # that an error guesses at where another command lists all
MOST_NAMES = 20  # that an error lists; a machine may have hundreds of runs


def folder(room: str) -> Path:
    """Where the plug-ins of a room lie."""
    return paths.CORE / FOLDERS.get(room, room)


def names(room: str) -> list[str]:
    """Names of the plug-ins of one room: each .py file of its folder but base.py, __init__.py and
    _*.py.
    """
    return sorted(
        p.stem for p in folder(room).glob("*.py") if p.stem != "base" and not p.stem.startswith("_")
    )


def load(room: str, name: str) -> ModuleType:
    """The plug-in's module. ValueError when there is none of this name, or when it cannot be
    imported.
    """
    check_name(name, names(room), f"{room} plug-in")
    place = FOLDERS.get(room, room)
    try:
        return importlib.import_module(f"core.{place.replace('/', '.')}.{name}")
    except (ImportError, SyntaxError) as error:
        if package := libraries.package_of(error):
            needs = libraries.not_installed(package)
            raise ValueError(f"{room} plug-in {name!r} needs {needs}") from error
        raise ValueError(
            f"core/{place}/{name}.py cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def options(room: str, choice: Choice, where: str) -> Any:
    """The typed, frozen options of a chosen plug-in. ValueError names a wrong one as
    `where.option`.
    """
    return make_options(load(room, choice.name).Options, choice.options, where)


def defaults(room: str, name: str) -> dict[str, Any]:
    """{option of a plug-in: its default}."""
    return dict(vars(load(room, name).Options()))


def check_name(name: Any, allowed: Iterable[str], what: str, listed_by: str = "") -> None:
    """ValueError that lists what exists and guesses what was meant, unless `name` is one of
    `allowed`. `listed_by`: the command that lists all; then only near names are given.
    """
    allowed = list(allowed)
    if name not in allowed and listed_by:
        near = allowed
        if len(allowed) > NEAR_NAMES:
            near = difflib.get_close_matches(str(name), allowed, n=NEAR_NAMES, cutoff=0.3)
        raise ValueError(
            f"there is no {what} called {name!r}; near names: {', '.join(near) or 'none'}; all:"
            f" {listed_by}"
        )
    if name not in allowed:
        more = (
            f" and {len(allowed) - MOST_NAMES} more (python -m core list)"
            if len(allowed) > MOST_NAMES
            else ""
        )
        raise ValueError(
            f"there is no {what} called {name!r}{did_you_mean(str(name), allowed)}; "
            f"there are: {', '.join(allowed[:MOST_NAMES]) or 'none'}{more}"
        )


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def make_options(cls: type, given: dict[str, Any], where: str) -> Any:
    """An instance of an `Options` dataclass from a recipe's values; lists become tuples where the
    field is one.

    ValueError names the field (as `where.field`), what came and what is allowed.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    check_known(given, fields, where)
    values = {}
    for name, value in given.items():
        field = fields[name]
        kind = (
            field.type
            if isinstance(field.type, str)
            else getattr(field.type, "__name__", str(field.type))
        )
        m = field.metadata
        values[name] = check_value(
            f"{where}.{name}", kind, value, m.get("low"), m.get("high"), m.get("choices", ())
        )
    return cls(**values)


def check_known(given: Any, allowed: Iterable[str], where: str) -> None:
    """ValueError when `given` is no table or has a key that is not allowed."""
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected a table of options, got {given!r}")
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            raise ValueError(
                f"{where}: unknown option {name!r}{did_you_mean(str(name), allowed)}; "
                f"allowed are: {', '.join(allowed) or 'none'}"
            )


def check_value(
    where: str,
    kind: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """`value` as the type written in the source as `kind`; ValueError when type, range or choice is
    wrong.

    Range and choices hold for each element of a list or tuple and for each value of a dict.
    """
    typed = _typed(kind, value)
    if typed is _WRONG:
        limits = "" if low is high is None else f"; allowed are numbers {range_text(low, high)}"
        raise ValueError(
            f"{where}: expected {kind}, got {_shown(value)} ({type(value).__name__}){limits}"
        )
    for element in _items(typed):
        if choices and element not in choices:
            raise ValueError(
                f"{where}: expected one of {', '.join(map(repr, choices))}, got {element!r}"
                f"{did_you_mean(str(element), map(str, choices))}"
            )
        if isinstance(element, (int, float)) and not isinstance(element, bool):
            if element != element:
                raise ValueError(f"{where}: expected a number, got nan")
            if (low is not None and element < low) or (high is not None and element > high):
                raise ValueError(
                    f"{where}: expected a number {range_text(low, high)}, got {_shown(element)}"
                )
    return typed


def range_text(low: float | None, high: float | None) -> str:
    least, most = (str(n) if isinstance(n, int) else f"{n or 0:g}" for n in (low, high))
    if low is not None and high is not None:
        return f"from {least} to {most}"
    return (
        f"at least {least}"
        if low is not None
        else f"at most {most}"
        if high is not None
        else "any number"
    )


def _shown(value: Any) -> str:
    """A value as an error shows it. Python writes no number of over 4300 digits."""
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        return f"a number of over {MOST_DIGITS} digits"
    return reading.excerpt(repr(value), MOST_SIGNS)


_WRONG = object()


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _split(text: str, at: str) -> list[str]:
    """`text` split at `at` outside square brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == at and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [p.strip() for p in parts]


def _typed(kind: str, value: Any) -> Any:
    """The value as this type, or _WRONG. A whole number passes as float, a list as tuple; True is
    no number.
    """
    alternatives = _split(kind, "|")
    if len(alternatives) > 1:
        return next((t for k in alternatives if (t := _typed(k, value)) is not _WRONG), _WRONG)
    if kind in ("Any", "typing.Any", "object"):
        return value
    if kind in ("None", "NoneType"):
        return None if value is None else _WRONG
    outer, _, inner = kind.partition("[")
    wanted = SIMPLE.get(outer)
    if wanted is None:
        raise TypeError(
            f"an option's type is {kind!r}; plug-ins use {', '.join(SIMPLE)} and unions of them"
        )
    if wanted in (int, float):
        right = isinstance(value, (int, float) if wanted is float else int) and not isinstance(
            value, bool
        )
        try:
            return wanted(value) if right else _WRONG
        except OverflowError:  # no float is that large
            return _WRONG
    if not isinstance(value, (list, tuple) if wanted in (list, tuple) else wanted):
        return _WRONG
    return _container(wanted, _split(inner[:-1], ",") if inner else [], value)


def _container(wanted: type, inner: list[str], value: Any) -> Any:
    if wanted is dict:
        typed = (
            {_typed(inner[0], k): _typed(inner[1], v) for k, v in value.items()}
            if inner
            else dict(value)
        )
        return _WRONG if _WRONG in typed or any(v is _WRONG for v in typed.values()) else typed
    if wanted in (list, tuple):
        items: list[Any]
        if wanted is tuple and inner and inner[-1] != "...":
            items = (
                [_typed(k, v) for k, v in zip(inner, value)]
                if len(inner) == len(value)
                else [_WRONG]
            )
        else:
            items = [_typed(inner[0], v) for v in value] if inner else list(value)
        return _WRONG if any(i is _WRONG for i in items) else wanted(items)
    return value
