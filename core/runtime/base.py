"""What every engine offers, and what all engines share: features in chunks through a network, and
from its frames to text. No torch.

The weights are always those of the packed file, read back: number and demo are of what a user
downloads. Letters: B utterances, F frames of 10 ms, T encoder frames, N samples, V tokens.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.decoding import ctc
from core.decoding.graph_search import GraphSearch, Weights
from core.lm import languages
from core.lm.graph import Graph
from core.lm.languages import Language
from core.records import SpokenWord
from core.speech import chunks, tokenizer
from core.speech.features import FRAME_SHIFT_MS
from core.speech.frontends import base as frontends
from core.storage import packing

BATCH_SECONDS = (
    100.0  # of padded speech in one forward pass: 25 % faster than 300 (measured, one core)
)
FULL_CONTEXT_SECONDS = (
    300  # longer needs more memory than a small machine has: attention grows with the square
)
NO_LANGUAGE = "none"  # what a report says where words come from the tokens alone


class NotPossible(ValueError):
    """No engine that was asked for can run this file so; the text says why, and what can."""


@dataclass(frozen=True)
class Setup:
    """How a file is run. chunk_ms is one the model can do, 0 for full context, None for the model's
    own choice; precision one that the engine has; `threads` None = the engine's own choice (torch
    sets it for the whole process). `decoder` "" = a decoding graph where tokens are phonemes or a
    language is given, else greedy; `beam` hypotheses of a transducer's beam search, 0 = the usual
    number; `language`: what can be understood, None = open speech; `weights` of frames against
    words.
    """

    chunk_ms: float | None = None
    precision: str = "fp32"
    threads: int | None = None
    decoder: str = ""
    beam: int = 0
    language: Language | None = None
    weights: Weights | None = None


class Stream(Protocol):
    """One sound while it arrives."""

    @property
    def words(self) -> list[SpokenWord]:
        """The words so far; none where the decoder keeps no times (greedy, full context)."""

    def accept(self, samples: np.ndarray) -> str:
        """float samples [N] in -1..1 at 16 kHz, any N -> the text so far."""

    def finish(self) -> str:
        """No more sound -> the whole text."""


class Recognizer(Protocol):
    """What evaluation, the Transcribe page and the command line see. `conditions` goes into
    reports; `frontend` makes the features that transcribe() takes; `graph` finds the words, None
    where they are made of tokens.
    """

    conditions: dict[str, Any]
    frontend: frontends.Frontend
    graph: Graph | None

    def transcribe(self, features: Sequence[np.ndarray] | np.ndarray) -> list[str]:
        """Features of `frontend`, a list of [F, 80] or an array [B, F, 80] -> one text each, in
        the same order.
        """

    def stream(self) -> Stream:
        """A new stream; several may run side by side."""


class Timing(Protocol):
    """How a network's frames lie in time, as models say it (core/models/base.py)."""

    @property
    def decoding(self) -> str: ...  # ctc | transducer
    @property
    def frame_ms(self) -> float: ...
    @property
    def chunks(self) -> tuple[int, ...]: ...
    @property
    def default_chunk_ms(self) -> float: ...
    @property
    def history(self) -> int: ...
    @property
    def ahead(self) -> int: ...


@dataclass
class Posteriors:
    """log_probs [B, T, V], lengths [B] in encoder frames."""

    log_probs: np.ndarray
    lengths: Sequence[int] | np.ndarray


class PackedRecognizer:
    """One packed file, opened by one engine, which says its own `timing`, initial_state() and
    step().
    """

    timing: Timing

    def __init__(
        self, data: bytes, metadata: dict[str, Any], timing: Timing, setup: Setup, runtime: str
    ):
        self.timing = timing
        self.tokenizer = tokenizer_of(metadata)
        self.frontend = frontends.load(frontends.kind_of(metadata["features"]))
        chunk_ms = timing.default_chunk_ms if setup.chunk_ms is None else setup.chunk_ms
        self.chunk = chunks.frames(chunk_ms, timing.frame_ms, timing.chunks)
        self.factor = round(timing.frame_ms / FRAME_SHIFT_MS)  # feature frames of an encoder frame
        self.beam, self.weights = setup.beam, setup.weights or Weights()
        usual = ctc.GRAPH if setup.language else ctc.usual(timing.decoding, self.tokenizer.unit)
        self.decoder = ctc.check(timing.decoding, setup.decoder or usual, setup.beam)
        if setup.language and self.decoder != ctc.GRAPH:
            raise ctc.WrongDecoder(
                f"a language model or grammar needs decoder 'graph'; came decoder {setup.decoder!r}"
            )
        language = (setup.language or Language()) if self.decoder == ctc.GRAPH else None
        self.graph = languages.load(language, self.tokenizer) if language else None
        statistics = metadata["statistics"]
        self.mean = np.asarray(statistics["mean"], np.float32)
        self.scale = np.float32(1.0) / np.asarray(statistics["std"], np.float32)
        self.conditions = {
            "run": metadata["run"],
            "method": metadata["method"],
            "subnet": metadata["subnet"]["name"],
            "sparsity": metadata["subnet"]["sparsity"],
            "chunk_ms": float(chunk_ms),
            "lookahead_ms": metadata["anatomy"]["lookahead_ms"],
            "left_context_ms": metadata["anatomy"]["left_context_ms"] if self.chunk else 0.0,
            "decoder": ctc.labeled(self.decoder, setup.beam),
            "language_model": (
                f"{language.name()}, {self.weights.text()}" if language else NO_LANGUAGE
            ),
            "precision": setup.precision,
            "runtime": runtime,
            "normaliser": metadata["normaliser"],
            "file_bytes": len(data),
            "file_sha256": packing.sha256(data),
            "seed": metadata["seed"],
        }

    # what an engine says

    def initial_state(self, batch: int) -> Any:
        """What a stream carries from chunk to chunk."""
        raise NotImplementedError

    def step(self, window: np.ndarray, valid: np.ndarray, state: Any) -> tuple[Any, Any]:
        """One chunk of normalized frames [B, history + factor T + ahead, 80], of whose T encoder
        frames `valid` [B] are real -> (frames [B, T, ...] for the decoder, new state).
        """
        raise NotImplementedError

    # what they share

    def normalized(self, features: np.ndarray) -> np.ndarray:
        """Raw fbank [F, 80] -> [F, 80] by the training data's global statistics."""
        return (np.asarray(features, np.float32) - self.mean) * self.scale

    def transcribe(self, features: Sequence[np.ndarray] | np.ndarray) -> list[str]:
        """See Recognizer. Utterances of like length run together, up to BATCH_SECONDS of padded
        speech at a time.
        """
        return [text for text, _ in self.recognize(features)]

    def recognize(self, features: Sequence[np.ndarray] | np.ndarray) -> list[tuple[str, list[int]]]:
        """(text, token ids as the net says them greedily where a graph finds words, else []) of
        each, which error rates of phonemes need; see transcribe().
        """
        features = [self._checked_features(f) for f in features]
        results: list[tuple[str, list[int]]] = [("", [])] * len(features)
        for indices in _batches([len(f) for f in features]):
            output = self.output([features[i] for i in indices])
            ids = self.ids(output) if self.graph is not None else [[]] * len(indices)
            for i, text, tokens in zip(indices, self.decode(output), ids):
                results[i] = text, tokens
        return results

    def tokens(self, features: list[np.ndarray]) -> list[list[int]]:
        """One batch of raw fbank [F, 80] -> token ids of each; greedily where a graph finds
        words.
        """
        return self.ids(self.output(features))

    def output(self, features: list[np.ndarray]) -> Any:
        """What the network says of a batch of raw fbank [F, 80], chunk by chunk."""
        before, after = self.timing.history, self.timing.ahead
        lengths = np.array([-(-len(f) // self.factor) for f in features])
        chunk = self.chunk or int(lengths.max())
        size, count = chunk * self.factor, -(-int(lengths.max()) // chunk)
        padded = np.zeros((len(features), before + count * size + after, len(self.mean)), "f4")
        for row, one in zip(padded, features):
            row[before : before + len(one)] = self.normalized(one)
        state, said = self.initial_state(len(features)), []
        for k in range(count):
            window = padded[:, k * size : k * size + before + size + after]
            frames, state = self.step(window, np.clip(lengths - k * chunk, 0, chunk), state)
            said.append(frames)
        return Posteriors(np.concatenate(said, 1), lengths)

    def ids(self, output: Any) -> list[list[int]]:
        """Token ids of each utterance of one batch, greedily where a graph finds words."""
        return ctc.greedy(output.log_probs, output.lengths)

    def decode(self, output: Any) -> list[str]:
        """The text of each utterance of one batch."""
        if self.graph is not None:
            return ctc.over_graph(output.log_probs, output.lengths, self.graph, self.weights)
        return [self.tokenizer.decode(ids) for ids in self.ids(output)]

    def new_decoder(self) -> GraphSearch | ctc.Spelled:
        """Of a new stream."""
        if self.graph is not None:
            return GraphSearch(self.graph, self.weights)
        return ctc.Spelled(self.new_token_decoder(), self.tokenizer)

    def new_token_decoder(self) -> ctc.Decoder:
        """Of a new stream without a graph."""
        return ctc.GreedyState()

    def _checked_features(self, features: np.ndarray) -> np.ndarray:
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"expected features ({self.frontend.settings()['kind']}) of shape"
                f" [frames, {len(self.mean)}], got shape {features.shape}"
            )
        longest = FULL_CONTEXT_SECONDS * 1000 // FRAME_SHIFT_MS
        if not self.chunk and len(features) > longest:
            raise ValueError(
                f"full context takes at most {FULL_CONTEXT_SECONDS} s at once, came "
                f"{len(features) * FRAME_SHIFT_MS / 1000:.0f} s: choose a chunk, e.g. chunk_ms=320"
            )
        return features


def tokenizer_of(metadata: dict[str, Any]) -> tokenizer.Tokenizer:
    """The tokenizer that a packed file holds."""
    if "bpe" in metadata:
        return tokenizer.Pieces(base64.b64decode(metadata["bpe"]))
    return tokenizer.of_tokens(metadata["tokens"])


def known_precision(precision: str, allowed: Sequence[str]) -> str:
    """Why an engine of these precisions cannot do this one, "" where it can."""
    if precision in allowed:
        return ""
    return f"precision {precision!r} is unknown; allowed are {', '.join(allowed)}"


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of utterances that run together, longest first; empty ones are left out."""
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        limit = BATCH_SECONDS * 1000 / FRAME_SHIFT_MS
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > limit:
            batches.append([])
        batches[-1].append(i)
    return batches
