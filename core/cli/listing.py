"""What there is and what was made, as text: runs, recipes, recipe sets, the plug-ins of every room, results, progress. No torch."""
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from core.jobs import process as child
from core.records import Card, Recipe, Report, Subnet
from core.registry import catalog, plugins, recipe_sets
from core.storage import remote as storage, store


def everything(what: str) -> str:
    """One list by name, or all of them."""
    tables: dict[str, Callable[[], str]] = {"runs": _runs_table, "recipes": _recipes_table, "sets": _sets_table}
    tables |= {room: lambda room=room: _cards_table(catalog.cards(room), bool(what)) for room in catalog.ROOMS}
    if what:
        plugins.check_name(what, tables, "list")
        return tables[what]()
    return "\n\n".join(f"{name}\n{make()}" for name, make in tables.items())


def _runs_table() -> str:
    rows = []
    for r in store.runs():
        sizes = len(list((r.folder / "subnets").glob("*.json")))
        state = f"broken: {r.broken}" if r.broken else "finished" if r.finished else "not finished"
        rows.append((r.id, "released" if r.released else "own", state, str(sizes), r.title))
    known = {row[0] for row in rows}
    if os.environ.get(storage.VARIABLE):
        try:
            rows += [(run, "storage", "finished", "-", "fetched when it is named") for run in storage.runs() if run not in known]
        except ValueError as error:  # what is here is shown all the same
            rows.append(("-", "storage", f"not reached: {error}"[:120], "-", ""))
    return table(("run", "from", "state", "subnets", "title"), rows)


def _recipes_table() -> str:
    rows = []
    for name in store.recipe_names():
        try:
            rows.append((name, store.load_recipe(name).title))
        except ValueError as error:
            rows.append((name, f"BROKEN: {error}"))
    return table(("recipe", "title"), rows)


def _sets_table() -> str:
    rows = []
    for name in recipe_sets.names():
        try:
            made = recipe_sets.load(name)
            rows.append((name, str(len(made.arms) * len(made.seeds)), made.title))
        except ValueError as error:
            rows.append((name, "", f"BROKEN: {error}"))
    return table(("set", "trainings", "title"), rows)


def _cards_table(cards: list[Card], options: bool) -> str:
    rows = [(c.name, str(c.version), f"BROKEN: {c.broken}" if c.broken else c.title) for c in cards]
    text = table(("name", "version", "title"), rows)
    lines = [(f"{c.name}.{o.name}", o.type, json.dumps(o.default), _range(o), o.unit, o.help)
             for c in cards for o in c.options] if options else []
    return text + ("\n\n" + table(("option", "type", "default", "allowed", "unit", "meaning"), lines) if lines else "")


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
    data = {field: {"name": choice.name, "options": full(room, choice.name, choice.options)}
            for field, room in store.ROOM_OF.items() for choice in [getattr(recipe, field)]}
    known = {c.name for c in catalog.cards("settings")}
    data |= {field: full("settings", name, getattr(recipe, field)) if name in known else getattr(recipe, field)
             for field, name in store.CARD_OF.items()}
    data |= {"seed": recipe.seed, "init_from": recipe.init_from, "title": recipe.title}
    return json.dumps(data, indent=1, ensure_ascii=False)


def short(made: Any) -> str:
    """A subnet or a report in one line; everything of it is in the run's folder."""
    if isinstance(made, Subnet):
        return f"{made.name}: {made.sparsity:.1%} zeros, {made.origin}"
    if isinstance(made, Report):
        return (f"{made.subnet} on {made.split}, chunk {made.chunk_ms:g} ms: {made.wer:.1%} of words wrong ({made.wer_low:.1%} to "
                f"{made.wer_high:.1%}), {made.file_bytes / 1e6:.2f} MB")
    return str(made)


def progress(stop: child.Stop) -> Callable[..., bool]:
    """A report function for people: one line rewritten on a terminal, a line every ten seconds elsewhere."""
    terminal, last = sys.stderr.isatty(), [0.0]

    def report(progress: float, message: str = "", eta_s: float | None = None) -> bool:
        now = time.monotonic()
        if now - last[0] > (0.2 if terminal else 10.0) or progress >= 1:
            last[0] = now
            line = f"{100 * progress:5.1f} %  {message}" + (f"  ({duration(eta_s)} left)" if eta_s else "")
            print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal and progress < 1 else "\n",
                  file=sys.stderr, flush=True)
        return not stop.asked
    return report


def duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
