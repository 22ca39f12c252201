"""ONNX: the streaming encoder as one graph, for any program with ONNX Runtime.

Inputs and outputs: core/runtime/_onnx_graph.py, and the file's own doc string. The metadata
property "supernet" (JSON) says the mean and deviation that features are normalized with, "tokens"
what the outputs are.
"""

from __future__ import annotations

from pathlib import Path

from core.export import _conformer as parts, base
from core.records import Subnet

VERSION = 1


class Format(base.Format):
    """SUBNET.onnx or SUBNET.int8.onnx."""

    precisions = base.PRECISIONS

    def why_not(self, run: Path, subnet: Subnet) -> str:
        return parts.why_not(run)

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        ending = ".onnx" if precision == "fp32" else f".{precision}.onnx"
        yield packed.subnet.name + ending, parts.streaming(packed, precision)
