"""Under which conditions a subnet is measured, and the recognizer that works under them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import paths, runtime
from core.decoding import ctc as decoding
from core.decoding.graph_search import Weights
from core.evaluation.latency import Speed, measure
from core.jobs import confinement
from core.lm import languages
from core.lm.languages import Language
from core.records import option
from core.runtime.base import NO_LANGUAGE, PackedRecognizer

EXPORTED = {"sherpa": "onnx"}  # {export format: the engine that runs its graph}


@dataclass(frozen=True)
class Options:
    """What is measured, and under which decoding conditions."""

    splits: list[str] = option([], "splits to measure; empty = all test splits")
    sizes: list[str] = option(
        [], "sizes that a training's job measures when it has ended; empty = all that are stored"
    )
    default_split: str = option(
        "", "split the dashboard shows first; empty = the first measured one"
    )
    chunk_ms: float = option(
        320.0, "attention chunk; 0 = full context", unit="ms", low=0.0, high=2560.0
    )
    engine: str = option(
        "torch",
        "what decodes and is timed: torch; onnx or sparse, as on devices; sherpa = the exported"
        " folder in stock sherpa-onnx, not timed",
        choices=("torch", "onnx", "sparse", "sherpa"),
    )
    precision: str = option(
        "fp32",
        "arithmetic of the forward pass: fp32; bf16 (torch), int8 (onnx, sparse, sherpa)",
        choices=("fp32", "bf16", "int8"),
    )
    decoder: str = option(
        "",
        "greedy; graph = words over a decoding graph (CTC); modified_beam_search (transducers);"
        " empty = graph where tokens are phonemes, else greedy",
        choices=("", "greedy", "graph", "modified_beam_search"),
    )
    beam: int = option(0, "hypotheses of a transducer's beam search; 0 = 4", low=0, high=1000)
    lm: str = option(
        "open",
        "language model of a decoding graph: open = the shipped one, or an ARPA file; empty = none,"
        " only the grammar",
    )
    grammar: str = option(
        "",
        "what a decoding graph understands beside it: commands = the built-in ones, or a file of"
        " sentence patterns",
    )
    scale: float = option(
        0.9, "how much the sound counts beside the words of a decoding graph", low=0.01, high=10.0
    )
    blank_penalty: float = option(
        0.0,
        "taken off the blank's log-probability before a decoding graph (ln)",
        low=-10.0,
        high=20.0,
    )
    threads: int = option(
        2, "CPU threads for the errors; speed is always measured with one", low=1, high=256
    )
    speed_utterances: int = option(
        12, "utterances streamed for the speed, 60 s at most; 0 = none", low=0, high=1000
    )
    repetitions: int = option(10000, "bootstrap resamples", low=100, high=1000000)
    seed: int = option(1, "of the bootstrap", low=0, high=2147483647)


def language(options: Options) -> Language | None:
    """What the options' decoding graph understands; None for other decoders, and where neither
    decoder, model nor grammar is named.
    """
    named = options.decoder or options.grammar or options.lm not in ("", languages.OPEN)
    if not named or options.decoder not in ("", decoding.GRAPH):
        return None
    grammar = options.grammar
    if grammar not in ("", languages.COMMANDS):
        grammar = _pattern_file(Path(grammar))
    return Language(options.lm, grammar)


def _pattern_file(file: Path) -> str:
    confinement.check(file, "evaluation.grammar")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"evaluation.grammar = {str(file)!r} cannot be read"
            f" ({getattr(error, 'strerror', None) or error}); give UTF-8 text, a sentence pattern a"
            f" line, or {languages.COMMANDS!r}"
        ) from None


def load_recognizer(data: bytes, options: Options) -> PackedRecognizer:
    """The recognizer under the options' conditions; ValueError for conditions that cannot be. Of an
    export format the one that runs the same graph.
    """
    opened = runtime.load(
        data,
        engine=EXPORTED.get(options.engine, options.engine),
        chunk_ms=options.chunk_ms,
        precision=options.precision,
        threads=options.threads if options.engine == "torch" else 1,  # as on devices
        decoder=options.decoder,
        beam=options.beam,
        language=language(options),
        weights=Weights(options.scale, options.blank_penalty),
    )
    if opened.tokenizer.unit != "words" and opened.graph is None:
        raise ValueError(
            f"decoder {opened.decoder!r} gives the {opened.tokenizer.unit} of this model, not"
            " words, which are scored: use decoder 'graph', or leave it empty"
        )
    return opened


def speed_on(
    data: bytes, waves: list[np.ndarray], options: Options, dense: bytes | None = None
) -> Speed:
    """Speed of a packed subnet on these sounds, one thread; also against `dense`, if given."""
    return measure(
        data,
        waves,
        options.chunk_ms,
        1,
        options.precision,
        options.decoder,
        options.beam,
        language(options),
        dense,
        Weights(options.scale, options.blank_penalty),
        options.engine,
    )


def decoding_labels(options: Options) -> tuple[str, str, str]:
    """Decoder, language model and engine, as files of reports name them."""
    understood = language(options)
    return (
        decoding.labeled(options.decoder, options.beam),
        (
            f"{understood.name()}, {Weights(options.scale, options.blank_penalty).text()}"
            if understood
            else NO_LANGUAGE
        ),
        paths.engine_label(options.engine, options.precision),
    )
