"""Problems of many files as a few lines: one for each reason, with examples."""

from __future__ import annotations

import re
from collections.abc import Iterable

EXAMPLES = 5  # names for each reason
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


class Several(ValueError):
    """What is wrong with several things, a line for each reason."""

    def __init__(self, lines: Iterable[str]):
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def lines(problems: Iterable[tuple[str, str]]) -> list[str]:
    """(name, reason) pairs as lines, the most frequent reason first; reasons that differ only in
    numbers and in the name itself are one, shown as the first one has it.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in problems:
        stem = name.rpartition(":")[2].rpartition("/")[2].partition(".")[0]
        kind = _NUMBERS.sub("0", reason.replace(name, "").replace(stem or name, ""))
        groups.setdefault(kind, []).append((name, reason))
    return [_line(group) for group in sorted(groups.values(), key=len, reverse=True)]


def _line(group: list[tuple[str, str]]) -> str:
    name, reason = group[0]
    if len(group) == 1:
        return ": ".join(filter(None, group[0]))
    shown = ", ".join(name for name, _ in group[:EXAMPLES])
    return f"{len(group)} files: {reason} ({shown}{', ...' if len(group) > EXAMPLES else ''})"
