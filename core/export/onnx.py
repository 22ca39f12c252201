"""ONNX: the streaming encoder as one graph, for any program with ONNX Runtime.

Inputs and outputs: core/runtime/_onnx_graph.py, and the file's own doc string. The metadata
property "supernet" (JSON) says the mean and deviation that features are normalized with, "tokens"
what the outputs are.
"""

from __future__ import annotations

from pathlib import Path

from core.export import _conformer as parts, base
from core.records import Subnet
from core.runtime import _conformer as conformer, _onnx_graph as graphs

VERSION = 1
DOC = """Streaming conformer CTC encoder. B streams, T encoder frames of a chunk, one every 40 ms.
window [B, 3 + 4 T, bins]: log-mel features, (x - mean) / std, the last 3 frames of the chunk before
(zeros at the beginning) and then 4 T new ones. mask [B, 1, 1, 64 + T]: 0 for keys that are seen,
-1e9 for those of frames before the beginning or after the end. Every other input is a state, zeros
at the beginning; output next.NAME is the input NAME of the next chunk. log_probs [B, T, V]: blank
is 0. Any T; trained for T = {frames}."""


class Format(base.Format):
    """SUBNET.onnx or SUBNET.int8.onnx."""

    precisions = base.PRECISIONS

    def why_not(self, run: Path, subnet: Subnet) -> str:
        return parts.why_not(run)

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        model = graphs.build(*parts.parts(packed))
        model.doc_string = DOC.format(frames=parts.FRAMES)
        streaming = {
            "chunk_frames": parts.FRAMES,
            "left_context_frames": conformer.LEFT,
            "history_frames": conformer.HISTORY,
        }
        properties = {
            "supernet": parts.origin(packed, precision) | streaming,
            "tokens": packed.content[1]["tokens"],
        }
        ending = ".onnx" if precision == "fp32" else f".{precision}.onnx"
        yield packed.subnet.name + ending, parts.serialized(model, precision, properties)
