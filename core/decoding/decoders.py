"""From what a model says of every frame to tokens, whole or as a stream: greedy, and transducers'
beams.

Which decoders read a model's frames the model says (`decoding`); its name nobody asks. A transducer
also offers begin(), predict() and join() (models/_transducer.py). Both of its decoders say one
token a frame at most, as sherpa-onnx does on devices. What needs no torch, the decoders of CTC's
frames, is core/decoding/ctc.py; words from a decoding graph are core/decoding/graph_search.py.

Letters: B utterances, T encoder frames, V tokens with blank = 0, E width of encodings, N
hypotheses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.decoding.ctc import BEAM, BLANK, GRAPH, GREEDY, Decoder, GreedyState, check, greedy
from core.models.base import Model, Output


def whole(model: Model, output: Output, decoder: str = GREEDY, beam: int = 0) -> list[list[int]]:
    """Token ids of each utterance of a forward pass, under the weights the model has."""
    if check(model.decoding, decoder) == GREEDY and model.decoding == "ctc":
        return greedy(output.log_probs, output.lengths)
    if decoder == GREEDY:
        state = TransducerGreedy(model, len(output.lengths))
        state.run(output.frames, output.lengths)
        return state.said
    if decoder == GRAPH:
        raise ValueError("a decoding graph gives words, not tokens: use over_graph()")
    return [
        _finished(BeamSearch(model, beam or BEAM), row[: int(n)])
        for row, n in zip(output.frames, output.lengths, strict=True)
    ]


def _finished(decoder: BeamSearch, frames: Tensor) -> list[int]:
    decoder.read(frames)
    return decoder.finish()


def streaming(model: Model, decoder: str = GREEDY, beam: int = 0) -> Decoder:
    """The decoder of a new stream that gives tokens; `beam` hypotheses, 0 = the usual number."""
    if check(model.decoding, decoder) == GREEDY:
        return GreedyState() if model.decoding == "ctc" else TransducerGreedy(model)
    return BeamSearch(model, beam or BEAM)


class TransducerGreedy:
    """The most likely token of every frame given those before, for `count` utterances at once; the
    predictor runs after a token only.
    """

    def __init__(self, model: Any, count: int = 1):
        self.model = model
        self.said: list[list[int]] = [[] for _ in range(count)]
        with torch.inference_mode():
            self._encoded, self._state = model.begin(count)  # [B, E], [B, ...]

    @property
    def ids(self) -> list[int]:
        return list(self.said[0])

    def accept(self, frames: Tensor) -> list[int]:
        """See Decoder; frames [T, E] of one stream."""
        before = len(self.ids)
        self.run(frames.unsqueeze(0), torch.tensor([len(frames)]))
        return self.ids[before:]

    def finish(self) -> list[int]:
        return self.ids

    @torch.inference_mode()
    def run(self, frames: Tensor, lengths: Tensor) -> None:
        """The next frames [B, T, E], of which `lengths` [B] are real."""
        lengths = lengths.to(frames.device)
        for t in range(frames.shape[1]):
            best = self.model.join(frames[:, t], self._encoded).argmax(-1)  # [B]
            new = ((best != BLANK) & (t < lengths)).nonzero()[:, 0]
            if len(new):
                encoded, state = self.model.predict(best[new], self._state[new])
                self._encoded[new], self._state[new] = encoded, state
                for i in new.tolist():
                    self.said[i].append(int(best[i]))


class BeamSearch:
    """Modified beam search of one utterance: `beam` hypotheses, one token a frame at most, so all
    have read the same frames.

    After icefall and sherpa-onnx: the best of all (hypothesis, token) pairs of a frame; those that
    say the same are one, their
    probabilities added; at any time the best per token (its two blanks at the start counted) is
    what is said.
    """

    def __init__(self, model: Any, beam: int = BEAM):
        self.model, self.beam = model, beam
        self.said: list[tuple[int, ...]] = [()]
        self.scores = torch.zeros(1, dtype=torch.float64)  # [N] log-probabilities of the tokens
        with torch.inference_mode():
            self._encoded, self._state = model.begin(1)

    @property
    def ids(self) -> list[int]:
        best = max(
            range(len(self.said)), key=lambda i: float(self.scores[i]) / (len(self.said[i]) + 2)
        )
        return list(self.said[best])

    def accept(self, frames: Tensor) -> list[int]:
        """See Decoder; what was said may change afterwards: the tokens from the first other one on
        are given.
        """
        before, now = self.ids, self.read(frames)
        same = next(
            (i for i, (a, b) in enumerate(zip(before, now)) if a != b), min(len(before), len(now))
        )
        return now[same:]

    def read(self, frames: Tensor) -> list[int]:
        """The next frames [T, E] -> all that is said now."""
        for frame in frames:
            self._step(frame)
        return self.ids

    def finish(self) -> list[int]:
        """See Decoder."""
        return self.ids

    @torch.inference_mode()
    def _step(self, frame: Tensor) -> None:
        logits = self.model.join(frame.expand(len(self.said), -1), self._encoded)  # [N, V]
        scores = logits.log_softmax(-1).cpu().double() + self.scores.unsqueeze(1)
        kept: dict[
            tuple[int, ...], tuple[int, int, Tensor]
        ] = {}  # what is said -> from which hypothesis, by which token, score
        at = scores.flatten().topk(min(self.beam, scores.numel()))
        for score, index in zip(at.values, at.indices.tolist()):
            source, token = divmod(index, logits.shape[1])
            said = self.said[source] + (() if token == BLANK else (token,))
            known = kept.get(said)
            kept[said] = (
                (*known[:2], torch.logaddexp(known[2], score)) if known else (source, token, score)
            )
        self._keep(kept)

    def _keep(self, kept: dict[tuple[int, ...], tuple[int, int, Tensor]]) -> None:
        """These hypotheses, the predictor having read their new tokens."""
        self.said = list(kept)
        sources, tokens, scores = zip(*kept.values())
        self.scores = torch.stack(scores)
        encoded, state = self._encoded[list(sources)], self._state[list(sources)]
        new = [i for i, token in enumerate(tokens) if token != BLANK]
        if new:
            encoded[new], state[new] = self.model.predict(
                torch.tensor([tokens[i] for i in new], device=state.device), state[new]
            )
        self._encoded, self._state = encoded, state
