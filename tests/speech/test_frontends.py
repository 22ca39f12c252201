"""Kinds of features: those of torchaudio's RNN-T bundles to their own rounding, whole and in any
packets; one kind for a run and what begins from it.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from core import export, paths, runtime
from core.common import writing
from core.data import prepare
from core.data.prepared import Prepared
from core.data.source import SpeechRecipe
from core.pipelines import build
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe
from core.registry import plugins
from core.speech import audio, features
from core.speech.frontends import base, torchaudio_mel
from tests import standin
from tests.speech_stub import RECIPE, Stub, give, write_split

MEL = base.load("torchaudio_mel")


def spoken() -> np.ndarray:
    return audio.read(str(paths.RELEASED / paths.SAMPLES / "8_six_digits.opus"))


def noise(count: int) -> np.ndarray:
    return (np.random.default_rng(count).standard_normal(count) * 0.1).astype(np.float32)


def theirs(samples: np.ndarray, double: bool = False) -> np.ndarray:
    """What the bundle computes before its statistics, by its own functions."""
    torch = pytest.importorskip("torch")
    torchaudio = pytest.importorskip("torchaudio")
    bundle = torchaudio.pipelines.rnnt_pipeline
    spectrogram = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000, n_fft=400, n_mels=80, hop_length=160
    )
    sound = torch.from_numpy(samples)
    if double:
        spectrogram, sound = spectrogram.double(), sound.double()
    return bundle._piecewise_linear_log(spectrogram(sound).transpose(1, 0) * bundle._gain).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("sound", [spoken(), noise(201), noise(16000), noise(48000) * 1e-4])
def test_features_are_those_of_the_bundle(sound):
    ours, wanted, exact = MEL.whole(sound), theirs(sound), theirs(sound, double=True)
    assert ours.shape == wanted.shape == (1 + len(sound) // 160, 80) and ours.dtype == np.float32
    # rounding may put a value beyond the step that torchaudio's logarithm has at e
    step = np.abs(np.maximum(ours, wanted) - math.e) < 1e-3
    own = np.abs(wanted - exact)[~step].max()  # what torchaudio's own rounding is
    assert np.abs(ours - exact)[~step].max() <= max(5e-5, own)  # 3.4e-5 with AVX-512
    np.testing.assert_allclose(ours[~step], wanted[~step], rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(MEL.in_bulk(sound), ours, rtol=1e-6, atol=1e-5)


def test_small_energies_are_divided_once_more_as_in_torchaudio():
    energies = np.array([0.0, 1.0, math.e - 1e-3, 10.0, 20.0])
    right = [0, 1 / math.e, (math.e - 1e-3) / math.e, math.log(10) / math.e, math.log(20)]
    tone = np.zeros(400, np.float32)
    window, filters = torchaudio_mel._tables()
    found = []
    for energy in energies:  # an impulse has the same power at every frequency
        tone[200] = math.sqrt(energy / (window[200] ** 2 * filters[:, -1].sum() * 32767.0**2))
        found.append(torchaudio_mel._energies(tone[None])[0, -1])
    np.testing.assert_allclose(found, right, rtol=1e-4)


def test_random_packets_give_the_same_bits_as_the_whole():
    rng = np.random.default_rng(1)
    for length in [0, 1, 2, 200, 201, 399, 400, *rng.integers(1, 20000, 8)]:
        samples, at, pieces = noise(int(length)), 0, []
        online = MEL.online()
        while at < len(samples):
            step = int(rng.integers(0, 1500))
            pieces.append(online.accept(samples[at : at + step]))
            at += step
        pieces.append(online.finish())
        assert np.array_equal(np.concatenate(pieces), MEL.whole(samples))
        assert len(MEL.whole(samples)) == (1 + length // 160 if length else 0)
        assert online.finish().shape == (0, 80)


def test_a_frame_is_there_12_5_ms_after_its_middle_and_never_changes():
    samples, online = noise(4000), MEL.online()
    assert len(online.accept(samples[:200])) == 0
    first = online.accept(samples[200:201])  # the beginning is mirrored without its first sample
    assert np.array_equal(first, MEL.whole(samples)[:1])
    assert len(online.accept(samples[201:359])) == 0 and len(online.accept(samples[359:360])) == 1


def test_a_finished_stream_and_stereo_are_refused():
    online = MEL.online()
    online.finish()
    with pytest.raises(ValueError, match="finished"):
        online.accept(noise(10))
    with pytest.raises(ValueError, match="mono"):
        MEL.online().accept(np.zeros((10, 2), np.float32))


def test_every_front_end_keeps_the_contract():
    assert base.USUAL in plugins.names(base.ROOM) and len(plugins.names(base.ROOM)) > 1
    said = []
    for name in plugins.names(base.ROOM):
        frontend = base.load(name)
        said.append(frontend.settings())
        whole = frontend.whole(noise(3000))
        assert whole.dtype == np.float32 and whole.shape[1] == features.BINS
        np.testing.assert_allclose(frontend.in_bulk(noise(3000)), whole, atol=4e-3)
    assert all(said.count(one) == 1 for one in said), "prepared speech would be taken for another's"
    assert base.load(base.kind_of({})).settings() == features.settings()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    items = {
        "train": write_split(tmp_path, "train", 3, 1),
        "test": write_split(tmp_path, "test", 1, 2),
    }
    return give(monkeypatch, Stub(items))


def of_kind(kind: str, **changes) -> SpeechRecipe:
    return SpeechRecipe.of(replace(RECIPE, features={"kind": kind, "speed_change": 0}, **changes))


def test_prepared_speech_has_the_features_that_the_recipe_names(corpus):
    usual, other = (Prepared(prepare.prepare(of_kind(k))) for k in ("fbank", "torchaudio_mel"))
    assert usual.folder != other.folder and other.info["features"] == MEL.settings()
    row = other.rows("test")[0]
    wanted = MEL.whole(audio.read(row.audio))
    np.testing.assert_allclose(other.features(row, 1.0), wanted, atol=2e-2)  # half precision
    assert len(usual.features(usual.rows("test")[0], 1.0)) == len(wanted) - 1


def test_an_unknown_kind_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"features\.kind.*'mfcc'.*fbank, torchaudio_mel"):
        of_kind("mfcc")


@pytest.mark.slow
def test_a_run_is_continued_with_its_own_features_or_not_at_all(own_artifacts):
    run = standin.make_run(paths.runs())
    assert of_kind("fbank", init_from=run.name, tokens={}).vocabulary() == standin.SYMBOLS
    with pytest.raises(
        ValueError, match="standin has features.kind = 'fbank', got 'torchaudio_mel'"
    ):
        of_kind("torchaudio_mel", init_from=run.name, tokens={}).vocabulary()


@pytest.mark.slow
def test_a_packed_file_says_what_it_hears_and_what_cannot_hear_it_refuses(own_artifacts):
    run = standin.make_run(paths.runs())
    before = runtime.load(run, "s70", decoder="greedy")
    recipe = json.loads((run / paths.RECIPE).read_text())
    writing.write_json(run / paths.RECIPE, recipe | {"features": {"kind": "torchaudio_mel"}})
    loaded, sound = runtime.load(run, "s70", decoder="greedy"), noise(9000)
    assert type(before.frontend) is not type(loaded.frontend) is type(MEL)
    frames = []
    loaded.step = lambda window, *given: (
        frames.append(window[0]),
        type(loaded).step(loaded, window, *given),
    )[1]
    stream = loaded.stream()
    stream.accept(sound)
    stream.finish()
    size, before = 4 * loaded.chunk, loaded.timing.history
    seen = np.concatenate([window[before : before + size] for window in frames])
    right = loaded.normalized(MEL.whole(sound))
    assert np.array_equal(seen[: len(right)], right) and not seen[len(right) :].any()
    for refused in (
        lambda: runtime.flat(run, "s70"),
        lambda: export.check(run.name, ["s70"], "sherpa", False),
    ):
        with pytest.raises(ValueError, match="torchaudio_mel"):
            refused()


def test_the_look_ahead_of_a_model_is_that_of_its_features():
    made = [
        build.build(
            ResolvedRecipe(
                Recipe(
                    Choice("stub"),
                    Choice("conformer_ctc", {"blocks": 1}),
                    Choice("dense"),
                    features=f,
                )
            ),
            29,
            1,
        )[1].spec.lookahead_ms
        for f in ({}, {"kind": "torchaudio_mel"})
    ]
    assert made == [7.5, 2.5]
