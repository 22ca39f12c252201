"""The engine that runs only what is left: C over 8x1 blocks that are not zero, one thread, built by
the machine's own compiler when it is first used. No torch.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from core.runtime import _conformer as conformer, _flat, _native, base
from core.runtime._stream import ChunkStream


def why_not(metadata: dict[str, Any], setup: base.Setup) -> str:
    """Why this engine cannot run the file so, "" where it can."""
    if not _native.compiler():
        return _native.NO_COMPILER
    if (setup.threads or 1) != 1:
        return f"expected 1 thread, got {setup.threads}: it runs on one, use engine 'onnx' for more"
    return conformer.why_not(metadata) or base.known_precision(setup.precision, _flat.PRECISIONS)


def load(
    data: bytes, tensors: dict[str, np.ndarray], metadata: dict[str, Any], setup: base.Setup
) -> SparseRecognizer:
    """See core.runtime.load."""
    return SparseRecognizer(data, tensors, metadata, setup)


class SparseRecognizer(base.PackedRecognizer):
    """State: a _Stream of every utterance, made with the first chunk."""

    def __init__(
        self,
        data: bytes,
        tensors: dict[str, np.ndarray],
        metadata: dict[str, Any],
        setup: base.Setup,
    ):
        self.net = _Net(_flat.flat(tensors, metadata, setup.precision))
        super().__init__(data, metadata, conformer.Timing(), setup, "sparse 1")

    def initial_state(self, batch: int) -> list[_Stream | None]:
        return [None] * batch

    def step(self, window: np.ndarray, valid: np.ndarray, state: Any) -> tuple[Any, Any]:
        frames = (window.shape[1] - conformer.HISTORY) // conformer.FACTOR
        said = np.empty((len(window), frames, self.tokenizer.size), np.float32)
        state = [stream or _Stream(self.net, frames) for stream in state]
        for stream, one, real, out in zip(state, window, valid, said, strict=True):
            if real:
                stream.step(one, int(real), out)
        return said, state

    def stream(self) -> ChunkStream:
        return ChunkStream(self)


class _Net:
    """A flat file in C's memory."""

    def __init__(self, flat: bytes):
        lib, error = _native.library(), ctypes.c_char_p()
        self.handle = lib.supernet_open(flat, len(flat), ctypes.byref(error))
        if not self.handle:
            raise ValueError((error.value or b"out of memory").decode())
        weakref.finalize(self, lib.supernet_close, self.handle)


class _Stream:
    """One sound's state in C's memory; chunks of `frames` encoder frames."""

    def __init__(self, net: _Net, frames: int):
        self.net, lib = net, _native.library()  # the net must outlive the stream
        self.handle = lib.supernet_stream(net.handle, frames)
        if not self.handle:
            raise MemoryError(f"no memory for a stream of chunks of {frames} frames")
        weakref.finalize(self, lib.supernet_stream_close, self.handle)

    def step(self, window: np.ndarray, valid: int, out: np.ndarray) -> None:
        """window [3 + 4 T, 80] of which `valid` encoder frames are real -> out [T, V], filled."""
        window = np.ascontiguousarray(window, np.float32)
        _native.library().supernet_step(self.handle, window.ctypes.data, valid, out.ctypes.data)
