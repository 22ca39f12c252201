"""What there is and what was made, as text: runs, recipes, recipe sets, the plug-ins of every room,
results, progress. No torch.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from core.common.writing import plain
from core.jobs import process
from core.records import Recipe, Report, Subnet
from core.registry import catalog, plugins, recipe_sets, recipes
from core.registry.cards import Card
from core.speech import pipes
from core.storage import remote, store


def everything(what: str) -> str:
    """One list by name, or all of them, as text."""
    if what:
        options = {
            "option": "name",
            "type": "type",
            "default": "default",
            "allowed": "allowed",
            "unit": "unit",
            "meaning": "meaning",
        }
        rows = data(what)
        lines = [
            tuple(str(o[n]) for n in options.values())
            for row in rows
            for o in row.get("options", ())
        ]
        return _text(rows) + ("\n\n" + table(tuple(options), lines) if lines else "")
    return "\n\n".join(f"{name}\n{_text(rows)}" for name, rows in data("").items())


def _of_room(room: str) -> list[dict[str, Any]]:
    return _cards(catalog.cards(room))


def data(what: str) -> Any:
    """One list by name as rows {column: value}, or {name: rows} of all of them; a plug-in's name
    gives its own rows.
    """
    lists: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "runs": _runs,
        "recipes": _recipes,
        "sets": _sets,
    }
    lists |= {room: partial(_of_room, room) for room in catalog.ROOMS}
    if not what:
        return {name: make() for name, make in lists.items()}
    if what not in lists:
        named = [
            {"room": room} | row
            for room in catalog.ROOMS
            for row in _of_room(room)
            if row["name"] == what
        ]
        if named:
            return named
    plugins.check_name(what, lists, "list or plug-in")
    return lists[what]()


def _text(rows: list[dict[str, Any]]) -> str:
    head = tuple(name for name in rows[0] if name != "options") if rows else ()
    return table(head, [tuple(str(row[name]) for name in head) for row in rows])


def _runs() -> list[dict[str, Any]]:
    rows = []
    for r in store.runs():
        sizes = len(list((r.folder / "subnets").glob("*.json")))
        state = f"broken: {r.broken}" if r.broken else "finished" if r.finished else "not finished"
        rows.append((r.id, "released" if r.released else "own", state, str(sizes), r.title))
    known = {row[0] for row in rows}
    if os.environ.get(remote.VARIABLE):
        try:
            rows += [
                (run, "storage", "finished", "-", "fetched when it is named")
                for run in remote.runs()
                if run not in known
            ]
        except ValueError as error:  # what is here is shown all the same
            rows.append(("-", "storage", f"not reached: {error}"[:120], "-", ""))
    return [dict(zip(("run", "from", "state", "subnets", "title"), row)) for row in rows]


def _recipes() -> list[dict[str, Any]]:
    rows = []
    for name in recipes.recipe_names():
        try:
            rows.append((name, recipes.load_recipe(name).title))
        except ValueError as error:
            rows.append((name, f"BROKEN: {error}"))
    return [dict(zip(("recipe", "title"), row)) for row in rows]


def _sets() -> list[dict[str, Any]]:
    rows = []
    for name in recipe_sets.names():
        try:
            created = recipe_sets.load(name)
            rows.append((name, str(len(created.arms) * len(created.seeds)), created.title))
        except ValueError as error:
            rows.append((name, "", f"BROKEN: {error}"))
    return [dict(zip(("set", "trainings", "title"), row)) for row in rows]


def _cards(cards: list[Card]) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "version": c.version,
            "title": f"BROKEN: {c.broken}" if c.broken else c.title,
            "options": [
                {
                    "name": f"{c.name}.{o.name}",
                    "type": o.type,
                    "default": json.dumps(o.default),
                    "allowed": _range(o),
                    "unit": o.unit,
                    "meaning": o.help,
                }
                for o in c.options
            ],
        }
        for c in cards
    ]


def _range(option: Any) -> str:
    if option.choices:
        return ", ".join(map(str, option.choices))
    return "" if option.low is option.high is None else plugins.range_text(option.low, option.high)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Columns of text under a head, "none" when there are no rows."""
    rows = [head, *rows]
    if len(rows) == 1:
        return "none"
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows]
    return "\n".join([lines[0], "-" * min(120, max(map(len, lines))), *lines[1:]])


def resolved(recipe: Recipe) -> str:
    """The recipe with every option spelled out, as JSON."""

    def full(room: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
        return catalog.defaults(catalog.card(room, name)) | options

    data: dict[str, Any] = {
        field: {"name": choice.name, "options": full(room, choice.name, choice.options)}
        for field, room in recipes.ROOM_OF.items()
        for choice in [getattr(recipe, field)]
    }
    known = {c.name for c in catalog.cards("settings")}
    data |= {
        field: (
            full("settings", name, getattr(recipe, field))
            if name in known
            else getattr(recipe, field)
        )
        for field, name in recipes.CARD_OF.items()
    }
    data |= {"seed": recipe.seed, "init_from": recipe.init_from, "title": recipe.title}
    return as_json(data)


def short(created: Any) -> str:
    """A subnet or a report in one line; everything of it is in the run's folder."""
    if isinstance(created, Subnet):
        return f"{created.name}: {created.sparsity:.1%} sparsity, {created.origin}"
    if isinstance(created, Report):
        return (
            f"{created.subnet} on {created.split}, chunk {created.chunk_ms:g} ms: WER"
            f" {created.wer:.1%} ({created.wer_low:.1%} to {created.wer_high:.1%}),"
            f" {created.file_bytes / 1e6:.2f} MB"
        )
    return str(created)


def progress(stop: process.Stop, quiet: bool = False) -> Callable[..., bool]:
    """A report function for people: one line rewritten on a terminal, a line every ten seconds
    elsewhere, nothing when `quiet`.
    """
    terminal, last = sys.stderr.isatty(), [0.0]

    def report(progress: float, message: str = "", eta_s: float | None = None) -> bool:
        now = time.monotonic()
        if not quiet and (now - last[0] > (0.2 if terminal else 10.0) or progress >= 1):
            last[0] = now
            line = f"{100 * progress:5.1f} %  {message}" + (
                f"  ({duration(eta_s)} left)" if eta_s else ""
            )
            print(
                f"\r\x1b[K{line}" if terminal else line,
                end="" if terminal and progress < 1 else "\n",
                file=sys.stderr,
                flush=True,
            )
        return not stop.requested

    return report


def as_json(value: Any) -> str:
    """For programs: one JSON value in UTF-8, records as objects; bytes of file names that are no
    text are escaped as in plain output.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, default=plain)
    return re.sub("[\ud800-\udfff]", lambda half: json.dumps(pipes.one_line(half[0]))[1:-1], text)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
    )


def show(given: Any, data: Any, text: str) -> None:
    """`data` as JSON where that is asked for, else `text`."""
    print(as_json(data) if getattr(given, "json", False) else text)
