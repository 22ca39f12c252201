"""What the ONNX formats share: which models they hold, and a graph's description of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from core.export.base import PackedSubnet
from core.runtime import _conformer as conformer
from core.runtime.base import tokenizer_of
from core.runtime.onnx import quantized
from core.storage import packing, store

FRAMES = round(conformer.Timing.default_chunk_ms / conformer.Timing.frame_ms)  # T of a chunk


def why_not(run: Path) -> str:
    """Why a run's subnets cannot be held, "" where they can."""
    name = store.recipe(run).model.name
    return "" if name == conformer.MODEL else f"expected model {conformer.MODEL!r}, got {name!r}"


def parts(packed: PackedSubnet) -> tuple[conformer.Shape, dict[str, np.ndarray]]:
    """Sizes and checked tensors of a packed subnet."""
    tensors, metadata = packed.content
    shape = conformer.shape_of(metadata, tokenizer_of(metadata).size)
    return shape, conformer.checked(shape, tensors, metadata["subnet"]["head"])


def origin(packed: PackedSubnet, precision: str) -> dict[str, Any]:
    """Which subnet a file holds, and what a program needs beside its graph."""
    metadata = packed.content[1]
    said = {n: metadata[n] for n in ("run", "method", "features", "statistics", "normaliser")}
    return said | {
        "subnet": metadata["subnet"]["name"],
        "sparsity": metadata["subnet"]["sparsity"],
        "packed_sha256": packing.sha256(packed.data),
        "precision": precision,
    }


def serialized(model: onnx.ModelProto, precision: str, properties: dict[str, Any]) -> bytes:
    """The file of a graph with these metadata properties, its matrices in this precision."""
    if precision == "int8":
        model = onnx.load_from_string(quantized(model))
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model,
        {
            n: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
            for n, v in properties.items()
        },
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()
