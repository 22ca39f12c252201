"""The default engine, ONNX Runtime: a streaming graph with the packed file's weights put in,
without torch; branches that the file does not hold are not in the graph.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from core.runtime import _conformer as conformer, _onnx_graph as graphs, base
from core.runtime._stream import ChunkStream

PRECISIONS = ("fp32", "int8")
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
UNSEEN = np.float32(-1e9)  # finite, as in core/layers/attention.py


def why_not(metadata: dict[str, Any], setup: base.Setup) -> str:
    """Why this engine cannot run the file so, "" where it can."""
    return conformer.why_not(metadata) or base.known_precision(setup.precision, PRECISIONS)


def load(
    data: bytes, tensors: dict[str, np.ndarray], metadata: dict[str, Any], setup: base.Setup
) -> OnnxRecognizer:
    """See core.runtime.load."""
    return OnnxRecognizer(data, tensors, metadata, setup)


class OnnxRecognizer(base.PackedRecognizer):
    """State: [cached frames B, one OrtValue per state input]."""

    def __init__(
        self,
        data: bytes,
        tensors: dict[str, np.ndarray],
        metadata: dict[str, Any],
        setup: base.Setup,
    ):
        shape = conformer.shape_of(metadata, base.tokenizer_of(metadata).size)
        tensors = conformer.checked(shape, tensors, metadata["subnet"]["head"])
        model = graphs.build(shape, tensors)
        self.states = graphs.states(shape, tensors)
        self.session = _session(model, setup.precision, setup.threads or 1)
        self.outputs = [o.name for o in self.session.get_outputs()]
        runtime = f"onnxruntime {onnxruntime.__version__}"
        super().__init__(data, metadata, conformer.Timing(), setup, runtime)

    def initial_state(self, batch: int) -> tuple[np.ndarray, list[Any]]:
        return np.zeros(batch, np.int64), [
            _value(np.zeros((batch, *dims), np.float32)) for dims in self.states.values()
        ]

    def step(self, window: np.ndarray, valid: np.ndarray, state: Any) -> tuple[Any, Any]:
        cached, values = state
        frames = (window.shape[1] - conformer.HISTORY) // conformer.FACTOR
        given = {"window": _value(window), **dict(zip(self.states, values))}
        if any(name.startswith("keys") for name in self.states):
            given["mask"] = _value(_mask(cached, valid, frames))
        said, *values = self.session.run_with_ort_values(self.outputs, given)
        return said.numpy(), (np.minimum(cached + frames, conformer.LEFT), values)

    def stream(self) -> ChunkStream:
        return ChunkStream(self)


def _value(array: np.ndarray) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _mask(cached: np.ndarray, valid: np.ndarray, frames: int) -> np.ndarray:
    """[B, 1, 1, LEFT + T]: 0 for the last `cached` [B] keys of the cache and the first `valid` [B]
    of the chunk, UNSEEN for the others.
    """
    at = np.arange(conformer.LEFT + frames) - conformer.LEFT
    seen = (at >= -cached[:, None]) & (at < valid[:, None])
    return np.where(seen, np.float32(0), UNSEEN)[:, None, None, :]


def _session(model: onnx.ModelProto, precision: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = model.SerializeToString() if precision == "fp32" else quantized(model)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def quantized(model: onnx.ModelProto) -> bytes:
    """The same graph with int8 weights, a scale per output, and activations quantized as they come
    (ONNX Runtime's dynamic quantization of matrix products).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.helper.set_model_props(model, PREPARED)  # else it warns that it could be simpler: it can't
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "int8.onnx")
        quantize_dynamic(
            model,
            file,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return file.read_bytes()
