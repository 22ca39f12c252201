"""Text files as sentences of words, written as training and scoring write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.common import reading
from core.speech import marks
from core.speech.normalizer import LETTERS, normalize, problems

LeftOut = tuple[str, int, str]  # (why, number of its line, its signs) of a line


def read_sentences(
    files: Sequence[str | Path], further: Sequence[str] = ()
) -> tuple[list[list[str]], list[LeftOut]]:
    """The lines of UTF-8 text files as words, without marks (core.speech.marks and `further` ones)
    -> (sentences, lines left out). ValueError for a file that cannot be read as text.
    """
    sentences, left_out = list[list[str]](), list[LeftOut]()
    for file in files:
        for number, line in enumerate(_lines(Path(file)), 1):
            line, _ = marks.without(line, further)
            if bad := problems(line):
                left_out.append((_why(bad), number, " ".join(bad)))
            elif line.strip():
                sentences.append(normalize(line).split())
    return sentences, left_out


def _why(signs: Iterable[str]) -> str:
    foreign = any(sign.isalpha() and sign not in LETTERS for sign in signs)
    return "letters other than a-z" if foreign else "digits or signs whose words are unknown"


def reasons(left_out: Sequence[LeftOut]) -> str:
    """Why lines were left out, how many and which one first."""
    first = {why: (line, signs) for why, line, signs in reversed(left_out)}
    counts = Counter(why for why, _, _ in left_out)
    return "; ".join(
        f"{count} left out: {why}, first in line {first[why][0]}: {reading.excerpt(first[why][1])}"
        for why, count in counts.items()
    )


def _lines(file: Path) -> list[str]:
    try:
        return list(reading.lines(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"text = {str(file)!r} cannot be read ({getattr(error, 'strerror', None) or error});"
            " give UTF-8 text, a sentence a line"
        ) from None
