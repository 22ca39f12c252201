"""Statistics over trainings and speakers: held against textbook values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from core.evaluation import scoring


def test_seeds_and_speakers_are_resampled_together():
    rng = np.random.default_rng(0)
    words = rng.integers(20, 40, 30)
    base = rng.binomial(words, 0.3, (3, 30))
    assert scoring.paired_seeds(base, base, words) == (0.0, 0.0, 0.0, 1.0)
    delta, low, high, p = scoring.paired_seeds(base + 3, base, words)
    assert low < delta < high and p < 0.001 and delta == pytest.approx(90 / words.sum())
    _, _, _, p = scoring.paired_seeds(base + np.array([[0], [1], [4]]), base, words)
    assert p > 0.05, "three seeds that only happen to agree in sign are no proof"
    noisy = base + np.array([[4], [-4], [1]])  # seeds disagree: no claim
    _, low, high, p = scoring.paired_seeds(noisy, base, words)
    assert low < 0 < high and p > 0.2


def test_trainings_that_differ_decide_as_a_paired_t_test_does():
    base = np.full((3, 50), 10)
    ours = base + np.array([[4], [1], [2]])
    p = scoring.paired_seeds(ours, base, np.full(50, 30))[3]
    assert p == pytest.approx(stats.ttest_1samp([4, 1, 2], 0).pvalue, rel=1e-6)
    variance = float(np.var(np.array([200.0, 50.0, 100.0]), ddof=1)) / 2
    known = scoring.paired_seeds(ours, base, np.full(50, 30), noise=(variance, 40))[3]
    t = np.mean([200, 50, 100]) / np.sqrt(2 * variance / 3)
    assert known == pytest.approx(2 * stats.t.sf(t, 40), rel=1e-6), "noise of all arms"


def test_few_trainings_widen_the_interval_of_their_ratio():
    """One speaker, three trainings: the ends 0 and 0.2 are drawn once in 27 times each, and their
    deviations grow by sqrt(3 / 2).
    """
    ours, base = np.array([[100], [110], [120]]), np.full((3, 1), 100)
    low, high = scoring.relative_seeds(ours, base)[1:]
    assert low == pytest.approx(0.1 - 0.1 * np.sqrt(1.5), abs=0.005)
    assert high == pytest.approx(0.1 + 0.1 * np.sqrt(1.5), abs=0.005)
