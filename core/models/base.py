"""What every model offers the rest: a forward pass with gates and noise, an anatomy, and a streaming step."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from core.layers.dropout import Noise
from core.records import Anatomy


@dataclass
class Output:
    """log_probs [B, T, V] over tokens (0 is blank), lengths [B] in encoder frames, taps {block: hidden [B, T, D] as it reaches
    the output layer when no later block runs a branch}. Output layers are named heads.<k>."""
    log_probs: Tensor
    lengths: Tensor
    taps: dict[int, Tensor]


class Model(nn.Module):
    """A streaming recogniser. `noise_width` random numbers per utterance feed its dropout."""
    noise_width: int

    def forward(self, features: Tensor, lengths: Tensor, *, chunk: int = 0, gates: dict | None = None,
                noise: Noise | None = None, head: int = 0, taps: tuple[int, ...] = ()) -> Output:
        """features [B, T, F] normalised, lengths [B] of 10 ms frames; chunk in encoder frames, 0 = full context."""
        raise NotImplementedError

    def read_out(self, hidden: Tensor, head: int = 0) -> Tensor:
        """hidden [B, T, D] (the last, or a tap) -> log_probs [B, T, V]."""
        raise NotImplementedError

    def anatomy(self) -> Anatomy:
        raise NotImplementedError

    def initial_state(self, batch: int = 1) -> dict[str, Tensor]:
        """Fixed-shape tensors that carry a stream from chunk to chunk."""
        raise NotImplementedError

    def stream(self, window: Tensor, valid: Tensor, state: dict[str, Tensor], *, gates: dict | None = None,
               head: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """window [B, history + 4 c, F], of whose c encoder frames `valid` [B] are real -> (log_probs [B, c, V], state)."""
        raise NotImplementedError
