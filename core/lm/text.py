"""Text files as sentences of words, written as training and scoring write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.common import reading
from core.speech import marks
from core.speech.normalizer import normalize, problems


def read_sentences(
    files: Sequence[str | Path], further: Sequence[str] = ()
) -> tuple[list[list[str]], int]:
    """The lines of UTF-8 text files as words, without marks (core.speech.marks and `further` ones)
    -> (sentences, lines left out for
    digits or signs whose words are unknown). ValueError for a file that cannot be read as text.
    """
    sentences: list[list[str]] = []
    left_out = 0
    for file in files:
        for line in _lines(Path(file)):
            line, _ = marks.without(line, further)
            bad = bool(problems(line))
            left_out += bad
            sentences += [normalize(line).split()] if not bad and line.strip() else []
    return sentences, left_out


def _lines(file: Path) -> list[str]:
    try:
        return list(reading.lines(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"text = {str(file)!r} cannot be read ({getattr(error, 'strerror', None) or error});"
            " give UTF-8 text, a sentence a line"
        ) from None
