"""Speed of the built-in corpus with features: seconds of speech per second, and how hard its
grammar is.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.common import machine
from core.corpora import voice_commands
from core.records import Utterance, option
from core.speech import audio, features, grammar
from core.speech.voices import espeak

TITLE = "speech made per second: voice_commands with fbank features"
AIM = 100.0  # times real time


@dataclass(frozen=True)
class Options:
    utterances: int = option(1200, "to make", low=8, high=100000)
    processes: int = option(0, "to make them with; 0 = one per core", low=0, high=256)
    seed: int = option(1, "of the corpus", low=0)


def run(options: Options | dict[str, Any]) -> dict[str, Any]:
    """Makes `utterances` of training speech in a temporary folder, extracts their features; times
    in s.
    """
    options = Options(**options) if isinstance(options, dict) else options
    processes = options.processes or machine.cores()
    figures = _speed(options, processes) | _difficulty()
    width = max(map(len, figures))
    print(
        TITLE,
        *(f"  {name:<{width}}  {value}" for name, value in figures.items()),
        sep="\n",
        file=sys.stderr,
    )
    return figures


def _speed(options: Options, processes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        corpus = voice_commands.Corpus(
            voice_commands.Options(
                test_utterances=options.utterances,
                shard_utterances=max(4, min(300, options.utterances // processes)),
                processes=processes,
                seed=options.seed,
            )
        )
        corpus.folder = Path(folder)
        start, before = time.perf_counter(), _cpu_s()
        spoken = [u for u in corpus.utterances("test") if isinstance(u, Utterance)]
        created = time.perf_counter() - start
        files = sorted({u.audio for u in spoken})
        with ProcessPoolExecutor(
            processes, mp_context=multiprocessing.get_context("spawn")
        ) as pool:
            frames = sum(
                pool.map(_extract, [[u for u in spoken if u.audio == name] for name in files])
            )
        both, busy = time.perf_counter() - start, _cpu_s() - before
        seconds, stored = sum(u.seconds for u in spoken), sum(map(os.path.getsize, files))
        voices = {split: len(espeak.Voice.of_split(split)) for split in corpus.splits()}
    return {
        "utterances": len(spoken),
        "speech_s": round(seconds, 1),
        "feature_frames": frames,
        "making_s": round(created, 2),
        "with_features_s": round(both, 2),
        "times_real_time": round(seconds / both, 1),
        "aim": AIM,
        "cpu_s": round(busy, 2),
        "times_real_time_per_core": round(seconds / busy, 1),
        "processes": processes,
        "cores": machine.cores(),
        "flac_kB_per_s": round(stored / seconds / 1000, 1),
        "voices": voices,
    }


def _difficulty() -> dict[str, Any]:
    """Of the grammar."""
    book = grammar.Grammar()
    bits, words = book.measure()
    return {
        "words": len(book.vocabulary()),
        "words_per_sentence": round(words, 2),
        "bits_per_sentence": round(bits, 2),
        "word_perplexity": round(book.perplexity(), 1),
    }


def _cpu_s() -> float:
    """Processor time of this process and its finished children: what a busy machine does not
    blur.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _extract(utterances: list[Utterance]) -> int:
    """Feature frames of some utterances of one file."""
    return sum(len(features.fbank(audio.read(u.audio, u.offset, u.seconds))) for u in utterances)
