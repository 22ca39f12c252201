"""N-gram language models of words with back-off, in arrays; probabilities are log10, as in ARPA
files.

An n-gram is (index of its history among the (n-1)-grams, word), so that a table is four arrays
however long its n-grams are. Letters: N n-grams of one length, V words, L words of a text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)  # the first words of every vocabulary
UNK, BOS, EOS = range(3)
MISSING = -100.0  # log10, of unknown words where a file has no <unk>, as KenLM does
LOG10_NEVER = -99.0  # log10, written for <s>, which nothing predicts
NGram = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All n-grams of one length, sorted by (history, word): history [N] (0 for words alone), word
    [N], log10 probability of the word
    after the history [N], log10 back-off weight [N].
    """

    history: np.ndarray
    word: np.ndarray
    log10: np.ndarray
    back_off: np.ndarray

    def __len__(self) -> int:
        return len(self.word)

    def key(self, words: int) -> np.ndarray:
        """int64 [N], ascending."""
        return self.history.astype(np.int64) * words + self.word


class NGrams:
    """words [V], of which the first are SPECIAL; tables by length, from 1. Every n-gram's history
    is an n-gram of the table before.
    """

    def __init__(self, words: Sequence[str], tables: Sequence[Table]):
        self.vocabulary, self.tables = list(words), list(tables)
        self.keys = [t.key(len(self.vocabulary)) for t in self.tables]

    @property
    def order(self) -> int:
        return len(self.tables)

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.vocabulary)}

    @functools.cached_property
    def words(self) -> list[str]:
        """The vocabulary, without <s>, </s> and <unk>, sorted."""
        return sorted(self.vocabulary[len(SPECIAL) :])

    @functools.cached_property
    def beginnings(self) -> dict[str, float]:
        """{first letters of a word, up to all of them: log10 probability, without a history, of the
        likeliest word that begins so}.
        """
        best: dict[str, float] = {}
        for word in self.words:
            value = float(self.tables[0].log10[self.ids[word]])
            for end in range(1, len(word) + 1):
                best[word[:end]] = max(best.get(word[:end], value), value)
        return best

    def __contains__(self, word: str) -> bool:
        return word in self.ids

    @property
    def counts(self) -> list[int]:
        """How many n-grams there are of each length, from 1."""
        return [len(t) for t in self.tables]

    def find(self, length: int, history: np.ndarray, word: np.ndarray) -> np.ndarray:
        """Indices [L] of n-grams of this length, -1 where there is none (or `history` is -1)."""
        keys = self.keys[length - 1]
        wanted = np.asarray(history, np.int64) * len(self.vocabulary) + word
        if not len(keys):
            return np.full(wanted.shape, -1)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[at] == wanted) & (np.asarray(history) >= 0), at, -1)

    def text_scores(self, ids: np.ndarray) -> np.ndarray:
        """log10 p of every word of a text [L] after the words before it; sentences are BOS ... EOS,
        and BOS itself scores 0.
        """
        inside = np.arange(len(ids)) - np.maximum.accumulate(
            np.where(ids == BOS, np.arange(len(ids)), 0)
        )  # words since <s>
        grams, scores = ids, self.tables[0].log10[ids].astype(np.float64)
        for length in range(2, self.order + 1):
            before = np.concatenate([[-1], grams[:-1]])
            before = np.where(inside >= 1, before, -1)
            weight = np.where(before >= 0, self.tables[length - 2].back_off[before], 0.0)
            grams = self.find(length, before, ids)
            scores = np.where(grams >= 0, self.tables[length - 1].log10[grams], weight + scores)
        return np.where(ids == BOS, 0.0, scores)

    def gram_scores(self, ids: np.ndarray) -> np.ndarray:
        """log10 p [N] of the last word of each row [N, length] after those before it; -1 is a word
        that is not in the vocabulary: before others it is backed off from, as the last its score
        means nothing.
        """
        length = ids.shape[1]
        scores = self.tables[0].log10[ids[:, -1]].astype(np.float64)
        for order in range(2, min(length, self.order) + 1):
            gram = self._index_of(ids[:, length - order :])
            before = self._index_of(ids[:, length - order : -1])
            weight = np.where(before >= 0, self.tables[order - 2].back_off[before], 0.0)
            scores = np.where(gram >= 0, self.tables[order - 1].log10[gram], weight + scores)
        return scores

    def _index_of(self, ids: np.ndarray) -> np.ndarray:
        """Where n-grams [N, length] stand in their table, -1 if nowhere."""
        at = ids[:, 0]
        for order in range(2, ids.shape[1] + 1):
            at = np.where(ids[:, order - 1] >= 0, self.find(order, at, ids[:, order - 1]), -1)
        return at

    def text_ids(self, sentences: Iterable[Sequence[str]]) -> np.ndarray:
        """[L]: every sentence between BOS and EOS; words that are not in the vocabulary are UNK."""
        ids: list[int] = []
        for words in sentences:
            ids += [BOS, *(self.ids.get(w, UNK) for w in words), EOS]
        return np.asarray(ids, np.int64)

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> tuple[float, float]:
        """(perplexity over the known words and the sentences' ends, share of words that are
        unknown).
        """
        ids = self.text_ids(sentences)
        words = ids[ids != BOS]
        known = (ids != BOS) & (ids != UNK)
        return float(10 ** -self.text_scores(ids)[known].mean()), float(
            (words == UNK).sum() / max(1, (words != EOS).sum())
        )

    def score(self, history: NGram, word: str) -> float:
        """log10 p(word | history), backing off (Katz 1987); a word that is not in the vocabulary is
        <unk>.
        """
        ids = [
            self.ids.get(w, UNK) for w in (*history[max(len(history) - self.order + 1, 0) :], word)
        ]
        total = 0.0
        for start in range(len(ids)):
            gram, context = self._index(ids[start:]), self._index(ids[start:-1])
            if gram >= 0:
                return total + float(self.tables[len(ids) - start - 1].log10[gram])
            total += (
                float(self.tables[len(ids) - start - 2].back_off[context]) if context >= 0 else 0.0
            )
        raise AssertionError("<unk> is always in the vocabulary")

    def _index(self, ids: Sequence[int]) -> int:
        """Where an n-gram stands in its table, -1 if nowhere."""
        at = ids[0] if ids else -1
        for length, word in enumerate(ids[1:], 2):
            at = int(self.find(length, np.asarray([at]), np.asarray([word]))[0])
        return at

    def follow(self, history: NGram, word: str) -> NGram:
        """The history of the next word: the last `order` - 1 words."""
        history = (*history, word if word in self else UNKNOWN)
        return history[max(len(history) - self.order + 1, 0) :]

    def gram_ids(self, length: int) -> np.ndarray:
        """Words of all n-grams of a length, int [N, length]."""
        table = self.tables[length - 1]
        if length == 1:
            return table.word[:, None]
        return np.concatenate([self.gram_ids(length - 1)[table.history], table.word[:, None]], 1)
