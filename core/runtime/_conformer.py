"""What engines without torch must know of core/models/conformer_ctc.py: its options, its timing,
and which tensors a packed file of it holds (a test keeps them equal to the model's own).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

MODEL = "conformer_ctc"
LEFT = 64  # encoder frames before a chunk that attention sees
HISTORY = 3  # feature frames before a chunk that the subsampling sees
FACTOR = 4  # feature frames of an encoder frame
BRANCHES = ("feed_forward_1", "convolution", "attention", "feed_forward_2")
DEFAULTS = {"blocks": 8, "width": 176, "expansion": 4, "heads": 4, "kernel": 15, "bins": 80}
PROJECTIONS = ("query", "key", "value", "out")  # of an attention; the key has no bias


@dataclass(frozen=True)
class Timing:
    """See base.Timing."""

    decoding: str = "ctc"
    frame_ms: float = 40.0
    chunks: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    default_chunk_ms: float = 320.0
    history: int = HISTORY
    ahead: int = 0


@dataclass(frozen=True)
class Shape:
    """Sizes of one net, as its options name them; vocabulary counts the blank."""

    blocks: int
    width: int
    hidden: int
    heads: int
    kernel: int
    bins: int
    vocabulary: int


def why_not(metadata: dict[str, Any]) -> str:
    """ "" for a packed file of this model, else which model came."""
    name = metadata["model"]["name"]
    return "" if name == MODEL else f"model {name!r} is not {MODEL!r}: use engine 'torch'"


def shape_of(metadata: dict[str, Any], vocabulary: int) -> Shape:
    """The sizes that the file's options say."""
    o = DEFAULTS | metadata["model"]["options"]
    return Shape(
        o["blocks"],
        o["width"],
        o["width"] * o["expansion"],
        o["heads"],
        o["kernel"],
        o["bins"],
        vocabulary,
    )


def running(shape: Shape, tensors: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """Of every block, the branches that the file holds: the others are not run."""
    return [
        tuple(b for b in BRANCHES if f"blocks.{i}.{b}.norm.weight" in tensors)
        for i in range(shape.blocks)
    ]


def checked(shape: Shape, tensors: dict[str, np.ndarray], head: int) -> dict[str, np.ndarray]:
    """The tensors of this size, the output layer as `head`; ValueError for one that is missing or
    of another shape.
    """
    wanted = dict(_shapes(shape, running(shape, tensors)))
    found = {n.replace(f"heads.{head}.", "head."): t for n, t in tensors.items()}
    for name, size in wanted.items():
        if name not in found:
            raise ValueError(f"the file's weights lack {name!r}, which model {MODEL!r} needs")
        if found[name].shape != size:
            raise ValueError(
                f"the file's weights do not fit model {MODEL!r}: expected {name!r} of shape {size},"
                f" got {found[name].shape}"
            )
    return {name: found[name] for name in wanted}


def _shapes(s: Shape, branches: list[tuple[str, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and shape, in the order in which a chunk meets them."""
    yield "subsampling.first.weight", (s.width, s.bins, 3)
    yield "subsampling.first.bias", (s.width,)
    yield "subsampling.second.weight", (s.width, s.width, 3)
    yield "subsampling.second.bias", (s.width,)
    for i, running in enumerate(branches):
        for branch in running:
            for name, shape in _branch(branch, s):
                yield f"blocks.{i}.{branch}.{name}", shape
        yield f"blocks.{i}.norm.weight", (s.width,)
        yield f"blocks.{i}.norm.bias", (s.width,)
    yield "head.weight", (s.vocabulary, s.width)
    yield "head.bias", (s.vocabulary,)


def _branch(branch: str, s: Shape) -> list[tuple[str, tuple[int, ...]]]:
    width, wide, hidden = (s.width,), (2 * s.width,), (s.hidden,)
    norm = [("norm.weight", width), ("norm.bias", width)]
    if branch == "convolution":
        return [
            *norm,
            ("expand.weight", wide + width),
            ("expand.bias", wide),
            ("depthwise.weight", (s.width, 1, s.kernel)),
            ("depthwise.bias", width),
            ("inner_norm.weight", width),
            ("inner_norm.bias", width),
            ("project.weight", width + width),
            ("project.bias", width),
        ]
    if branch == "attention":
        names = [f"{part}.{kind}" for part in PROJECTIONS for kind in ("weight", "bias")]
        names.remove("key.bias")
        return norm + [(n, width * (2 if n.endswith("weight") else 1)) for n in names]
    return [
        *norm,
        ("up.weight", hidden + width),
        ("up.bias", hidden),
        ("down.weight", width + hidden),
        ("down.bias", width),
    ]
