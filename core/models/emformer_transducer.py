"""Streaming transducer: torchaudio's Emformer encoder, a stateless or LSTM predictor, a joiner that
adds, the RNN-T loss.

The backbone of omni-sparsity (METHODS.md section 1) as torchaudio builds it (emformer_rnnt_base;
blank = 0 is ours, as sherpa-onnx wants it): 4 frames of 10 ms side by side make one of 40 ms,
segments of 16 + 4 frames of right context, 30 encoder frames (1.2 s) of left context: torchaudio
divides segment and right context by the stacking, not the left context. Its modules are built by
its own factory; the Emformer runs in core/layers/emformer.py. Ours: the stateless predictor, gates,
and dropout from given numbers in the Emformer's layers only (torchaudio also drops attention
weights, and 0.3 after each LSTM).

Letters: B utterances, T encoder frames of 40 ms, F bins, D width, E width of encodings, U tokens, V
tokens with blank = 0, S and R encoder frames of a segment and of its right context, N hypotheses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.models import emformer_rnnt_model

from core.layers import emformer
from core.layers.dropout import Noise
from core.layers.predictor import LSTM_LAYERS, Recurrent, Stateless
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
from core.records import BLOCK, FixedTensor, ModelSpec, option

VERSION = 1


@dataclass(frozen=True)
class Options:
    blocks: int = option(6, "number of Emformer layers", low=1, high=64)
    width: int = option(256, "model width D, a multiple of 32 and of heads", low=32, high=2048)
    expansion: int = option(4, "feed-forward hidden width over D", low=1, high=8)
    heads: int = option(4, "attention heads", low=1, high=32)
    segment: int = option(
        16,
        "10 ms frames of a segment, the one chunk of this model; a multiple of 4",
        low=4,
        high=256,
    )
    right_context: int = option(
        4, "10 ms frames seen after a segment; a multiple of 4, at most a segment", low=0, high=256
    )
    left_context: int = option(30, "encoder frames (40 ms) seen before a segment", low=0, high=512)
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


class EmformerTransducer(Transducer):
    def can_have_width(self, width: int) -> bool:
        return width % self.options.heads == 0

    def __init__(self, options: Options, vocabulary: int):
        super().__init__()
        _check(options)
        self.options, self.vocabulary = options, vocabulary
        self.chunks = (options.segment // FACTOR,)
        self.default_chunk_ms = self.chunks[0] * FRAME_MS
        self.ahead = options.right_context
        lstm = options.predictor == "lstm"
        built = emformer_rnnt_model(
            input_dim=options.bins,
            encoding_dim=options.joint,
            num_symbols=vocabulary,
            segment_length=options.segment,
            right_context_length=options.right_context,
            time_reduction_input_dim=options.width // FACTOR,
            time_reduction_stride=FACTOR,
            transformer_num_heads=options.heads,
            transformer_ffn_dim=options.width * options.expansion,
            transformer_num_layers=options.blocks,
            transformer_dropout=0.0,
            transformer_activation="gelu",
            transformer_left_context_length=options.left_context,
            transformer_max_memory_size=0,
            transformer_weight_init_scale_strategy="depthwise",
            transformer_tanh_on_mem=True,
            symbol_embedding_dim=options.embedding,
            num_lstm_layers=LSTM_LAYERS if lstm else 0,
            lstm_layer_norm=True,
            lstm_layer_norm_epsilon=1e-3,
            lstm_dropout=0.0,
        )
        self.transcriber, self.joiner = built.transcriber, built.joiner
        self.predictor = (
            Recurrent(built.predictor)
            if lstm
            else Stateless(vocabulary, options.embedding, options.joint)
        )
        self.noise_width = options.blocks * (2 + options.expansion) * options.width

    # the encoder

    def _stacked(self, features: Tensor) -> Tensor:
        """[B, 4 T, F] -> [B, T, D]."""
        lengths = torch.full((features.shape[0],), features.shape[1], device=features.device)
        return self.transcriber.time_reduction(self.transcriber.input_linear(features), lengths)[0]

    def _encodings(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, E]."""
        return self._typed(self.transcriber.layer_norm(self.transcriber.output_linear(x)))

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
        """features [B, T, F]: behind the end of each utterance they must be 0, the mean. chunk is
        its own, or 0 = not said.
        """
        assert chunk in (0, *self.chunks) and not head and not taps, (
            "chunk_frames() and the methods refuse these by name"
        )
        o = self.options
        features = F.pad(features, (0, 0, 0, -features.shape[1] % o.segment + o.right_context))
        x = emformer.whole(
            self.transcriber.transformer, self._stacked(features), _by_layer(gates), noise
        )
        lengths = out_lengths(lengths)
        return Output(None, lengths, {}, self._encodings(x[:, : int(lengths.max())]))

    def initial_state(self, batch: int = 1) -> dict[str, Tensor]:
        return {
            "cache": emformer.initial_cache(
                self.transcriber.transformer, batch, self.options.width
            ),
            "cached": torch.zeros(batch, dtype=torch.int64),
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
        """window [B, segment + right context, F], 0 behind the end of the sound; `valid` is not
        asked -> ([B, S, E], state).
        """
        x, cache = emformer.chunk(
            self.transcriber.transformer,
            self._stacked(window),
            state["cache"],
            state["cached"],
            _by_layer(gates),
        )
        cached = (state["cached"] + x.shape[1]).clamp(max=cache.shape[2])
        return self._encodings(x), {"cache": cache, "cached": cached}

    # what it is made of

    def spec(self) -> ModelSpec:
        """See Transducer; layers run (1 + R / S) times a frame, since right context is computed
        again.
        """
        units, fixed = self._records()
        o = self.options
        segment, right = o.segment // FACTOR, o.right_context // FACTOR
        keys = emformer.reach(self.transcriber.transformer) * segment + segment + right
        fixed += [
            FixedTensor(
                f"{_LAYERS}.{i}.attention.products",
                0,
                2 * keys * o.width * RATE * (1 + right / segment),
            )
            for i in range(o.blocks)
        ]
        return ModelSpec(
            "emformer_transducer",
            FRAME_MS,
            FBANK_LOOKAHEAD_MS + right * FRAME_MS,
            o.left_context * FRAME_MS,
            tuple(units),
            tuple(fixed),
        )

    def _place(self, name: str) -> tuple[str, int, str]:
        """Kind, layer and residual branch of a matrix; what is outside the layers counts to the
        first or after the last.
        """
        if name.startswith(_LAYERS):
            layer, branch = name.removeprefix(_LAYERS + ".").split(".")[:2]
            return (
                "attention" if branch == "attention" else "feed-forward",
                int(layer),
                f"{_LAYERS}.{layer}.{branch}",
            )
        kind = name.split(".")[0]
        return (
            "projection" if kind == "transcriber" else kind,
            0 if name.endswith("input_linear") else self.options.blocks,
            "",
        )

    def _runs(self, name: str) -> float:
        """How often a matrix is multiplied per encoder frame."""
        again = 1 + self.options.right_context / self.options.segment
        rates = {
            "transcriber.input_linear": FACTOR * again,
            _LAYERS: again,
            "predictor": TOKENS_PER_SECOND / RATE,
        }
        return next((r for prefix, r in rates.items() if name.startswith(prefix)), 1.0)


_LAYERS = "transcriber.transformer.emformer_layers"


def _by_layer(gates: dict | None) -> dict:
    """{branch name: gate} -> {(layer, branch): gate}."""
    by_layer = {}
    for name, gate in (gates or {}).items():
        layer, branch = name.removeprefix(_LAYERS + ".").split(".")
        by_layer[int(layer), branch] = gate
    return by_layer


def _check(o: Options) -> None:
    """ValueError that names the field, what came and what is allowed."""
    check_multiples(
        o,
        {
            "width": WIDTH_STEP,
            "segment": FACTOR,
            "right_context": FACTOR,
            "embedding": BLOCK,
            "joint": BLOCK,
        },
    )
    if o.width % o.heads:
        raise ValueError(f"model.heads is {o.heads}; it must divide model.width, {o.width}")
    if o.right_context > o.segment:
        raise ValueError(
            f"model.right_context is {o.right_context}; it must be from 0 to model.segment,"
            f" {o.segment}"
        )


def build(options: Options, vocabulary: int) -> EmformerTransducer:
    """A freshly initialized model as torchaudio initializes it; `vocabulary` counts the blank. The
    caller seeds torch.
    """
    return EmformerTransducer(options, vocabulary)
