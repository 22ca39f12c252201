"""Built-in corpus: home, phone, travel, timer, number and media commands spoken by espeak-ng;
nothing is downloaded.

A seeded grammar (core/speech/commands.toml: over 1800 words, word perplexity above 20) is spoken by
over 100 voices (accent x variant x rate x pitch) in rooms with RT60 0.1-0.8 s and noise at 0-25 dB.
Voices, sentences and some whole templates of the test split never occur in training. The speech is
made by espeak-ng (licence GPL-3.0-or-later), which the package espeakng-loader brings along. It is
synthetic: its word error rates say nothing about people.

Utterance i of a split depends on the seed (and i) alone, so more hours are the same utterances and
then more. Audio is made once, in shards of many utterances: <split>-<number>.flac, then its index
.jsonl as marker.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core import paths
from core.common import reading, writing
from core.common.writing import os_errors
from core.corpora import base
from core.records import Utterance, option
from core.speech import acoustics, grammar, speaking

VERSION = 1
SHORTEST_S, LONGEST_S = 0.7, 12.0
TEMPLATE_SHARE = 0.25  # of test utterances: from templates that training never sees
SENTENCES = {
    "test": 0.06,
    "dev": 0.04,
    "search": 0.04,
}  # shares of all sentences; the rest is for training
VARIANTS = {  # voices held out with all their accents; the rest is for training
    "test": ("m4", "m7", "f3", "Annie", "Michael", "benjamin", "quincy", "shelby"),
    "dev": ("m6", "f5", "Reed", "belinda"),
    "search": ("m2", "Andrea", "boris", "rob"),
}
SPEED, PITCH, RANGE, GAP = (
    (120, 170, 230),
    (25, 75),
    (25, 80),
    (1, 8),
)  # words per minute (low, mode, high), ...
LEVEL_DB = (-34.0, -18.0)  # RMS of an utterance against full scale
BEFORE_S, AFTER_S = (0.05, 0.30), (0.10, 0.40)
COMPRESSION = 0.4  # of FLAC, 0..1
LENGTHS = (
    "hours",
    "test_utterances",
    "dev_utterances",
    "search_utterances",
    "processes",
)  # change no shard
TRIES = 1000  # sentences drawn until one belongs to the split


@dataclass(frozen=True)
class Options:
    hours: float = option(5.0, "length of the training split", unit="h", low=0.001, high=10000)
    test_utterances: int = option(
        600, "length of the test split; the first of a fixed sequence", low=1, high=100000
    )
    dev_utterances: int = option(300, "length of the dev split", low=1, high=100000)
    search_utterances: int = option(
        300, "length of the search split, with voices of its own", low=1, high=100000
    )
    reverberant: float = option(0.5, "share of utterances in a room", low=0, high=1)
    rt60_low: float = option(0.1, "driest room", unit="s", low=0.05, high=3)
    rt60_high: float = option(0.8, "most reverberant room", unit="s", low=0.05, high=3)
    noisy: float = option(0.5, "share of utterances with noise", low=0, high=1)
    snr_low: float = option(0.0, "loudest noise", unit="dB", low=-10, high=60)
    snr_high: float = option(25.0, "softest noise", unit="dB", low=-10, high=60)
    seed: int = option(1, "decides words, voices, rooms and noise", low=0)
    shard_utterances: int = option(
        300, "utterances of one audio file; other values make other audio", low=4, high=5000
    )
    processes: int = option(
        0, "to make the audio with; 0 = one per core; changes nothing else", low=0, high=256
    )


class Corpus(base.Corpus):
    """Made under artifacts/prepared/corpora/voice_commands-<hash>; lengths may change later and
    reuse its shards.
    """

    licence = speaking.LICENCE
    mean_s = 2.7  # of 10 hours

    def __init__(self, options: Options):
        super().__init__(options)
        if options.rt60_low > options.rt60_high or options.snr_low > options.snr_high:
            raise ValueError(
                f"voice_commands: rt60_low {options.rt60_low} must not be above rt60_high"
                f" {options.rt60_high}, nor snr_low {options.snr_low} above snr_high"
                f" {options.snr_high}"
            )

    def splits(self) -> list[str]:
        return ["train", "search", "dev", "test"]

    @cached_property
    def folder(self) -> Path:
        """Named by all that decides the audio of a shard, so not by the lengths of splits."""
        told = {k: v for k, v in asdict(self.options).items() if k not in LENGTHS}
        key = {
            "version": VERSION,
            "options": told,
            "grammar": grammar.COMMANDS.read_text(encoding="utf-8"),
            "voices": speaking.voices(),
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        return paths.prepared() / "corpora" / f"voice_commands-{digest}"

    def read(self, split: str) -> Iterator[base.Item]:
        """Utterances in their order; shards that are missing are made first."""
        seconds = 0.0
        count = None if split == "train" else getattr(self.options, f"{split}_utterances")
        limit = self.options.hours * 3600 if split == "train" else None
        for index, row in enumerate(self._rows(split, count, limit)):
            if (count is not None and index >= count) or (limit is not None and seconds >= limit):
                return
            seconds += row["seconds"]
            yield Utterance(
                *(row[k] for k in ("id", "audio", "offset", "seconds", "text", "speaker"))
            )

    def _rows(self, split: str, count: int | None, limit: float | None) -> Iterator[dict[str, Any]]:
        """Rows of the shards from the first on; makes as many as `count` utterances or `limit` s
        need.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        size = self.options.shard_utterances
        shards = [] if count is None else list(range(-(-count // size)))
        if limit is not None:
            # their length is known only when made: guess from the longest utterances, then look
            # again
            shards = self._made(split, [0])
            while (have := sum(self._head(split, n)["seconds"] for n in shards)) < limit:
                more = max(1, int((limit - have) / (have / len(shards)) + 0.5))
                shards = self._made(split, list(range(len(shards) + more)))
        else:
            self._made(split, shards)
        for number in shards:
            for row in self._index(split, number)[1:]:
                yield {**row, "audio": str(self._audio(split, number))}

    def _made(self, split: str, shards: list[int]) -> list[int]:
        """The shards, after making those that are missing, each in a fresh child process (see
        speaking).
        """
        missing = [n for n in shards if not self._whole(split, n)]
        count = self.options.processes or len(os.sched_getaffinity(0))
        text = (
            f"voice_commands: making {split}, shards of {self.options.shard_utterances} utterances"
        )
        running: list[tuple[Any, Any]] = []  # (process, its end of the pipe)
        done = len(shards) - len(missing)
        try:
            while missing or running:
                self.progress(done, len(shards), text)
                while missing and len(running) < count:
                    running.append(_start(str(self.folder), self.options, split, missing.pop(0)))
                wait([process.sentinel for process, _ in running])
                for process, pipe in [pair for pair in running if not pair[0].is_alive()]:
                    running.remove((process, pipe))
                    process.join()
                    if process.exitcode:
                        problem = (
                            pipe.recv() if pipe.poll() else "it was killed: too little memory?"
                        )
                        raise (
                            problem
                            if isinstance(problem, OSError)
                            else RuntimeError(
                                f"a process making {split} speech ended with {process.exitcode}:"
                                f" {problem}"
                            )
                        )
                    done += 1
                    self.progress(done, len(shards), text)
        finally:
            for process, _ in running:
                process.kill()
        return shards

    def _audio(self, split: str, number: int) -> Path:
        return self.folder / f"{shard_name(split, number)}.flac"

    def _index(self, split: str, number: int) -> list[dict[str, Any]]:
        """First row {"bytes", "seconds"} of the shard, then one per utterance."""
        text = self._audio(split, number).with_suffix(".jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in reading.lines(text)]

    def _head(self, split: str, number: int) -> dict[str, Any]:
        with open(self._audio(split, number).with_suffix(".jsonl"), encoding="utf-8") as lines:
            return json.loads(next(lines))

    def _whole(self, split: str, number: int) -> bool:
        """Marker there, and the audio as long as the marker says."""
        audio = self._audio(split, number)
        if not audio.is_file() or not audio.with_suffix(".jsonl").is_file():
            return False
        return self._head(split, number)["bytes"] == audio.stat().st_size


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}"


def split_voices(split: str) -> list[str]:
    """Voices of a split; no two splits share a voice variant, so a test voice is new in all its
    accents.
    """
    held_out = {v for some in VARIANTS.values() for v in some}
    return speaking.voices(
        VARIANTS.get(split) or [v for v in speaking.available()[1] if v not in held_out]
    )


def sentence_split(text: str) -> str:
    """The split a sentence belongs to whatever the seed, so that no training ever saw a test
    sentence.
    """
    place = base.stable(text, 0)
    for split, share in SENTENCES.items():
        place -= share
        if place < 0:
            return split
    return "train"


def draw(book: grammar.Grammar, split: str, rng: random.Random) -> tuple[str, str]:
    """(sentence, template pattern) of a split."""
    for _ in range(TRIES):
        held_out = split == "test" and rng.random() < TEMPLATE_SHARE
        text, template = book.draw(rng, held_out)
        if sentence_split(text) == split:
            return text, template.pattern
    raise RuntimeError(
        f"no sentence for split '{split}' in {TRIES} draws: the grammar is too small"
    )


def plan(
    options: Options,
    book: grammar.Grammar,
    voices: list[str],
    split: str,
    index: int,
    attempt: int = 0,
) -> tuple[speaking.Request, str, np.random.Generator]:
    """(what is said by whom, template, generator for room and noise) of utterance `index`: f(seed,
    split, index).
    """
    rng = random.Random(f"{options.seed}/{split}/{index}/{attempt}")
    text, template = draw(book, split, rng)
    gap = rng.randint(*GAP) if rng.random() < 0.25 else 0
    request = speaking.Request(
        text,
        voices[index % len(voices)],
        round(rng.triangular(SPEED[0], SPEED[2], SPEED[1])),
        rng.randint(*PITCH),
        rng.randint(*RANGE),
        gap,
    )
    return request, template, np.random.default_rng(rng.getrandbits(64))


def _start(folder: str, options: Options, split: str, number: int) -> tuple[Any, Any]:
    """A fresh process that makes one shard, and the pipe which tells why if it cannot."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_shard_process, args=(theirs, folder, options, split, number), daemon=True
    )
    process.start()
    theirs.close()
    return process, pipe


def _shard_process(pipe: Any, folder: str, options: Options, split: str, number: int) -> None:
    try:
        make_shard(folder, options, split, number)
    except Exception as error:  # a full disk is said in words by whoever catches the OSError
        pipe.send(error if isinstance(error, OSError) else traceback.format_exc())
        raise SystemExit(1) from None


def make_shard(folder: str, options: Options, split: str, number: int) -> None:
    """One shard: audio written aside and renamed, then the index as marker. Runs in a fresh
    process.
    """
    target = Path(folder) / f"{shard_name(split, number)}.flac"
    for old in target.parent.glob(f"{target.name}.tmp-*"):
        if not _alive(int(old.name.rpartition("-")[2])):
            old.unlink(missing_ok=True)
    target.with_suffix(".jsonl").unlink(missing_ok=True)
    aside = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    rows: list[dict[str, Any]] = []
    position = 0
    with (
        os_errors(aside, soundfile.SoundFileError),
        soundfile.SoundFile(
            aside,
            "w",
            speaking.SAMPLE_RATE,
            1,
            "PCM_16",
            format="FLAC",
            compression_level=COMPRESSION,
        ) as file,
    ):
        for row, samples in spoken(
            options,
            split,
            range(number * options.shard_utterances, (number + 1) * options.shard_utterances),
        ):
            file.write(samples)
            rows.append(
                {
                    **row,
                    "offset": position / speaking.SAMPLE_RATE,
                    "seconds": len(samples) / speaking.SAMPLE_RATE,
                }
            )
            position += len(samples)
    head = {"bytes": aside.stat().st_size, "seconds": position / speaking.SAMPLE_RATE}
    os.replace(aside, target)
    writing.write_lines(target.with_suffix(".jsonl"), [head, *rows])


def spoken(
    options: Options, split: str, indices: range
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """(row, samples float32 [N]) of some utterances, in this process (which should be a fresh one:
    see speaking).
    """
    engine, book = speaking.Engine(), grammar.Grammar()
    voices = split_voices(split)
    random.Random(f"{options.seed}/{split}/voices").shuffle(voices)
    others: deque[np.ndarray] = deque(maxlen=4)  # the utterances before, for babble
    for index in indices:
        attempt = 0
        while True:
            request, template, rng = plan(options, book, voices, split, index, attempt)
            clean = engine.speak(request)
            samples, air = into_the_air(clean, options, rng, list(others))
            if SHORTEST_S <= len(samples) / speaking.SAMPLE_RATE <= LONGEST_S:
                break
            attempt += 1
        others.append(clean)
        yield (
            {
                "id": f"{split}-{index:07d}",
                "text": request.text,
                "speaker": request.voice,
                "template": template,
                "speed": request.speed,
                "pitch": request.pitch,
                **air,
            },
            samples,
        )


def into_the_air(
    clean: np.ndarray, options: Options, rng: np.random.Generator, others: list[np.ndarray]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Clean speech [N] with silence around it, a room, noise (white, pink, hum, babble of `others`)
    and a level.
    """
    before, after = (int(rng.uniform(*some) * speaking.SAMPLE_RATE) for some in (BEFORE_S, AFTER_S))
    samples = np.pad(clean, (before, after))
    air: dict[str, Any] = {"rt60_s": None, "snr_db": None, "noise": None}
    if rng.random() < options.reverberant:
        air["rt60_s"] = round(float(rng.uniform(options.rt60_low, options.rt60_high)), 3)
        samples = acoustics.reverberate(samples, air["rt60_s"], rng)
    if rng.random() < options.noisy:
        air["snr_db"] = round(float(rng.uniform(options.snr_low, options.snr_high)), 2)
        air["noise"] = str(rng.choice(acoustics.NOISES))
        samples = acoustics.add_noise(samples, air["snr_db"], rng, air["noise"], _babble(others))
    level = 10 ** (rng.uniform(*LEVEL_DB) / 20) / max(acoustics.rms(samples), 1e-9)
    return acoustics.limit(samples * np.float32(level)), air


def _babble(others: list[np.ndarray]) -> Any:
    """Several voices at once, as long as the longest of them; None before anyone spoke."""
    return (
        None
        if not others
        else sum(
            np.resize(some, max(map(len, others))) / max(acoustics.rms(some), 1e-9)
            for some in others
        )
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True
