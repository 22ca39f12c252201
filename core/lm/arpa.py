"""ARPA files of n-gram models: reading, with an error that names the line, and writing; plain, .gz
or .zst.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import math
import re
import zlib
from pathlib import Path

import numpy as np
import zstandard

from core.common import reading
from core.jobs import confinement
from core.lm.ngrams import BEGIN, END, LOG10_NEVER, MISSING, SPECIAL, UNK, UNKNOWN, NGrams, Table

DIGITS = 7  # significant digits of a number that is written
LARGEST = (
    2_000_000_000  # bytes of an unpacked file: more would not fit the memory of a small machine
)
PIECE = 1 << 20  # bytes that are unpacked at a time


def write(model: NGrams, digits: int = DIGITS) -> str:
    """The content of an ARPA file; `digits` behind the point are kept where fewer than DIGITS are
    asked for.
    """

    def number(value: float) -> str:
        return (
            f"{value:.{digits}g}"
            if digits == DIGITS
            else f"{value:.{digits}f}".rstrip("0").rstrip(".")
        )

    lines = ["\\data\\", *(f"ngram {n}={count}" for n, count in enumerate(model.counts, 1))]
    names = [""]
    for length, table in enumerate(model.tables, 1):
        lines += ["", f"\\{length}-grams:"]
        words = [model.vocabulary[w] for w in table.word]
        names = words if length == 1 else [f"{names[h]} {w}" for h, w in zip(table.history, words)]
        last = length == model.order
        lines += [
            f"{number(p)}\t{name}"
            + ("" if last or (b == 0 and digits != DIGITS) else f"\t{number(b)}")
            for p, name, b in zip(table.log10, names, table.back_off)
        ]
    return "\n".join([*lines, "", "\\end\\", ""])


def load(file: str | Path) -> NGrams:
    """The model of an ARPA file. ValueError says where it is none; a file read before is kept."""
    return _load(Path(file), *_stamp(file))


def sha256(file: str | Path) -> str:
    """Of the file as it lies there; ValueError when it cannot be read."""
    return _sha256(Path(file), *_stamp(file))


def _stamp(file: str | Path) -> tuple[int, int]:
    confinement.check(Path(file), "lm")
    try:
        status = Path(file).stat()
        if not Path(file).is_file():
            raise IsADirectoryError(0, "it is no file")
        return status.st_mtime_ns, status.st_size
    except OSError as error:
        raise ValueError(
            f"lm = {str(file)!r} cannot be read ({error.strerror or error}); give an ARPA file,"
            " e.g. one made by `python -m core lm RECIPE --out FILE`"
        ) from None


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, *_: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=2)
def _load(path: Path, *_: int) -> NGrams:
    try:
        return parse(reading.text(unpacked(path.read_bytes(), path.suffix)))
    except (
        ValueError,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        zstandard.ZstdError,
    ) as error:  # a wrong line, no UTF-8, half a .gz
        raise ValueError(
            f"lm = {str(path)!r} is not a whole ARPA file: {error}; make one with `python -m core"
            " lm RECIPE --out FILE`"
        ) from None


def unpacked(data: bytes, suffix: str) -> bytes:
    """The content of a plain, .gz or .zst file. ValueError for one that unfolds to more than
    LARGEST.
    """
    packed: gzip.GzipFile | zstandard.ZstdDecompressionReader | None = (
        gzip.GzipFile(fileobj=io.BytesIO(data))
        if suffix == ".gz"
        else zstandard.ZstdDecompressor().stream_reader(data)
        if suffix == ".zst"
        else None
    )
    if packed is None:
        return data
    content = bytearray()
    while part := packed.read(PIECE):
        content += part
        if len(content) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST} bytes")
    return bytes(content)


def parse(text: str) -> NGrams:
    """The content of an ARPA file; ValueError names the line that is wrong."""
    lines = list(reading.lines(text))
    place = next((i for i, line in enumerate(lines) if line.strip() == "\\data\\"), None)
    if place is None:
        raise ValueError("there is no line \\data\\")
    announced, place = _head(lines, place + 1)
    vocabulary, tables = list[str](), list[Table]()
    for length, count in announced.items():
        place = _section(lines, place, length)
        words, log10, back_off, place = _entries(lines, place, length, count)
        vocabulary, table = _table(words, log10, back_off, vocabulary, tables, place - count)
        tables.append(table)
    while place < len(lines) and (
        not lines[place].strip() or lines[place].strip().endswith("-grams:")
    ):  # an empty section
        place += 1
    if place == len(lines) or lines[place].strip() != "\\end\\":
        came = (
            "the file ends" if place == len(lines) else f"line {place + 1} is {lines[place][:60]!r}"
        )
        raise ValueError(
            f"after {announced} n-grams by length, as its head announces, expected \\end\\, but"
            f" {came}"
        )
    return NGrams(vocabulary, tables)


def _head(lines: list[str], place: int) -> tuple[dict[int, int], int]:
    announced: dict[int, int] = {}
    while place < len(lines) and not lines[place].lstrip().startswith("\\"):
        line = lines[place].strip()
        if line:
            if not line.startswith("ngram "):
                raise ValueError(
                    f"line {place + 1}: expected 'ngram LENGTH=COUNT', got {line[:60]!r}"
                )
            length, _, number = line[6:].partition("=")
            announced[int(_number(length, int, place))] = int(_number(number, int, place))
        place += 1
    given, announced = (
        announced,
        {length: count for length, count in announced.items() if count},
    )  # some announce empty sections
    if (
        list(announced) != list(range(1, len(announced) + 1))
        or not announced
        or min(announced.values()) < 1
    ):
        raise ValueError(
            f"its head announces {given} n-grams by length; expected at least one of each length"
            " from 1 on"
        )
    return announced, place


def _section(lines: list[str], place: int, length: int) -> int:
    """The line behind the section's title."""
    while place < len(lines) and not lines[place].strip():
        place += 1
    if place == len(lines) or lines[place].strip() != f"\\{length}-grams:":
        came = (
            "the file ends" if place == len(lines) else f"line {place + 1} is {lines[place][:60]!r}"
        )
        raise ValueError(f"expected \\{length}-grams: but {came}")
    return place + 1


def _entries(
    lines: list[str], place: int, length: int, count: int
) -> tuple[list[list[str]], np.ndarray, np.ndarray, int]:
    """(words of every n-gram, log10 probabilities, back-off weights, the line behind them)."""
    words, values, weights = [], np.empty(min(count, len(lines))), np.zeros(min(count, len(lines)))
    for i in range(count):
        line = lines[place].strip(" \t\r\n") if place < len(lines) else "\\"
        if not line or line.startswith("\\"):
            raise ValueError(f"its head announces {count} n-grams of length {length}, it holds {i}")
        parts = re.split(
            r"[ \t]+", line
        )  # nothing else parts words: a no-break space may stand in one
        if len(parts) not in (length + 1, length + 2):
            raise ValueError(
                f"line {place + 1}: {line[:60]!r} is not a probability, {length} words and at most"
                " one weight"
            )
        values[i] = _number(parts[0], float, place)
        if not -math.inf < values[i] <= 0:
            raise ValueError(
                f"line {place + 1}: log10 of a probability is {values[i]:g}; allowed are numbers up"
                f" to 0, and {LOG10_NEVER:g} for what never comes"
            )
        if len(parts) == length + 2:
            weights[i] = _number(parts[-1], float, place)
        if not math.isfinite(weights[i]):
            raise ValueError(
                f"line {place + 1}: a back-off weight is {weights[i]:g}; allowed are finite"
                " numbers, log10"
            )
        words.append([UNKNOWN if word == "<UNK>" else word for word in parts[1 : length + 1]])
        place += 1
    return words, values, weights, place


def _table(
    words: list[list[str]],
    log10: np.ndarray,
    back_off: np.ndarray,
    vocabulary: list[str],
    tables: list[Table],
    first: int,
) -> tuple[list[str], Table]:
    """(vocabulary, table) of a section's entries, sorted; `first`: its first line, for errors."""
    if not tables:
        return _vocabulary([w for (w,) in words], log10, back_off, first)
    model = NGrams(vocabulary, tables)
    unknown = next(
        ((at, w) for at, gram in enumerate(words) for w in gram if w not in model.ids), None
    )
    if unknown:
        raise ValueError(
            f"line {first + unknown[0] + 1}: the word {unknown[1]!r} is not among the 1-grams"
        )
    ids = np.asarray([[model.ids[w] for w in gram] for gram in words], np.int64)
    history = ids[:, 0]
    for length in range(2, ids.shape[1]):
        history = model.find(length, history, ids[:, length - 1])
    if (history < 0).any():
        at = int(np.argmax(history < 0))
        raise ValueError(
            f"line {first + at + 1}: the n-gram {' '.join(words[at])!r} stands without its"
            f" beginning {' '.join(words[at][:-1])!r}"
        )
    order = np.lexsort((ids[:, -1], history))
    twice = (np.diff(history[order]) == 0) & (np.diff(ids[order, -1]) == 0)
    if twice.any():
        at = int(order[int(np.argmax(twice)) + 1])
        raise ValueError(
            f"line {first + at + 1}: the n-gram {' '.join(words[at])[:60]!r} is there twice"
        )
    table = Table(history[order], ids[order, -1], log10[order], back_off[order])
    return vocabulary, table


def _vocabulary(
    words: list[str], log10: np.ndarray, back_off: np.ndarray, first: int
) -> tuple[list[str], Table]:
    given = {word: i for i, word in enumerate(words)}
    twice = next((i for i, word in enumerate(words) if given[word] != i), None)
    if twice is not None:
        raise ValueError(
            f"line {first + given[words[twice]] + 1}: the n-gram {words[twice][:60]!r} is there"
            " twice"
        )
    missing = [w for w in (BEGIN, END) if w not in given]
    if missing:
        raise ValueError(f"the 1-grams lack {' and '.join(missing)}")
    vocabulary = [*SPECIAL, *(w for w in given if w not in SPECIAL)]
    log10, back_off = (
        np.asarray([column[given[w]] if w in given else missing for w in vocabulary])
        for column, missing in ((log10, MISSING), (back_off, 0.0))
    )
    if UNKNOWN not in given:
        log10[UNK] = MISSING
    return vocabulary, Table(
        np.zeros(len(vocabulary), np.int64), np.arange(len(vocabulary)), log10, back_off
    )


def _number(text: str, kind: type, place: int) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"line {place + 1}: {reading.excerpt(text)!r} is no number") from None
