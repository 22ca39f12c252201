"""Fewer n-grams for nearly the same probabilities: entropy pruning after Stolcke 1998 (arXiv
cs/0006025).

Histories are weighed by how often they occur, not by the model's own lower orders, which Kneser-Ney
makes to be backed off to (Chelba et al. 2010). Letters: N n-grams of one length, h history, w word.
"""

from __future__ import annotations

import numpy as np

from core.lm.estimation import Counted
from core.lm.ngrams import BOS, NGrams, Table

MIN_MASS = 1e-12  # mass that a history keeps for backing off, at least


def prune(counted: Counted, model: NGrams, threshold: float) -> NGrams:
    """Without every n-gram of two words or more whose loss raises the relative entropy by less than
    `threshold` (nats a word), unless a
    longer one that stays needs it as its history.
    """
    words = float(np.sum(counted.counts[0].times) - counted.counts[0].times[BOS])
    tables = list(model.tables)
    stays = [np.ones(len(t), bool) for t in tables]
    for length in range(model.order, 1, -1):
        lost = _divergence(model, length, counted.counts[length - 2].times / words)
        stays[length - 1] = lost >= threshold
        if length < model.order:
            needed = np.zeros(len(tables[length - 1]), bool)
            needed[tables[length].history[stays[length]]] = True
            stays[length - 1] |= needed
    return _without(model, stays)


def _lower(model: NGrams, length: int) -> np.ndarray:
    """p(w | h without its first word) [N] of all n-grams of a length, of the whole model."""
    grams = model.gram_ids(length)
    total = np.zeros(len(grams))
    score = np.full(len(grams), np.nan)
    for start in range(1, length):
        open_ = np.isnan(score)
        gram, context = _index(model, grams[open_, start:]), _index(model, grams[open_, start:-1])
        value = np.where(gram >= 0, model.tables[length - start - 1].log10[gram], np.nan)
        score[open_] = total[open_] + value
        if start < length - 1:
            total[open_] += np.where(
                context >= 0, model.tables[length - start - 2].back_off[context], 0.0
            )
    return 10**score


def _index(model: NGrams, grams: np.ndarray) -> np.ndarray:
    """Where n-grams [N, length] stand in their table, -1 if nowhere."""
    at = grams[:, 0] if grams.shape[1] else np.full(len(grams), -1)
    for length in range(2, grams.shape[1] + 1):
        at = model.find(length, at, grams[:, length - 1])
    return at


def _divergence(model: NGrams, length: int, often: np.ndarray) -> np.ndarray:
    """D(p || p without this one n-gram) [N], nats a word (Stolcke's equations 4 to 6); `often`:
    p(h) of the histories.
    """
    table, below = model.tables[length - 1], _lower(model, length)
    p = 10**table.log10
    histories = len(model.tables[length - 2])
    left = np.maximum(
        1 - np.bincount(table.history, p, histories), MIN_MASS
    )  # mass that h gives to backing off
    left_below = np.maximum(1 - np.bincount(table.history, below, histories), MIN_MASS)
    old = np.log(left / left_below)[table.history]
    new = np.log((left[table.history] + p) / (left_below[table.history] + below))
    return -often[table.history] * (
        p * (np.log(below) + new - np.log(p)) + left[table.history] * (new - old)
    )


def _without(model: NGrams, stays: list[np.ndarray]) -> NGrams:
    """The n-grams that stay, with back-off weights that make every history sum to 1 again; lengths
    of which none stays are left out.
    """
    tables, place = list[Table](), np.zeros(1, np.int64)
    for table, keep in zip(model.tables, stays):
        if tables and not keep.any():
            break
        history = place[table.history[keep]] if tables else table.history[keep]
        tables.append(
            Table(history, table.word[keep], table.log10[keep], np.zeros(int(keep.sum())))
        )
        if len(tables) > 1:
            below = _lower(
                NGrams(model.vocabulary, tables), len(tables)
            )  # of what stays: a shorter history may have lost n-grams, too
            tables[-2] = _balanced(tables[-2], tables[-1], below)
        place = np.cumsum(keep) - 1
    return NGrams(model.vocabulary, tables)


def _balanced(histories: Table, table: Table, below: np.ndarray) -> Table:
    """The histories with the back-off weights that these n-grams, and their probabilities one word
    shorter, ask for.
    """
    left, left_below = (
        np.maximum(1 - np.bincount(table.history, p, len(histories)), MIN_MASS)
        for p in (10**table.log10, below)
    )
    some = np.bincount(table.history, minlength=len(histories)) > 0
    return Table(
        histories.history,
        histories.word,
        histories.log10,
        np.where(some, np.log10(left / left_below), 0.0),
    )
