"""Engines against each other: ms of computing for one chunk on one thread, all in turn on the same
speech, and whether they hear the same tokens.

Time is the thread's own processor time of the network's step, from normalized features to
log-probabilities: features and decoding are the same for all. Chunk by chunk every arm runs once,
so that what slows the machine down meets all; ratios hold within one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import paths, runtime
from core.corpora import _manifests as manifests
from core.evaluation import scoring
from core.records import Utterance, option
from core.runtime.base import PackedRecognizer
from core.speech import audio
from core.speech.normalizer import normalize

WARM = 5  # chunks before the clock counts
ENGINES = (("torch", "fp32"), ("onnx", "fp32"), ("onnx", "int8"), ("sparse", "fp32"))
ENGINES += (("sparse", "int8"),)


@dataclass(frozen=True)
class Options:
    run: str = option("supernet", "a run of conformer_ctc")
    subnets: list[str] = option(["dense", "u70", "u90"], "its sizes; ratios are to the first")
    chunk_ms: float = option(320.0, "length of a chunk", unit="ms")
    manifest: str = option("", "recordings with text; empty = the samples that ship")
    utterances: int = option(200, "of the manifest, evenly spread", low=1, high=100000)
    chunks: int = option(400, "timed chunks of every arm", low=20, high=100000)


@dataclass
class Arm:
    """One engine with one size; `ms` of every timed chunk."""

    engine: str
    precision: str
    subnet: str
    recognizer: PackedRecognizer
    ms: list[float]
    tokens: list[list[int]]


def run(options: Options) -> str:
    """A table in Markdown, a line an arm."""
    speech = list(_speech(options))
    arms = list(_arms(options))
    features = [arms[0].recognizer.frontend.whole(wave) for wave, _ in speech]
    for arm in arms:
        arm.tokens = [arm.recognizer.tokens([frames])[0] for frames in features]
    _time(arms, features, options.chunks)
    return _table(arms, [text for _, text in speech], options)


def _arms(options: Options) -> Iterator[Arm]:
    for subnet in options.subnets:
        packed = runtime.packed(options.run, subnet)
        for engine, precision in ENGINES:
            recognizer = runtime.load(
                packed,
                chunk_ms=options.chunk_ms,
                engine=engine,
                precision=precision,
                threads=1,
                decoder="greedy",
            )
            yield Arm(engine, precision, subnet, recognizer, [], [])


def _speech(options: Options) -> Iterator[tuple[np.ndarray, str]]:
    """(samples, text) of every recording."""
    if not options.manifest:
        for file in sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus")):
            yield audio.read(file), file.with_suffix(".txt").read_text(encoding="utf-8").strip()
        return
    utterances = [u for u in manifests.lines(Path(options.manifest)) if isinstance(u, Utterance)]
    if not utterances:
        raise ValueError(f"bench runtimes: {options.manifest} holds no recording with text")
    step = max(1, len(utterances) // options.utterances)
    for utterance in utterances[::step][: options.utterances]:
        yield (
            audio.read(utterance.audio, utterance.offset, utterance.seconds),
            normalize(utterance.text),
        )


def _time(arms: list[Arm], features: list[np.ndarray], chunks: int) -> None:
    """Fills `ms`: the same windows through every arm, each first in its turn."""
    recognizer = arms[0].recognizer
    step_frames, before = recognizer.chunk * recognizer.factor, recognizer.timing.history
    frames = recognizer.normalized(np.concatenate(features))
    windows = [
        frames[None, at : at + before + step_frames]
        for at in range(0, len(frames) - step_frames - before + 1, step_frames)
    ]
    states, valid = [arm.recognizer.initial_state(1) for arm in arms], np.array([recognizer.chunk])
    for i in range(WARM + chunks):
        for k in range(len(arms)):
            k = (k + i) % len(arms)
            took, (_, states[k]) = _clocked(
                lambda k=k, i=i: arms[k].recognizer.step(
                    windows[i % len(windows)], valid, states[k]
                )
            )
            if i >= WARM:
                arms[k].ms.append(took)


def _clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.thread_time()
    value = work()
    return 1000 * (time.thread_time() - began), value


def _table(arms: list[Arm], texts: list[str], options: Options) -> str:
    by = {(a.engine, a.precision, a.subnet): a for a in arms}
    tokenizer = arms[0].recognizer.tokenizer
    rate = "PER" if tokenizer.unit == "phonemes" else "WER"  # of the network alone, no graph
    references = [tokenizer.reference(text) for text in texts]
    lines = [
        f"ms of one thread's processor time a {options.chunk_ms:g} ms chunk (median, 10th to 90th"
        f" percentile) of {options.chunks} chunks; {len(texts)} recordings; run {options.run}",
        "",
        "| engine | size | ms | times its own first size's speed | times onnx int8's | same tokens"
        f" as torch | {rate} % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm in arms:
        reference = by["torch", "fp32", arm.subnet]
        median, low, high = np.percentile(arm.ms, [50, 10, 90])
        first = np.median(by[arm.engine, arm.precision, options.subnets[0]].ms) / median
        int8 = np.median(by["onnx", "int8", options.subnets[0]].ms) / median
        same = sum(a == b for a, b in zip(arm.tokens, reference.tokens))
        hypotheses = [arm.recognizer.tokenizer.decode(ids) for ids in arm.tokens]
        wer = 100 * scoring.word_edits(references, hypotheses).rate
        lines.append(
            f"| {arm.engine} {arm.precision} | {arm.subnet} | {median:.2f} ({low:.2f}-{high:.2f}) |"
            f" {first:.2f} | {int8:.2f} | {same} of {len(texts)} | {wer:.2f} |"
        )
    return "\n".join(lines)
