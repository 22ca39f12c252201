"""From what a model says of every frame to tokens, whole or as a stream: greedy CTC, and a transducer's greedy and beam search.

Which decoder reads a model's frames the model says (`decoding`); its name nobody asks. A transducer also offers begin(), predict()
and join() (models/_transducer.py). Both of its decoders say one token a frame at most, as sherpa-onnx does on devices.

Letters: B utterances, T encoder frames, V tokens with blank = 0, E width of encodings, N hypotheses. CTC's arrays may be NumPy or torch.
"""
from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core.models.base import Model, Output

BLANK = 0
BEAM = 4  # hypotheses of the beam search
GREEDY, BEAM_SEARCH = "greedy", "modified_beam_search"
DECODERS = {"ctc": (GREEDY,), "transducer": (GREEDY, BEAM_SEARCH)}


class Decoder(Protocol):
    """One stream's decoder."""
    ids: list[int]  # all that has been said

    def accept(self, frames: Any) -> list[int]:
        """The next frames [T, ...] -> token ids that are new, [] when nothing changed."""


def check(model: Model, decoder: str) -> None:
    """ValueError when the model's frames cannot be decoded in this way."""
    if decoder not in DECODERS[model.decoding]:
        raise ValueError(f"decoder {decoder!r} does not read this model ({model.decoding}); allowed are "
                         f"{', '.join(DECODERS[model.decoding])}")


def whole(model: Model, output: Output, decoder: str = GREEDY) -> list[list[int]]:
    """Token ids of each utterance of a forward pass, under the weights the model has."""
    check(model, decoder)
    if model.decoding == "ctc":
        return greedy(output.log_probs, output.lengths)
    if decoder == GREEDY:
        state = TransducerGreedy(model, len(output.lengths))
        state.run(output.encodings, output.lengths)
        return state.said
    return [BeamSearch(model).read(row[:int(n)]) for row, n in zip(output.encodings, output.lengths, strict=True)]


def streaming(model: Model, decoder: str = GREEDY) -> Decoder:
    """The decoder of a new stream."""
    check(model, decoder)
    if model.decoding == "ctc":
        return GreedyState()
    return TransducerGreedy(model) if decoder == GREEDY else BeamSearch(model)


def _best(log_probs: Any) -> np.ndarray:
    """The most likely token of every frame, [..., V] -> [...]."""
    best = log_probs.argmax(-1)
    return best.cpu().numpy() if hasattr(best, "cpu") else np.asarray(best)


def _collapse(best: np.ndarray, previous: int) -> list[int]:
    """Frame-wise tokens [T] -> tokens without repeats (of the frame before, too) and blanks."""
    before = np.concatenate([[previous], best[:-1]])
    return best[(best != before) & (best != BLANK)].tolist()


def greedy(log_probs: Any, lengths: Any) -> list[list[int]]:
    """log_probs [B, T, V], lengths [B] in frames -> token ids of each utterance."""
    best = _best(log_probs)
    return [_collapse(row[:int(n)], BLANK) for row, n in zip(best, lengths, strict=True)]


class GreedyState:
    """Greedy decoding of one stream: remembers the last frame's token and everything heard so far."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._previous = BLANK

    def accept(self, log_probs: Any) -> list[int]:
        """log_probs [T, V] of the next frames -> the new token ids (also added to `ids`)."""
        best = _best(log_probs)
        if not len(best):
            return []
        new = _collapse(best, self._previous)
        self._previous = int(best[-1])
        self.ids += new
        return new


class TransducerGreedy:
    """The most likely token of every frame given those before, for `count` utterances at once; the predictor runs after a token only."""

    def __init__(self, model: Any, count: int = 1):
        self.model = model
        self.said: list[list[int]] = [[] for _ in range(count)]
        with torch.inference_mode():
            self._encoded, self._state = model.begin(count)                              # [B, E], [B, ...]

    @property
    def ids(self) -> list[int]:
        return self.said[0]

    def accept(self, frames: Tensor) -> list[int]:
        """See Decoder; frames [T, E] of one stream."""
        before = len(self.ids)
        self.run(frames.unsqueeze(0), torch.tensor([len(frames)]))
        return self.ids[before:]

    @torch.inference_mode()
    def run(self, frames: Tensor, lengths: Tensor) -> None:
        """The next frames [B, T, E], of which `lengths` [B] are real."""
        lengths = lengths.to(frames.device)
        for t in range(frames.shape[1]):
            best = self.model.join(frames[:, t], self._encoded).argmax(-1)                   # [B]
            new = ((best != BLANK) & (t < lengths)).nonzero()[:, 0]
            if len(new):
                encoded, state = self.model.predict(best[new], self._state[new])
                self._encoded[new], self._state[new] = encoded, state
                for i in new.tolist():
                    self.said[i].append(int(best[i]))


class BeamSearch:
    """Modified beam search of one utterance: BEAM hypotheses, one token a frame at most, so all have heard the same frames.

    After icefall and sherpa-onnx: the best BEAM of all (hypothesis, token) pairs of a frame; those that say the same are one, their
    probabilities added; at any time the best per token (its two blanks at the start counted) is what is said."""

    def __init__(self, model: Any, beam: int = BEAM):
        self.model, self.beam = model, beam
        self.said: list[tuple[int, ...]] = [()]
        self.scores = torch.zeros(1, dtype=torch.float64)                                    # [N] log-probabilities
        with torch.inference_mode():
            self._encoded, self._state = model.begin(1)

    @property
    def ids(self) -> list[int]:
        best = max(range(len(self.said)), key=lambda i: float(self.scores[i]) / (len(self.said[i]) + 2))
        return list(self.said[best])

    def accept(self, frames: Tensor) -> list[int]:
        """See Decoder; what was said may change afterwards: the tokens from the first other one on are given."""
        before, now = self.ids, self.read(frames)
        same = next((i for i, (a, b) in enumerate(zip(before, now)) if a != b), min(len(before), len(now)))
        return now[same:]

    def read(self, frames: Tensor) -> list[int]:
        """The next frames [T, E] -> all that is said now."""
        for frame in frames:
            self._hear(frame)
        return self.ids

    @torch.inference_mode()
    def _hear(self, frame: Tensor) -> None:
        logits = self.model.join(frame.expand(len(self.said), -1), self._encoded)            # [N, V]
        scores = (logits.log_softmax(-1).cpu().double() + self.scores.unsqueeze(1)).flatten()
        found: dict[tuple[int, ...], tuple[int, int, Tensor]] = {}  # what is said -> from which hypothesis, by which token, score
        best, at = scores.topk(min(self.beam, len(scores)))
        for score, index in zip(best, at.tolist()):
            source, token = divmod(index, logits.shape[1])
            said = self.said[source] + (() if token == BLANK else (token,))
            known = found.get(said)
            found[said] = (*known[:2], torch.logaddexp(known[2], score)) if known else (source, token, score)
        sources, tokens, kept = zip(*found.values())
        self.said, self.scores = list(found), torch.stack(kept)
        encoded, state = self._encoded[list(sources)], self._state[list(sources)]
        new = [i for i, token in enumerate(tokens) if token != BLANK]
        if new:
            encoded[new], state[new] = self.model.predict(torch.tensor([tokens[i] for i in new], device=state.device), state[new])
        self._encoded, self._state = encoded, state
