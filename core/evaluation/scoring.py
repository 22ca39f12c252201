"""Word and character errors, bootstrap intervals, a paired test and Holm's correction; NumPy and
jiwer, no torch.

Letters: N utterances, K summed columns, repetitions = bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

REPETITIONS = 10_000
SEED = 1


@dataclass(frozen=True)
class Edits:
    """Errors of every utterance, each [N]; `words` counts reference words."""

    insertions: np.ndarray
    deletions: np.ndarray
    substitutions: np.ndarray
    words: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Corpus-level error rate: all errors over all reference words, not a mean of rates."""
        return float(self.errors.sum() / max(self.words.sum(), 1))


def _edits(output: jiwer.WordOutput | jiwer.CharacterOutput) -> Edits:
    counts = np.zeros((len(output.alignments), 4), np.int64)
    column = {"insert": 0, "delete": 1, "substitute": 2}
    for i, (chunks, reference) in enumerate(zip(output.alignments, output.references)):
        counts[i, 3] = len(reference)
        for chunk in chunks:
            if chunk.type != "equal":
                counts[i, column[chunk.type]] += max(
                    chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
                )
    return Edits(*counts.T)


def _check(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses) or not len(references):
        raise ValueError(
            "expected as many hypotheses as references and at least one, got "
            f"{len(hypotheses)} hypotheses and {len(references)} references"
        )


def word_edits(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """Minimal word edits by jiwer; both sides already normalized."""
    _check(references, hypotheses)
    return _edits(jiwer.process_words(list(references), list(hypotheses)))


def character_edits(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """Minimal character edits by jiwer, spaces included; `words` counts reference characters."""
    _check(references, hypotheses)
    return _edits(jiwer.process_characters(list(references), list(hypotheses)))


def resample(
    values: np.ndarray, speakers: Sequence[str], repetitions: int = REPETITIONS, seed: int = SEED
) -> np.ndarray:
    """Sums [repetitions, K] of values [N, K] over resampled speakers, and resampled utterances
    within each.

    With one speaker only utterances are resampled (see `resampled_unit`).
    """
    rng = np.random.default_rng(seed)
    names, owner = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    groups = [np.flatnonzero(owner == s) for s in range(len(names))]
    drawn = rng.integers(0, len(groups), (repetitions, len(groups)))
    columns = np.asarray(values, np.float64)
    totals = np.zeros((repetitions, columns.shape[1]))
    for s, members in enumerate(groups):
        times = np.flatnonzero(drawn == s) // len(groups)  # a repetition may draw a speaker twice
        picks = members[rng.integers(0, len(members), (len(times), len(members)))]
        for k in range(columns.shape[1]):
            totals[:, k] += np.bincount(times, columns[picks, k].sum(1), repetitions)
    return totals


def resampled_unit(speakers: Sequence[str]) -> str:
    """What the bootstrap resamples: "speakers, then utterances", or "utterances" when there is one
    speaker.
    """
    return "speakers, then utterances" if len(set(speakers)) > 1 else "utterances"


def bootstrap(
    errors: np.ndarray,
    words: np.ndarray,
    speakers: Sequence[str],
    repetitions: int = REPETITIONS,
    seed: int = SEED,
) -> tuple[float, float]:
    """95 % interval (low, high) of the corpus-level error rate; errors [N], words [N]."""
    totals = resample(np.stack([errors, words], 1), speakers, repetitions, seed)
    low, high = np.percentile(totals[:, 0] / np.maximum(totals[:, 1], 1), [2.5, 97.5])
    return float(low), float(high)


def paired(
    errors: np.ndarray,
    base_errors: np.ndarray,
    words: np.ndarray,
    speakers: Sequence[str],
    repetitions: int = REPETITIONS,
    seed: int = SEED,
) -> tuple[float, float, float, float]:
    """(difference of the error rates, low, high, two-sided p) on the same utterances; positive =
    worse than the base.

    p is twice the smaller share of resamples on either side of zero, at least 2 / (repetitions +
    1); equal errors
    everywhere give 1.
    """
    difference = np.asarray(errors) - np.asarray(base_errors)
    totals = resample(np.stack([difference, words], 1), speakers, repetitions, seed)
    deltas = totals[:, 0] / np.maximum(totals[:, 1], 1)
    low, high = np.percentile(deltas, [2.5, 97.5])
    below, above = np.count_nonzero(deltas <= 0), np.count_nonzero(deltas >= 0)
    p = min(2 * (min(below, above) + 1) / (repetitions + 1), 1.0)
    return float(difference.sum() / max(np.sum(words), 1)), float(low), float(high), float(p)


def seed_noise(totals: np.ndarray) -> tuple[float, int]:
    """(variance, degrees of freedom) of what a training's errors have beside its arm's and its
    seed's share: totals [A, S] of A > 1 arms
    and the same S > 1 seeds, a table of randomized blocks. Two arms leave S - 1 degrees, as a
    paired t test has; more tell it better.
    """
    arms, seeds = totals.shape
    free = (arms - 1) * (seeds - 1)
    rest = totals - totals.mean(1, keepdims=True) - totals.mean(0, keepdims=True) + totals.mean()
    return float(np.square(rest).sum() / free), free


def paired_seeds(
    errors: np.ndarray,
    base_errors: np.ndarray,
    words: np.ndarray,
    repetitions: int = REPETITIONS,
    seed: int = SEED,
    noise: tuple[float, int] | None = None,
) -> tuple[float, float, float, float]:
    """As `paired`, over trainings: errors and base_errors [S, P] of S seeds and P speakers, words
    [P] of one seed's test.

    Seeds and speakers are both resampled, the same ones for both sides; with one seed only speakers
    are. So few seeds make a bootstrap
    too sure of itself: its deviations are widened by sqrt(S / (S - 1)), and p is at least that of a
    t test over the seeds, whose variance
    is that of `noise` (seed_noise of all arms) or, without it, of these two.
    """
    rng = np.random.default_rng(seed)
    difference = np.asarray(errors, np.float64) - np.asarray(base_errors, np.float64)
    trainings, speakers = difference.shape
    times_seed = rng.multinomial(trainings, np.full(trainings, 1 / trainings), repetitions)
    times_speaker = rng.multinomial(speakers, np.full(speakers, 1 / speakers), repetitions)
    totals = ((times_seed @ difference) * times_speaker).sum(1)
    deltas = totals / np.maximum(times_speaker @ np.asarray(words, np.float64), 1) / trainings
    over_seeds = 0.0
    if trainings > 1:
        deltas = deltas.mean() + (deltas - deltas.mean()) * np.sqrt(trainings / (trainings - 1))
        from scipy.special import stdtr  # half a second, which most callers save

        per_training = difference.sum(1)
        variance, free = noise or (float(per_training.var(ddof=1)) / 2, trainings - 1)
        t = (
            per_training.mean() / np.sqrt(2 * variance / trainings)
            if variance > 0
            else np.inf * per_training.mean()
            if per_training.any()
            else 0.0
        )
        over_seeds = float(2 * stdtr(free, -abs(t)))
    low, high = np.percentile(deltas, [2.5, 97.5])
    below, above = np.count_nonzero(deltas <= 0), np.count_nonzero(deltas >= 0)
    p = max(min(2 * (min(below, above) + 1) / (repetitions + 1), 1.0), over_seeds)
    return (
        float(difference.sum() / trainings / max(np.sum(words), 1)),
        float(low),
        float(high),
        float(p),
    )


def relative_seeds(
    errors: np.ndarray, base_errors: np.ndarray, repetitions: int = REPETITIONS, seed: int = SEED
) -> tuple[float, float, float]:
    """(relative difference of the error rates, low, high) of `paired_seeds`' trainings: 0.03 is
    three per cent more errors.
    """
    rng = np.random.default_rng(seed)
    ours, base = np.asarray(errors, np.float64), np.asarray(base_errors, np.float64)
    trainings, speakers = ours.shape
    times_seed = rng.multinomial(trainings, np.full(trainings, 1 / trainings), repetitions)
    times_speaker = rng.multinomial(speakers, np.full(speakers, 1 / speakers), repetitions)
    drawn, drawn_base = (((times_seed @ side) * times_speaker).sum(1) for side in (ours, base))
    ratios = drawn / np.maximum(drawn_base, 1) - 1
    if trainings > 1:
        ratios = ratios.mean() + (ratios - ratios.mean()) * np.sqrt(trainings / (trainings - 1))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(ours.sum() / max(base.sum(), 1) - 1), float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the given order: each may be read against 0.05 for the whole
    table of claims.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[i], 1.0))
        adjusted[i] = float(highest)
    return adjusted
