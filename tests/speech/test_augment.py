"""Augmentation of features: what each change does to them, in numbers, and that nothing is done
where nothing is asked.
"""

from __future__ import annotations

import numpy as np
import pytest

from core.speech import augment
from core.speech.augment import DB, Options
from core.speech.features import fbank


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def features(frames: int = 200) -> np.ndarray:
    return rng(1).normal(-6, 3, (frames, 80)).astype(np.float32)


def test_nothing_is_changed_where_nothing_is_asked():
    given = features()
    assert (
        augment.change(given, Options(), rng()) is given
        and augment.draw_tempo(Options(), rng(), 100, 3, 4) == 1.0
    )


@pytest.mark.parametrize(
    "options",
    [
        Options(warp=0.1),
        Options(loudness=4.0),
        Options(noise=1.0),
        Options(babble=1.0),
        Options(room=1.0),
    ],
)
def test_every_change_is_a_function_of_its_generator(options):
    given = features()
    first, again, other = (augment.change(given, options, rng(seed)) for seed in (0, 0, 1))
    assert first.shape == given.shape and first.dtype == np.float32 and np.isfinite(first).all()
    assert (
        np.array_equal(first, again)
        and not np.allclose(first, other)
        and not np.allclose(first, given)
    )


def test_shares_are_of_utterances():
    given = features(20)
    changed = sum(
        not np.array_equal(augment.change(given, Options(noise=0.3), rng(seed)), given)
        for seed in range(300)
    )
    assert 60 < changed < 120


def test_a_warped_tone_lies_where_its_frequency_went():
    t = np.arange(16000) / 16000
    low, high = (
        fbank((0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)).mean(0) for hz in (1000, 1100)
    )
    assert augment.warped(low[None], 1.1)[0].argmax() == high.argmax() != low.argmax()
    assert np.allclose(augment.warped(low[None], 1.0), low, atol=1e-3)


def test_loudness_is_one_number_of_decibels():
    given = features()
    levels = [
        np.unique(np.round(augment.change(given, Options(loudness=3.0), rng(s)) - given, 3))
        for s in range(200)
    ]
    assert all(np.ptp(one) < 0.005 for one in levels)
    assert np.std([one.mean() for one in levels]) / DB == pytest.approx(3.0, rel=0.2)


def test_a_room_adds_a_tail_that_decays_by_60_db_in_its_time():
    given = np.full((100, 80), -30.0, np.float32)
    given[10] = 0.0
    found = augment.reverberant(given, 0.5, 0.0)
    assert (found[:10] < -29).all() and found[10, 0] == pytest.approx(0.0, abs=1e-5), (
        "no sound before its cause"
    )
    tail = found[11:40, 0]
    assert np.diff(tail) == pytest.approx(np.full(28, -60 * DB / 50), abs=1e-3), (
        "0.5 s are 50 frames"
    )
    assert np.exp(found[11:, 0]).sum() == pytest.approx(1.0, rel=0.02), (
        "as much late energy as direct, at 0 dB"
    )
    assert found[11, 0] - augment.reverberant(given, 0.5, 10.0)[11, 0] == pytest.approx(
        10 * DB, abs=1e-3
    )


def test_noise_is_added_at_its_ratio_and_hides_nothing_louder():
    given = np.full((300, 80), -12.0, np.float32)
    given[::3] = 0.0
    floors = []
    for seed in range(40):
        found = augment.noisy(given, rng(seed))
        assert (found >= given - 1e-5).all()
        floors.append(-np.median(found[1::3], axis=0).max() / DB)  # below the speech's level of 0
    low, high = augment.NOISE_SNR_DB
    assert low - 4 < min(floors) < low + 10 and high - 10 < max(floors) < high + 4


def test_babble_is_speech_behind_the_speech():
    given = np.full((300, 80), -30.0, np.float32)
    given[100:160, 20:40] = 0.0  # one word, in a silence
    ratios = []
    for seed in range(40):
        found = augment.babbled(given, rng(seed))
        assert (found >= given - 1e-5).all(), "nothing is hidden that was louder"
        behind = found[:, :60].copy()
        behind[95:165] = -30.0  # without the word itself
        ratios.append(-behind.max() / DB)
        assert (found[:, 62:] < -29).all(), "the voices speak in the bands of speech"
        assert (behind.max(1) < -29).sum() > 20, "and they pause, which noise does not"
    low, high = augment.BABBLE_SNR_DB
    assert low - 7 < min(ratios) < low + 6 and high - 6 < max(ratios) < high + 40


def test_stretched_features_keep_their_ends_and_their_line():
    given = np.linspace(0, 9, 10, dtype=np.float32)[:, None].repeat(80, 1)
    for frames in (5, 10, 17, 1):
        found = augment.stretched(given, frames)
        assert found.shape == (frames, 80) and np.allclose(
            found[:, 0], np.linspace(0, 9, frames), atol=1e-5
        )
    assert np.array_equal(augment.stretched(given, 10), given)


@pytest.mark.parametrize(("frames", "labels"), [(400, 20), (90, 20), (84, 20), (1000, 1)])
def test_a_tempo_leaves_room_for_the_labels(frames, labels):
    drawn = [
        augment.draw_tempo(Options(tempo=0.2), rng(seed), frames, labels, 4) for seed in range(200)
    ]
    assert min(drawn) >= 0.8 and max(drawn) <= 1.2 and len(set(drawn)) > 3
    assert all(round(frames / tempo) // 4 >= labels for tempo in drawn)
    assert max(drawn) > 1.15 or frames < 100
