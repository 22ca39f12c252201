"""Speech made of your own sentences: give the texts of your domain, get hours of training speech.

Voices (core/speech/voices/) say every sentence about equally often, at changing pace, in rooms and
noise. Some sentences and some voices are kept for search, dev and test alone. Speech is made once,
in shards of many utterances; a making that was stopped goes on with the first shard that is
missing. It is synthetic: its word error rates say little about people.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.common import reading
from core.corpora import _files, _shards, _speakers, _spoken, base
from core.records import Utterance, option
from core.speech import shards
from core.speech.normalizer import normalize, problems

VERSION = 1
SHORTEST_S, LONGEST_S = 0.4, 20.0
MOST_WORDS = 40  # of a sentence
SHARES = {"test": 0.5, "dev": 0.25, "search": 0.25}  # of the sentences that are held out
SPLITS = ("train", "search", "dev", "test")
LENGTHS = ("hours", "test_utterances", "dev_utterances", "search_utterances")
NO_AUDIO = (*LENGTHS, "texts", "sentences", "voices", "licence", "processes")  # decide no shard
_CLAUSES = re.compile(r"[,;:](?=\s)|[.?!](?=\s|$)")
Sentence = tuple[str, str]  # (as it is said, its words)


@dataclass(frozen=True)
class Options:
    texts: list[str] = option([], "text files (UTF-8), a sentence a line")
    sentences: list[str] = option([], "sentences written here, beside those of the files")
    hours: float = option(1.0, "length of the training split", unit="h", low=0.001, high=10000)
    test_utterances: int = option(200, "length of the test split", low=1, high=100000)
    dev_utterances: int = option(100, "length of the dev split", low=1, high=100000)
    search_utterances: int = option(100, "length of the search split", low=1, high=100000)
    held_out: float = option(
        0.1,
        "share of the sentences that only search, dev and test have; 0: they have all sentences"
        " and differ by voice alone",
        low=0.0,
        high=0.5,
    )
    voices: dict[str, float] = option(
        {"hibari": 1.0}, "who speaks: voice -> weight (espeak, hibari, piper)", low=0.0
    )
    reverberant: float = option(0.5, "share of utterances in a room", low=0, high=1)
    rt60_low: float = option(0.1, "driest room", unit="s", low=0.05, high=3)
    rt60_high: float = option(0.8, "most reverberant room", unit="s", low=0.05, high=3)
    noisy: float = option(0.5, "share of utterances with noise", low=0, high=1)
    snr_low: float = option(0.0, "loudest noise", unit="dB", low=-10, high=60)
    snr_high: float = option(25.0, "softest noise", unit="dB", low=-10, high=60)
    seed: int = option(1, "decides sentences, voices, rooms and noise", low=0)
    shard_utterances: int = option(
        200, "utterances of one audio file; other values make other audio", low=4, high=5000
    )
    processes: int = option(
        0, "to make the audio with; 0 = one per core; changes nothing else", low=0, high=256
    )
    licence: str = option("", "license and authors of the texts, for the model card")


class Corpus(base.Corpus):
    """Made under artifacts/prepared/corpora/spoken_text-<hash>; lengths may change later and reuse
    its shards. ValueError for texts that cannot be read or hold too little.
    """

    mean_s = 4.0

    def __init__(self, options: Options):
        super().__init__(options)
        _spoken.check("spoken_text", options)
        self.licence = _spoken.licence(options.voices, options.licence or "words: your own texts")
        self.sentences, self._left_out = _read(options)
        if not self.sentences:
            raise ValueError(
                "spoken_text: there is no sentence to speak: give texts (UTF-8 files, a sentence a"
                " line) or sentences" + "".join(f"; {d.id}: {d.reason}" for d in self._left_out[:3])
            )
        self.by_split = divided(self.sentences, options.held_out)

    def splits(self) -> list[str]:
        return [*SPLITS]

    @cached_property
    def folder(self) -> Path:
        """Named by all that decides the audio of a shard, so not by the lengths of splits."""
        options = {k: v for k, v in asdict(self.options).items() if k not in NO_AUDIO}
        voices = _spoken.decides(self.options.voices)
        digest = shards.digest([VERSION, options, self.by_split, voices])
        return paths.prepared() / "corpora" / f"spoken_text-{digest}"

    @cached_property
    def shards(self) -> _shards.Shards:
        o = self.options
        work = partial(spoken, o, self.by_split)
        return _shards.Shards(self.name, self.folder, o.shard_utterances, work, o.processes)

    def at_hand(self, split: str) -> bool:
        return False  # reading makes the audio

    def read(self, split: str) -> Iterator[base.Item]:
        """Utterances in their order; shards that are missing are made first."""
        if split == "train":
            yield from self._left_out
        count = None if split == "train" else getattr(self.options, f"{split}_utterances")
        limit = self.options.hours * 3600 if split == "train" else None
        seconds = 0.0
        for index, row in enumerate(self.shards.rows(split, count, limit, self.progress)):
            if (count is not None and index >= count) or (limit is not None and seconds >= limit):
                return
            if "reason" in row:
                yield base.Dropped(row["id"], row["reason"])
                continue
            seconds += row["seconds"]
            yield Utterance(
                *(row[k] for k in ("id", "audio", "offset", "seconds", "text", "speaker"))
            )


def _read(options: Options) -> tuple[list[Sentence], list[base.Dropped]]:
    """(different sentences, lines that cannot be spoken)."""
    sentences: dict[str, str] = {}
    left_out = []
    for where, line in _lines(options):
        words = normalize(line)
        count = len(words.split())
        reason = ""
        if bad := problems(line):
            reason = f"signs whose words are unknown: {' '.join(bad)}; write them as words"
        elif count > MOST_WORDS:
            reason = f"{count} words; {MOST_WORDS} are the most: give a sentence a line"
        if reason:
            left_out.append(base.Dropped(where, reason))
        elif count:
            sentences.setdefault(words, as_said(line))
    return [(said, words) for words, said in sentences.items()], left_out


def _lines(options: Options) -> Iterator[tuple[str, str]]:
    """(where it stands, a line) of all texts."""
    for number, line in enumerate(options.sentences, 1):
        yield f"sentence {number}", line
    for name in options.texts:
        file = _files.resolve(name, "spoken_text.texts")
        try:
            for number, line in enumerate(reading.lines(file), 1):
                if "\0" in line:
                    raise ValueError("it is no text: it holds zero bytes")
                yield f"{file.name}:{number}", line
        except (OSError, ValueError) as error:
            raise ValueError(
                f"spoken_text.texts: {name!r} cannot be read"
                f" ({getattr(error, 'strerror', None) or error}); give UTF-8 text, a sentence a"
                " line"
            ) from None


def as_said(line: str) -> str:
    """Its words with a pause between clauses, so that what is said is what is written as its
    words: "Dr. Who, 3 times?" -> "dr. who, three times?".
    """
    clauses, at = [], 0
    for mark in _CLAUSES.finditer(line):
        clauses.append((normalize(line[at : mark.start()]), mark.group()))
        at = mark.end()
    clauses.append((normalize(line[at:]), "."))
    pairs = [(words, mark) for words, mark in clauses if words]
    middle = [f"{words}," for words, _ in pairs[:-1]]
    return " ".join([*middle, f"{pairs[-1][0]}{'?' if pairs[-1][1] == '?' else '.'}"])


def divided(sentences: list[Sentence], held_out: float) -> dict[str, list[Sentence]]:
    """{split: its sentences}, whatever the seed, so that no training ever had a test's; all
    splits have all of them where none is held out.
    """
    if not held_out:
        return dict.fromkeys(SPLITS, sentences)
    counts = {split: max(1, round(held_out * s * len(sentences))) for split, s in SHARES.items()}
    if len(sentences) <= sum(counts.values()):
        raise ValueError(
            f"spoken_text: expected at least {len(SPLITS)} different sentences, of which some are"
            f" held out, got {len(sentences)}: give more, or set held_out = 0"
        )
    order = sorted(sentences, key=lambda s: _speakers.stable(s[1], 0))
    parts: dict[str, list[Sentence]] = {}
    for split, count in counts.items():
        parts[split], order = order[:count], order[count:]
    held = {words for part in parts.values() for _, words in part}
    return parts | {"train": [s for s in sentences if s[1] not in held]}


@lru_cache(maxsize=2)
def _order(seed: str, count: int) -> list[int]:
    return random.Random(seed).sample(range(count), count)


def spoken(
    options: Options, by_split: dict[str, list[Sentence]], split: str, indices: range
) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """(row, samples float32 [N]) of some utterances, in this process (which should be a fresh one:
    see core/speech/voices/base.py). Every sentence comes once before one comes again.
    """
    cast, sentences, others = _spoken.Cast(options.voices, split), by_split[split], _spoken.before()
    for index in indices:
        turn, place = divmod(index, len(sentences))
        said, text = sentences[_order(f"{options.seed}/{split}/{turn}", len(sentences))[place]]
        rng = random.Random(f"{options.seed}/{split}/{index}")
        name, speaker = cast.draw(rng)
        row = {"id": f"{split}-{index:07d}", "text": text, "speaker": f"{name}/{speaker}"}
        clean = cast.voice(name).say(said, speaker, rng)
        seconds = len(clean) / _spoken.RATE
        if not SHORTEST_S <= seconds <= LONGEST_S:
            reason = f"{name} says it in {seconds:.1f} s; used are {SHORTEST_S} to {LONGEST_S} s"
            yield {"id": row["id"], "reason": reason}, None
            continue
        air_rng = np.random.default_rng(rng.getrandbits(64))
        samples, air = _spoken.into_the_air(clean, options, air_rng, list(others))
        others.append(clean)
        yield row | air, samples
