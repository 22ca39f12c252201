"""Features: the same bits whatever the packets, the known answers of a pure tone, and SpecAugment
within its limits.
"""

from __future__ import annotations

import numpy as np
import pytest

from core.common.randomness import epoch_rng, utterance_rng
from core.speech import features


def noise(samples, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def test_frames_are_10_ms_and_padded_at_the_ends():
    for samples, frames in [
        (0, 0),
        (79, 0),
        (80, 1),
        (160, 1),
        (400, 3),
        (16000, 100),
        (16080, 101),
    ]:
        assert features.fbank(noise(samples)).shape == (frames, 80)


@pytest.mark.slow
def test_random_packets_give_the_same_bits_as_the_whole():
    rng = np.random.default_rng(1)
    for length in rng.integers(1, 50000, 20):
        samples, at, pieces = noise(int(length), int(length)), 0, []
        online = features.OnlineFbank()
        while at < len(samples):
            step = int(rng.integers(0, 3000))
            pieces.append(online.accept(samples[at : at + step]))
            at += step
        pieces.append(online.finish())
        assert np.array_equal(np.concatenate(pieces), features.fbank(samples))
        assert online.finish().shape == (0, 80)


def test_a_finished_stream_and_stereo_are_refused():
    online = features.OnlineFbank()
    online.finish()
    with pytest.raises(ValueError, match="finished"):
        online.accept(noise(10))
    with pytest.raises(ValueError, match="mono"):
        features.OnlineFbank().accept(np.zeros((10, 2), np.float32))


def test_a_tone_lights_the_bin_that_mel_arithmetic_says():
    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    centers = mel(20) + (mel(7600) - mel(20)) / 81 * (1 + np.arange(80))  # high_freq -400 = 7600 Hz
    for hz in (440.0, 1000.0, 3000.0, 7000.0):
        tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
        assert features.fbank(tone).mean(axis=0).argmax() == np.abs(centers - mel(hz)).argmin()


def test_samples_are_not_scaled_to_integers_and_nothing_is_random():
    samples = noise(16000)
    assert -12 < features.fbank(samples).mean() < 2  # 16-bit scaling would add 2 ln 32768 = 20.8
    assert np.array_equal(features.fbank(samples), features.fbank(samples))
    assert np.isfinite(features.fbank(np.zeros(16000, np.float32))).all()


@pytest.mark.parametrize("length", [0, 50, 399, 400, 401, 560, 12345, 20480, 50001])
def test_in_bulk_agrees_with_the_stream(length):
    # two implementations, the library's and ours, also check each other's settings
    tones = 0.2 * np.sin(np.arange(length) ** 1.3 * 0.01).astype(np.float32)
    for samples in (noise(length), tones, np.zeros(length, np.float32), noise(length) * 1e-3):
        found = features.fbank_in_bulk(samples)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, features.fbank(samples), atol=4e-3)


def test_speeds_of_the_options():
    assert features.Options().speeds == (0.9, 1.0, 1.1)
    assert features.Options(speed_change=0.0).speeds == (1.0,)


def test_spec_augment_hides_whole_stripes_within_limits():
    hidden = []
    for seed in range(200):
        array = np.ones((600, 80), np.float32)  # 6 s: 4 time masks of at most 30 frames
        result = features.spec_augment(array, np.random.default_rng(seed))
        assert result is array
        rows, columns = (array == 0).all(axis=1), (array == 0).all(axis=0)
        assert np.array_equal(array == 0, rows[:, None] | columns[None])
        assert rows.sum() <= 4 * 30 and columns.sum() <= 2 * 27
        hidden.append((array == 0).mean())
    assert 0.2 < np.mean(hidden) < 0.5
    short = np.ones((5, 80), np.float32)
    features.spec_augment(short, np.random.default_rng(0))


def test_spec_augment_can_be_turned_off():
    none = features.SpecAugment(frequency_masks=0, time_masks=0)
    assert (
        features.spec_augment(np.ones((600, 80), np.float32), np.random.default_rng(0), none) == 1
    ).all()


def test_chance_depends_on_every_argument_and_nothing_else():
    def draw(*arguments):
        return tuple(utterance_rng(*arguments).integers(0, 1 << 30, 4))

    assert draw(1, 2, "a", "x") == draw(1, 2, "a", "x")
    assert (
        len(
            {
                draw(1, 2, "a", "x"),
                draw(2, 2, "a", "x"),
                draw(1, 3, "a", "x"),
                draw(1, 2, "b", "x"),
                draw(1, 2, "a", "y"),
                draw(1, 21, "", "x"),
                draw(12, 1, "", "x"),
            }
        )
        == 7
    )
    assert epoch_rng(1, 2, "x").integers(1 << 30) == utterance_rng(1, 2, "", "x").integers(1 << 30)
    assert (
        utterance_rng(1, 0, "an id", "salt").integers(1 << 30) == GOLDEN
    )  # pinned: old runs must stay repeatable


GOLDEN = 1036174277
