"""Streaming transducer of LSTMs: the kind of network that CSP (Zhen et al. 2021) prunes, its input
and recurrent matrices as units.

Zhen et al. 2021 (arXiv 2102.04932; METHODS.md section 2) prune an RNN-T (Graves 2012); its sizes
could not be read, so all are ours, and so is the build: 4 frames of 10 ms side by side make one of
40 ms, as in models/emformer_transducer.py, then residual branches of LayerNorm and LSTM (a size may
do without some of them), no dropout but one number a channel behind each. No frame is heard before
its time or twice: chunks of any length give the same numbers, and the state carries all that came
before.

Letters: B utterances, T encoder frames of 40 ms, F bins, D width, H cells of a layer, E width of
encodings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.layers.conformer_block import gated
from core.layers.dropout import Noise, drop
from core.layers.lstm import LSTM
from core.layers.predictor import Joiner, predictor
from core.layers.subsampling import FACTOR, out_lengths
from core.models._transducer import (
    FBANK_LOOKAHEAD_MS,
    FRAME_MS,
    RATE,
    TOKENS_PER_SECOND,
    WIDTH_STEP,
    Transducer,
    check_multiples,
)
from core.models.base import Output
from core.records import BLOCK, ModelSpec, option

VERSION = 1


@dataclass(frozen=True)
class Options:
    blocks: int = option(5, "number of LSTM layers", low=1, high=64)
    width: int = option(384, "model width D, a multiple of 32", low=32, high=2048)
    expansion: int = option(
        1,
        "cells of a layer over D; where there are more, a projection brings their output back to D",
        low=1,
        high=8,
    )
    predictor: str = option(
        "stateless",
        "what reads the tokens said: the last two, or an LSTM of three layers over all",
        choices=("stateless", "lstm"),
    )
    embedding: int = option(
        256, "width of a token's embedding, and of the LSTM; a multiple of 8", low=8, high=4096
    )
    joint: int = option(
        256, "width of the encodings that the joiner adds; a multiple of 8", low=8, high=4096
    )
    dropout: float = option(
        0.1, "dropout of the dense net; subnets scale it by the share kept", low=0.0, high=0.9
    )
    bins: int = option(80, "feature bins", low=8, high=256)


class Layer(LSTM):
    """A residual branch: LayerNorm, then the LSTM."""

    def __init__(self, width: int, cells: int):
        super().__init__(width, cells)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(self.norm(x), hidden, cell)


class LSTMTransducer(Transducer):
    chunks = (0, 1, 2, 4, 8, 16, 32, 64)  # any would do

    def __init__(self, options: Options, vocabulary: int):
        super().__init__()
        check_multiples(options, {"width": WIDTH_STEP, "embedding": BLOCK, "joint": BLOCK})
        self.options, self.vocabulary = options, vocabulary
        self.input_linear = nn.Linear(options.bins, options.width // FACTOR, bias=False)
        self.layers = nn.ModuleList(
            Layer(options.width, options.width * options.expansion) for _ in range(options.blocks)
        )
        self.output_linear = nn.Linear(options.width, options.joint)
        self.output_norm = nn.LayerNorm(options.joint)
        self.predictor = predictor(options.predictor, vocabulary, options.embedding, options.joint)
        self.joiner = Joiner(options.joint, vocabulary)
        self.noise_width = options.blocks * options.width

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        *,
        chunk: int = 0,
        gates: dict | None = None,
        noise: Noise | None = None,
        head: int = 0,
        taps: tuple[int, ...] = (),
    ) -> Output:
        """features [B, T, F]: behind the end of each utterance they must be 0, the mean. The chunk
        is not asked.
        """
        assert not head and not taps, "the methods refuse these by name"
        features = F.pad(features, (0, 0, 0, -features.shape[1] % FACTOR))
        encodings, _ = self._encode(features, self.initial_state(len(features)), gates, noise)
        return Output(None, out_lengths(lengths), {}, encodings)

    def initial_state(self, batch: int = 1) -> dict[str, Tensor]:
        """Of every layer: what it said last, and its cells."""
        shape, device = (
            (
                batch,
                self.options.blocks,
                self.layers[0].cells,
            ),
            self.output_norm.weight.device,
        )
        return {
            "hidden": torch.zeros(shape, device=device),
            "cell": torch.zeros(shape, device=device),
        }

    def stream(
        self,
        window: Tensor,
        valid: Tensor,
        state: dict[str, Tensor],
        *,
        gates: dict | None = None,
        head: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """window [B, 4 c, F], 0 behind the end of the sound, after which nothing comes: `valid` is
        not asked.
        """
        return self._encode(window, state, gates)

    def _encode(
        self,
        features: Tensor,
        state: dict[str, Tensor],
        gates: dict | None,
        noise: Noise | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """[B, 4 T, F] after a state -> (encodings [B, T, E], the state after it). Of a layer that
        is not run it stays as it is.
        """
        x = self.input_linear(features).unflatten(1, (-1, FACTOR)).flatten(2)  # [B, T, D]
        hidden, cell = (list(state[n].unbind(1)) for n in ("hidden", "cell"))

        def run(i: int, y: Tensor) -> Tensor:
            said, hidden[i], cell[i] = self.layers[i](y, hidden[i], cell[i])
            return drop(said, noise)

        for i in range(len(self.layers)):
            x = gated(x, 1.0, (gates or {}).get(f"layers.{i}", 1.0), lambda y, i=i: run(i, y))
        after = {
            n: torch.stack(parts, 1).float() for n, parts in (("hidden", hidden), ("cell", cell))
        }
        return self._typed(self.output_norm(self.output_linear(x))), after

    # what it is made of

    def spec(self) -> ModelSpec:
        """See Transducer. No stretch of sound is seen again, so the left context is 0 ms: what came
        before is in the state.
        """
        units, fixed = self._records()
        return ModelSpec(
            "lstm_transducer", FRAME_MS, FBANK_LOOKAHEAD_MS, 0.0, tuple(units), tuple(fixed)
        )

    def _place(self, name: str) -> tuple[str, int, str]:
        """Kind, layer and residual branch of a matrix; what is outside the layers counts to the
        first or after the last.
        """
        if name.startswith("layers."):
            _, layer, kind = name.split(".")
            return kind, int(layer), f"layers.{layer}"
        kind = name.split(".")[0]
        if kind in ("input_linear", "output_linear"):
            return "projection", 0 if kind == "input_linear" else self.options.blocks, ""
        return kind, self.options.blocks, ""

    def _runs(self, name: str) -> float:
        """How often a matrix is multiplied per encoder frame."""
        if name.startswith("predictor"):
            return TOKENS_PER_SECOND / RATE
        return FACTOR if name.startswith("input_linear") else 1.0


def build(options: Options, vocabulary: int) -> LSTMTransducer:
    """A freshly initialized model: torch's own ranges, forget gates that remember; `vocabulary`
    counts the blank. The caller seeds
    torch.
    """
    return LSTMTransducer(options, vocabulary)
