"""Strings of digits or commands: one speaker's single-word clips joined into continuous speech,
audio made once.

Clips come from manifests whose texts are one word. Ends of clips are trimmed softly, levels matched
to the string's median, gaps filled with noise as low as the clips' own. Speakers with few clips
join what they have.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from core import paths
from core.common import randomness as chance
from core.common.reading import fingerprint
from core.corpora import _files, _manifests, _speakers, base
from core.records import Utterance, option
from core.speech import acoustics, audio, shards

VERSION = 1
FRAME = audio.SAMPLE_RATE // 100  # 10 ms, for levels
MARGIN = 8  # frames kept around the part of a clip that is louder than TRIM_DB
TRIM_DB = -35.0  # below the loudest frame
FADE = audio.SAMPLE_RATE // 200  # 5 ms at each end of a clip: no clicks
LOWEST_FLOOR, HIGHEST_FLOOR = 1e-4, 3e-3


@dataclass(frozen=True)
class Options:
    train: list[str] = option([], "manifests of single-word clips to train on")
    search_speakers: int = option(0, "training speakers held out as split 'search'", low=0)
    dev: list[str] = option([], "manifests of clips for the split 'dev'")
    tests: dict[str, list[str] | str] = option(
        {},
        "test split name -> manifest or list of them; a share-alike corpus "
        "(FSDD) that is only here stays out of the weights",
    )
    words_min: int = option(2, "shortest string", unit="words", low=1, high=50)
    words_max: int = option(6, "longest string", unit="words", low=1, high=50)
    gap_min: float = option(50.0, "shortest gap between words", unit="ms", low=0, high=2000)
    gap_max: float = option(300.0, "longest gap between words", unit="ms", low=0, high=2000)
    uses: int = option(
        1, "times each training clip is used, in other company each time", low=1, high=20
    )
    test_uses: int = option(1, "times each clip of search, dev and tests is used", low=1, high=20)
    trim: bool = option(True, "cut the silence around clips to about 80 ms")
    licence: str = option("", "license and authors; known manifest names need none")
    audio_format: str = option("flac", "of the files that are made", choices=("flac", "opus"))
    seed: int = option(1, "decides strings, gaps and held-out speakers", low=0)
    processes: int = option(
        0, "to make the audio with; 0 = one per core; changes nothing else", low=0
    )


class Corpus(base.Corpus):
    """Made once under artifacts/prepared/corpora/strings-<hash of options and clips>."""

    def __init__(self, options: Options):
        super().__init__(options)
        if options.words_min > options.words_max or options.gap_min > options.gap_max:
            raise ValueError(
                f"strings: words_min {options.words_min} must not be above words_max"
                f" {options.words_max}, nor gap_min {options.gap_min} above gap_max"
                f" {options.gap_max}"
            )
        self.files = _files.named_files(
            "strings", {"train": options.train, "dev": options.dev}, options.tests
        )
        self._clips: dict[str, list[Utterance]] = {}
        self._bad: dict[str, list[base.Dropped]] = {}

    def splits(self) -> list[str]:
        held = ["search"] if self.options.search_speakers and "train" in self.files else []
        return [
            *(["train"] if "train" in self.files else []),
            *held,
            *(s for s in self.files if s != "train"),
        ]

    def attributions(self) -> list[tuple[str, str]]:
        return _manifests.attributions(self.files, self.options.licence)

    def at_hand(self, split: str) -> bool:
        return False  # reading makes the audio

    def read(self, split: str) -> Iterator[base.Item]:
        self._load()
        yield from self._bad.get(split, [])
        for row in shards.rows(self.folder(), split):
            if "reason" in row:
                yield base.Dropped(row["id"], row["reason"])
            else:
                yield Utterance(
                    *(row[k] for k in ("id", "audio", "offset", "seconds", "text", "speaker"))
                )

    def folder(self) -> Path:
        """Where the audio is; made now if it is not there yet. The word set is printed when it is
        made.
        """
        self._load()
        settings = {
            k: v
            for k, v in asdict(self.options).items()
            if k not in ("processes", "licence", "train", "dev", "tests")
        }
        clips = {
            s: [
                (c.id, c.text, c.speaker, c.offset, c.seconds, fingerprint(c.audio))
                for c in split_clips
            ]
            for s, split_clips in self._clips.items()
        }
        folder = (
            paths.prepared() / "corpora" / f"strings-{shards.digest([VERSION, settings, clips])}"
        )
        if (folder / shards.MADE).is_file():
            return folder
        tasks, words = {}, {}
        for split, split_clips in self._clips.items():
            uses = self.options.uses if split == "train" else self.options.test_uses
            words[split] = dict(Counter(c.text for c in split_clips).most_common())
            for speaker in sorted({c.speaker for c in split_clips}):
                of_speaker = [c for c in split_clips if c.speaker == speaker]
                tasks[shards.safe(f"{split}.{speaker}")] = (split, speaker, of_speaker, uses)
            print(
                f"strings: {split}: {len(split_clips)} clips of"
                f" {len({c.speaker for c in split_clips})} speakers, {len(words[split])} words:"
                f" {' '.join(words[split])}",
                file=sys.stderr,
                flush=True,
            )
        return shards.make(
            folder,
            tasks,
            partial(speaker_strings, self.options),
            ending=self.options.audio_format,
            processes=self.options.processes,
            progress=self.progress,
            about={"words": words},
        )

    def _load(self) -> None:
        """Clips and problems by split; no speaker in two of train, search and the rest."""
        if self._clips:
            return
        for split, files in self.files.items():
            lines = base.checked(item for file in files for item in _manifests.lines(file))
            items = [
                (
                    base.Dropped(i.id, f"'{i.text}' is not a single word")
                    if isinstance(i, Utterance) and len(i.text.split()) != 1
                    else i
                )
                for i in lines
            ]
            self._clips[split] = [i for i in items if isinstance(i, Utterance)]
            self._bad[split] = [i for i in items if isinstance(i, base.Dropped)]
        if "search" in self.splits():
            everyone = {c.speaker for c in self._clips["train"]}
            if self.options.search_speakers >= len(everyone):
                raise ValueError(
                    f"strings: search_speakers is {self.options.search_speakers}, but train has"
                    f" only {len(everyone)} speakers; leave some for training"
                )
            held = _speakers.pick(everyone, self.options.search_speakers, self.options.seed)
            self._clips["search"] = [c for c in self._clips["train"] if c.speaker in held]
            self._clips["train"] = [c for c in self._clips["train"] if c.speaker not in held]
        clips = dict(self._clips)
        for split in clips:
            taken = _speakers.protected(split, clips, lambda s: {c.speaker for c in clips[s]})
            kept = list(base.without_speakers(clips[split], taken))
            self._clips[split] = [c for c in kept if isinstance(c, Utterance)]
            self._bad.setdefault(split, []).extend(c for c in kept if isinstance(c, base.Dropped))


def speaker_strings(
    options: Options, task: tuple[str, str, list[Utterance], int]
) -> Iterator[shards.Recording]:
    """All strings of one speaker; every readable clip is used `uses` times."""
    split, speaker, clips, uses = task
    sound: dict[str, np.ndarray] = {}
    for clip in clips:
        try:
            samples = audio.read(clip.audio, clip.offset, clip.seconds)
            if not np.any(samples):
                raise audio.AudioError("nothing but digital silence")
            sound[clip.id] = trimmed(samples) if options.trim else samples
        except (
            Exception
        ) as error:  # one bad clip must never end the making of hours: it is listed with its reason
            yield shards.Recording(
                {"id": clip.id, "split": split, "reason": audio.why(clip.audio, error)}, None
            )
    number = 0
    for use in range(uses):
        rng = chance.utterance_rng(options.seed, use, f"{split}.{speaker}", "strings")
        order = [clips[i] for i in rng.permutation(len(clips)) if clips[i].id in sound]
        for word_count in sizes(len(order), options.words_min, options.words_max, rng):
            words, order = order[:word_count], order[word_count:]
            samples = joined([sound[c.id] for c in words], (options.gap_min, options.gap_max), rng)
            yield shards.Recording(
                {
                    "id": f"{split}-{speaker}-{number:04d}",
                    "split": split,
                    "speaker": speaker,
                    "text": " ".join(c.text for c in words),
                    "clips": [c.id for c in words],
                },
                samples,
            )
            number += 1


def sizes(count: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """`count` clips cut into strings of `low`..`high` words; what cannot be (too few) becomes one
    shorter string.
    """
    lengths = []
    while count:
        word_count = min(count, int(rng.integers(low, high + 1)))
        if 0 < count - word_count < low:  # do not leave a stump where it can be avoided
            word_count = count if count <= high else max(low, count - low)
        lengths.append(word_count)
        count -= word_count
    return lengths


def levels(samples: np.ndarray) -> np.ndarray:
    """RMS of each 10 ms frame of [N]."""
    whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return (
        np.sqrt(np.mean(np.square(whole, dtype=np.float64), axis=1))
        if len(whole)
        else np.array([0.0])
    )


def trimmed(samples: np.ndarray) -> np.ndarray:
    """[N] without the quiet ends: from MARGIN frames before the first frame above TRIM_DB to as
    many after the last.
    """
    level = levels(samples)
    loud = np.flatnonzero(level > level.max() * 10 ** (TRIM_DB / 20))
    if not loud.size:
        return samples
    return samples[max(0, loud[0] - MARGIN) * FRAME : (loud[-1] + 1 + MARGIN) * FRAME]


def joined(
    clips: list[np.ndarray], gap_ms: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Clips after each other over a bed of low noise, at one level (median of the clips' RMS), gaps
    drawn anew;
    half a gap before the first and after the last.
    """
    loudness = [acoustics.rms(clip) for clip in clips]
    target = float(np.median(loudness))
    floor = float(
        np.clip(
            np.median([np.percentile(levels(c), 5) for c in clips]), LOWEST_FLOOR, HIGHEST_FLOOR
        )
    )
    gaps = (rng.uniform(*gap_ms, size=len(clips) + 1) * audio.SAMPLE_RATE / 1000).astype(int)
    gaps[[0, -1]] //= 2
    whole = acoustics.noise("pink", int(sum(map(len, clips)) + gaps.sum()), rng) * floor
    position = 0
    for clip, gap, loud in zip(clips, gaps, loudness):
        position += gap
        ramp = np.minimum(1.0, (np.arange(len(clip)) + 1) / FADE)
        whole[position : position + len(clip)] += (
            clip * ramp * ramp[::-1] * (target / max(loud, 1e-6))
        )
        position += len(clip)
    return acoustics.limit(whole)
