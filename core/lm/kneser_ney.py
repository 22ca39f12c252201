"""N-gram probabilities from sentences: interpolated modified Kneser-Ney (Chen and Goodman 1998), as KenLM's lmplz estimates them.

No library with wheels for every Python here does it (lmplz is not in any wheel; nltk's takes minutes and writes no ARPA).
Letters: h history, w word, c(h w) counts, D discounts of counts 1, 2 and 3 or more.
"""
from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.lm.ngrams import BEGIN, END, NEVER, UNKNOWN, NGram, NGrams
from core.speech.normalizer import normalise, problems

ORDERS = (1, 6)                  # the lengths of n-grams that can be asked for
FALLBACK = (0.5, 1.0, 1.5)       # discounts where a text is too small or too regular to tell them, as lmplz's --discount_fallback


def estimate(sentences: Iterable[Sequence[str]], order: int = 3) -> NGrams:
    """The model of all n-grams up to `order` that occur in sentences of words; nothing is cut off.

    Probabilities after any history sum to 1 over the vocabulary, </s> and <unk>. ValueError for no words and an order out of range."""
    check_order(order)
    counts = _counts(sentences, order)
    if not counts[0]:
        raise ValueError("there are no words to make a language model from")
    vocabulary = len(counts[0]) + 1                                     # </s> is among the counts; <unk> is not
    lower: dict[NGram, float] = {}
    table: dict[NGram, list[float]] = {(BEGIN,): [NEVER, 0.0]}
    for found in counts:
        discounts = _discounts(found.values())
        total: Counter[NGram] = Counter()
        freed: defaultdict[NGram, float] = defaultdict(float)           # what is taken from the words seen after h
        for gram, count in found.items():
            total[gram[:-1]] += count
            freed[gram[:-1]] += discounts[min(count, 3)]
        here = {}
        for gram, count in found.items():
            h = gram[:-1]
            below = lower[gram[1:]] if h else 1 / vocabulary
            here[gram] = (count - discounts[min(count, 3)] + freed[h] * below) / total[h]
            table[gram] = [math.log10(here[gram]), 0.0]
        for h, mass in freed.items():
            if h:
                table[h][1] = math.log10(mass / total[h])
            else:
                table[UNKNOWN,] = [math.log10(mass / total[h] / vocabulary), 0.0]
        lower = here
    return NGrams({gram: (value, back_off) for gram, (value, back_off) in table.items()}, order)


def check_order(order: int) -> None:
    if not ORDERS[0] <= order <= ORDERS[1]:
        raise ValueError(f"order must be from {ORDERS[0]} to {ORDERS[1]}, but {order} came")


def _counts(sentences: Iterable[Sequence[str]], order: int) -> list[dict[NGram, int]]:
    """Counts by length: of the longest n-grams and of those that begin a sentence how often they occur, of all others before how many
    different words stand in front of them. <s> alone is no event."""
    raw: list[Counter[NGram]] = [Counter() for _ in range(order)]
    for words in sentences:
        padded = (BEGIN, *words, END)
        for n in range(1, order + 1 if words else 0):
            raw[n - 1].update(padded[i:i + n] for i in range(len(padded) - n + 1))
    adjusted: list[dict[NGram, int]] = []
    for n in range(order):
        in_front = Counter(gram[1:] for gram in raw[n + 1]) if n + 1 < order else raw[n]
        adjusted.append({g: c if g[0] == BEGIN else in_front[g] for g, c in raw[n].items() if g != (BEGIN,)})
    return adjusted


def _discounts(counts: Iterable[int]) -> tuple[float, float, float, float]:
    """D of counts 0, 1, 2 and 3 or more, by how many n-grams have the counts 1 to 4 (Chen and Goodman, equation 26)."""
    times = Counter(counts)
    if all(times[i] for i in (1, 2, 3)):
        y = times[1] / (times[1] + 2 * times[2])
        found = [i - (i + 1) * y * times[i + 1] / times[i] for i in (1, 2, 3)]
        if all(0 < d <= i for i, d in enumerate(found, 1)):
            return 0.0, *found
    return 0.0, *FALLBACK


def read_sentences(files: Sequence[str | Path]) -> tuple[list[list[str]], int]:
    """The lines of UTF-8 text files as words, written as training and scoring write them (core.speech.normalizer) -> (sentences,
    lines left out because of digits or signs whose words are unknown). ValueError for files that cannot be read."""
    sentences, left_out = [], 0
    for file in files:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"text = {str(file)!r} cannot be read ({getattr(error, 'strerror', None) or error}); give UTF-8 text, a "
                             "sentence a line") from None
        for line in lines:
            bad = bool(problems(line))
            left_out += bad
            sentences += [normalise(line).split()] if not bad and line.strip() else []
    return sentences, left_out
