"""From a CTC net's frames to tokens or words without torch: greedy, whole or as a stream; and what
all decoders are called.

The search over a decoding graph is core/decoding/graph_search.py, transducers' are in decoders.py.
Letters: B utterances, T encoder frames, V tokens with blank = 0. Arrays may be NumPy or torch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from core.decoding.graph_search import GraphSearch, Weights, Word
from core.lm.graph import Graph
from core.speech.tokenizer import Tokenizer

BLANK = 0
BEAM = 4  # hypotheses of a transducer's beam search, where nobody says
GREEDY, BEAM_SEARCH, GRAPH = "greedy", "modified_beam_search", "graph"
DECODERS = {"ctc": (GREEDY, GRAPH), "transducer": (GREEDY, BEAM_SEARCH)}


class Decoder(Protocol):
    """One stream's decoder."""

    @property
    def ids(self) -> list[int]:
        """All tokens so far: a copy, which later frames do not change."""

    def accept(self, frames: Any) -> list[int]:
        """The next frames [T, ...] -> token ids that are new, [] when nothing changed."""

    def finish(self) -> list[int]:
        """No more frames -> all that has been said."""


def usual(kind: str, unit: str) -> str:
    """The decoder where nobody asks for one: of phonemes only a graph makes words."""
    return GRAPH if unit == "phonemes" and kind == "ctc" else GREEDY


class WrongDecoder(ValueError):
    """This decoder cannot read the model's frames."""


def check(kind: str, decoder: str, beam: int = 0) -> str:
    """The decoder's name; WrongDecoder when it cannot read frames of this kind ("ctc",
    "transducer"), and for a number of hypotheses that it has no use for.
    """
    allowed = DECODERS[kind]
    if decoder not in allowed:
        raise WrongDecoder(
            f"decoder {decoder!r} does not read the frames of this model ({kind});"
            f" allowed are {', '.join(allowed)}"
        )
    if beam and decoder != BEAM_SEARCH:
        advice = (
            f"choose decoder {BEAM_SEARCH!r}, or leave beam out"
            if BEAM_SEARCH in allowed
            else "leave it out for this model"
        )
        raise WrongDecoder(
            f"beam = {beam} is the number of hypotheses of {BEAM_SEARCH} (transducers), and"
            f" decoder {decoder!r} has none: {advice}"
        )
    return decoder


def labeled(decoder: str, beam: int = 0) -> str:
    """The decoder as reports name it: with its hypotheses where they are not the usual ones."""
    return f"{decoder} {beam}" if decoder == BEAM_SEARCH and beam not in (0, BEAM) else decoder


def over_graph(
    log_probs: Any, lengths: Any, graph: Graph, weights: Weights | None = None
) -> list[str]:
    """log_probs [B, T, V], lengths [B] in frames -> the words of each utterance."""
    rows = log_probs.float().cpu().numpy() if hasattr(log_probs, "cpu") else np.asarray(log_probs)
    texts = []
    for row, n in zip(rows, lengths, strict=True):
        search = GraphSearch(graph, weights)
        search.accept(row[: int(n)])
        search.finish()
        texts.append(search.text)
    return texts


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
    return [_collapse(row[: int(n)], BLANK) for row, n in zip(best, lengths, strict=True)]


class GreedyState:
    """Greedy decoding of one stream: remembers the last frame's token and everything heard so
    far.
    """

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


class Spelled:
    """One stream's tokens as text."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer):
        self.decoder, self.tokenizer = decoder, tokenizer

    def accept(self, frames: Any) -> None:
        self.decoder.accept(frames)

    def finish(self) -> None:
        self.decoder.finish()

    @property
    def words(self) -> list[Word]:
        """None: tokens alone keep no times."""
        return []

    @property
    def text(self) -> str:
        """What was said so far."""
        return self.tokenizer.decode(self.decoder.ids)
