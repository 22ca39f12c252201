"""The streaming graph with the inputs, outputs and metadata that sherpa-onnx's loader
`zipformer2_ctc` expects: order counts, names do not.

Inputs: x [N, 4 T, bins] raw fbank; of every block six states (keys [64, N, D], an unused one,
values [64, N, D], an unused one, convolution history [N, D, K - 1], an unused one); embed_states
[N, 128, 3, 19], whose first 3 x bins numbers are the last normalized features; processed_lens [N],
our count of cached frames. Outputs: log_probs [N, T, V], then the states. The loader for NeMo's
models is no choice: since 2.0.1 it computes other features.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.decoding.graph_search import Weights
from core.runtime import _onnx_graph as graphs
from core.runtime._conformer import FACTOR, HISTORY, LEFT, Shape

EMBED = (128, 3, 19)  # fixed in the loader
UNSEEN = np.float32(-1e9)
END = np.iinfo(np.int64).max


def metadata(shape: Shape, frames: int) -> dict[str, object]:
    """What the loader reads; `frames` T of a chunk."""
    size = shape.width // shape.heads
    return {
        "model_type": "zipformer2",
        "version": "1",
        "model_author": "supernet-asr",
        "T": FACTOR * frames,
        "decode_chunk_len": FACTOR * frames,
        "encoder_dims": shape.width,
        "query_head_dims": size,
        "value_head_dims": size,
        "num_heads": shape.heads,
        "num_encoder_layers": shape.blocks,
        "cnn_module_kernels": 2 * (shape.kernel - 1),  # the loader halves it
        "left_context_len": LEFT,
    }


def states(shape: Shape) -> dict[str, tuple]:
    """{state: its shape}, in the loader's order."""
    cache, history = (LEFT, "N", shape.width), ("N", shape.width, shape.kernel - 1)
    found: dict[str, tuple] = {}
    for i in range(shape.blocks):
        found[f"cached_key_{i}"] = cache
        found[f"cached_nonlin_attn_{i}"] = (1, "N", LEFT, 3 * shape.width // 4)
        found[f"cached_val1_{i}"] = found[f"cached_val2_{i}"] = cache
        found[f"cached_conv1_{i}"] = found[f"cached_conv2_{i}"] = history
    return found | {"embed_states": ("N", *EMBED), "processed_lens": ("N",)}


def build(
    shape: Shape,
    tensors: dict[str, np.ndarray],
    statistics: dict[str, list[float]],
    frames: int,
    weights: Weights | None,
) -> onnx.ModelProto:
    """The graph for chunks of T = `frames`; with `weights` the output is weighed as a decoding
    graph needs it, for sherpa-onnx has no such options.
    """
    inner, taken = graphs.build(shape, tensors), list(graphs.states(shape, tensors))
    adapter = _Adapter(shape, frames)
    adapter.before(statistics, taken)
    before, adapter.nodes = adapter.nodes, []
    adapter.after(taken)
    said = adapter.weighed("log_probs", weights) if weights else "log_probs"
    floats = {n: dims for n, dims in states(shape).items() if n != "processed_lens"}
    state = [_value(n, dims) for n, dims in floats.items()]
    new = [_value(f"new_{n}", dims) for n, dims in floats.items()]
    constants = [numpy_helper.from_array(v, n) for n, v in adapter.constants.items()]
    graph = helper.make_graph(
        [*before, *inner.graph.node, *adapter.nodes],
        "conformer_ctc_for_sherpa_onnx",
        [_value("x", ("N", FACTOR * frames, shape.bins)), *state, _count("processed_lens")],
        [_value(said, ("N", frames, shape.vocabulary)), *new, _count("new_processed_lens")],
        [*inner.graph.initializer, *constants],
    )
    return helper.make_model(graph, opset_imports=inner.opset_import, ir_version=inner.ir_version)


class _Adapter:
    """Nodes from sherpa-onnx's inputs to the inner graph's, and from its outputs back."""

    def __init__(self, shape: Shape, frames: int):
        self.shape, self.frames = shape, frames
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str, to: str = "", **attributes) -> str:
        out = to or f"sherpa.{len(self.constants)}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, value) -> str:
        name = f"sherpa.constant.{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def before(self, statistics: dict[str, list[float]], taken: list[str]) -> None:
        """window, mask and the states that the inner graph takes."""
        mean, std = (np.asarray(statistics[n], np.float32) for n in ("mean", "std"))
        x = self.op("Sub", "x", self.constant(mean))
        x = self.op("Mul", x, self.constant(np.float32(1) / std), to="normalized")
        flat = self.op("Reshape", "embed_states", self.constant([0, -1]), to="embed_flat")
        last = self._slice(flat, 0, HISTORY * self.shape.bins)
        last = self.op("Reshape", last, self.constant([0, HISTORY, self.shape.bins]))
        self.op("Concat", last, x, to="window", axis=1)
        self._mask()
        for name in taken:
            kind, _, i = name.partition(".")
            if kind == "history":
                self.op("Identity", f"cached_conv1_{i}", to=name)
            else:
                wanted = f"cached_{'key' if kind == 'keys' else 'val1'}_{i}"
                heads = self.op("Reshape", wanted, self.constant([0, 0, self.shape.heads, -1]))
                perm = [1, 2, 3, 0] if kind == "keys" else [1, 2, 0, 3]
                self.op("Transpose", heads, to=name, perm=perm)

    def after(self, taken: list[str]) -> None:
        """Every new state; those that the inner graph does not take are handed through."""
        last = self._slice("normalized", -HISTORY, END)
        last = self.op("Reshape", last, self.constant([0, -1]))
        rest = self._slice("embed_flat", HISTORY * self.shape.bins, END)
        embed = self.op("Concat", last, rest, axis=1)
        self.op("Reshape", embed, self.constant([0, *EMBED]), to="new_embed_states")
        count = self.op("Add", "processed_lens", self.constant([self.frames]))
        self.op("Min", count, self.constant([LEFT]), to="new_processed_lens")
        made = {"processed_lens", "embed_states"}
        for name in taken:
            kind, _, i = name.partition(".")
            wanted = {"keys": "cached_key", "values": "cached_val1", "history": "cached_conv1"}
            made.add(state := f"{wanted[kind]}_{i}")
            if kind == "history":
                self.op("Identity", f"next.{name}", to=f"new_{state}")
            else:
                perm = [3, 0, 1, 2] if kind == "keys" else [2, 0, 1, 3]
                heads = self.op("Transpose", f"next.{name}", perm=perm)
                self.op("Reshape", heads, self.constant([0, 0, -1]), to=f"new_{state}")
        for state in states(self.shape):
            if state not in made:
                self.op("Identity", state, to=f"new_{state}")

    def weighed(self, log_probs: str, weights: Weights) -> str:
        """(log_probs - blank penalty) x scale, as core/decoding/graph_search.py does."""
        penalty = np.zeros(self.shape.vocabulary, np.float32)
        penalty[0] = weights.blank_penalty
        less = self.op("Sub", log_probs, self.constant(penalty))
        scale = self.constant(np.float32(weights.scale))
        return self.op("Mul", less, scale, to="weighed_log_probs")

    def _mask(self) -> None:
        """0 for the chunk and the cached frames before it."""
        places = np.arange(LEFT + self.frames).reshape(1, 1, 1, -1) - LEFT
        count = self.op("Reshape", "processed_lens", self.constant([-1, 1, 1, 1]))
        seen = self.op("GreaterOrEqual", self.constant(places), self.op("Neg", count))
        self.op("Where", seen, self.constant(np.float32(0)), self.constant(UNSEEN), to="mask")

    def _slice(self, x: str, begin: int, end: int) -> str:
        """Along axis 1."""
        bounds = (self.constant([begin]), self.constant([end]), self.constant([1]))
        return self.op("Slice", x, *bounds)


def _value(name: str, dims: tuple) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def _count(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ("N",))
