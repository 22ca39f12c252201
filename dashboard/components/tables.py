"""Tables whose text wraps, and that become cards on a narrow screen. Texts are escaped."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

import streamlit as st

STYLE = """<style>
.wrapped {width: 100%; border-collapse: collapse; font-size: 0.82rem; line-height: 1.35;}
.wrapped th, .wrapped td {border-bottom: 1px solid rgba(128, 128, 128, 0.4); text-align: left;
  padding: 0.35rem 0.4rem; vertical-align: top; overflow-wrap: anywhere;}
.wrapped th {font-weight: 600; overflow-wrap: normal;}
.wrapped code {font-size: 0.75rem; color: inherit; background: none; padding: 0;}
@media (max-width: 760px) {
  .wrapped thead {display: none;}
  .wrapped tr {display: block; border: 1px solid rgba(128, 128, 128, 0.45);
    border-radius: 0.5rem; padding: 0.4rem 0.7rem; margin-bottom: 0.6rem;}
  .wrapped td {display: grid; grid-template-columns: 42% minmax(0, 1fr); gap: 0.6rem; border: none;
    padding: 0.12rem 0;}
  .wrapped td:first-child {display: block; font-weight: 600; font-size: 0.95rem;}
  .wrapped td:not(:first-child)::before {content: attr(data-label); opacity: 0.8;}
}</style>"""
RULE = re.compile(r"\|(\s*:?-+:?\s*\|)+")  # below a Markdown table's head
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Table:
    head: list[str]
    rows: list[list[str]]


def show(table: Table) -> None:
    """A table, its first column the name of each row."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{html.escape(name)}"><span>{_cell(text)}</span></td>'
            for name, text in zip(table.head, row)
        )
        + "</tr>"
        for row in table.rows
    )
    st.html(
        f'{STYLE}<table class="wrapped"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _cell(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", html.escape(text))


def split(text: str) -> list[str | Table]:
    """A Markdown page's prose and tables, in their order."""
    parts: list[str | Table] = []
    lines, prose = text.split("\n"), []
    place = 0
    while place < len(lines):
        if lines[place].startswith("|") and RULE.fullmatch("".join(lines[place + 1 : place + 2])):
            end = place + 2
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            rows = [_cells(line) for line in lines[place + 2 : end]]
            parts += ["\n".join(prose), Table(_cells(lines[place]), rows)]
            prose, place = [], end
        else:
            prose.append(lines[place])
            place += 1
    parts.append("\n".join(prose))
    return [part for part in parts if isinstance(part, Table) or part.strip()]


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inside)]
