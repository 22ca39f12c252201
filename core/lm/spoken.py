"""The words of a language as a recognizer's tokens, and what is said of those that have none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.common.reading import excerpt
from core.speech.tokenizer import Tokenizer


def pronounced(
    tokenizer: Tokenizer, words: Sequence[str], skip: bool = False
) -> dict[str, list[tuple[int, ...]]]:
    """{word: its pronunciations in tokens}; ValueError for a word that has none, unless such words
    are skipped.
    """
    said = {}
    for word in words:
        try:
            said[word] = tokenizer.pronunciations(word)
        except ValueError:
            if not skip:
                raise
    return said


def check(lm: str, words: Sequence[str], said: Collection[str]) -> None:
    """ValueError for a model none of whose words can be said."""
    if not any(word in said for word in words):
        raise ValueError(lost(lm, words, said))


def lost(lm: str, words: Sequence[str], said: Collection[str]) -> str:
    """What is wrong with a model most of whose words cannot be said; "" for others."""
    without = [word for word in words if word not in said]
    if 2 * len(without) <= len(words):
        return ""
    count = "none" if len(without) == len(words) else f"only {len(words) - len(without)}"
    return (
        f"lm = {lm!r}: {count} of the {len(words)} words of this model can be pronounced with the"
        f" recognizer's tokens, e.g. not {excerpt(without[0])!r}; allowed are words in a-z, in"
        " lower case: `python -m core lm --text FILE` makes such a model"
    )
