"""Text files as sentences of words, written as training and scoring write them."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.speech.normalizer import normalise, problems


def read_sentences(files: Sequence[str | Path]) -> tuple[list[list[str]], int]:
    """The lines of UTF-8 text files as words -> (sentences, lines left out for digits or signs whose words are unknown).
    ValueError for a file that cannot be read as text."""
    sentences: list[list[str]] = []
    left_out = 0
    for file in files:
        for line in _lines(Path(file)):
            bad = bool(problems(line))
            left_out += bad
            sentences += [normalise(line).split()] if not bad and line.strip() else []
    return sentences, left_out


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"text = {str(file)!r} cannot be read ({getattr(error, 'strerror', None) or error}); give UTF-8 text, a "
                         "sentence a line") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
