"""LibriSpeech: any set of subset folders in its layout (subset/speaker/chapter/*.trans.txt), FLAC,
Opus or WAV.

Names need not be standard ("train-clean-5", "dev-heldout"). Missing standard subsets are downloaded
with torchaudio. Each test folder is its own split; `search` is held out of the training folders by
speaker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.common import reading
from core.corpora import _files, _manifests, _speakers, base
from core.jobs import confinement
from core.records import option

VERSION = 1
STANDARD = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
ENDINGS = (".flac", ".opus", ".wav", ".ogg")


@dataclass(frozen=True)
class Options:
    root: str = option("artifacts/data/LibriSpeech", "the folder that holds the subset folders")
    train: list[str] = option(["train-clean-100"], "subset folders to train on")
    search_speakers: dict[str, int] = option(
        {}, "training folder -> speakers held out of it as split 'search'"
    )
    dev: list[str] = option(["dev-clean"], "subset folders that decide recipes")
    tests: list[str] = option(["test-clean"], "subset folders to test on, each its own split")
    download: bool = option(True, "fetch missing standard subsets (0.3 to 30 GB each)")
    seed: int = option(1, "decides which speakers are held out", low=0)


class Corpus(base.Corpus):
    """Utterances of the subset folders; ValueError for a folder that is not there and cannot be
    fetched.
    """

    licence = _manifests.LICENSES["librispeech"]

    def __init__(self, options: Options):
        super().__init__(options)
        self.root = _files.resolve(options.root, "librispeech root")
        taken = [*options.train, *options.dev, *options.tests]
        for name in taken:
            confinement.check(self.root / name, "librispeech subset", name)
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ValueError(
                f"librispeech: {twice} is given more than once among train, dev and tests"
            )
        unknown = sorted(set(options.search_speakers) - set(options.train))
        if unknown:
            raise ValueError(
                f"librispeech: search_speakers names {unknown}; allowed are the train folders "
                f"{list(options.train)}"
            )
        clash = sorted(set(options.tests) & set(_speakers.ROLES))
        if clash:
            raise ValueError(
                f"librispeech: a test folder cannot be called {clash}; rename the folder"
            )
        self._checked: dict[str, Path] = {}
        self._held: set[str] | None = None

    def splits(self) -> list[str]:
        given = {
            "train": self.options.train,
            "search": any(self.options.search_speakers.values()),
            "dev": self.options.dev,
        }
        return [*(split for split, folders in given.items() if folders), *self.options.tests]

    def at_hand(self, split: str) -> bool:
        return all((self.root / folder).is_dir() for folder in self._folders(split))

    def _folders(self, split: str) -> list[str]:
        """Names of the subset folders that a split is read from."""
        train, dev = list(self.options.train), list(self.options.dev)
        return {"train": train, "search": train, "dev": dev}.get(split, [split])

    def read(self, split: str) -> Iterator[base.Item]:
        folders = self._folders(split)
        held = self._held_out() if split in ("train", "search") else set()
        protected = self._speakers_elsewhere(split)
        for folder in folders:
            for speaker in _speaker_folders(self._folder(folder)):
                if split in ("train", "search") and (speaker.name in held) != (split == "search"):
                    continue
                yield from base.without_speakers(_speaker_items(speaker), protected)

    def _held_out(self) -> set[str]:
        """Speakers held out of every training folder. Folders may share speakers (train-clean-5 is
        part of
        train-clean-100): those found in one folder only are taken first, so that the count is of
        different people.
        """
        if self._held is None:
            people = {
                f: {s.name for s in _speaker_folders(self._folder(f))} for f in self.options.train
            }
            held: set[str] = set()
            for folder, count in self.options.search_speakers.items():
                if count >= max(1, len(people[folder])):
                    raise ValueError(
                        f"librispeech: search_speakers asks for {count} of '{folder}', "
                        f"which has {len(people[folder])} speakers; leave some for training"
                    )
                elsewhere = set().union(*(names for f, names in people.items() if f != folder))
                only = _speakers.pick(people[folder] - elsewhere, count, self.options.seed)
                shared = people[folder] & elsewhere - held
                held |= only | _speakers.pick(shared, count - len(only), self.options.seed)
            self._held = held
        return self._held

    def _speakers_elsewhere(self, split: str) -> dict[str, str]:
        """Speakers of test and dev folders, who must not be trained on (official subsets share
        none).
        """
        if split not in ("train", "search"):
            return {}
        folders = [*self.options.tests, *self.options.dev]
        return {
            speaker.name: f
            for f in folders
            if (self.root / f).is_dir()
            for speaker in _speaker_folders(self.root / f)
        }

    def _folder(self, name: str) -> Path:
        """The folder of a subset, fetched if it is a standard one that is missing."""
        if name not in self._checked:
            folder = self.root / name
            if not folder.is_dir():
                _fetch(self.root, name, self.options.download)
            self._checked[name] = folder
        return self._checked[name]


def _speaker_folders(folder: Path) -> list[Path]:
    """Speaker folders of a subset, in order."""
    return sorted(p for p in folder.iterdir() if p.is_dir())


def _speaker_items(speaker: Path) -> Iterator[base.Item]:
    """The utterances of one speaker: every line of every .trans.txt, and audio that has no line."""
    for chapter in sorted(p for p in speaker.iterdir() if p.is_dir()):
        audio = {p.stem: p for p in sorted(chapter.iterdir(), reverse=True) if p.suffix in ENDINGS}
        for transcript in sorted(chapter.glob("*.trans.txt")):
            for line in reading.lines(transcript, "replace"):
                id, _, text = line.strip().partition(" ")
                if id:
                    yield base.spoken(id, audio.pop(id, chapter / f"{id}.flac"), text, speaker.name)
        for id in sorted(audio):
            yield base.Dropped(id, f"no transcript for {audio[id]}")


def _fetch(root: Path, name: str, download: bool) -> None:
    """Downloads a standard subset to `root`; ValueError that says what to do when that is not
    possible.
    """
    there = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    place = (
        f"place its folder at {root / name} (layout"
        f" {name}/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt and .flac or .opus beside it;"
        f" openslr.org/12 has {name}.tar.gz)"
    )
    if name not in STANDARD:
        raise ValueError(
            f"librispeech: there is no folder '{name}' in {root}; there are {there}. It is not a"
            f" standard subset {list(STANDARD)}, so it cannot be downloaded: place it there or"
            " correct the name"
        )
    if not download:
        raise ValueError(f"librispeech: '{name}' is missing and download is off; {place}")
    print(f"librispeech: downloading {name} to {root} ...", file=sys.stderr, flush=True)
    try:
        from torchaudio.datasets import LIBRISPEECH

        root.mkdir(parents=True, exist_ok=True)
        # torchaudio unpacks to <given root>/<folder_in_archive>/<subset>, and shows a progress bar
        LIBRISPEECH(str(root.parent), url=name, folder_in_archive=root.name, download=True)
    except (OSError, RuntimeError, ImportError, ValueError) as error:
        raise ValueError(
            f"librispeech: '{name}' is missing and could not be downloaded ({error}); {place}"
        ) from error
    if not (root / name).is_dir():
        raise ValueError(
            f"librispeech: the download of '{name}' did not bring {root / name}; {place}"
        )
