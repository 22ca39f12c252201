"""Word emission latency: from the end of a word in the audio to its appearance in the partial
result, for each chunk length.

Words end at known times: each is spoken alone by espeak-ng, trimmed, and joined to sentences of the
command grammar with pauses; silence follows. Sound comes in packets of 10 ms. A word appears with
the first partial result from which on it and the words before it stay as in the final text; only
words that are right count. The latency is audio alone, the same on every machine; computing a chunk
comes on top.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from core import runtime
from core.records import option
from core.runtime.base import Stream
from core.speech.audio import SAMPLE_RATE
from core.speech.grammar import Grammar
from core.speech.voices import base, espeak

PACKET = SAMPLE_RATE // 100
GAP = SAMPLE_RATE // 20  # between two words, beside what trimming leaves of each
Partial = tuple[float, str]  # (ms of sound given, text)


@dataclass(frozen=True)
class Options:
    run: str = option("supernet", "a run")
    subnet: str = option("u70", "its size")
    chunks_ms: list[float] = option(
        [80.0, 160.0, 320.0, 640.0], "lengths of a chunk", unit="ms", low=1.0, high=10000.0
    )
    sentences: int = option(60, "sentences of held-out voices", low=1, high=10000)
    engine: str = option("auto", "auto, onnx, sparse or torch")
    seed: int = option(1, "of sentences and voices", low=0)


def run(options: Options) -> str:
    """A table in Markdown, a line a chunk length."""
    speech = list(_speech(options.sentences, options.seed))
    lines = [
        f"Word emission latency of {options.subnet}, run {options.run}: {len(speech)} sentences,"
        f" {sum(len(words) for words, _, _ in speech)} words",
        "",
        "| chunk, ms | words that are right | median, ms | 90th percentile, ms | computing, ms per"
        " chunk |",
        "| --- | --- | --- | --- | --- |",
    ]
    for chunk_ms in options.chunks_ms:
        recognizer = runtime.load(options.run, options.subnet, chunk_ms, engine=options.engine)
        found, spent, seconds = list[float](), 0.0, 0.0
        for words, samples, ends in speech:
            partials, took = _partials(recognizer.stream(), samples)
            found += latencies(words, ends, partials)
            spent, seconds = spent + took, seconds + len(samples) / SAMPLE_RATE
        median, p90 = np.percentile(found, [50, 90]) if found else (np.nan, np.nan)
        computing = spent * chunk_ms / seconds
        lines.append(
            f"| {chunk_ms:g} | {len(found)} | {median:.0f} | {p90:.0f} | {computing:.1f} |"
        )
    return "\n".join(lines)


def _speech(count: int, seed: int) -> Iterator[tuple[list[str], np.ndarray, list[float]]]:
    """(words, samples, ms at which each word ends) of every sentence."""
    rng, book, voices = random.Random(seed), Grammar(), espeak.Voice.of_split("test")
    drawn = [(book.draw(rng)[0].split(), rng.choice(voices)) for _ in range(count)]
    waves = iter(espeak.speak([espeak.Request(w, voice) for words, voice in drawn for w in words]))
    for words, _ in drawn:
        yield words, *joined([next(waves) for _ in words])


def joined(waves: Sequence[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Trimmed words [N] in one row, 2 s of silence behind them, and the ms at which each ends."""
    parts, ends, at = list[np.ndarray](), list[float](), 0
    for wave in waves:
        parts += [wave, np.zeros(GAP, np.float32)]
        ends.append(1000 * (at + len(wave)) / SAMPLE_RATE - 1000 * base.KEEP_S)
        at += len(wave) + GAP
    return np.concatenate([*parts, np.zeros(2 * SAMPLE_RATE, np.float32)]), ends


def _partials(stream: Stream, samples: np.ndarray) -> tuple[list[Partial], float]:
    """The partial result after every packet, the final text last; and the seconds it took."""
    partials, began = list[Partial](), time.thread_time()
    for start in range(0, len(samples), PACKET):
        text = stream.accept(samples[start : start + PACKET])
        partials.append((1000 * min(start + PACKET, len(samples)) / SAMPLE_RATE, text))
    partials.append((1000 * len(samples) / SAMPLE_RATE, stream.finish()))
    return partials, time.thread_time() - began


def appearances(partials: Sequence[Partial]) -> list[float]:
    """ms of sound given when each word of the last partial result appeared for good."""
    final, found = partials[-1][1].split(), list[float]()
    for i in range(len(final)):
        since = partials[-1][0]
        for ms, text in reversed(partials):
            if text.split()[: i + 1] != final[: i + 1]:
                break
            since = ms
        found.append(since)
    return found


def latencies(
    words: Sequence[str], ends: Sequence[float], partials: Sequence[Partial]
) -> list[float]:
    """ms from the end of each word to its appearance, of the words that are right in the final
    text.
    """
    appeared, text = appearances(partials), partials[-1][1]
    if not text:
        return []
    (steps,) = jiwer.process_words(" ".join(words), text).alignments
    pairs = [
        (step.ref_start_idx + k, step.hyp_start_idx + k)
        for step in steps
        if step.type == "equal"
        for k in range(step.ref_end_idx - step.ref_start_idx)
    ]
    return [appeared[hypothesis] - ends[reference] for reference, hypothesis in pairs]
