"""Two n-gram models as one: linear interpolation, written out as a back-off model (as SRILM's
static mixtures).

Every n-gram of either model gets weight * p(first) + (1 - weight) * p(second), where each model
backs off as it does; back-off weights are computed anew, so that probabilities sum to 1 after any
history. A word that only one model knows has no probability in the other. Letters: N n-grams of a
length, L words of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.lm.ngrams import BOS, EOS, LOG10_NEVER, SPECIAL, UNK, NGrams, Table

STEPS = 50  # of expectation maximization
WEIGHTS = (0.01, 0.99)
MOST = 1 - 1e-6  # of a history's probability that its n-grams may take where it also backs off


def interpolate(first: NGrams, second: NGrams, weight: float) -> NGrams:
    """The model with `weight` of the first; of the longer order, over the words of both. ValueError
    for a weight that leaves nothing of one, and for models without a common word.
    """
    if not 0 < weight < 1:
        raise ValueError(f"expected a weight between 0 and 1, got {weight:g}")
    check_common(first, second)
    vocabulary = [*SPECIAL, *sorted({*first.words, *second.words})]
    models = [(first, weight), (second, 1 - weight)]
    mixed = NGrams(vocabulary, [])
    places = [np.asarray([mixed.ids[w] for w in m.vocabulary]) for m, _ in models]
    at = [np.zeros(1, np.int64)] * 2  # of each model's n-grams in the table before
    for length in range(1, max(first.order, second.order) + 1):
        keys = []
        for (model, _), place, before in zip(models, places, at):
            table = model.tables[length - 1] if length <= model.order else _nothing()
            keys.append(before[table.history] * len(vocabulary) + place[table.word])
        union = np.unique(np.concatenate(keys))
        at = [np.searchsorted(union, model_keys) for model_keys in keys]
        table = Table(union // len(vocabulary), union % len(vocabulary), *np.zeros((2, len(union))))
        mixed = _longer(mixed, table, models)
    return mixed


def _longer(mixed: NGrams, table: Table, models: list[tuple[NGrams, float]]) -> NGrams:
    """With one more table, whose probabilities are those of both models."""
    longer = NGrams(mixed.vocabulary, [*mixed.tables, table])
    grams = longer.gram_ids(longer.order)
    p = np.sum([share * _of_model(model, mixed, grams) for model, share in models], axis=0)
    if not mixed.tables:
        log10 = np.log10(np.maximum(p / p.sum(), 1e-300))
        log10[BOS] = LOG10_NEVER
        return NGrams(mixed.vocabulary, [Table(table.history, table.word, log10, table.back_off)])
    last = mixed.tables[-1]
    shorter = 10 ** mixed.gram_scores(grams[:, 1:])
    total, rest = (np.bincount(table.history, x, len(last)) for x in (p, shorter))
    whole = rest > MOST  # every word follows: nothing is left to back off to
    scale = np.where(whole, 1, np.minimum(1, MOST / np.maximum(total, 1e-300)))
    scale = np.where(whole, 1 / np.maximum(total, 1e-300), scale)
    left = np.where(whole, 1.0, (1 - total * scale) / (1 - np.minimum(rest, MOST)))
    p = p * scale[table.history]
    back_off = np.where(total > 0, np.log10(left), 0.0)
    return NGrams(
        mixed.vocabulary,
        [
            *mixed.tables[:-1],
            Table(last.history, last.word, last.log10, back_off),
            Table(table.history, table.word, np.log10(np.maximum(p, 1e-300)), table.back_off),
        ],
    )


def _of_model(model: NGrams, mixed: NGrams, grams: np.ndarray) -> np.ndarray:
    """p [N] of n-grams [N, length] of the mixed vocabulary by one model; 0 for words it does not
    know.
    """
    model_grams = np.asarray([model.ids.get(word, -1) for word in mixed.vocabulary])[grams]
    return np.where(model_grams[:, -1] >= 0, 10 ** model.gram_scores(model_grams), 0.0)


def _nothing() -> Table:
    none = np.zeros(0, np.int64)
    return Table(none, none, np.zeros(0), np.zeros(0))


def check_common(first: NGrams, second: NGrams) -> None:
    """ValueError for two models without a common word."""
    if not set(first.words) & set(second.words):
        raise ValueError(
            "the two language models have no word in common, e.g."
            f" {', '.join(map(repr, first.words[:3]))} and"
            f" {', '.join(map(repr, second.words[:3]))}: take models of one language, written in"
            " lower case"
        )


def tuned(first: NGrams, second: NGrams, sentences: Sequence[Sequence[str]]) -> float:
    """The weight under which a text that neither has seen is likeliest (expectation maximization),
    within WEIGHTS. ValueError where neither knows a word of it.
    """
    p, q = (_probabilities(model, sentences) for model in (first, second))
    known = p + q > 0
    if not known.any():
        raise ValueError("neither language model knows a word of the held-out text")
    p, q, weight = p[known], q[known], 0.5
    for _ in range(STEPS):
        weight = float(np.mean(weight * p / (weight * p + (1 - weight) * q)))
    return min(max(weight, WEIGHTS[0]), WEIGHTS[1])


def _probabilities(model: NGrams, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """p of every word and every end of a sentence [L]; 0 for unknown words."""
    ids = model.text_ids(sentences)
    p = np.where(ids == UNK, 0.0, 10 ** model.text_scores(ids))
    return p[ids != BOS]


def perplexity(model: NGrams, sentences: Sequence[Sequence[str]], words: set[str]) -> float:
    """Over the words that are among `words` and the sentences' ends: models with other vocabularies
    can be compared.
    """
    ids = model.text_ids(sentences)
    counted = np.asarray([0 if i in (BOS, UNK) else 1 for i in ids], bool)
    named = np.asarray([i == EOS or model.vocabulary[i] in words for i in ids])
    return float(10 ** -model.text_scores(ids)[counted & named].mean())
