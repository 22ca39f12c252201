"""What each plug-in says about itself, read from its source by `ast`, never by importing it."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

from core import paths
from core.registry import plugins
from core.registry.cards import Card, CardOption, Display

SETTINGS = {
    "features": "speech/features.py",
    "tokenizer": "speech/tokenizer.py",
    "training": "training/options.py",
    "search": "search/evolution.py",
    "evaluation": "evaluation/conditions.py",
}  # files of core with an Options, by a recipe's name
# not of "e.g. ", "vs. " or "et al. 2022"
SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bal)(?<!\bvs)[.!?](?= [A-Z])")
ROOMS = ("corpora", "models", "methods", "runners", "export", "bench", "settings")


def cards(room: str) -> list[Card]:
    """The cards of one room, by name; a file that cannot be read is listed as broken with its
    reason.
    """
    plugins.check_name(room, ROOMS, "room")
    if room == "settings":
        files = {name: paths.CORE / file for name, file in SETTINGS.items()}
        return [
            dataclasses.replace(card_of_file(f, room), name=name)
            for name, f in files.items()
            if f.is_file()
        ]
    return [card_of_file(plugins.folder(room) / f"{name}.py", room) for name in plugins.names(room)]


def card(room: str, name: str) -> Card:
    """One card; ValueError lists what exists."""
    by_name = {c.name: c for c in cards(room)}
    plugins.check_name(name, by_name, "settings file" if room == "settings" else f"{room} plug-in")
    return by_name[name]


def card_of_file(path: Path, room: str = "") -> Card:
    """The card of any file with a docstring, a VERSION and a frozen dataclass `Options`."""
    path = Path(path)
    try:
        status = path.stat()
        return _read(path, room or path.parent.name, status.st_mtime_ns, status.st_size)
    except OSError as error:
        return Card(room or path.parent.name, path.stem, "", 0, (), str(path), str(error))


@functools.lru_cache(
    maxsize=256
)  # parsing took 2 ms a file, and checking the recipes of a comparison asks thousands of times
def _read(path: Path, room: str, written: int, byte_count: int) -> Card:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        title = first_sentence(ast.get_docstring(tree) or "")
        version = _version(tree, required=room not in ("settings", "bench", "core"))
        return Card(
            room, path.stem, title, version, _options(tree), str(path), display=_display(tree)
        )
    except SyntaxError as error:
        broken = f"line {error.lineno}: {error.msg}"
    except (ValueError, OSError) as error:
        broken = str(error)
    return Card(room, path.stem, "", 0, (), str(path), broken)


def first_sentence(text: str) -> str:
    """The first sentence of a text on one line, whole; of one without a full stop its first
    paragraph.
    """
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    end = SENTENCE_END.search(paragraph)
    return paragraph[: end.start() + 1] if end else paragraph


def check(card: Card, given: dict[str, Any], where: str) -> None:
    """ValueError unless `given` are options of this card with allowed values (as
    plugins.make_options says).
    """
    if card.broken:
        raise ValueError(f"{where}: {card.path} is broken: {card.broken}")
    options = {o.name: o for o in card.options}
    plugins.check_known(given, options, where)
    for name, value in given.items():
        o = options[name]
        plugins.check_value(f"{where}.{name}", o.type, value, o.low, o.high, o.choices)
        if o.table and value:
            check(_nested(o, defaults(card) | given), value, f"{where}.{name}")


def _nested(option: CardOption, values: dict[str, Any]) -> Card:
    """The card of what an option's table holds; `values` of the options beside it."""
    room, _, name = option.table.rpartition("/")
    if name.startswith("{"):
        return card(room, values[name.strip("{}")])
    return card_of_file(paths.CORE / f"{option.table}.py", "settings")


def defaults(card: Card) -> dict[str, Any]:
    """The default of every option, e.g. to show a form or what differs from it."""
    return {o.name: copy.copy(o.default) for o in card.options}


def _version(tree: ast.Module, required: bool) -> int:
    assigned = _assigned(tree, "VERSION")
    if assigned is None:
        if required:
            raise ValueError("there is no VERSION; add a line like VERSION = 1")
        return 1
    value = _literal(assigned, "VERSION")
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"VERSION: expected an integer from 1, got {value!r}")
    return value


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """The expression that a module gives to `name`; None where it does not."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return node.value
    return None


def _display(tree: ast.Module) -> Display:
    call = _assigned(tree, "DISPLAY")
    if call is None:
        return Display()
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise ValueError('DISPLAY: expected Display(name="...", ...), fields by name')
    given = {str(k.arg): _literal(k.value, f"DISPLAY.{k.arg}") for k in call.keywords}
    fields = {f.name: type(f.default) for f in dataclasses.fields(Display)}
    plugins.check_known(given, fields, "DISPLAY")
    wrong = [n for n, value in given.items() if not isinstance(value, fields[n])]
    if wrong:
        raise ValueError(
            f"DISPLAY.{wrong[0]}: expected {fields[wrong[0]].__name__}, got {given[wrong[0]]!r}"
        )
    return Display(**given)


def _options(tree: ast.Module) -> tuple[CardOption, ...]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            return tuple(_option(field) for field in node.body if isinstance(field, ast.AnnAssign))
    return ()


def _option(field: ast.AnnAssign) -> CardOption:
    name = ast.unparse(field.target)
    call = field.value
    if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] != "option":
        raise ValueError(
            f"Options.{name} (line {field.lineno}) is not written as "
            f"`{name}: type = option(default, help)`"
        )
    given = [_literal(a, f"Options.{name}") for a in call.args]
    named = {str(k.arg): _literal(k.value, f"Options.{name}") for k in call.keywords}
    values = dict(zip(("default", "help"), given)) | named
    wrong = set(values) - {"default", "help", "unit", "low", "high", "choices", "table"}
    if wrong or not {"default", "help"} <= set(values):
        raise ValueError(
            f"Options.{name} (line {field.lineno}): expected a default, a help text, unit, low,"
            f" high, choices and table in option(), got {sorted(values)}"
        )
    values["choices"] = tuple(values.get("choices", ()))
    return CardOption(name, ast.unparse(field.annotation).strip("'\""), **values)


def _literal(node: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"{where} (line {node.lineno}): {ast.unparse(node)!r} is not a literal, so the"
            " catalog cannot read it without running the file"
        ) from None
