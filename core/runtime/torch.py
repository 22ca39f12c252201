"""The reference engine, torch: dense matrices with zeros written out, so zeros save bytes here, not
time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from core import cost
from core.decoding import ctc, decoders
from core.models.base import Model, Output
from core.registry import plugins
from core.runtime import base
from core.runtime._stream import ChunkStream
from core.storage import packing

PRECISIONS = ("fp32", "bf16")


def why_not(metadata: dict[str, Any], setup: base.Setup) -> str:
    """Why this engine cannot run the file so, "" where it can: every model."""
    return base.known_precision(setup.precision, PRECISIONS)


def load(
    data: bytes, tensors: dict[str, np.ndarray], metadata: dict[str, Any], setup: base.Setup
) -> TorchRecognizer:
    """See core.runtime.load."""
    return TorchRecognizer(data, tensors, metadata, setup)


class TorchRecognizer(base.PackedRecognizer):
    """Every model that core/models has, transducers with their own search included."""

    def __init__(
        self,
        data: bytes,
        tensors: dict[str, np.ndarray],
        metadata: dict[str, Any],
        setup: base.Setup,
    ):
        if setup.threads:
            torch.set_num_threads(setup.threads)
        vocabulary = base.tokenizer_of(metadata).size
        self.model, self.gates = _build(metadata, tensors, vocabulary)
        self.head = metadata["subnet"]["head"]
        self.bf16 = setup.precision == "bf16"
        runtime = f"torch {torch.__version__.split('+')[0]}"
        super().__init__(data, metadata, self.model, setup, runtime)

    def initial_state(self, batch: int) -> dict[str, torch.Tensor]:
        return self.model.initial_state(batch)

    def step(self, window: np.ndarray, valid: np.ndarray, state: Any) -> tuple[Any, Any]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model.stream(
                torch.from_numpy(window),
                torch.from_numpy(valid),
                state,
                gates=self.gates,
                head=self.head,
            )

    def output(self, features: list[np.ndarray]) -> Output:
        """One forward pass over a batch of raw fbank [F, 80]."""
        lengths = torch.tensor([len(f) for f in features])
        batch = torch.zeros(len(features), int(lengths.max()), len(self.mean))
        for row, one in zip(batch, features):
            row[: len(one)] = torch.from_numpy(self.normalized(one))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model(batch, lengths, chunk=self.chunk, gates=self.gates, head=self.head)

    def ids(self, output: Output) -> list[list[int]]:
        decoder = ctc.GREEDY if self.graph is not None else self.decoder
        return decoders.whole(self.model, output, decoder, self.beam)

    def new_token_decoder(self) -> ctc.Decoder:
        return decoders.streaming(self.model, self.decoder, self.beam)

    def stream(self) -> ChunkStream:
        return ChunkStream(self)


def _build(
    metadata: dict, tensors: dict[str, np.ndarray], vocabulary: int
) -> tuple[Model, dict[str, float]]:
    """The model with the file's weights, and the gates of branches the file does not hold: these
    are not run.
    """
    name, options = metadata["model"]["name"], metadata["model"]["options"]
    module = plugins.load("models", name)
    model = module.build(plugins.make_options(module.Options, options, "model"), vocabulary)
    off = cost.branches_off(
        cost.with_pattern(model.spec(), metadata["subnet"]["pattern"]),
        metadata["subnet"]["keep"],
    )
    unused = {
        n: torch.zeros_like(t)
        for n, t in model.state_dict().items()
        if n not in tensors and (cost.belongs(n, off) or n.startswith(packing.HEADS))
    }
    try:
        model.load_state_dict(unused | {n: torch.from_numpy(t) for n, t in tensors.items()})
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the file's weights do not fit model {name!r} with options {options}: {error}"
        ) from None
    return model.eval(), dict.fromkeys(off, 0.0)
