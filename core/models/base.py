"""What every model offers the rest: a forward pass with gates and noise, a loss, a spec, and a
streaming step.

Nobody asks a model for its name: what it can do, and which decoder reads its frames, it says
itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from core.data.batches import Batch
from core.layers.dropout import Noise
from core.records import BLOCK, Choice, ModelSpec
from core.registry import plugins
from core.speech import chunks


@dataclass
class Output:
    """log_probs [B, T, V] over tokens (0 is blank), lengths [B] in encoder frames, taps {block:
    hidden [B, T, D] as it reaches
    the output layer when no later block runs a branch}. Output layers are named heads.<k>. A
    transducer has no log_probs of a frame
    (they depend on the tokens before) but encodings [B, T, E] that its decoder reads.
    """

    log_probs: Tensor | None
    lengths: Tensor
    taps: dict[int, Tensor]
    encodings: Tensor | None = None

    @property
    def frames(self) -> Tensor:
        """What the model's decoder reads, [B, T, ...]."""
        frames = self.log_probs if self.encodings is None else self.encodings
        assert frames is not None  # a model gives one of both
        return frames

    def detached(self) -> Output:
        """The same without the way back to the weights."""
        return dataclasses.replace(
            self,
            log_probs=None if self.log_probs is None else self.log_probs.detach(),
            encodings=None if self.encodings is None else self.encodings.detach(),
        )


@dataclass(frozen=True)
class Cut:
    """Parts of a residual branch that can be gated (core/layers/parts.py): equal stretches of the
    outputs of `rows` and of the inputs
    of `columns`, all names of units.
    """

    parts: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def ctc_loss(
    log_probs: Tensor | None, lengths: Tensor, batch: Batch, reduction: str = "sum"
) -> Tensor:
    """CTC (Graves et al. 2006) summed over the batch, or [B] by "none". Whether labels fit the
    frames is checked by prepare.
    """
    assert log_probs is not None  # of a model with posteriors
    return F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.tokens,
        lengths,
        batch.token_lengths,
        blank=0,
        reduction=reduction,
        zero_infinity=True,
    )


class Model(nn.Module):
    """A streaming recognizer. `noise_width` random numbers per utterance feed its dropout."""

    options: Any  # the plug-in's Options
    vocabulary: int  # tokens, the blank counted
    noise_width: int
    posteriors = True  # whether its Output has log_probs, for distillation and CTC at taps
    decoding = "ctc"  # which decoders of core.decoding read its frames: ctc | transducer
    frame_ms = 40.0  # one encoder frame
    chunks: tuple[int, ...] = (
        0,
    )  # chunk lengths in encoder frames it can run with; 0 = full context
    default_chunk_ms = 320.0  # where nobody asks for one
    width_step = BLOCK  # widths are multiples of it
    history, ahead = 0, 0  # frames of 10 ms that stream() needs before and after those of its chunk

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
        """features [B, T, F] normalized, lengths [B] of 10 ms frames; chunk in encoder frames, 0 =
        full context.
        """
        raise NotImplementedError

    def loss(self, output: Output, batch: Batch, reduction: str = "sum") -> Tensor:
        """What training makes small: summed over the batch, or [B] by "none". CTC, unless a model
        says otherwise.
        """
        return ctc_loss(output.log_probs, output.lengths, batch, reduction)

    def read_out(self, hidden: Tensor, head: int = 0) -> Tensor:
        """hidden [B, T, D] (the last, or a tap) -> log_probs [B, T, V]."""
        raise NotImplementedError

    def spec(self) -> ModelSpec:
        raise NotImplementedError

    def can_have_width(self, width: int) -> bool:
        """Whether a model of these options could be so wide; asked of multiples of width_step."""
        return True

    def cuts(self) -> dict[str, Cut]:
        """{residual branch: how it can be cut}; the others are run whole or not at all."""
        return {}

    def initial_state(self, batch: int = 1) -> dict[str, Tensor]:
        """Fixed-shape tensors that carry a stream from chunk to chunk."""
        raise NotImplementedError

    def stream(
        self,
        window: Tensor,
        valid: Tensor,
        state: dict[str, Tensor],
        *,
        gates: dict | None = None,
        head: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """window [B, history + 4 c + ahead, F], of whose c encoder frames `valid` [B] are real ->
        (frames [B, c, ...] as
        Output.frames, state).
        """
        raise NotImplementedError

    def chunk_frames(self, chunk_ms: float, field: str = "chunk_ms") -> int:
        """Encoder frames of a chunk, 0 = full context; ValueError names the field and lists what is
        possible.
        """
        return chunks.frames(chunk_ms, self.frame_ms, self.chunks, field)


def options(choice: Choice) -> Any:
    """The typed options of a chosen model. ValueError names a wrong one."""
    return plugins.options("models", choice, "model")


def changed(choice: Choice, **options: Any) -> Choice:
    """The same model with other options."""
    return Choice(choice.name, {**choice.options, **options})


def build(choice: Choice, vocabulary: int) -> Model:
    """A freshly initialized model; `vocabulary` counts the blank. The caller seeds torch."""
    model: Model = plugins.load("models", choice.name).build(options(choice), vocabulary)
    return model


class _Caller(nn.Module):
    """A module whose forward pass is any work with the model it holds."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Model], Any]) -> Any:
        return work(self.model)


def with_weights(model: Model, weights: dict[str, Tensor], work: Callable[[Model], Any]) -> Any:
    """work(model) while the model's parameters are these: a loss and a decoder need the masked
    weights as a forward pass does.
    """
    return functional_call(_Caller(model), {f"model.{n}": w for n, w in weights.items()}, (work,))
