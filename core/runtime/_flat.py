"""A packed file as C reads it (native/supernet.h): one flat little-endian file of 8x1 blocks that
are not zero, in the order in which a chunk meets them, with a checksum. No torch.

Layout: 64 bytes of header (magic, version, CRC-32 of what follows from byte 16, size, eight
numbers), then arrays, each padded to 32 bytes: mean, 1 / std, tokens, the matrices and vectors of
_conformer.checked. A matrix is [rows, columns, blocks, kind], the first block of every 8 rows,
columns uint16, values fp16 [blocks, 8] or int8 [blocks / 2, 8, 2] with a scale per row, bias.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.runtime import _conformer as conformer, base
from core.runtime._conformer import BRANCHES

MAGIC, VERSION, HEADER, ALIGN, LANES = b"SUPERNET", 1, 64, 32, 8
HALF, BYTES = 0, 1
PRECISIONS = ("fp32", "int8")
MOST = 127  # of an int8 weight


def flat(tensors: dict[str, np.ndarray], metadata: dict[str, Any], precision: str) -> bytes:
    """The flat file of an unpacked file's tensors and metadata; "int8" rounds the matrices of the
    blocks, "fp32" keeps every weight as packed.
    """
    tokenizer = base.tokenizer_of(metadata)
    shape = conformer.shape_of(metadata, tokenizer.size)
    tensors = conformer.checked(shape, tensors, metadata["subnet"]["head"])
    tokens = "".join(f"{symbol}\n" for symbol in tokenizer.joinable()).encode()
    statistics = metadata["statistics"]
    mean, std = (np.asarray(statistics[n], np.float32) for n in ("mean", "std"))
    writer = _Writer(tensors, BYTES if precision == "int8" else HALF)
    for part in (mean, np.float32(1.0) / std, np.frombuffer(tokens, np.uint8)):
        writer.array(part)
    for name in ("subsampling.first", "subsampling.second"):
        weight = tensors[f"{name}.weight"].transpose(0, 2, 1)  # [D, 3, inputs]: frames in a row
        writer.matrix(weight.reshape(len(weight), -1), tensors[f"{name}.bias"], HALF)
    for i, branches in enumerate(conformer.running(shape, tensors)):
        writer.array(np.array([sum(1 << BRANCHES.index(b) for b in branches)], np.int32))
        for branch in branches:
            writer.branch(f"blocks.{i}.{branch}")
        writer.norm(f"blocks.{i}.norm")
    writer.matrix(tensors["head.weight"], tensors["head.bias"], HALF)
    body = b"".join(writer.parts)
    facts = (shape.blocks, shape.width, shape.hidden, shape.heads, shape.kernel, shape.bins)
    rest = struct.pack("<Q8i8x", HEADER + len(body), *facts, shape.vocabulary, len(tokens)) + body
    return MAGIC + struct.pack("<II", VERSION, zlib.crc32(rest)) + rest


@dataclass
class _Writer:
    tensors: dict[str, np.ndarray]
    kind: int

    def __post_init__(self) -> None:
        self.parts: list[bytes] = []

    def array(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values).tobytes()
        self.parts.append(data + bytes(-len(data) % ALIGN))

    def norm(self, name: str) -> None:
        self.array(self.tensors[f"{name}.weight"])
        self.array(self.tensors[f"{name}.bias"])

    def branch(self, at: str) -> None:
        self.norm(f"{at}.norm")
        if at.endswith("convolution"):
            self.linear(f"{at}.expand")
            self.array(self.tensors[f"{at}.depthwise.weight"][:, 0].T)
            self.array(self.tensors[f"{at}.depthwise.bias"])
            self.norm(f"{at}.inner_norm")
            self.linear(f"{at}.project")
            return
        for name in (
            ("query", "key", "value", "out") if at.endswith("attention") else ("up", "down")
        ):
            self.linear(f"{at}.{name}")

    def linear(self, name: str) -> None:
        weight = self.tensors[f"{name}.weight"]
        bias = self.tensors.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        self.matrix(weight, bias, self.kind)

    def matrix(self, weight: np.ndarray, bias: np.ndarray, kind: int) -> None:
        """Weight [R, C] -> its blocks that are not zero, rows filled up to a multiple of 8."""
        rows, columns = -(-len(weight) // LANES) * LANES, weight.shape[1]
        full, wide = np.zeros((rows, columns), np.float32), np.zeros(rows, np.float32)
        full[: len(weight)], wide[: len(bias)] = weight, bias
        scale = np.maximum(np.abs(full).max(1), np.float32(1e-12)) / np.float32(MOST)
        blocks = full.reshape(rows // LANES, LANES, columns).transpose(0, 2, 1)  # [R / 8, C, 8]
        kept = blocks.any(2)
        group, column = np.nonzero(kept)
        values, counts = blocks[group, column], kept.sum(1)
        if kind == BYTES:
            values = np.rint(values / scale.reshape(-1, LANES)[group]).astype(np.int8)
            group, column, values, counts = _even(group, column, values, counts)
            values = values.reshape(-1, 2, LANES).transpose(0, 2, 1)
        self.array(np.array([rows, columns, len(column), kind], np.int32))
        self.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        self.array(column.astype(np.uint16))
        self.array(values if kind == BYTES else values.astype(np.float16))
        if kind == BYTES:
            self.array(scale)
        self.array(wide)


def _even(
    group: np.ndarray, column: np.ndarray, values: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The same blocks with one of zeros at the end of every group whose number is odd."""
    at = np.cumsum(counts)[counts % 2 == 1]
    return (
        np.insert(group, at, np.flatnonzero(counts % 2)),
        np.insert(column, at, 0),
        np.insert(values, at, 0, axis=0),
        counts + counts % 2,
    )
