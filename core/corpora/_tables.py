"""The rows of a CSV that names audio and text, read as leniently as tables come."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from core.common import reading
from core.jobs import confinement

COLUMNS = {
    "audio": ("audio", "file", "path", "filename", "audio_filepath"),
    "text": ("text", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "id": ("id",),
    "offset": ("offset", "start"),
    "duration": ("duration", "seconds", "length"),
    "offset_ms": ("offset_ms", "start_ms", "offset[ms]", "start[ms]", "offset (ms)", "start (ms)"),
    "duration_ms": (
        "duration_ms",
        "length_ms",
        "duration[ms]",
        "length[ms]",
        "duration (ms)",
        "length (ms)",
    ),
}

NEEDED = ("audio", "text", "speaker", "split")  # a cell for each that has a column


def read(table: Path) -> tuple[bool, Iterator[tuple[int, dict[str, str] | str]]]:
    """(whether it has a split column, (line number, {column: cell, "" where there is none} or why
    it cannot be read) of each row). ValueError where audio or text has no column.
    """
    lines = [f"{line}\n" for line in reading.lines(table, "replace")]
    head = next((line for line in lines if line.strip()), "")
    rows = _rows(lines, max(",;\t|", key=head.count))
    number, names = next(rows, (1, []))
    if isinstance(names, str):
        raise ValueError(
            f"folder: the names of the columns in line {number} of {table} cannot be read:"
            f" {names}; mend that line"
        )
    columns = _columns(table, names)
    return "split" in columns, (
        (number, _cells(row, columns, len(names), number)) for number, row in rows
    )


def _columns(table: Path, names: list[str]) -> dict[str, int]:
    """{column: its place} of those that the table has."""
    places = {name.strip().lower(): at for at, name in enumerate(names)}
    columns = {
        column: places[next(a for a in aliases if a in places)]
        for column, aliases in COLUMNS.items()
        if places.keys() & set(aliases)
    }
    if not {"audio", "text"} <= columns.keys():
        others = (
            f"{len(places)} other columns"
            if confinement.folders() is not None
            else f"the columns {list(places)}"
        )
        raise ValueError(
            f"folder: {table} has {others}; needed are one of "
            f"{COLUMNS['audio']} and one of {COLUMNS['text']}"
        )
    return columns


def _cells(
    row: list[str] | str, columns: dict[str, int], width: int, number: int
) -> dict[str, str] | str:
    """A row's cells by column, the text's spaces made single; or why it cannot be used: cells that
    no column has, or none for what decides where it belongs.
    """
    if isinstance(row, str):
        return row
    count = f"not a usable line: line {number} has {len(row)} cells, the header {width}:"
    if any(cell.strip() for cell in row[width:]):
        return f"{count} put a text that holds the delimiter in quotes"
    if missing := [name for name in NEEDED if columns.get(name, 0) >= len(row)]:
        return f"{count} it lacks {' and '.join(missing)}; leave an unknown cell empty"
    cells = {name: row[at].strip() for name, at in columns.items() if at < len(row)}
    cells["text"] = " ".join(cells["text"].split())
    return dict.fromkeys(COLUMNS, "") | cells


def seconds(seconds: str, ms: str) -> float:
    """A time as a table has it, "2.5" or "2,5" s, or 2500 ms; 0 where there is none."""
    text = (ms or seconds).replace(",", ".") or "0"
    return float(text) / (1000 if ms else 1)


def _rows(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(number of its first line, cells or why there are none) of each row; empty lines are none.

    A quote that is never closed would swallow all rows up to the next quote or the end: it costs
    its own line only, and so does
    what else the reader refuses, e.g. a cell of more than 131072 characters.
    """
    start = 0
    while start < len(lines):
        reader, first = (
            csv.reader(
                map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter, strict=True
            ),
            start,
        )
        try:
            for row in reader:
                if row:
                    yield first + 1, row
                first = start + reader.line_num
            return
        except csv.Error:
            yield first + 1, _line(lines[first], delimiter)
            start = first + 1


def _line(line: str, delimiter: str) -> list[str] | str:
    """The cells of a line on its own, read as leniently as can be, or why there are none."""
    if line.count('"') % 2:
        return "not a usable line: a quote is opened and never closed"
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        return f"not a usable line: {error}"
