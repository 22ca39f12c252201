"""Noise is not turned into words: the net itself must be sure that somebody speaks."""

from __future__ import annotations

import numpy as np
import pytest

from core import paths, runtime
from core.cli.main import main
from core.decoding.graph_search import GraphSearch
from core.lm import estimation
from core.lm.languages import Language
from core.speech import acoustics, audio
from tests.lm.test_graph import composed

RUN = "supernet"
GRAMMAR = "turn the (volume | radio) (up | down) in the (garden | kitchen)\nopen the kitchen blinds"


@pytest.fixture(scope="module")
def graph():
    return composed(estimation.estimate([["a", "be", "ab"], ["bee", "a"], ["abc"]], 2))


def said(*pairs: tuple[int, float]) -> np.ndarray:
    """Log-probabilities [T, 4] of frames: (token, its probability)."""
    rows = np.asarray([[(1 - p) / 3] * 4 for _, p in pairs])
    rows[np.arange(len(pairs)), [token for token, _ in pairs]] = [p for _, p in pairs]
    return np.log(rows).astype(np.float32)


def searched(graph, *frames: tuple[int, float]) -> GraphSearch:
    search = GraphSearch(graph)
    for frame in frames:  # one by one: a token may go on over a packet's end
        search.accept(said(frame))
    search.finish()
    return search


@pytest.mark.parametrize(
    ("frames", "speech"),
    [
        ([(0, 0.95)] * 20, False),
        ([(1, 0.4), (2, 0.45), (3, 0.4)] * 8, False),  # many tokens, none sure
        ([(0, 0.95), (1, 0.6), (1, 0.7), (1, 0.6), (0, 0.95)], False),  # one sure token
        ([(0, 0.95), (1, 0.6), (0, 0.95), (2, 0.6), (0, 0.9)], True),
        ([(0, 0.95), (1, 0.6), (0, 0.95), (1, 0.6), (0, 0.9)], True),  # the same twice
        ([(0, 0.95), (1, 0.92), (0, 0.9)], True),  # one certain token: a word may have no more
    ],
)
def test_words_need_tokens_that_the_net_is_sure_of(graph, frames, speech):
    search = searched(graph, *frames)
    assert search.speech is speech
    assert bool(search.text) is speech and bool(search.words) is speech


def test_the_token_between_words_is_no_sound(graph):
    import dataclasses

    frames = [(3, 0.99), (0, 0.9), (1, 0.6), (0, 0.9)]
    assert searched(graph, *frames).speech
    assert not searched(dataclasses.replace(graph, space=3), *frames).speech


# the shipped net


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        language = Language(lm="", grammar=GRAMMAR)
        yield {name: runtime.load(RUN, name, language=language) for name in ("dense", "u90")}


def heard(opened, samples: np.ndarray) -> list[str]:
    """What stands there after every second, and in the end."""
    stream, second = opened.stream(), audio.SAMPLE_RATE
    parts = [stream.accept(samples[i : i + second]) for i in range(0, len(samples), second)]
    return [*parts, stream.finish()]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["dense", "u90"])
@pytest.mark.parametrize("noise", ["silence", "white", "pink", "hum", "clicks"])
def test_no_noise_is_a_sentence(shipped, size, noise):
    rng = np.random.default_rng(3)
    samples = np.zeros(3 * audio.SAMPLE_RATE, np.float32)
    if noise == "clicks":
        samples[20000:20200] = 0.5
        samples += rng.standard_normal(len(samples)).astype(np.float32) * 1e-3
    elif noise != "silence":
        samples = acoustics.noise(noise, len(samples), rng)
        samples = (samples * 0.03 / acoustics.rms(samples)).astype(np.float32)
    assert set(heard(shipped[size], samples)) == {""}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["dense", "u90"])
def test_speech_is_still_heard(shipped, size):
    for name in ("4_volume_in_the_garden", "5_kitchen_blinds"):
        file = paths.RELEASED / paths.SAMPLES / f"{name}.opus"
        text = file.with_suffix(".txt").read_text().strip()
        assert heard(shipped[size], audio.read(file))[-1] == text


def test_the_command_line_says_so(shipped, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "load", lambda *a, **k: shipped["dense"])
    rng = np.random.default_rng(1)
    audio.write(tmp_path / "hiss.wav", rng.standard_normal(32000).astype(np.float32) * 0.02)
    assert main(["transcribe", RUN, "dense", str(tmp_path / "hiss.wav")]) == 0
    said = capsys.readouterr()
    assert "hiss.wav: no speech found" in said.err and said.out.endswith("hiss.wav\t\n")
