"""Files that people bring: whether one is still the one that was read, and text read in one way: a
line ends at \\n, \\r\\n or \\r and nowhere else, and a byte-order mark is skipped.

`str.splitlines` also cuts at U+2028, U+0085, VT, FS and others, which stand within transcripts.
UTF-8, or UTF-16 where its mark says so.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PLACES, SAMPLED = 8, 2048  # of a file that its fingerprint looks at, and bytes at each


def fingerprint(path: str | Path) -> str:
    """Size and 16 hex digits of sha256 over what lies at eight places of a file, both ends among
    them; "unreadable: ERRNO" where it cannot be read.

    Not its time, which copying or mounting it elsewhere changes. Hashing everything would read
    hundreds of GB; sound that was cut, replaced or encoded anew differs in size or at most places.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for place in range(PLACES):
                file.seek(max(0, size - SAMPLED) * place // (PLACES - 1))
                digest.update(file.read(SAMPLED))
    except OSError as error:
        return f"unreadable: {error.errno}"
    return f"{size} {digest.hexdigest()[:16]}"


class NotText(UnicodeDecodeError):
    """Bytes of another encoding, in words."""

    def __str__(self) -> str:
        return (
            f"expected UTF-8 text, got byte 0x{self.object[self.start]:02x} at place"
            f" {self.start + 1}, which is none (Latin-1?): save it as UTF-8"
        )


def text(data: bytes, errors: str = "strict") -> str:
    """The text of a file's bytes, its lines ended by \\n. UnicodeDecodeError (a ValueError) unless
    `errors` says otherwise.
    """
    try:
        return io.TextIOWrapper(io.BytesIO(data), _encoding(data[:2]), errors).read()
    except UnicodeDecodeError as error:
        raise NotText(*error.args) from None


def lines(source: str | bytes | Path, errors: str = "strict") -> Iterator[str]:
    """The lines of a text, of a file's bytes, or of a file line by line, without their ends."""
    if isinstance(source, str):
        source = source.encode("utf-8", "surrogatepass")
        errors = "surrogatepass"
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        head = file.read(2)
        file.seek(0)
        try:
            for line in io.TextIOWrapper(file, _encoding(head), errors):
                yield line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise NotText(*error.args) from None


def excerpt(text: str, most: int = 40) -> str:
    """A text as a message shows it: what is cut off is marked by an ellipsis."""
    return text if len(text) <= most else f"{text[:most]}…"


def first_of_each(rows: Iterable[tuple[str, T]]) -> tuple[dict[str, T], list[str]]:
    """(id, value) pairs as a table, and the ids that came again: the first one of each is kept,
    everywhere.
    """
    table: dict[str, T] = {}
    again: list[str] = []
    for id, value in rows:
        if id in table:
            again.append(id)
        table.setdefault(id, value)
    return table, again


def _encoding(head: bytes) -> str:
    return "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
