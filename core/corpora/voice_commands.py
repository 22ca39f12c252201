"""Built-in corpus: home, phone, travel, timer, number and media commands spoken by espeak-ng;
nothing is downloaded.

A seeded grammar (core/speech/commands.toml: over 1800 words, word perplexity above 20) is spoken by
over 100 voices (accent x variant x rate x pitch) in rooms with RT60 0.1-0.8 s and noise at 0-25 dB.
Voices, sentences and some whole templates of the test split never occur in training. The speech is
made by espeak-ng (license GPL-3.0-or-later), which the package espeakng-loader brings along, unless
other voices (core/speech/voices/) are given. It is synthetic: its word error rates say nothing
about people.

Utterance i of a split depends on the seed (and i) alone, so more hours are the same utterances and
then more. Audio is made once, in shards of many utterances: <split>-<number>.flac, then its index
.jsonl as marker.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.corpora import _shards, _speakers, _spoken, base
from core.records import Utterance, option
from core.speech import grammar
from core.speech.voices import espeak

VERSION = 1
SHORTEST_S, LONGEST_S = 0.7, 12.0
TEMPLATE_SHARE = 0.25  # of test utterances: from templates that training never sees
SENTENCES = {
    "test": 0.06,
    "dev": 0.04,
    "search": 0.04,
}  # shares of all sentences; the rest is for training
LENGTHS = (
    "hours",
    "test_utterances",
    "dev_utterances",
    "search_utterances",
    "processes",
)  # change no shard
TRIED = 16  # utterances made to know the speed
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
    voices: dict[str, float] = option(
        {"espeak": 1.0},
        "who speaks: voice -> weight; other voices make other audio",
        low=0.0,
    )
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

    mean_s = 2.7  # of 10 hours

    def __init__(self, options: Options):
        super().__init__(options)
        _spoken.check("voice_commands", options)
        self.licence = _spoken.licence(options.voices, "words by this project")

    def splits(self) -> list[str]:
        return ["train", "search", "dev", "test"]

    @cached_property
    def folder(self) -> Path:
        """Named by all that decides the audio of a shard, so not by the lengths of splits."""
        kept = {k: v for k, v in asdict(self.options).items() if k not in LENGTHS}
        voices = kept.pop("voices")
        key = {
            "version": VERSION,
            "options": kept,
            "grammar": grammar.COMMANDS.read_text(encoding="utf-8"),
            "voices": espeak.voices(),
        }
        if voices != Options().voices:
            key["cast"] = _spoken.decides(voices)
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
        return paths.prepared() / "corpora" / f"voice_commands-{digest}"

    @cached_property
    def shards(self) -> _shards.Shards:
        o = self.options
        work = partial(spoken, o)
        return _shards.Shards(self.name, self.folder, o.shard_utterances, work, o.processes)

    def hours(self) -> dict[str, float]:
        o = self.options
        counts = {s: getattr(o, f"{s}_utterances") for s in self.splits()[1:]}
        whole = [-(-count // o.shard_utterances) * o.shard_utterances for count in counts.values()]
        each = self.mean_s / 3600
        lengths = {"train": o.hours} | {split: count * each for split, count in counts.items()}
        made = max(o.hours, o.shard_utterances * each) + sum(whole) * each
        return lengths | {base.MADE: made}

    def try_speed(self) -> None:
        self.shards.try_speed("train", TRIED)

    def at_hand(self, split: str) -> bool:
        return False  # reading makes the audio

    def read(self, split: str) -> Iterator[base.Item]:
        """Utterances in their order; shards that are missing are made first."""
        seconds = 0.0
        count = None if split == "train" else getattr(self.options, f"{split}_utterances")
        limit = self.options.hours * 3600 if split == "train" else None
        for index, row in enumerate(self.shards.rows(split, count, limit, self.progress)):
            if (count is not None and index >= count) or (limit is not None and seconds >= limit):
                return
            seconds += row["seconds"]
            yield Utterance(
                *(row[k] for k in ("id", "audio", "offset", "seconds", "text", "speaker"))
            )


def sentence_split(text: str) -> str:
    """The split a sentence belongs to whatever the seed, so that no training ever saw a test
    sentence.
    """
    place = _speakers.stable(text, 0)
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
) -> tuple[espeak.Request, str, np.random.Generator]:
    """(what is said by whom, template, generator for room and noise) of utterance `index`: f(seed,
    split, index).
    """
    rng = random.Random(f"{options.seed}/{split}/{index}/{attempt}")
    text, template = draw(book, split, rng)
    request = espeak.drawn(text, voices[index % len(voices)], rng)
    return request, template, np.random.default_rng(rng.getrandbits(64))


def spoken(
    options: Options, split: str, indices: range
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """(row, samples float32 [N]) of some utterances, in this process (which should be a fresh one:
    see core/speech/voices/base.py).
    """
    cast, book = _spoken.Cast(options.voices, split), grammar.Grammar()
    voices = espeak.Voice.of_split(split)
    random.Random(f"{options.seed}/{split}/voices").shuffle(voices)
    others = _spoken.before()
    for index in indices:
        attempt = 0
        while True:
            request, template, rng = plan(options, book, voices, split, index, attempt)
            clean, about = _said(request, cast, f"{options.seed}/{split}/{index}/{attempt}")
            samples, air = _spoken.into_the_air(clean, options, rng, list(others))
            if SHORTEST_S <= len(samples) / _spoken.RATE <= LONGEST_S:
                break
            attempt += 1
        others.append(clean)
        row = {"id": f"{split}-{index:07d}", "text": request.text}
        yield {**row, **about, "template": template, **air}, samples


def _said(
    request: espeak.Request, cast: _spoken.Cast, seed: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """(samples [N], who speaks) by the voice that is drawn for it; espeak as requested."""
    rng = random.Random(f"{seed}/cast")
    name, speaker = cast.draw(rng) if cast.weights.keys() != {"espeak"} else ("espeak", "")
    voice = cast.voice(name)
    if isinstance(voice, espeak.Voice):
        about = {"speaker": request.voice, "speed": request.speed, "pitch": request.pitch}
        return voice.speak(request), about
    return voice.say(request.text, speaker, rng), {"speaker": f"{name}/{speaker}"}
