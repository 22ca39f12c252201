"""What the ONNX formats share: which models they hold, and a graph's description of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from core.export.base import PackedSubnet
from core.runtime import _conformer as conformer, _onnx_graph as graphs
from core.runtime.base import tokenizer_of
from core.runtime.onnx import quantized
from core.speech.frontends import base as frontends
from core.storage import packing, store

DOC = """Streaming conformer CTC encoder. B streams, T encoder frames of a chunk, one every 40 ms.
window [B, 3 + 4 T, bins]: log-mel features, (x - mean) / std, the last 3 frames of the chunk before
(zeros at the beginning) and then 4 T new ones. mask [B, 1, 1, 64 + T]: 0 for keys that are seen,
-1e9 for those of frames before the beginning or after the end. Every other input is a state, zeros
at the beginning; output next.NAME is the input NAME of the next chunk. log_probs [B, T, V]: blank
is 0. Any T; trained for T = {frames}. The property "supernet" says the "unit" of the tokens: words
are joined of pieces or letters, phonemes need a decoding graph."""
FRAMES = round(conformer.Timing.default_chunk_ms / conformer.Timing.frame_ms)  # T of a chunk


def why_not(run: Path) -> str:
    """Why a run's subnets cannot be held, "" where they can."""
    name = store.recipe(run).model.name
    return "" if name == conformer.MODEL else f"expected model {conformer.MODEL!r}, got {name!r}"


def why_not_with_sound(run: Path) -> str:
    """why_not() of a format whose reader computes features itself: it has but the usual ones."""
    kind = frontends.kind_of(store.recipe(run).features)
    usual = f"expected features.kind {frontends.USUAL!r}, got {kind!r}"
    return why_not(run) or ("" if kind == frontends.USUAL else usual)


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


def streaming(packed: PackedSubnet, precision: str) -> bytes:
    """The streaming encoder as a file: _onnx_graph's inputs and outputs, DOC says them again, and
    the metadata properties "supernet" (JSON) and "tokens".
    """
    model = graphs.build(*parts(packed))
    model.doc_string = DOC.format(frames=FRAMES)
    frames = {
        "chunk_frames": FRAMES,
        "left_context_frames": conformer.LEFT,
        "history_frames": conformer.HISTORY,
    }
    unit = {"unit": tokenizer_of(packed.content[1]).unit}
    properties = {
        "supernet": origin(packed, precision) | frames | unit,
        "tokens": packed.content[1]["tokens"],
    }
    return serialized(model, precision, properties)
