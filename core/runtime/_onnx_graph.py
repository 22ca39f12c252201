"""The streaming step of conformer_ctc as an ONNX graph, built from a packed file by hand: no torch,
and no node of a branch that does not run.

Letters: B streams, T frames of the chunk, S = LEFT + T, D width, H heads, d = D / H, K kernel.
Inputs: window [B, 3 + 4 T, bins] normalized; mask [B, 1, 1, S], 0 where a key is seen, else -1e9;
of every running attention keys.<i> [B, H, d, LEFT] and values.<i> [B, H, LEFT, d]; of every
running convolution history.<i> [B, D, K - 1]. Outputs: log_probs [B, T, V], then next.<input> of
each state.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.runtime._conformer import LEFT, Shape, running

OPSET = 20  # the first with Gelu
IR = 10
EPSILON = 1e-5  # torch's, of LayerNorm
END = np.iinfo(np.int64).max


def build(shape: Shape, tensors: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The graph with the weights of `tensors` (see _conformer.checked)."""
    return _Builder(shape, tensors).model()


def states(shape: Shape, tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """{state input: its shape behind B}, in the graph's order."""
    size = shape.width // shape.heads
    found: dict[str, tuple[int, ...]] = {}
    for i, branches in enumerate(running(shape, tensors)):
        if "convolution" in branches:
            found[f"history.{i}"] = (shape.width, shape.kernel - 1)
        if "attention" in branches:
            found[f"keys.{i}"] = (shape.heads, size, LEFT)
            found[f"values.{i}"] = (shape.heads, LEFT, size)
    return found


class _Builder:
    def __init__(self, shape: Shape, tensors: dict[str, np.ndarray]):
        self.shape, self.tensors = shape, tensors
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def model(self) -> onnx.ModelProto:
        s = self.shape
        x = self._subsampling("window")
        for i, branches in enumerate(running(s, self.tensors)):
            for branch in branches:
                at = f"blocks.{i}.{branch}"
                y = getattr(self, "_" + branch.rstrip("_12"))(self._norm(x, f"{at}.norm"), at, i)
                if branch.startswith("feed_forward"):
                    y = self._op("Mul", y, self._constant("half", np.float32(0.5)))
                x = self._op("Add", x, y)
            x = self._norm(x, f"blocks.{i}.norm")
        self._op("LogSoftmax", self._linear(x, "head"), to="log_probs", axis=-1)
        state: dict[str, tuple[str | int, ...]] = {
            n: ("B", *dims) for n, dims in states(s, self.tensors).items()
        }
        inputs: dict[str, tuple[str | int, ...]] = {"window": ("B", "frames", s.bins)}
        if any(name.startswith("keys") for name in state):
            inputs["mask"] = ("B", 1, 1, "S")
        outputs: dict[str, tuple[str | int, ...]] = {"log_probs": ("B", "T", s.vocabulary)}
        outputs |= {f"next.{n}": dims for n, dims in state.items()}
        graph = helper.make_graph(
            self.nodes,
            "conformer_ctc",
            [_value(n, dims) for n, dims in (inputs | state).items()],
            [_value(n, dims) for n, dims in outputs.items()],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR)

    def _op(self, kind: str, *inputs: str, to: str = "", **attributes) -> str:
        out = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def _constant(self, name: str, value) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def _weight(self, name: str) -> str:
        return self._constant(name, self.tensors[name])

    def _linear(self, x: str, name: str) -> str:
        """[B, T, C] -> [B, T, R]."""
        weight = self._constant(f"{name}.weight", self.tensors[f"{name}.weight"].T)
        y = self._op("MatMul", x, weight)
        bias = f"{name}.bias"
        return self._op("Add", y, self._weight(bias)) if bias in self.tensors else y

    def _norm(self, x: str, name: str) -> str:
        weights = (self._weight(f"{name}.weight"), self._weight(f"{name}.bias"))
        return self._op("LayerNormalization", x, *weights, axis=-1, epsilon=EPSILON)

    def _silu(self, x: str) -> str:
        return self._op("Mul", x, self._op("Sigmoid", x))

    def _subsampling(self, x: str) -> str:
        x = self._op("Transpose", x, perm=[0, 2, 1])
        for name in ("subsampling.first", "subsampling.second"):
            weights = (self._weight(f"{name}.weight"), self._weight(f"{name}.bias"))
            x = self._op("Gelu", self._op("Conv", x, *weights, strides=[2], kernel_shape=[3]))
        return self._op("Transpose", x, perm=[0, 2, 1])

    def _feed_forward(self, x: str, at: str, _: int) -> str:
        return self._linear(self._silu(self._linear(x, f"{at}.up")), f"{at}.down")

    def _convolution(self, x: str, at: str, i: int) -> str:
        wide = self._op("Transpose", self._linear(x, f"{at}.expand"), perm=[0, 2, 1])
        half, gate = f"{at}.half", f"{at}.gate"
        self.nodes.append(helper.make_node("Split", [wide], [half, gate], axis=1, num_outputs=2))
        new = self._op("Mul", half, self._op("Sigmoid", gate))
        both = self._op("Concat", f"history.{i}", new, axis=2)  # [B, D, K - 1 + T]
        self._last(both, 2, self.shape.kernel - 1, f"next.history.{i}")
        y = self._op(
            "Conv",
            both,
            self._weight(f"{at}.depthwise.weight"),
            self._weight(f"{at}.depthwise.bias"),
            group=self.shape.width,
            kernel_shape=[self.shape.kernel],
        )
        y = self._norm(self._op("Transpose", y, perm=[0, 2, 1]), f"{at}.inner_norm")
        return self._linear(self._silu(y), f"{at}.project")

    def _attention(self, x: str, at: str, i: int) -> str:
        size = self.shape.width // self.shape.heads
        q = self._heads(self._linear(x, f"{at}.query"), [0, 2, 1, 3])
        q = self._op("Mul", q, self._constant("scale", np.float32(size**-0.5)))
        k = self._heads(self._linear(x, f"{at}.key"), [0, 2, 3, 1])  # [B, H, d, T]
        k = self._op("Concat", f"keys.{i}", k, axis=3)
        self._last(k, 3, LEFT, f"next.keys.{i}")
        v = self._heads(self._linear(x, f"{at}.value"), [0, 2, 1, 3])
        v = self._op("Concat", f"values.{i}", v, axis=2)
        self._last(v, 2, LEFT, f"next.values.{i}")
        scores = self._op("Add", self._op("MatMul", q, k), "mask")
        y = self._op("MatMul", self._op("Softmax", scores, axis=-1), v)  # [B, H, T, d]
        y = self._op("Transpose", y, perm=[0, 2, 1, 3])
        y = self._op("Reshape", y, self._constant("joined", np.array([0, 0, -1])))
        return self._linear(y, f"{at}.out")

    def _heads(self, x: str, perm: list[int]) -> str:
        shape = self._constant("split", np.array([0, 0, self.shape.heads, -1]))
        return self._op("Transpose", self._op("Reshape", x, shape), perm=perm)

    def _last(self, x: str, axis: int, count: int, to: str) -> None:
        """The last `count` along an axis, as an output."""
        bounds = (
            self._constant(f"from.{count}", np.array([-count])),
            self._constant("end", np.array([END])),
            self._constant(f"axis.{axis}", np.array([axis])),
        )
        self._op("Slice", x, *bounds, to=to)


def _value(name: str, dims: tuple) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
