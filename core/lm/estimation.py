"""N-gram probabilities from sentences: interpolated modified Kneser-Ney (Chen and Goodman 1998), as
KenLM's lmplz estimates them.

In arrays, for no library with wheels for every Python here does it: ten million words take seconds.
Letters: L words of a text, N n-grams of one length, h history, w word, D discounts of counts 1, 2
and 3 or more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.lm.ngrams import BOS, EOS, LOG10_NEVER, SPECIAL, UNK, NGrams, Table

ORDERS = (1, 6)  # the lengths of n-grams that can be asked for
FALLBACK = (
    0.5,
    1.0,
    1.5,
)  # discounts where a text is too small or too regular to tell them, as lmplz's --discount_fallback


@dataclass(frozen=True)
class Counts:
    """All n-grams of one length in a text: history and word [N] as in a Table, `shorter` [N] where
    the n-gram without its first word
    stands in the table before, `times` [N] how often it occurs.
    """

    history: np.ndarray
    word: np.ndarray
    shorter: np.ndarray
    times: np.ndarray


def estimate(
    sentences: Iterable[Sequence[str]], order: int = 3, words: Sequence[str] | None = None
) -> NGrams:
    """The model of all n-grams up to `order` that occur in sentences of words; nothing is cut off.

    `words`: the vocabulary, all others being unknown; None: every word there is. Probabilities
    after any history sum to 1 over the
    vocabulary, </s> and <unk>. ValueError for no words and an order out of range.
    """
    return count(sentences, order, words).model()


class Counted:
    """A text's n-grams, for estimation and for pruning (which needs how often histories occur)."""

    def __init__(self, vocabulary: list[str], counts: list[Counts]):
        self.vocabulary, self.counts = vocabulary, counts

    def model(self) -> NGrams:
        """Interpolated modified Kneser-Ney."""
        vocabulary_size = len(self.vocabulary)
        lower, tables = (
            np.full(1, 1 / (vocabulary_size - 1)),
            list[Table](),
        )  # <s> is no event: V - 1 words can come
        begins = np.zeros(1, bool)
        for length, grams in enumerate(self.counts, 1):
            begins = grams.word == BOS if length == 1 else begins[grams.history]
            events = self._adjusted(length, begins)
            discounts = _discounts(events[events > 0])
            taken = np.asarray(discounts)[np.minimum(events, 3)]
            histories = len(tables[-1]) if tables else 1
            total = np.bincount(grams.history, events, histories)
            freed = np.bincount(grams.history, taken, histories)
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(
                    total > 0, freed / total, 1.0
                )  # of a history's mass that the shorter one gives out
                probability = (events - taken) / total[grams.history] + share[grams.history] * (
                    lower[grams.shorter] if length > 1 else lower[0]
                )
                if tables:
                    tables[-1] = Table(
                        tables[-1].history,
                        tables[-1].word,
                        tables[-1].log10,
                        np.where(total > 0, np.log10(share), 0.0),
                    )
                log10 = np.log10(probability)
            if length == 1:
                log10[BOS] = LOG10_NEVER
            tables.append(Table(grams.history, grams.word, log10, np.zeros(len(probability))))
            lower = probability
        return NGrams(self.vocabulary, tables)

    def _adjusted(self, length: int, begins: np.ndarray) -> np.ndarray:
        """Counts [N]: of the longest n-grams and of those that begin a sentence how often they
        occur, of all others before how many
        different words stand in front of them. <s> alone is no event.
        """
        grams = self.counts[length - 1]
        if length == len(self.counts):
            events = grams.times.copy()
        else:
            in_front = np.bincount(self.counts[length].shorter, minlength=len(grams.word))
            events = np.where(begins, grams.times, in_front)
        if length == 1:
            events[BOS] = 0
        return events


def count(
    sentences: Iterable[Sequence[str]], order: int = 3, words: Sequence[str] | None = None
) -> Counted:
    """The n-grams of sentences, see estimate()."""
    check_order(order)
    vocabulary, text = _numbered(sentences, words)
    inside = np.arange(len(text)) - np.maximum.accumulate(
        np.where(text == BOS, np.arange(len(text)), 0)
    )  # words since <s>
    known = text != UNK  # an unknown word tells nothing about the next one
    at = text  # the n-gram that ends at every word, -1 where there is none
    counts = [
        Counts(
            np.zeros(len(vocabulary), np.int64),
            np.arange(len(vocabulary)),
            np.zeros(len(vocabulary), np.int64),
            np.bincount(text, minlength=len(vocabulary)),
        )
    ]
    for length in range(2, order + 1):
        before = np.concatenate([[-1], at[:-1]])
        here = np.flatnonzero(
            (inside >= length - 1) & (before >= 0) & known & np.concatenate([[False], known[:-1]])
        )
        key, first, which, times = np.unique(
            before[here] * len(vocabulary) + text[here],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        counts.append(Counts(key // len(vocabulary), key % len(vocabulary), at[here][first], times))
        at = np.full(len(text), -1)
        at[here] = which
    return Counted(vocabulary, counts)


def _numbered(
    sentences: Iterable[Sequence[str]], words: Sequence[str] | None
) -> tuple[list[str], np.ndarray]:
    """(vocabulary, text [L] as its indices, every sentence between <s> and </s>); sentences without
    words are left out.
    """
    ids = {
        word: i
        for i, word in enumerate([*SPECIAL, *(dict.fromkeys(words) if words is not None else ())])
    }
    text: list[int] = []
    for sentence in sentences:
        if sentence:
            numbers = (
                [ids.get(w, UNK) for w in sentence]
                if words is not None
                else [ids.setdefault(w, len(ids)) for w in sentence]
            )
            text += [BOS, *numbers, EOS]
    if not text:
        raise ValueError("there are no words to make a language model from")
    return list(ids), np.asarray(text, np.int64)


def check_order(order: int) -> None:
    if not ORDERS[0] <= order <= ORDERS[1]:
        raise ValueError(f"order: expected a number from {ORDERS[0]} to {ORDERS[1]}, got {order}")


def _discounts(counts: Iterable[int]) -> tuple[float, float, float, float]:
    """D of counts 0, 1, 2 and 3 or more, by how many n-grams have the counts 1 to 4 (Chen and
    Goodman, equation 26).
    """
    times = Counter(
        np.asarray(list(counts)).tolist()
        if not isinstance(counts, np.ndarray)
        else {i: int((counts == i).sum()) for i in (1, 2, 3, 4)}
    )
    if all(times[i] for i in (1, 2, 3)):
        y = times[1] / (times[1] + 2 * times[2])
        discounts = [i - (i + 1) * y * times[i + 1] / times[i] for i in (1, 2, 3)]
        if all(0 < d <= i for i, d in enumerate(discounts, 1)):
            return 0.0, discounts[0], discounts[1], discounts[2]
    return 0.0, *FALLBACK
