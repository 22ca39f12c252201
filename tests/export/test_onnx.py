"""The ONNX file alone, by NumPy and ONNX Runtime, gives our tokens."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from core import export, runtime
from core.decoding import ctc
from core.export.base import PackedSubnet
from core.speech.features import fbank
from core.storage import store
from tests import standin
from tests.runtime.test_engines import DEPTH, shipped_samples
from tests.runtime.test_recognizer import sounds


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


def file_of(run, size: str, precision: str = "fp32") -> tuple[str, bytes]:
    folder = store.folder_of(run)
    subnet = store.subnet(folder, size)
    packed = PackedSubnet(folder, subnet, runtime.packed(folder, size))
    (named,) = export.check_format("onnx", precision == "int8").files(packed, precision)
    return named


def alone(data: bytes, features: np.ndarray) -> list[int]:
    """Token ids, with nothing but what the file says of itself."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["supernet"])
    mean, std = (np.array(said["statistics"][n], np.float32) for n in ("mean", "std"))
    before, left, size = said["history_frames"], said["left_context_frames"], said["chunk_frames"]
    state = {
        i.name: np.zeros([d if isinstance(d, int) else 1 for d in i.shape], np.float32)
        for i in session.get_inputs()
        if i.name not in ("window", "mask")
    }
    outputs, decoder = [o.name for o in session.get_outputs()], ctc.GreedyState()
    count = -(-len(features) // 4)
    padded = np.zeros((before + -(-count // size) * size * 4, len(mean)), np.float32)
    padded[before : before + len(features)] = (features - mean) * (1 / std)
    for k in range(-(-count // size)):
        places = np.arange(left + size) - left + k * size
        seen = (places >= 0) & (places < count)
        given = {
            "window": padded[None, k * size * 4 :][:, : before + 4 * size],
            "mask": np.where(seen, 0, -1e9).astype(np.float32)[None, None, None],
        }
        found = dict(zip(outputs, session.run(outputs, given | state)))
        decoder.accept(found["log_probs"][0, : count - k * size])
        state = {name: found[f"next.{name}"] for name in state}
    return decoder.ids


@pytest.mark.slow
@pytest.mark.parametrize("size", ["dense", "s70"])
def test_the_file_alone_gives_our_tokens(run, size):
    name, data = file_of(run, size)
    assert name == f"{size}.onnx"
    waves = [fbank(w) for w in sounds(3)]
    right = standin.reference(run, size).tokens(waves)
    assert [alone(data, w) for w in waves] == right and any(right)


@pytest.mark.slow
def test_a_shipped_subnet_of_fewer_branches_is_smaller_and_gives_our_text():
    data, features = file_of(DEPTH, "d16")[1], fbank(shipped_samples()[0])
    assert len(data) < 0.6 * len(file_of(DEPTH, "dense")[1])
    assert [alone(data, features)] == runtime.load(DEPTH, "d16").tokens([features])


@pytest.mark.slow
def test_int8_is_the_engine_s_and_says_what_it_is(run):
    name, data = file_of(run, "s50", "int8")
    assert name == "s50.int8.onnx" and len(data) < 0.6 * len(file_of(run, "s50")[1])
    features = fbank(sounds(1)[0])
    heard = runtime.load(run, "s50", engine="onnx", precision="int8")
    assert [alone(data, features)] == heard.tokens([features])
    properties = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    assert set(properties) == {"supernet", "tokens"}
    said = json.loads(properties["supernet"])
    assert (said["run"], said["subnet"], said["precision"]) == ("standin", "s50", "int8")
    assert said["unit"] == "words"
    assert properties["tokens"] == (run / "tokens.txt").read_text()
    assert file_of(run, "s50", "int8")[1] == data, "the same file each time"
