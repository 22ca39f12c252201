"""Beam search over a decoding graph of one stream, by kaldi-decoder: from a CTC net's frames to
words, whole or as they come. No torch.

Letters: T encoder frames, V tokens with blank = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import kaldi_decoder
import numpy as np

from core.lm.graph import Graph

BLANK = 0
# There is speech where the net, whatever the graph says, is sure of two tokens, or certain of one.
# Ours: 4 s of steady noise at -60 to -25 dB have no sure token and none certain, 24 sentences 33
# and more, six of them in noise as loud as themselves 8 and more (dense and at 90 % sparsity).
# Noise that swells three times a second may pass for speech: up to 10 sure ones.
SURE, CERTAIN = math.log(0.5), math.log(0.75)
FEWEST = 2


@dataclass(frozen=True)
class Weights:
    """How frames are weighed against words; tuned on dev, never on a test."""

    scale: float = 0.9  # of the frames' log-probabilities
    blank_penalty: float = 0.0  # ln, taken off the blank: nets of CTC alone are too sure of it (2)
    beam: float = 11.0  # 14 with 3000: 0.9 points of WER better on dev, in 4 to 9 times the time
    max_active: int = 1500  # hypotheses of a frame, at most
    sure_blank: float = 0.99  # of frames with so much of the blank in a row the first is searched

    def text(self) -> str:
        """As reports name them."""
        return f"scale {self.scale:g}, blank penalty {self.blank_penalty:g}, beam {self.beam:g}"


@dataclass(frozen=True)
class Word:
    """A word, its first frame and the frame behind its last one, and how sure its frames are of it,
    0..1.
    """

    text: str
    begin: int
    end: int
    confidence: float


class GraphSearch:
    """One stream's decoder (see decoders.Decoder). `words` is the best hypothesis so far; later
    frames may change its last words.
    """

    def __init__(self, graph: Graph, weights: Weights | None = None):
        self.graph, self.weights = graph, weights or Weights()
        options = kaldi_decoder.FasterDecoderOptions(
            beam=self.weights.beam, max_active=self.weights.max_active
        )
        self._search = kaldi_decoder.FasterDecoder(graph.fst, options)
        self._search.init_decoding()
        self._rows: list[np.ndarray] = []  # of the frames that were searched
        self._places: list[int] = []  # which frames of the sound they are
        self._frames, self._blank, self._ended = 0, False, False
        self._sure, self._certain = 0, False
        self._token = BLANK, True  # the last frame's, and whether it was counted

    def accept(self, frames: Any) -> None:
        """The next frames' log-probabilities [T, V]."""
        rows = np.asarray(
            frames.float().cpu().numpy() if hasattr(frames, "cpu") else frames, np.float32
        )
        if not len(rows):
            return
        if rows.shape[1] != self.graph.tokens:
            raise ValueError(
                f"the net has {rows.shape[1]} tokens, the decoding graph was built for"
                f" {self.graph.tokens}: build it anew for this net's tokens"
            )
        self._count(rows)
        needed = np.flatnonzero(self._needed(rows))
        places = (needed + self._frames).tolist()
        rows, self._frames = rows[needed], self._frames + len(rows)
        if not len(rows):
            return
        weighed = rows.copy()
        weighed[:, BLANK] -= self.weights.blank_penalty
        weighed *= self.weights.scale
        self._search.advance_decoding(
            kaldi_decoder.DecodableCtc(np.ascontiguousarray(weighed), len(self._places))
        )
        self._rows.append(rows)
        self._places += places

    def finish(self) -> None:
        """No more frames: the end of the sentence counts from now on."""
        self._ended = True

    def _needed(self, rows: np.ndarray) -> np.ndarray:
        """Which of frames [T, V] are searched: where the net is sure of silence every hypothesis
        waits alike, and one blank keeps repeated tokens apart as well as many.
        """
        blank = rows[:, BLANK] >= math.log(self.weights.sure_blank)
        before = np.concatenate(([self._blank], blank[:-1]))
        self._blank = bool(blank[-1])
        return ~(blank & before)

    def _count(self, rows: np.ndarray) -> None:
        """Tokens that the net itself is sure of in frames [T, V], whatever the graph says."""
        tokens, scores = rows.argmax(axis=1), rows.max(axis=1)
        sounds = (tokens != BLANK) & (
            tokens != (-1 if self.graph.space is None else self.graph.space)
        )
        self._certain = self._certain or bool((sounds & (scores >= CERTAIN)).any())
        for token, sure in zip(tokens.tolist(), sounds & (scores >= SURE)):
            last, counted = self._token
            counted = counted and token == last
            self._sure += bool(sure and not counted)
            self._token = token, bool(counted or sure)

    @property
    def speech(self) -> bool:
        """Whether there was any: a graph makes words of any noise."""
        return self._certain or self._sure >= FEWEST

    def _best_path(self) -> list[tuple[int, int]]:
        """(token + 1 or 0, word or 0) of each arc of the best path; none before the first frame,
        and none where no speech was found.
        """
        if not self._places or not self.speech:
            return []
        final = self._ended and self._search.reached_final()
        succeeded, path = self._search.get_best_path(use_final_probs=final)
        return _arcs(path) if succeeded else []

    @property
    def text(self) -> str:
        """The words so far; "" where no speech was found."""
        return " ".join(self.graph.words[label] for _, label in self._best_path() if label)

    @property
    def words(self) -> list[Word]:
        """The words so far with times and confidences; none where no speech was found."""
        arcs = self._best_path()
        if not arcs:
            return []
        rows = np.concatenate(self._rows)
        said = _runs(
            [token - 1 for token, _ in arcs if token], rows - rows.max(axis=1, keepdims=True)
        )
        labels = [label for _, label in arcs if label]
        spans = align([token for token, _ in said], [self.graph.said[label] for label in labels])
        return [
            _word(
                self.graph.words[label],
                [
                    (self._places[frame], score)
                    for _, frames in said[begin:end]
                    for frame, score in frames
                ],
            )
            for label, (begin, end) in zip(labels, spans, strict=True)
        ]


def _runs(path: list[int], scores: np.ndarray) -> list[tuple[int, list[tuple[int, float]]]]:
    """A path's tokens [T] without repeats and blanks, each with its frames and their scores [T,
    V].
    """
    runs: list[tuple[int, list[tuple[int, float]]]] = []
    for frame, token in enumerate(path):
        if token != BLANK and (frame == 0 or token != path[frame - 1]):
            runs.append((token, []))
        if token != BLANK:
            runs[-1][1].append((frame, float(scores[frame, token])))
    return runs


def align(
    tokens: Sequence[int], words: Sequence[Sequence[tuple[int, ...]]]
) -> list[tuple[int, int]]:
    """Which tokens [U] are which word's, as (begin, end): a graph names a word only where no other
    is possible any more, often late.

    words: the pronunciations of each; the last may be cut off by the end, and tokens of a word
    without a name yet may follow it.
    """
    ends: list[dict[int, int]] = [{0: 0}]  # by word: {its end: its begin}
    for forms in words:
        reached: dict[int, int] = {}
        for begin in ends[-1]:
            for form in forms:
                piece = tuple(tokens[begin : begin + len(form)])
                if piece and piece == form[: len(piece)]:
                    reached.setdefault(begin + len(piece), begin)
        ends.append(reached)
    end, spans = max(ends[-1]), list[tuple[int, int]]()
    for reached in reversed(ends[1:]):
        spans.append((reached[end], end))
        end = reached[end]
    return spans[::-1]


def _arcs(path: Any) -> list[tuple[int, int]]:
    """(token + 1 or 0, word or 0) of every arc of a linear path, read from its text: kaldifst has
    no iterator over lattices.
    """
    after: dict[str, tuple[str, int, int]] = {}
    for line in path.to_str(dest="text").split("\n"):
        columns = line.split()
        if len(columns) >= 4:
            after[columns[0]] = columns[1], int(columns[2]), int(columns[3])
    labels, state = [], str(path.start)
    while state in after:
        state, token, word = after[state]
        labels.append((token, word))
    return labels


def _word(text: str, frames: list[tuple[int, float]]) -> Word:
    """Its confidence: the geometric mean of p(token of the path) / p(likeliest token) over its
    frames (ours).
    """
    return Word(
        text,
        frames[0][0],
        frames[-1][0] + 1,
        math.exp(sum(score for _, score in frames) / len(frames)),
    )
