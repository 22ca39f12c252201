"""All engines say what the reference says; those without torch need none; what cannot be is
named.
"""

from __future__ import annotations

import subprocess
import sys

import jiwer
import numpy as np
import pytest

from core import paths, runtime
from core.decoding import graph_search
from core.lm import arpa, estimation
from core.lm.languages import Language
from core.registry import plugins
from core.runtime import _conformer as conformer, _native, _onnx_graph, base, sparse
from core.speech import audio
from core.speech.features import fbank
from core.storage import packing, store
from tests import standin
from tests.runtime.test_recognizer import sounds

ENGINES = ("onnx", "sparse")
OMNI = "supernet"
DEPTH = "simple_topk-dropout0.05-outputs3-average0.98-70f30f28"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


def shipped_samples():
    return [audio.read(p) for p in sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[:3]]


def streamed(heard, wave, packet=4000):
    """(texts so far, whole text)."""
    stream = heard.stream()
    so_far = [stream.accept(wave[i : i + packet]) for i in range(0, len(wave), packet)]
    return so_far, stream.finish()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("chunk_ms", [40, 160, 320, 2560, 0])
def test_any_chunk_gives_the_reference_s_tokens(run, engine, chunk_ms):
    waves = sounds(5)
    features = [fbank(w) for w in waves]
    packed = runtime.packed(run, "s50")
    right = standin.reference(packed, chunk_ms=chunk_ms).tokens(features)
    heard = runtime.load(packed, engine=engine, chunk_ms=chunk_ms)
    assert heard.tokens(features) == right and len(set(map(tuple, right))) > 2
    for wave, ids in zip(waves, right):
        assert streamed(heard, wave)[1] == heard.tokenizer.decode(ids)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "size"), [(OMNI, "dense"), (OMNI, "u70"), (DEPTH, "dense"), (DEPTH, "d16")]
)
def test_shipped_samples_are_heard_as_the_reference_hears_them(engine, name, size):
    packed, waves = runtime.packed(name, size), shipped_samples()
    right = standin.reference(packed, decoder="greedy").tokens([fbank(w) for w in waves])
    heard = runtime.load(packed, engine=engine, decoder="greedy")
    for wave, ids in zip(waves, right):
        so_far, text = streamed(heard, wave)
        assert text == heard.tokenizer.decode(ids) != ""
        assert len(set(filter(None, so_far))) > 3, "partial results must grow"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_int8_stays_near_fp32(engine):
    """Other numbers, but at most one phoneme in ten of the shipped samples changes."""
    packed, features = runtime.packed(OMNI, "u70"), [fbank(w) for w in shipped_samples()]
    window, frames = features[0][None, 100:135].astype(np.float32), np.array([8])
    steps, texts = {}, {}
    for precision in ("fp32", "int8"):
        opened = runtime.load(packed, engine=engine, precision=precision, decoder="greedy")
        assert opened.conditions["precision"] == precision
        steps[precision] = opened.step(window, frames, opened.initial_state(1))[0]
        texts[precision] = opened.transcribe(features)
    assert np.abs(steps["fp32"] - steps["int8"]).max() > 0
    assert jiwer.wer(texts["fp32"], texts["int8"]) < 0.1


def test_branches_that_are_left_out_are_not_in_the_graph():
    tensors, metadata = packing.unpack(runtime.packed(DEPTH, "d16"))
    shape = conformer.shape_of(metadata, base.tokenizer_of(metadata).size)
    tensors = conformer.checked(shape, tensors, metadata["subnet"]["head"])
    branches = conformer.running(shape, tensors)
    assert sum(map(len, branches)) == 16
    graph = _onnx_graph.build(shape, tensors).graph
    norms = sum(node.op_type == "LayerNormalization" for node in graph.node)
    assert norms == 16 + shape.blocks + sum("convolution" in b for b in branches)
    assert {i.name for i in graph.input} - {"window", "mask"} == set(
        _onnx_graph.states(shape, tensors)
    )


def test_what_engines_know_of_the_model_is_the_model_s():
    module = plugins.load("models", conformer.MODEL)
    options = module.Options(blocks=2, width=16, expansion=3, heads=2, kernel=5, outputs=2)
    model = module.build(options, 11)
    tensors = {n: t.numpy() for n, t in model.state_dict().items()}
    metadata = {"model": {"name": conformer.MODEL, "options": vars(options)}}
    shape = conformer.shape_of(metadata, 11)
    found = conformer.checked(shape, tensors, 1)
    assert set(found) == {
        n.replace("heads.1.", "head.") for n in tensors if not n.startswith("heads.0.")
    }
    timing = conformer.Timing()
    for name in vars(timing):
        assert getattr(timing, name) == getattr(model, name), name
    assert vars(module.Options()).items() >= conformer.DEFAULTS.items()
    with pytest.raises(ValueError, match="lack 'blocks.1.norm.bias'"):
        conformer.checked(shape, {n: t for n, t in tensors.items() if n != "blocks.1.norm.bias"}, 0)
    with pytest.raises(ValueError, match=r"expected 'head.bias' of shape \(11,\), got \(10,\)"):
        conformer.checked(shape, tensors | {"heads.0.bias": np.zeros(10, np.float32)}, 0)


@pytest.mark.slow
def test_a_graph_finds_the_same_words_behind_every_engine(run, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_search, "FEWEST", 0)  # random weights are sure of nothing
    said = tmp_path / "said.arpa"
    said.write_text(arpa.write(estimation.estimate([["yes", "no"], ["stop", "go"]], 2)))
    features, texts = [fbank(w) for w in sounds(4)], {}
    for engine in ("torch", *ENGINES):
        heard = runtime.load(run, "dense", engine=engine, language=Language(str(said)))
        texts[engine] = heard.transcribe(features)
        assert heard.conditions["decoder"] == "graph"
    assert texts["onnx"] == texts["sparse"] == texts["torch"] and any(texts["torch"])


def test_auto_needs_no_compiler_and_leaves_transducers_to_torch(run, monkeypatch):
    monkeypatch.setattr(_native, "compiler", lambda: None)
    assert runtime.load(run).conditions["runtime"].startswith("onnxruntime ")
    transducer = next(p for p in paths.RELEASED.glob("omni-*"))
    assert runtime.load(transducer).conditions["runtime"].startswith("torch ")
    with pytest.raises(base.NotPossible, match="'emformer_transducer'.*use engine 'torch'"):
        runtime.load(transducer, engine="onnx")
    with pytest.raises(base.NotPossible, match="no flat file of this: model 'emformer_transducer'"):
        runtime.flat(transducer)
    with pytest.raises(base.NotPossible, match="install one, e.g. apt-get install gcc"):
        runtime.load(run, engine="sparse")


def test_a_folder_or_a_compiler_that_fails_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="set SUPERNET_ARTIFACTS.*use engine 'onnx'"):
        _native._compile("gcc", tmp_path / "file" / "supernet.so")
    with pytest.raises(ValueError, match="could not build the sparse engine.*use engine 'onnx'"):
        _native._compile("false", tmp_path / "supernet.so")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_is_named(run, monkeypatch):
    with pytest.raises(ValueError, match="no engine called 'tensorrt'.*onnx, sparse, torch"):
        runtime.load(run, engine="tensorrt")
    with pytest.raises(base.NotPossible, match="'int8' is unknown; allowed are fp32, bf16"):
        runtime.load(run, engine="torch", precision="int8")
    with pytest.raises(base.NotPossible, match="expected 1 thread, got 2"):
        runtime.load(run, engine="sparse", threads=2)
    monkeypatch.delitem(sys.modules, "core.runtime.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(base.NotPossible, match="onnxruntime is not installed: pip install onnxrun"):
        runtime.load(run, engine="onnx")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:-40], "cut off"),
        (lambda b: b + b"x", "behind its end"),
        (lambda b: b[:900] + bytes([b[900] ^ 1]) + b[901:], "checksum"),
        (lambda b: b[:8] + b"\2" + b[9:], "another version"),
        (lambda b: b"RIFF" + b[4:], "no flat file"),
        (lambda b: b[:20], "no flat file"),
        (lambda b: b"", "no flat file"),
    ],
)
def test_damaged_flat_files_are_refused(run, damage, words):
    whole = runtime.flat(run, "s80")
    sparse._Net(whole)
    with pytest.raises(ValueError, match=words):
        sparse._Net(damage(whole))


@pytest.mark.slow
def test_transcribing_imports_no_torch(run, tmp_path):
    file = packing.write(run, store.subnet(run, "s50"), tmp_path / "s50.safetensors")
    sample = next((paths.RELEASED / paths.SAMPLES).glob("*.opus"))
    code = (
        "import sys\nfrom core.cli import main as cli\n"
        "words = ['transcribe', sys.argv[1], 'dense', sys.argv[2]]\n"
        "assert cli.main(words) == cli.main([*words, '--decoder', 'greedy']) == 0\n"
        "assert 'onnxruntime' in sys.modules and 'torch' not in sys.modules\n"
        "from dashboard.model import transcription\n"
        "way = transcription.Way(tokens=True)\n"
        "opened = transcription.recognizer(open(sys.argv[1], 'rb').read(), 320, way)\n"
        "assert opened.conditions['runtime'].startswith('onnxruntime')\n"
        "assert 'torch' not in sys.modules, 'torch is loaded'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file, sample], cwd=paths.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.slow
def test_over_a_graph_the_tokens_are_those_the_net_says_greedily():
    """Error rates of phonemes are made of them."""
    wave = audio.read(sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[0])
    features = [fbank(wave), fbank(wave[: len(wave) // 2])]
    typed = Language("", "turn (on | off) the light\nstop")
    recognized = runtime.load(OMNI, "u90", engine="onnx", language=typed).recognize(features)
    right = runtime.load(OMNI, "u90", engine="onnx", decoder="greedy").tokens(features)
    assert [ids for _, ids in recognized] == right
    assert all(len(ids) > 5 for ids in right)
