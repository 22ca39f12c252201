"""Stock sherpa-onnx loads the bundle, computes our features and gives our text."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from core import export, paths, runtime
from core.data import test_sets
from core.decoding.graph_search import Weights
from core.export import _sherpa_graph as graphs, sherpa
from core.lm import arpa, estimation, languages
from core.lm.languages import Language
from core.pipelines import evaluate as evaluating
from core.records import Report
from core.runtime._conformer import Shape
from core.speech import audio, phones
from core.speech.features import fbank
from core.speech.tokenizer import BLANK_SYMBOL, Phonemes
from core.storage import store
from tests import standin
from tests.runtime.test_engines import DEPTH, OMNI, streamed
from tests.runtime.test_recognizer import sounds

sherpa_onnx = pytest.importorskip("sherpa_onnx")
STEPS = 1000  # of the probe's scale from -16 to 8


def exported(run: str | Path, size: str, folder: Path, int8: bool = False) -> Path:
    name = run if isinstance(run, str) else run.name
    lines = export.write(name, [size], folder, lambda *_: True, "sherpa", int8)
    assert len(lines) == 1 and lines[0].endswith(".onnx")
    return Path(lines[0].split("  ")[1]).parent


def heard(recognizer: sherpa_onnx.OnlineRecognizer, wave: np.ndarray, packet: int = 1600):
    """(number of partial results, whole result)."""
    stream, so_far = recognizer.create_stream(), set()
    for i in range(0, len(wave), packet):
        stream.accept_waveform(audio.SAMPLE_RATE, wave[i : i + packet])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
            so_far.add(recognizer.get_result(stream))
    return len(so_far), recognizer.get_result_all(stream)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "size"), [(OMNI, "u70"), (DEPTH, "d16")])
def test_it_gives_our_text_of_a_shipped_run(run, size, tmp_path, open_speech):
    folder = exported(run, size, tmp_path)
    ours, recognizer = runtime.load(run, size), sherpa.stock(folder)
    words: list[str] = []
    if (folder / "words.txt").is_file():
        words = [line.split()[0] for line in (folder / "words.txt").read_text().splitlines()]
    for file in sorted((folder / "test_wavs").glob("*.wav")):
        wave = np.concatenate([audio.read(file), sherpa.TAIL])
        partial, result = heard(recognizer, wave)
        text = " ".join(words[i] for i in result.words) if words else result.text.strip()
        assert text == streamed(ours, wave)[1] != "" and partial > 3


@pytest.mark.slow
def test_the_bundle_is_complete(tmp_path, open_speech):
    folder = exported(OMNI, "u70", tmp_path, int8=True)
    assert folder.name == "sherpa-u70-int8"
    wavs = ["1_dinner_in_half_an_hour.wav", "2_a_walk_in_the_rain.wav", "transcripts.txt"]
    assert sorted(p.name for p in (folder / "test_wavs").iterdir()) == wavs
    text = (folder / "README.md").read_text()
    for word in re.findall(r"([\w/.]+\.(?:onnx|txt|wav|fst))\b", text):
        assert (folder / word).is_file(), word
    assert text.partition("```")[2].partition("```")[0].strip().count("\n") == 2
    assert importlib.metadata.version("sherpa-onnx") == sherpa.TESTED
    wave = np.concatenate([audio.read(folder / "test_wavs" / wavs[0]), sherpa.TAIL])
    words = [line.split()[0] for line in (folder / "words.txt").read_text().splitlines()]
    result = heard(sherpa.stock(folder), wave)[1]
    assert "ready" in [words[i] for i in result.words]


@pytest.fixture
def phonemes(own_artifacts, tmp_path, monkeypatch):
    """A run of phonemes, and a small language model as that of open speech."""
    run = standin.make_run(paths.runs(), "phonemes")
    symbols = Phonemes([BLANK_SYMBOL, *phones.PHONES])
    (run / paths.TOKENS).write_text(symbols.tokens_txt())
    (run / paths.BPE).unlink()
    recipe = json.loads((run / paths.RECIPE).read_text())
    (run / paths.RECIPE).write_text(json.dumps(recipe | {"tokens": {"kind": "phonemes"}}))
    weights, random = load_file(run / paths.WEIGHTS), np.random.default_rng(3)
    weights["heads.0.weight"] = random.normal(0, 1.0, (symbols.size, 32)).astype(np.float16)
    weights["heads.0.bias"] = np.zeros(symbols.size, np.float16)
    save_file(weights, run / paths.WEIGHTS)
    shutil.rmtree(run / paths.REPORTS)
    said = tmp_path / "open.arpa"
    texts = [["yes", "no"], ["stop", "go"], ["seven", "nine", "one"]]
    said.write_text(arpa.write(estimation.estimate(texts, 2)))
    monkeypatch.setattr(languages, "shipped", lambda: said)
    return run


@pytest.mark.slow
def test_phonemes_come_with_the_graph_that_makes_words_of_them(phonemes, tmp_path):
    folder = exported(phonemes, "dense", tmp_path)
    words = [line.split()[0] for line in (folder / "words.txt").read_text().splitlines()]
    assert "seven" in words and "--ctc-graph=HLG.fst" in (folder / "README.md").read_text()
    model = onnxruntime.InferenceSession(folder / "model.onnx")
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in model.get_inputs()}
    given = {n: np.zeros(s, "i8" if n == "processed_lens" else "f4") for n, s in shapes.items()}
    weighed = model.run(None, given)[0][0].astype(float) / Weights().scale
    weighed[:, 0] += Weights().blank_penalty
    assert np.allclose(np.exp(weighed).sum(-1), 1), "weights of the search lie in the model"
    recognizer = sherpa.stock(folder)
    ours = runtime.load(phonemes, "dense", language=Language(), weights=Weights(beam=16))
    texts = []
    for wave in sounds(3):
        size = len(wave) // 5120 * 5120 + 5120  # whole chunks of 320 ms
        wave = np.concatenate([wave, np.zeros(size - len(wave) + 5120, np.float32)])
        result = heard(recognizer, wave)[1]
        texts.append(" ".join(words[i] for i in result.words))
        assert texts[-1] == streamed(ours, wave)[1]
    assert any(texts)


# measured


@pytest.fixture
def kitchen(phonemes, tmp_path):
    """The run, and a test set of three recordings."""
    (tmp_path / "kitchen").mkdir()
    for i, wave in enumerate(sounds(3)):
        (tmp_path / f"kitchen/a{i}.wav").write_bytes(audio.encode(wave))
        (tmp_path / f"kitchen/a{i}.txt").write_text("seven nine")
    test_sets.add("kitchen", tmp_path / "kitchen")
    return phonemes


def measured(run: Path, **decoding) -> list[Report]:
    options = {"engine": "sherpa", "repetitions": 100} | decoding
    return evaluating.evaluate(
        run.name, ["dense", "s70"], ["yours/kitchen"], lambda *_: True, decoding=options
    )


@pytest.mark.slow
def test_the_exported_folder_is_measured_in_stock_sherpa(kitchen):
    reports = measured(kitchen)
    assert [r.subnet for r in reports] == ["dense", "s70"]
    for report in reports:
        folder = exported(kitchen, report.subnet, kitchen.parent / report.subnet)
        size = (folder / "model.onnx").stat().st_size
        assert report.engine == "sherpa"
        assert report.runtime == f"sherpa-onnx {sherpa.TESTED}"
        assert report.file_bytes == size
        assert 0 < report.zstd_bytes < size
        assert (report.rtf, report.per) == (None, None)
        words = [line.split()[0] for line in (folder / "words.txt").read_text().splitlines()]
        recognizer = sherpa.stock(folder)
        rows = {row["id"]: row["hypothesis"] for row in store.hypotheses(*_key(kitchen, report))}
        for file in sorted((kitchen.parents[2] / "kitchen").glob("*.wav")):
            result = heard(recognizer, np.concatenate([audio.read(file), sherpa.TAIL]))[1]
            text = " ".join(words[i] for i in result.words)
            assert [t for i, t in rows.items() if i.endswith(file.stem)] == [text]
    assert reports[1].delta_wer is not None, "paired with dense in the same program"
    int8 = measured(kitchen, precision="int8")[0]
    assert int8.file_bytes < 0.6 * reports[0].file_bytes
    assert len([r for r in store.reports(kitchen) if r.engine == "sherpa"]) == 4


def _key(run: Path, report: Report) -> tuple:
    return (run, *paths.report_key(report))


def test_what_lies_fixed_in_the_files_is_not_asked_of_stock_sherpa(kitchen, monkeypatch):
    for name, value in {"scale": 1.0, "grammar": "commands", "decoder": "graph"}.items():
        with pytest.raises(ValueError, match=rf"evaluation\.{name} = .*or use engine 'onnx'"):
            measured(kitchen, **{name: value})
    with pytest.raises(ValueError, match="precision 'bf16'"):
        measured(kitchen, precision="bf16")
    with pytest.raises(ValueError, match="decodes on this machine only"):
        evaluating.evaluate(
            kitchen.name,
            [],
            ["yours/kitchen"],
            lambda *_: True,
            decoding={"engine": "sherpa"},
            spread=lambda *_: lambda _: None,
        )
    monkeypatch.setattr(sherpa.Format, "package", "sherpa-onnx-that-nobody-has")
    with pytest.raises(ValueError, match="pip install sherpa-onnx-that-nobody-has"):
        measured(kitchen)


# features


def probe(bin: int) -> bytes:
    """A model whose tokens are the value of one feature bin every 40 ms, the first by odd and even
    frames, so that no neighbors are equal.
    """
    shape = Shape(blocks=1, width=8, hidden=8, heads=1, kernel=3, bins=80, vocabulary=1 + 2 * STEPS)
    nodes, constants = [], {}

    def op(kind: str, *inputs: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [out := f"t{len(nodes)}"], **attributes))
        return out

    def constant(value) -> str:
        constants[name := f"c{len(constants)}"] = np.asarray(value)
        return name

    x = op("Slice", "x", constant([0]), constant([32]), constant([1]), constant([4]))
    x = op("Gather", x, constant(np.int64(bin)), axis=2)  # [N, 8]
    x = op("Div", op("Add", x, constant(np.float32(16))), constant(np.float32(24 / STEPS)))
    x = op("Clip", op("Round", x), constant(np.float32(0)), constant(np.float32(STEPS - 1)))
    x = op("Add", op("Mul", x, constant(np.float32(2))), constant(np.arange(8, dtype="f4") % 2 + 1))
    x = op("Cast", x, to=TensorProto.INT64)
    one = constant(np.array([0, 1], np.float32))
    hot = op("OneHot", x, constant(np.int64(shape.vocabulary)), one)
    nodes.append(helper.make_node("Identity", [hot], ["log_probs"]))
    value, states = helper.make_tensor_value_info, graphs.states(shape)
    inputs = [value("x", TensorProto.FLOAT, ("N", 32, 80))]
    outputs = [value("log_probs", TensorProto.FLOAT, ("N", 8, shape.vocabulary))]
    for name, dims in states.items():
        kind = TensorProto.INT64 if name == "processed_lens" else TensorProto.FLOAT
        inputs.append(value(name, kind, dims))
        outputs.append(value(f"new_{name}", kind, dims))
        nodes.append(helper.make_node("Identity", [name], [f"new_{name}"]))
    initial = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "probe", inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {n: str(v) for n, v in graphs.metadata(shape, 8).items()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("bin", [5, 40, 75])
def test_the_loader_computes_our_features(bin, tmp_path):
    tokens = ["<blk>", *(f"t{i}" for i in range(1, 1 + 2 * STEPS))]
    (tmp_path / "tokens.txt").write_text("".join(f"{t} {i}\n" for i, t in enumerate(tokens)))
    (tmp_path / "model.onnx").write_bytes(probe(bin))
    wave = audio.read(sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[0])
    result = heard(sherpa.stock(tmp_path), wave)[1]
    said = np.array([int(t[1:]) for t in result.tokens])
    got, wanted = (said - 1) // 2 * 24 / STEPS - 16, fbank(wave)[::4, bin]
    assert len(got) > 0.8 * len(wanted)
    assert np.abs(got - wanted[: len(got)]).max() < 0.6 * 24 / STEPS, "other features: other words"
