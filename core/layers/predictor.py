"""Prediction networks of a transducer: what has been said -> an encoding that the joiner adds to
that of the sound. And the joiner.

Both networks begin with blanks and offer the same three ways in, so decoders carry one state tensor
[N, ...] a hypothesis, whichever it is. Letters: N hypotheses, B utterances, U tokens, E width of
the encodings, V tokens with blank = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models.rnnt import (
    _Joiner as Joiner,  # torchaudio offers both only in factories that build an encoder, too
    _Predictor,
)

BLANK = 0
CONTEXT = 2  # tokens that the stateless one sees
LSTM_LAYERS = 3  # of the recurrent one, as torchaudio's emformer_rnnt_base


class Stateless(nn.Module):
    """The last two tokens only (Ghodsi et al. 2020, IEEE ICASSP): embeddings side by side, one
    linear layer, LayerNorm.

    sherpa-onnx's streaming transducers have one of this kind; a linear layer over both instead of
    its grouped convolution is ours,
    because it is a matrix that can be pruned.
    """

    def __init__(self, vocabulary: int, embedding: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.linear = nn.Linear(CONTEXT * embedding, width)
        self.norm = nn.LayerNorm(width)

    def sequence(self, tokens: Tensor) -> Tensor:
        """[B, U] -> [B, U + 1, E]: before the first token, and after each."""
        seen = self.embedding(F.pad(tokens, (CONTEXT, 0), value=BLANK))  # [B, U + 2, e]
        return self.norm(self.linear(torch.cat([seen[:, :-1], seen[:, 1:]], -1)))

    def first(self, count: int) -> Tensor:
        """The state before anything was said, [N, 1]: the token before the next one."""
        return torch.full((count, CONTEXT - 1), BLANK, device=self.linear.weight.device)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of each hypothesis [N] -> (encodings [N, E], state)."""
        seen = torch.cat([state, tokens.unsqueeze(1)], 1)
        return self.norm(self.linear(self.embedding(seen).flatten(1))), seen[:, 1:]


class Recurrent(nn.Module):
    """torchaudio's LSTM predictor behind the same three ways in; its own dropout is built with a
    rate of 0.
    """

    def __init__(self, lstm: nn.Module):
        super().__init__()
        self.lstm = lstm

    def sequence(self, tokens: Tensor) -> Tensor:
        """[B, U] -> [B, U + 1, E]."""
        lengths = torch.full((tokens.shape[0],), tokens.shape[1] + 1, device=tokens.device)
        return self.lstm(F.pad(tokens, (1, 0), value=BLANK), lengths)[0]

    def first(self, count: int) -> Tensor:
        """[N, layers, 2, H]: hidden and cell values of zero."""
        layers = self.lstm.lstm_layers
        return torch.zeros(
            count, len(layers), 2, layers[0].hidden_dim, device=layers[0].p2g.weight.device
        )

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next token of each hypothesis [N] -> (encodings [N, E], state)."""
        before = [list(layer.unbind(1)) for layer in state.unbind(1)]
        said, _, after = self.lstm(tokens.unsqueeze(1), torch.ones_like(tokens), before)
        return said[:, 0], torch.stack([torch.stack(pair, 1) for pair in after], 1)


def predictor(kind: str, vocabulary: int, embedding: int, width: int) -> Stateless | Recurrent:
    """ "stateless" or "lstm", as the models' options say it; the LSTM is built as torchaudio's
    emformer_rnnt_base builds it.
    """
    if kind == "stateless":
        return Stateless(vocabulary, embedding, width)
    return Recurrent(
        _Predictor(
            vocabulary,
            width,
            symbol_embedding_dim=embedding,
            num_lstm_layers=LSTM_LAYERS,
            lstm_hidden_dim=embedding,
            lstm_layer_norm=True,
            lstm_layer_norm_epsilon=1e-3,
            lstm_dropout=0.0,
        )
    )


__all__ = ["BLANK", "Joiner", "Recurrent", "Stateless", "predictor"]
