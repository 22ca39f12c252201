"""N-gram language models of words in ARPA files: reading, writing, back-off probabilities, and which words begin with which letters.

Read by a few lines of our own (probabilities equal KenLM's, which a test keeps): KenLM and flashlight-text, which holds it, have no wheels
for every Python this project runs on, and pyctcdecode wants a NumPy below 2. Probabilities are log10, as in the files.
"""
from __future__ import annotations

import functools
import gzip
import hashlib
import zlib
from collections import Counter
from pathlib import Path

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
MISSING = -100.0           # log10, of unknown words where a file has no <unk>, as KenLM does
NEVER = -99.0              # log10, written for <s>, which nothing predicts
NGram = tuple[str, ...]


class NGrams:
    """table: {n-gram: (log10 probability of its last word after the others, log10 back-off weight)}, of every length up to `order`."""

    def __init__(self, table: dict[NGram, tuple[float, float]], order: int):
        self.order = order
        self.table = {(UNKNOWN,): (MISSING, 0.0)} | table

    @functools.cached_property
    def words(self) -> list[str]:
        """The vocabulary, without <s>, </s> and <unk>, sorted."""
        return sorted(g[0] for g in self.table if len(g) == 1 and g[0] not in (BEGIN, END, UNKNOWN))

    @functools.cached_property
    def beginnings(self) -> dict[str, float]:
        """{first letters of a word, up to all of them: log10 probability, without a history, of the likeliest word that begins so}."""
        best: dict[str, float] = {}
        for word in self.words:
            value = self.table[word,][0]
            for end in range(1, len(word) + 1):
                best[word[:end]] = max(best.get(word[:end], value), value)
        return best

    def __contains__(self, word: str) -> bool:
        return (word,) in self.table

    def score(self, history: NGram, word: str) -> float:
        """log10 p(word | history), backing off (Katz 1987); a word that is not in the vocabulary is <unk>."""
        word = word if word in self else UNKNOWN
        total = 0.0
        for start in range(max(len(history) - self.order + 1, 0), len(history) + 1):
            found = self.table.get((*history[start:], word))
            if found:
                return total + found[0]
            total += self.table.get(history[start:], (0.0, 0.0))[1]
        raise AssertionError("<unk> is always in the table")

    def follow(self, history: NGram, word: str) -> NGram:
        """The history of the next word: the last `order` - 1 words."""
        history = (*history, word if word in self else UNKNOWN)
        return history[max(len(history) - self.order + 1, 0):]

    @property
    def counts(self) -> list[int]:
        """How many n-grams there are of each length, from 1."""
        lengths = Counter(map(len, self.table))
        return [lengths[n] for n in range(1, self.order + 1)]

    def text(self) -> str:
        """As an ARPA file."""
        by_length = [sorted(g for g in self.table if len(g) == n) for n in range(1, self.order + 1)]
        lines = ["\\data\\", *(f"ngram {n}={count}" for n, count in enumerate(self.counts, 1))]
        for n, grams in enumerate(by_length, 1):
            lines += ["", f"\\{n}-grams:"]
            for gram in grams:
                value, back_off = self.table[gram]
                lines.append(f"{value:.7g}\t{' '.join(gram)}" + (f"\t{back_off:.7g}" if n < self.order else ""))
        return "\n".join([*lines, "", "\\end\\", ""])


def load(file: str | Path) -> tuple[NGrams, str]:
    """An ARPA file, plain or .gz -> (model, sha256 of the file). ValueError says where it is none; a file read before is kept."""
    path = Path(file)
    try:
        status = path.stat()
        return _load(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise ValueError(f"lm = {str(file)!r} cannot be read ({error.strerror or error}); give an ARPA file, e.g. one made by "
                         "`python -m core lm RECIPE --out FILE`") from None


@functools.lru_cache(maxsize=2)
def _load(path: Path, *_: int) -> tuple[NGrams, str]:
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        return parse(text), hashlib.sha256(data).hexdigest()
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:  # a wrong line, no UTF-8, no or half a .gz
        raise ValueError(f"lm = {str(path)!r} is not a whole ARPA file: {error}; make one with `python -m core lm RECIPE --out FILE`"
                         ) from None


def parse(text: str) -> NGrams:
    """The content of an ARPA file; ValueError names the line that is wrong."""
    lines = enumerate(text.splitlines(), 1)
    if not any(line.strip() == "\\data\\" for _, line in lines):
        raise ValueError("there is no line \\data\\")
    told: dict[int, int] = {}
    found: dict[int, int] = {}
    table: dict[NGram, tuple[float, float]] = {}
    length, ended = 0, False
    for number, line in lines:
        line = line.strip()
        if line.startswith("ngram ") and not length:
            told.update([_counts(line, number)])
        elif line.startswith("\\") and line.endswith("-grams:"):
            length = _number(line[1:-7], int, number)
        elif line == "\\end\\":
            ended = True
            break
        elif line:
            if length not in told:
                raise ValueError(f"line {number}: {line[:60]!r} belongs to no announced section")
            gram, values = _entry(line, length, number)
            table[gram] = values
            found[length] = found.get(length, 0) + 1
    if not ended or told != found:
        raise ValueError(f"its head announces {told} n-grams by length, it holds {found}{'' if ended else ' and ends before the end'}")
    missing = [w for w in (BEGIN, END) if (w,) not in table]
    if missing:
        raise ValueError(f"the 1-grams lack {' and '.join(missing)}")
    return NGrams(table, max(told))


def _counts(line: str, number: int) -> tuple[int, int]:
    length, _, count = line[6:].partition("=")
    return _number(length, int, number), _number(count, int, number)


def _entry(line: str, length: int, number: int) -> tuple[NGram, tuple[float, float]]:
    parts = line.split()
    if len(parts) not in (length + 1, length + 2):
        raise ValueError(f"line {number}: {line[:60]!r} is not a probability, {length} words and at most one weight")
    back_off = _number(parts[-1], float, number) if len(parts) == length + 2 else 0.0
    value = _number(parts[0], float, number)
    if value > 0:
        raise ValueError(f"line {number}: log10 of a probability is {value:g}; allowed is at most 0")
    return tuple(parts[1:length + 1]), (value, back_off)


def _number(text: str, kind: type, number: int) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"line {number}: {text[:40]!r} is no number") from None
