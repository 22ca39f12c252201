"""From what a model says of every frame to tokens, whole or as a stream: greedy and beam search, for CTC and for transducers.

Which decoder reads a model's frames the model says (`decoding`); its name nobody asks. A transducer also offers begin(), predict()
and join() (models/_transducer.py). Both of its decoders say one token a frame at most, as sherpa-onnx does on devices.
Beams may be joined by a language model of words (core/lm/fusion.py); CTC's beam search is core/decoding/prefix_beam.py.

Letters: B utterances, T encoder frames, V tokens with blank = 0, E width of encodings, N hypotheses. CTC's arrays may be NumPy or torch.
"""
from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core.decoding import prefix_beam
from core.lm.fusion import Fusion, State
from core.models.base import Model, Output

BLANK = 0
BEAM = 4  # hypotheses of a transducer's beam search, where nobody says
GREEDY, BEAM_SEARCH, PREFIX_BEAM_SEARCH = "greedy", "modified_beam_search", "prefix_beam_search"
OWN_BEAM = "beam"  # the beam search of whatever model it is
DECODERS = {"ctc": (GREEDY, PREFIX_BEAM_SEARCH), "transducer": (GREEDY, BEAM_SEARCH)}


class Decoder(Protocol):
    """One stream's decoder."""

    @property
    def ids(self) -> list[int]:
        """All tokens so far: a copy, which later frames do not change."""

    def accept(self, frames: Any) -> list[int]:
        """The next frames [T, ...] -> token ids that are new, [] when nothing changed."""

    def finish(self) -> list[int]:
        """No more frames -> all that has been said; a language model may change its last words once more."""


def named(model: Model, decoder: str) -> str:
    """The decoder's own name, "beam" being the model's beam search; ValueError when it cannot read the model's frames."""
    allowed = DECODERS[model.decoding]
    if decoder == OWN_BEAM:
        return allowed[1]
    if decoder not in allowed:
        raise ValueError(f"decoder {decoder!r} does not read this model ({model.decoding}); allowed are {', '.join(allowed)} and "
                         f"{OWN_BEAM}, its beam search")
    return decoder


def labelled(decoder: str, beam: int = 0) -> str:
    """The decoder as reports name it: with its hypotheses where they are not the usual ones."""
    usual = {BEAM_SEARCH: BEAM, PREFIX_BEAM_SEARCH: prefix_beam.BEAM}.get(decoder, 0)
    return decoder if beam in (0, usual) or decoder == GREEDY else f"{decoder} {beam}"


def whole(model: Model, output: Output, decoder: str = GREEDY, beam: int = 0, fusion: Fusion | None = None) -> list[list[int]]:
    """Token ids of each utterance of a forward pass, under the weights the model has."""
    decoder = named(model, decoder)
    if decoder == GREEDY and model.decoding == "ctc":
        return greedy(output.log_probs, output.lengths)
    if decoder == GREEDY:
        state = TransducerGreedy(model, len(output.lengths))
        state.run(output.encodings, output.lengths)
        return state.said
    rows = zip(output.frames.cpu() if model.decoding == "ctc" else output.frames, output.lengths, strict=True)
    return [_finished(streaming(model, decoder, beam, fusion), row[:int(n)]) for row, n in rows]


def _finished(decoder: Any, frames: Tensor) -> list[int]:
    decoder.read(frames)
    return decoder.finish()


def streaming(model: Model, decoder: str = GREEDY, beam: int = 0, fusion: Fusion | None = None) -> Decoder:
    """The decoder of a new stream; `beam` hypotheses, 0 = the usual number. ValueError for a language model beside greedy decoding."""
    decoder = named(model, decoder)
    if decoder == GREEDY:
        if fusion:
            raise ValueError("a language model (lm) needs a beam search: decoder is 'greedy'; allowed with lm is 'beam'")
        return GreedyState() if model.decoding == "ctc" else TransducerGreedy(model)
    if decoder == PREFIX_BEAM_SEARCH:
        return prefix_beam.PrefixBeam(beam, fusion)
    return BeamSearch(model, beam or BEAM, fusion)


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
        self._said: list[int] = []
        self._previous = BLANK

    @property
    def ids(self) -> list[int]:
        return list(self._said)

    def accept(self, log_probs: Any) -> list[int]:
        """log_probs [T, V] of the next frames -> the new token ids."""
        best = _best(log_probs)
        if not len(best):
            return []
        new = _collapse(best, self._previous)
        self._previous = int(best[-1])
        self._said += new
        return new

    def finish(self) -> list[int]:
        return self.ids


class TransducerGreedy:
    """The most likely token of every frame given those before, for `count` utterances at once; the predictor runs after a token only."""

    def __init__(self, model: Any, count: int = 1):
        self.model = model
        self.said: list[list[int]] = [[] for _ in range(count)]
        with torch.inference_mode():
            self._encoded, self._state = model.begin(count)                              # [B, E], [B, ...]

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
            best = self.model.join(frames[:, t], self._encoded).argmax(-1)                   # [B]
            new = ((best != BLANK) & (t < lengths)).nonzero()[:, 0]
            if len(new):
                encoded, state = self.model.predict(best[new], self._state[new])
                self._encoded[new], self._state[new] = encoded, state
                for i in new.tolist():
                    self.said[i].append(int(best[i]))


class BeamSearch:
    """Modified beam search of one utterance: `beam` hypotheses, one token a frame at most, so all have heard the same frames.

    After icefall and sherpa-onnx: the best of all (hypothesis, token) pairs of a frame; those that say the same are one, their
    probabilities added; at any time the best per token (its two blanks at the start counted) is what is said. With a language model
    CHOSEN times as many pairs are taken, and those are kept that are best together with what it says of their words."""
    CHOSEN = 4

    def __init__(self, model: Any, beam: int = BEAM, fusion: Fusion | None = None):
        self.model, self.beam, self.fusion = model, beam, fusion
        self.said: list[tuple[int, ...]] = [()]
        self.scores = torch.zeros(1, dtype=torch.float64)                                    # [N] log-probabilities of the tokens
        self.fused: list[State | None] = [fusion.start if fusion else None]
        self._words = [0.0]                                                                  # [N] what the language model adds
        with torch.inference_mode():
            self._encoded, self._state = model.begin(1)

    @property
    def ids(self) -> list[int]:
        best = max(range(len(self.said)), key=lambda i: (float(self.scores[i]) + self._words[i]) / (len(self.said[i]) + 2))
        return list(self.said[best])

    def accept(self, frames: Tensor) -> list[int]:
        """See Decoder; what was said may change afterwards: the tokens from the first other one on are given."""
        before = self.ids
        return prefix_beam.changed(before, self.read(frames))

    def read(self, frames: Tensor) -> list[int]:
        """The next frames [T, E] -> all that is said now."""
        for frame in frames:
            self._hear(frame)
        return self.ids

    def finish(self) -> list[int]:
        """See Decoder."""
        if self.fusion:
            self._words = [self.fusion.finish(state) for state in self.fused]
        return self.ids

    @torch.inference_mode()
    def _hear(self, frame: Tensor) -> None:
        logits = self.model.join(frame.expand(len(self.said), -1), self._encoded)            # [N, V]
        scores = logits.log_softmax(-1).cpu().double() + self.scores.unsqueeze(1)
        words = torch.tensor(self._words, dtype=torch.float64).unsqueeze(1)
        found: dict[tuple[int, ...], tuple[int, int, Tensor]] = {}  # what is said -> from which hypothesis, by which token, score
        at = (scores + words).flatten().topk(min(self.beam * (self.CHOSEN if self.fusion else 1), scores.numel())).indices
        for score, index in zip(scores.flatten()[at], at.tolist()):
            source, token = divmod(index, logits.shape[1])
            said = self.said[source] + (() if token == BLANK else (token,))
            known = found.get(said)
            found[said] = (*known[:2], torch.logaddexp(known[2], score)) if known else (source, token, score)
        self._keep(found)

    def _keep(self, found: dict[tuple[int, ...], tuple[int, int, Tensor]]) -> None:
        """The best `beam` of what was found, the predictor having read their new tokens."""
        fused = [self.fused[s] if t == BLANK or not self.fusion else self.fusion.extend(self.fused[s], t) for s, t, _ in found.values()]
        said, values = list(found), list(found.values())
        words = [state.total if state else 0.0 for state in fused]
        kept = range(len(said))
        if self.fusion:
            kept = sorted(kept, key=lambda i: -float(values[i][2]) - words[i])[:self.beam]
        self.said, self.fused, self._words = [said[i] for i in kept], [fused[i] for i in kept], [words[i] for i in kept]
        sources, tokens, scores = zip(*(values[i] for i in kept))
        self.scores = torch.stack(scores)
        encoded, state = self._encoded[list(sources)], self._state[list(sources)]
        new = [i for i, token in enumerate(tokens) if token != BLANK]
        if new:
            encoded[new], state[new] = self.model.predict(torch.tensor([tokens[i] for i in new], device=state.device), state[new])
        self._encoded, self._state = encoded, state
