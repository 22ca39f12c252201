"""From a packed subnet to text: one protocol for whole utterances and for streams, and the PyTorch
runtime behind it.

The weights are always those of the packed file, written and read back: number and demo are of what
a user downloads. Letters: B utterances, F frames of 10 ms, T encoder frames, N samples, V tokens.
Other runtimes are files in export/ with a function `open(data, chunk_ms, threads)`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core import cost
from core.decoding import decoders as decoding
from core.decoding.decoders import WrongDecoder
from core.decoding.graph_search import GraphSearch, Weights
from core.lm import languages
from core.lm.languages import Language
from core.models import base as models
from core.models.base import Model, Output
from core.records import Choice, Subnet
from core.registry import plugins
from core.speech import tokenizer
from core.speech.features import FRAME_SHIFT_MS, OnlineFbank
from core.storage import packing, store

BATCH_SECONDS = (
    100.0  # of padded speech in one forward pass: 25 % faster than 300 (measured, one core)
)
FULL_CONTEXT_SECONDS = (
    300  # longer needs more memory than a small machine has: attention grows with the square
)
PRECISIONS = ("fp32", "bf16")
NO_LANGUAGE = "none"  # what a report says where words come from the tokens alone


class Stream(Protocol):
    """One sound while it arrives."""

    def accept(self, samples: np.ndarray) -> str:
        """float samples [N] in -1..1 at 16 kHz, any N -> the text so far."""

    def finish(self) -> str:
        """No more sound -> the whole text."""


class Recognizer(Protocol):
    """What evaluation, the Transcribe page and the command line see. `conditions` goes into
    reports.
    """

    conditions: dict[str, Any]

    def transcribe(self, features: Sequence[np.ndarray] | np.ndarray) -> list[str]:
        """Raw fbank, a list of [F, 80] or an array [B, F, 80] -> one text each, in the same
        order.
        """

    def stream(self) -> Stream:
        """A new stream; several may run side by side."""


def open(
    source: str | Path | bytes,
    subnet: str | Subnet = "dense",
    chunk_ms: float | None = None,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    runtime: str = "torch",
    decoder: str = "",
    beam: int = 0,
    language: Language | None = None,
    weights: Weights | None = None,
) -> Recognizer:
    """A recogniser of a run's subnet (`source` = run id or folder) or of a packed file (path or
    bytes).

    chunk_ms is one the model can do, 0 for full context, None for the model's own choice. `threads`
    sets torch's for the whole
    process. `decoder` "" = a decoding graph where tokens are phonemes or a language is given, else
    greedy; `beam` hypotheses of a
    transducer's beam search, 0 = the usual number; `language`: what can be understood, None = open
    speech; `weights` of frames against
    words. ValueError for unknown runs and subnets (lists what exists), chunks, precisions, decoders
    and languages.
    """
    data = packed(source, subnet)
    if runtime != "torch":
        if decoder not in ("", decoding.GREEDY) or language:
            raise ValueError(
                f"runtime {runtime!r} decodes greedily; for decoder {decoder!r} or a language model"
                " take runtime 'torch'"
            )
        return plugins.load("export", runtime).open(data, chunk_ms, threads)
    return TorchRecognizer(data, chunk_ms, precision, threads, decoder, beam, language, weights)


def packed(source: str | Path | bytes, subnet: str | Subnet = "dense") -> bytes:
    """The bytes of the packed file: read, or made from a run."""
    if isinstance(source, bytes | bytearray):
        return bytes(source)
    if Path(source).is_file():
        return Path(source).read_bytes()
    if isinstance(source, Path) and not source.is_dir():
        raise ValueError(f"{source} is neither a packed file nor a run's folder")
    folder = store.folder_of(source)
    return packing.pack(folder, store.subnet(folder, subnet) if isinstance(subnet, str) else subnet)


def checked(samples: np.ndarray) -> np.ndarray:
    """float32 [N]; ValueError for anything that is not finite mono sound in floats."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"samples must be one row of floats in -1..1 at 16 kHz; came {samples.dtype} of shape "
            f"{samples.shape} (core.speech.audio.read and decode give the right ones)"
        )
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(samples))} of {samples.size} samples are NaN or"
            " infinite: the file is damaged or was scaled wrongly"
        )
    return samples.astype(np.float32, copy=False)


class TorchRecognizer:
    """Dense fp32 matrices with zeros written out: zeros save bytes here, not time."""

    def __init__(
        self,
        data: bytes,
        chunk_ms: float | None = None,
        precision: str = "fp32",
        threads: int | None = None,
        decoder: str = "",
        beam: int = 0,
        language: Language | None = None,
        weights: Weights | None = None,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown; allowed are {PRECISIONS}")
        if threads:
            torch.set_num_threads(threads)
        tensors, metadata = packing.unpack(data)
        self.tokenizer = (
            tokenizer.Pieces(base64.b64decode(metadata["bpe"]))
            if "bpe" in metadata
            else tokenizer.of_tokens(metadata["tokens"])
        )
        self.head = metadata["subnet"]["head"]
        self.model, self.gates = _build(metadata, tensors, self.tokenizer.size)
        chunk_ms = self.model.default_chunk_ms if chunk_ms is None else chunk_ms
        self.chunk = self.model.chunk_frames(chunk_ms)
        self.factor = round(
            self.model.frame_ms / FRAME_SHIFT_MS
        )  # feature frames of an encoder frame
        self.beam, self.weights = beam, weights or Weights()
        self.decoder = decoding.check(
            self.model,
            decoder
            or (decoding.GRAPH if language else decoding.usual(self.model, self.tokenizer.unit)),
        )
        if language and self.decoder != decoding.GRAPH:
            raise WrongDecoder(
                f"a language model or grammar needs decoder 'graph'; came decoder {decoder!r}"
            )
        self.language = (language or Language()) if self.decoder == decoding.GRAPH else None
        self.graph = languages.load(self.language, self.tokenizer) if self.language else None
        self.bf16 = precision == "bf16"
        statistics = metadata["statistics"]
        self.mean = torch.tensor(statistics["mean"], dtype=torch.float32)
        self.scale = 1.0 / torch.tensor(statistics["std"], dtype=torch.float32)
        self.conditions = {
            "run": metadata["run"],
            "method": metadata["method"],
            "subnet": metadata["subnet"]["name"],
            "sparsity": metadata["subnet"]["sparsity"],
            "chunk_ms": float(chunk_ms),
            "lookahead_ms": metadata["anatomy"]["lookahead_ms"],
            "left_context_ms": metadata["anatomy"]["left_context_ms"] if self.chunk else 0.0,
            "decoder": decoding.labelled(self.decoder, beam),
            "language_model": (
                f"{self.language.name()}, {self.weights.text()}" if self.language else NO_LANGUAGE
            ),
            "precision": precision,
            "runtime": f"torch {torch.__version__.split('+')[0]}",
            "normaliser": metadata["normaliser"],
            "file_bytes": len(data),
            "file_sha256": packing.sha256(data),
            "seed": metadata["seed"],
        }

    def normalised(self, features: np.ndarray) -> Tensor:
        """Raw fbank [F, 80] -> [F, 80] by the training data's global statistics."""
        return (torch.from_numpy(np.asarray(features, np.float32)) - self.mean) * self.scale

    def transcribe(self, features: Sequence[np.ndarray] | np.ndarray) -> list[str]:
        """See Recognizer. Utterances of like length run together, up to BATCH_SECONDS of padded
        speech at a time.
        """
        return [text for text, _ in self.recognize(features)]

    def recognize(self, features: Sequence[np.ndarray] | np.ndarray) -> list[tuple[str, list[int]]]:
        """(text, token ids as the net says them greedily) of each, which error rates of phonemes
        need; see transcribe().
        """
        features = [self._checked_features(f) for f in features]
        results: list[tuple[str, list[int]]] = [("", [])] * len(features)
        for indices in _batches([len(f) for f in features]):
            output = self.output([features[i] for i in indices])
            ids = (
                decoding.whole(self.model, output)
                if self.graph is not None
                else [[]] * len(indices)
            )
            for i, text, tokens in zip(indices, self.decode(output), ids):
                results[i] = text, tokens
        return results

    def tokens(self, features: list[np.ndarray]) -> list[list[int]]:
        """One batch of raw fbank [F, 80] -> token ids of each in one forward pass; greedily where a
        graph finds words.
        """
        decoder = decoding.GREEDY if self.graph is not None else self.decoder
        return decoding.whole(self.model, self.output(features), decoder, self.beam)

    def output(self, features: list[np.ndarray]) -> Output:
        """One forward pass over a batch of raw fbank [F, 80]."""
        lengths = torch.tensor([len(f) for f in features])
        batch = torch.zeros(len(features), int(lengths.max()), len(self.mean))
        for row, one in zip(batch, features):
            row[: len(one)] = self.normalised(one)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model(batch, lengths, chunk=self.chunk, gates=self.gates, head=self.head)

    def decode(self, output: Output) -> list[str]:
        """The text of each utterance of one batch."""
        if self.graph is not None:
            return decoding.over_graph(output.log_probs, output.lengths, self.graph, self.weights)
        return [
            self.tokenizer.decode(ids)
            for ids in decoding.whole(self.model, output, self.decoder, self.beam)
        ]

    def new_decoder(self) -> GraphSearch | decoding.Spelled:
        """Of a new stream."""
        if self.graph is not None:
            return GraphSearch(self.graph, self.weights)
        return decoding.Spelled(
            decoding.streaming(self.model, self.decoder, self.beam), self.tokenizer
        )

    def _checked_features(self, features: np.ndarray) -> np.ndarray:
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(
                f"features must be fbank [frames, {len(self.mean)}], came shape {features.shape}"
            )
        longest = FULL_CONTEXT_SECONDS * 1000 // FRAME_SHIFT_MS
        if not self.chunk and len(features) > longest:
            raise ValueError(
                f"full context takes at most {FULL_CONTEXT_SECONDS} s at once, came "
                f"{len(features) * FRAME_SHIFT_MS / 1000:.0f} s: choose a chunk, e.g. chunk_ms=320"
            )
        return features

    def stream(self) -> TorchStream:
        return TorchStream(self)


class TorchStream:
    """Samples in any packets -> fbank -> whole chunks through the model -> text.

    With full context (chunk 0) nothing can be said before the end: text appears at `finish`.
    """

    def __init__(self, recognizer: TorchRecognizer):
        self.recognizer = recognizer
        self.fbank, self.decoder = OnlineFbank(), recognizer.new_decoder()
        self.state = recognizer.model.initial_state(1)
        self.history = torch.zeros(
            recognizer.model.history, len(recognizer.mean)
        )  # before the sound: the mean, as in training
        self.waiting: list[
            np.ndarray
        ] = []  # raw frames [n, 80] of a chunk not yet full, and of what the model sees after one
        self.samples, self.text = 0, ""

    def accept(self, samples: np.ndarray) -> str:
        """See Stream."""
        samples = checked(samples)
        self.samples += len(samples)
        self.waiting.append(self.fbank.accept(samples))
        if self.recognizer.chunk:
            self._run_whole_chunks()
        return self.text

    def finish(self) -> str:
        """See Stream. The last chunk is filled with zeros and the model is told how much of it is
        real.
        """
        if not self.samples:
            raise ValueError("the sound is empty: 0 samples came before the end")
        self.waiting.append(self.fbank.finish())
        if not self.recognizer.chunk:
            features = np.concatenate(self.waiting)
            self.waiting = []
            self.text = self.recognizer.transcribe([features])[0] if len(features) else self.text
            return self.text
        self._run_whole_chunks()
        rest, size = np.concatenate(self.waiting), self.recognizer.factor * self.recognizer.chunk
        self.waiting = []
        for start in range(
            0, len(rest), size
        ):  # more than one where the model waits for what comes after a chunk
            self._run(rest[start : start + size + self.recognizer.model.ahead])
        self.decoder.finish()
        self.text = self.decoder.text
        return self.text

    def _run_whole_chunks(self) -> None:
        size, ahead = self.recognizer.factor * self.recognizer.chunk, self.recognizer.model.ahead
        ready = sum(map(len, self.waiting)) - ahead
        if ready < size:
            return
        frames = np.concatenate(self.waiting)
        whole = ready // size * size
        for start in range(0, whole, size):
            self._run(frames[start : start + size + ahead])
        self.waiting = [frames[whole:]]

    def _run(self, frames: np.ndarray) -> None:
        """One chunk through model and decoder: raw frames [n, 80], those of the chunk and then
        those the model sees after it; what is
        missing at the end of the sound is zeros, and `valid` says how much of the chunk is real.
        """
        own, before = self.recognizer, self.recognizer.model.history
        size = own.factor * own.chunk
        valid = min(own.chunk, -(-len(frames) // own.factor))
        window = torch.zeros(1, before + size + own.model.ahead, len(own.mean))
        window[0, :before] = self.history
        window[0, before : before + len(frames)] = own.normalised(frames)
        self.history = window[0, size : size + before].clone()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=own.bf16):
            said, self.state = own.model.stream(
                window, torch.tensor([valid]), self.state, gates=own.gates, head=own.head
            )
        self.decoder.accept(said[0, :valid])
        self.text = self.decoder.text  # a search may also take words back


def _build(
    metadata: dict, tensors: dict[str, np.ndarray], vocabulary: int
) -> tuple[Model, dict[str, float]]:
    """The model with the file's weights, and the gates of branches the file does not hold: these
    are not run.
    """
    name, options = metadata["model"]["name"], metadata["model"]["options"]
    model = models.build(Choice(name, options), vocabulary)
    off = cost.branches_off(
        cost.with_pattern(model.anatomy(), metadata["subnet"]["pattern"]),
        metadata["subnet"]["keep"],
    )
    unused = {
        n: torch.zeros_like(t)
        for n, t in model.state_dict().items()
        if n not in tensors and (cost.belongs(n, off) or n.startswith(packing.HEADS))
    }
    try:
        model.load_state_dict(unused | {n: torch.from_numpy(t) for n, t in tensors.items()})
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the file's weights do not fit model {name!r} with options {options}: {error}"
        ) from None
    return model.eval(), dict.fromkeys(off, 0.0)


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
