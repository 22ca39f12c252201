"""The recognizer: names as the model's, streams equal whole utterances whatever the packets, clear
errors.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from core import paths
from core.common import writing
from core.corpora._manifests import lines as manifest_lines
from core.registry import plugins
from core.speech import audio
from core.speech.features import fbank
from core.storage import packing, store
from tests import standin
from tests.standin import reference


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


def sounds(count, rng=None):
    """Tones and noise of 0.05-4 s: a random net says much about them, and different things."""
    rng = rng or np.random.default_rng(3)
    made = []
    for n in rng.integers(800, 64000, count):
        t = np.arange(n) / 16000
        tone = np.sin(
            2 * np.pi * np.cumsum(rng.uniform(100, 3000, n // 1600 + 1).repeat(1600)[:n]) / 16000
        )
        made.append((0.3 * tone + 0.05 * rng.normal(size=n) * np.sin(3 * t)).astype(np.float32))
    return made


def talkative(heard, features):
    """The same recognizer with an output layer that listens to what varies most: a random one
    repeats two tokens.
    """
    head, hidden = heard.model.heads[0], []
    hook = head.register_forward_hook(lambda module, given, made: hidden.append(given[0][0]))
    with torch.no_grad():
        for f in features:
            heard.model(
                torch.from_numpy(heard.normalized(f))[None], torch.tensor([len(f)]), chunk=8
            )
        hook.remove()
        frames = torch.cat(hidden)
        mean = frames.mean(0)
        _, scale, directions = torch.linalg.svd(frames - mean, full_matrices=False)
        torch.manual_seed(0)
        mixed = (
            torch.randn(len(head.bias), 8) @ (directions[:8] / scale[:8, None]) * len(frames) ** 0.5
        )
        head.weight.copy_(mixed)
        head.bias.copy_(-mixed @ mean)
    return heard


@pytest.mark.slow
def test_standin_has_the_names_of_the_real_model(run):
    recipe = store.recipe(run)
    module = plugins.load("models", recipe.model.name)
    model = module.build(
        plugins.make_options(module.Options, recipe.model.options, "model"), standin.SYMBOLS
    )
    assert {n: tuple(p.shape) for n, p in model.state_dict().items()} == standin.shapes(
        4, 32, 64, 5
    )
    assert model.spec().units == store.spec(run).units


@pytest.mark.slow
@pytest.mark.parametrize("chunk_ms", [160, 320, 1280, 0])
def test_stream_equals_whole_utterances(run, chunk_ms):
    heard = reference(run, "s50", chunk_ms)
    rng = np.random.default_rng(chunk_ms)
    waves = sounds(12)
    whole = heard.transcribe([fbank(w) for w in waves])
    assert len(set(whole)) > 6, "the stand-in must say different things"
    for wave, text in zip(waves, whole):
        stream, seen = heard.stream(), ""
        for packet in np.split(wave, np.sort(rng.integers(0, len(wave), rng.integers(0, 20)))):
            now = stream.accept(packet)
            assert now.startswith(seen)
            seen = now
        assert stream.finish() == text


@pytest.mark.slow
@pytest.mark.speech
def test_a_hundred_real_utterances_stream_token_identically(tmp_path, speech_root):
    """From raw samples in random packets through fbank to tokens, end flush included, in fp32."""
    rng, spoken = np.random.default_rng(0), []
    for name, count in (("librispeech.dev-heldout.jsonl", 20), ("speech_commands.test.jsonl", 80)):
        spoken += list(itertools.islice(manifest_lines(speech_root / "manifests" / name), count))
    waves = [audio.read(u.audio, u.offset, u.seconds) for u in spoken]
    features = [fbank(w) for w in waves]
    run, frames = standin.make_run(tmp_path, utterances=2), np.concatenate(features)
    writing.write_json(
        run / paths.FEATURE_STATISTICS, {"mean": frames.mean(0), "std": frames.std(0) / 2}
    )
    heard = talkative(reference(run, "s30"), features[:20])
    whole = [heard.tokens([f])[0] for f in features]
    assert sum(map(len, whole)) > 1000 and len(set(map(tuple, whole))) > 90
    for wave, ids, text in zip(waves, whole, heard.transcribe(features)):
        stream = heard.stream()
        for packet in np.split(wave, np.sort(rng.integers(0, len(wave), 1 + len(wave) // 4000))):
            stream.accept(packet)
        assert stream.finish() == text and stream.decoder.decoder.ids == ids


@pytest.mark.slow
def test_batching_does_not_change_text(run):
    heard = reference(run, "dense")
    features = [fbank(w) for w in sounds(7)]
    assert heard.transcribe(features) == [heard.transcribe([f])[0] for f in features]
    assert heard.transcribe([]) == [] and heard.transcribe([np.zeros((0, 80), np.float32)]) == [""]


@pytest.mark.slow
def test_run_file_and_bytes_give_the_same(run, tmp_path, monkeypatch):
    path = packing.write(run, store.subnet(run, "s80"), tmp_path / "s80.safetensors")
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(tmp_path / "artifacts"))
    standin.make_run(tmp_path / "artifacts" / "runs", utterances=2)
    features = [fbank(w) for w in sounds(3)]
    texts = [
        reference(s, "s80").transcribe(features) for s in (run, path, path.read_bytes(), "standin")
    ]
    assert texts[0] == texts[1] == texts[2] == texts[3]
    conditions = reference(path).conditions
    assert (conditions["subnet"], conditions["chunk_ms"], conditions["decoder"]) == (
        "s80",
        320.0,
        "greedy",
    )
    assert conditions["file_bytes"] == path.stat().st_size


@pytest.mark.slow
def test_long_sound_streams_in_bounded_state(run):
    stream = reference(run).stream()
    before = {n: t.shape for n, t in stream.state.items()}
    for second in np.split(sounds(1)[0][:16000].repeat(1).reshape(1, -1).repeat(20, 0), 20):
        stream.accept(second[0])
    assert {n: t.shape for n, t in stream.state.items()} == before
    assert sum(map(len, stream.waiting)) < 32


def test_bad_input_is_named(run, tmp_path):
    heard = reference(run)
    with pytest.raises(ValueError, match="s70"):
        reference(run, "s71")
    with pytest.raises(ValueError, match="0, 40, 80, 160"):
        reference(run, chunk_ms=300)
    with pytest.raises(ValueError, match="bf16"):
        reference(run, precision="int4")
    with pytest.raises(ValueError, match="neither"):
        reference(tmp_path / "nothing")
    with pytest.raises(ValueError, match="NaN"):
        heard.stream().accept(np.array([0.0, np.nan], np.float32))
    with pytest.raises(ValueError, match="int16"):
        heard.stream().accept(np.zeros(100, np.int16))
    with pytest.raises(ValueError, match="shape"):
        heard.stream().accept(np.zeros((100, 2), np.float32))
    with pytest.raises(ValueError, match="empty"):
        heard.stream().finish()
    with pytest.raises(ValueError, match="fbank"):
        heard.transcribe([np.zeros((10, 40), np.float32)])
    with pytest.raises(ValueError, match="chunk_ms=320"):
        reference(run, chunk_ms=0).transcribe([np.zeros((40_000, 80), np.float32)])
