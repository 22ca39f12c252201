"""NeMo manifests: JSON lines with audio_filepath, text, duration, offset, speaker, id; one list of files per split.

`audio_filepath` is relative to its manifest. Lines without a speaker get one of their own from their id
("no-speaker-<id>"): nothing can then be said about disjoint speakers, so hold such data out by file. A speaker who is
in several splits stays in the most protected one (test, dev, search, then train) and is dropped from the others.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core.corpora import base
from core.records import Utterance, option

VERSION = 1


@dataclass(frozen=True)
class Options:
    train: list[str] = option([], "manifests to train on")
    search: list[str] = option([], "manifests for searches and tuning, if they are apart already")
    dev: list[str] = option([], "manifests that decide recipes")
    tests: dict[str, list[str] | str] = option({}, "test split name -> manifest or list of them")
    search_share: float = option(0.0, "share of training speakers held out as split 'search'", low=0, high=0.5)
    allow_shared_speakers: bool = option(False, "keep speakers who are in several splits (one-voice data)")
    licence: str = option("", "licence and authors; known manifest names need none")
    seed: int = option(1, "decides which speakers are held out", low=0)


class Corpus(base.Corpus):
    """Utterances of manifests; ValueError if a manifest is missing or none is given."""

    def __init__(self, options: Options):
        super().__init__(options)
        if options.search and options.search_share:
            raise ValueError("manifest: give either search (manifests) or search_share (of train), not both")
        self.files = base.manifest_files("manifest", {"train": options.train, "search": options.search,
                                                      "dev": options.dev}, options.tests)
        self._speakers: dict[str, set[str]] = {}

    def splits(self) -> list[str]:
        held = ["search"] if self.options.search_share and "train" in self.files else []
        first = [s for s in ("train",) if s in self.files]
        return [*first, *held, *(s for s in self.files if s not in first)]

    def read(self, split: str) -> Iterable[base.Item]:
        if self.options.allow_shared_speakers:
            return self._own(split)
        return base.without_speakers(self._own(split), base.protected(split, self.splits(), self._speakers_of))

    def attributions(self) -> list[tuple[str, str]]:
        return base.manifest_attributions(self.files, self.options.licence)

    def _own(self, split: str) -> Iterator[base.Item]:
        """Items of a split by its files, `search` held out of train by speaker; train's bad lines stay with train."""
        share, seed = self.options.search_share, self.options.seed
        for file in self.files["train" if split == "search" and share else split]:
            for item in base.manifest_lines(file):
                if not share or split not in ("train", "search"):
                    yield item
                elif isinstance(item, base.Dropped):
                    if split == "train":
                        yield item
                elif base.split_of(item.speaker, {"search": share}, seed) == split:
                    yield item

    def _speakers_of(self, split: str) -> set[str]:
        if split not in self._speakers:
            self._speakers[split] = {i.speaker for i in self._own(split) if isinstance(i, Utterance)}
        return self._speakers[split]
