"""Cards turned into widgets and widgets into a recipe: text to values, checks that name the field,
and TOML.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from functools import partial
from typing import Any

import streamlit as st
import tomli_w

from core.registry import catalog, plugins
from core.registry.cards import Card, CardOption
from dashboard.markdown import escape

LONG = 80  # characters of JSON that still read well on one line
STRUCTURED = ("dict", "list", "tuple")


def alternatives(kind: str) -> list[str]:
    """The types of a union on its outer level: "int | None" -> ["int", "None"]."""
    return [part.strip() for part in re.split(r"\|(?![^\[]*\])", kind)]


def widget_kind(option: CardOption) -> str:
    """choice | switch | whole | number | structure | text: the widget that fits the option's
    type.
    """
    kinds = alternatives(option.type)
    if option.choices and kinds[0] not in STRUCTURED and option.default in option.choices:
        return "choice"
    if kinds == ["bool"]:
        return "switch"
    if kinds[0].split("[")[0] in STRUCTURED:
        return "structure"
    if (
        len(kinds) == 1
        and kinds[0] in ("int", "float")
        and isinstance(option.default, (int, float))
    ):
        return "whole" if kinds[0] == "int" else "number"
    return "text"


def label(option: CardOption) -> str:
    """ "seconds_per_batch" in "s" -> "Seconds per batch (s)"; Markdown signs from a
    card are shown, not obeyed. Our own brackets need no backslash, which would be read aloud.
    """
    ends = f"_{option.unit.lower()}"
    words = option.name.removesuffix(ends if option.unit else "").replace("_", " ")
    unit = f" ({escape(option.unit)})" if option.unit else ""
    return escape(words[:1].upper() + words[1:]) + unit


def hint(option: CardOption) -> str:
    """The help text, the range, and the default."""
    parts = [option.help.rstrip(".") + "." if option.help else ""]
    if option.low is not None or option.high is not None:
        parts.append(f"Allowed: {plugins.range_text(option.low, option.high)}.")
    parts.append(f"Normally {show(option.default) or 'empty'}.")
    return " ".join(part for part in parts if part)


def show(value: Any) -> str:
    """A value as the text a person edits: strings bare, else JSON, over several lines when long;
    None is empty.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (
        text
        if len(text) <= LONG or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False, indent=1)
    )


def parse(option: CardOption, written: str, where: str) -> Any:
    """The value a person wrote for a text or structure option; ValueError names the field, what
    came, what fits.
    """
    kinds, text = alternatives(option.type), written.strip()
    if not text and "None" in kinds:
        return None
    if widget_kind(option) == "structure":
        value = _structure(option, text, where)
    elif kinds[0] == "str":
        value = written
    else:
        try:
            value = json.loads(text)
        except ValueError:
            raise ValueError(
                f"{where}: expected {option.type}, got {written!r}; {hint(option)}"
            ) from None
    return plugins.check_value(where, option.type, value, option.low, option.high, option.choices)


def _structure(option: CardOption, text: str, where: str) -> Any:
    if not text:
        return {} if option.type.startswith("dict") else []
    for read in (json.loads, lambda t: tomllib.loads(f"x = {t}")["x"], tomllib.loads):
        try:
            return read(text)
        except ValueError:
            continue
    example = '{"name": 1.5}' if option.type.startswith("dict") else '["first", "second"]'
    raise ValueError(
        f"{where}: expected {option.type} written as JSON or TOML, for example {example},"
        f" got {text!r}"
    )


def step(option: CardOption) -> float:
    """A sensible step of a number: a tenth of the default's power of ten."""
    magnitude = abs(option.default) or (abs(option.high) if option.high else 1.0)
    return 10.0 ** (math.floor(math.log10(magnitude)) - 1)


def ask(option: CardOption, value: Any, key: str, where: str, place: Any = st) -> tuple[Any, str]:
    """Draw the widget of one option in `place`; (value, "") or (None, what is wrong)."""
    kind, title, about = widget_kind(option), label(option), hint(option)
    if kind == "choice":
        choices = list(option.choices)
        index = choices.index(value) if value in choices else 0
        return (
            place.selectbox(title, choices, index=index, help=about, key=key, format_func=str),
            "",
        )
    if kind == "switch":
        return place.toggle(title, bool(value), help=about, key=key), ""
    if kind in ("whole", "number"):
        # no limits for the widget: the browser would keep what breaks them to itself, and the
        # training would start with another number than the one that stands there in red
        cast = int if kind == "whole" else float
        got = place.number_input(
            title,
            value=cast(value),
            help=about,
            key=key,
            step=1 if kind == "whole" else step(option),
            format=None if kind == "whole" else "%g",
        )
        if got is None:
            return None, f"{where} is empty; {about}"
        limits = option.low, option.high, option.choices
        check = partial(plugins.check_value, where, option.type, cast(got), *limits)
    else:
        draw = place.text_area if kind == "structure" else place.text_input
        about += " Written as JSON or TOML." if kind == "structure" else ""
        lines = show(value).count("\n")
        tall = {"height": min(400, 60 + 24 * lines)} if kind == "structure" and lines else {}
        written = draw(title, show(value), help=about, key=key, **tall)
        check = partial(parse, option, written, where)
    try:
        return check(), ""
    except ValueError as error:
        place.markdown(f":red[:material/error: {escape(str(error))}]")
        return None, str(error)


def names_field(error: str, where: str) -> bool:
    """Whether an error is about a field: "model.options.width", which people write model.width."""
    written = {where, where.replace(".options.", ".")}
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", error) for name in written)


def blamed(card: Card, where: str, error: str) -> bool:
    """Whether an error names one of a card's options."""
    return bool(error) and any(names_field(error, f"{where}.{o.name}") for o in card.options)


def fill(
    card: Card, given: dict[str, Any], where: str, key: str, error: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Widgets for all options of a card, two in a row; what differs from the defaults or was given,
    and problems. `error`, which an earlier job ended with, stands beside the field it names.
    """
    if card.broken:
        return {}, [f"{where}: {card.path} is broken: {card.broken}"]
    unknown = sorted(set(given) - {option.name for option in card.options})
    values, problems = {}, [f"{where}: unknown option {name!r} in the recipe" for name in unknown]
    row: list[Any] = []
    for option in card.options:
        value = given.get(option.name, option.default)
        long = widget_kind(option) == "structure" and len(show(value)) > LONG
        row = [] if long else row or list(st.columns(2))
        place = row.pop(0) if row else st.container()
        value, problem = ask(option, value, f"{key}.{option.name}", f"{where}.{option.name}", place)
        if error and names_field(error, f"{where}.{option.name}"):
            place.markdown(f":red[:material/error: {escape(error)}]")
        if problem:
            problems.append(problem)
        elif value is not None and (option.name in given or not same(value, option.default)):
            values[option.name] = value
    if not problems:
        try:
            catalog.check(card, values, where)
        except ValueError as error:
            problems.append(str(error))
    return values, problems


def same(value: Any, default: Any) -> bool:
    """Equal as a recipe sees it: a tuple and a list of the same items are."""
    return json.dumps(value, sort_keys=True) == json.dumps(default, sort_keys=True)


def toml(recipe: dict[str, Any]) -> str:
    """A recipe's tables as TOML that load_recipe reads back; what is empty or None is left out."""
    return tomli_w.dumps({k: _written(v) for k, v in recipe.items() if v not in ("", None, {})})


def _written(value: Any) -> Any:
    """Without None, which TOML does not have, and without empty tables."""
    if isinstance(value, dict):
        return {k: _written(v) for k, v in value.items() if v not in (None, {})}
    return [_written(nested) for nested in value] if isinstance(value, (list, tuple)) else value
