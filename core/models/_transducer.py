"""What all transducers share: the RNN-T loss, what core.decoding asks, how often each matrix runs,
and the records of their matrices.

A transducer has an encoder of its own, a `predictor` (core/layers/predictor.py) and a `joiner` that
adds, blank = 0 (ours, as sherpa-onnx wants it). Letters: B utterances, T encoder frames of 40 ms, E
width of encodings, U tokens, V tokens with blank, N hypotheses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import rnnt_loss

from core.data.batches import Batch
from core.layers.predictor import BLANK
from core.layers.subsampling import FACTOR
from core.models.base import Model, Output
from core.records import BLOCK, FixedTensor, PrunableMatrix

FRAME_MS = 40.0
RATE = 1000 / FRAME_MS
FBANK_LOOKAHEAD_MS = 7.5  # a 25 ms window centered on its 10 ms frame reaches 7.5 ms beyond it
# assumed: characters of read English, 2.7 words of 5.6 each with its space; word pieces are fewer
TOKENS_PER_SECOND = 15.0
WIDTH_STEP = FACTOR * BLOCK  # four frames side by side, each a whole number of blocks


class Transducer(Model):
    """A model sets `predictor` and `joiner`, and says where a matrix is (_place) and how often it
    runs (_runs).
    """

    frame_ms = FRAME_MS
    posteriors = False
    decoding = "transducer"
    width_step = WIDTH_STEP
    predictor: nn.Module
    joiner: nn.Module

    def _place(self, name: str) -> tuple[str, int, str]:
        """Kind, layer and residual branch of a matrix."""
        raise NotImplementedError

    def _runs(self, name: str) -> float:
        """How often a matrix is multiplied per encoder frame."""
        raise NotImplementedError

    @staticmethod
    def _typed(x: Tensor) -> Tensor:
        """Encodings [B, T, E] in the type of the pass: CUDA's autocast makes a norm's output fp32,
        and loss() sees by the type how the
        pass was computed.
        """
        kind = x.device.type
        return (
            x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x.float()
        )

    def loss(self, output: Output, batch: Batch, reduction: str = "sum") -> Tensor:
        """RNN-T (Graves 2012) over all alignments, summed over the batch or [B] by "none"; under
        the weights of the pass.
        """
        encodings = output.encodings
        tokens = batch.tokens[:, : int(batch.token_lengths.max())]
        with torch.autocast(
            encodings.device.type, torch.bfloat16, enabled=encodings.dtype == torch.bfloat16
        ):
            said = self.predictor.sequence(tokens)  # [B, U + 1, E]
            logits = self.joiner(encodings, output.lengths, said, batch.token_lengths)[
                0
            ]  # [B, T, U + 1, V]
        return rnnt_loss(
            logits.float(),
            tokens.int(),
            output.lengths.int(),
            batch.token_lengths.int(),
            blank=BLANK,
            reduction=reduction,
        )

    # what core.decoding asks

    def begin(self, count: int) -> tuple[Tensor, Tensor]:
        """Hypotheses that have said nothing -> (their predictor's encodings [N, E], its state [N,
        ...]).
        """
        state = self.predictor.first(count)
        return self.predictor.step(torch.full((count,), BLANK, device=state.device), state)

    def predict(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The token each hypothesis says next [N] -> (encodings [N, E], state [N, ...])."""
        return self.predictor.step(tokens, state)

    def join(self, encodings: Tensor, said: Tensor) -> Tensor:
        """One frame's encodings [N, E] and the predictor's [N, E] -> logits [N, V], in fp32."""
        return self.joiner.linear(self.joiner.activation(encodings.float() + said))

    # what it is made of

    def _records(self) -> tuple[list[PrunableMatrix], list[FixedTensor]]:
        """Prunable are all matrices of encoder, predictor and joiner; the joiner's stays whole
        where the vocabulary is no multiple of 8.
        Norms, biases and embeddings are never pruned. Work per second: the encoder runs at 25 Hz;
        the joiner once a frame, because
        decoders here say one token a frame at most; the predictor TOKENS_PER_SECOND times (greedy:
        a beam runs the last two up to
        four times).
        """
        units = [
            PrunableMatrix(n, *self._place(n), *m.weight.shape, rate=self._runs(n))
            for n, m in self.named_modules()
            if isinstance(m, nn.Linear) and m.out_features % BLOCK == 0
        ]
        prunable = {f"{u.name}.weight" for u in units}
        fixed = [
            FixedTensor(
                n,
                p.numel(),
                p.numel() * RATE * self._runs(n) if p.dim() > 1 and "embedding" not in n else 0.0,
            )
            for n, p in self.named_parameters()
            if n not in prunable
        ]
        return units, fixed


def check_multiples(options: object, steps: dict[str, int]) -> None:
    """ValueError that names the first field that is no multiple of its step, what came and what is
    allowed.
    """
    for field, step in steps.items():
        if getattr(options, field) % step:
            raise ValueError(
                f"model.{field} is {getattr(options, field)}; it must be a multiple of {step}"
            )
