"""NeMo manifests: JSON lines with audio_filepath, text, duration, offset, speaker, id; one list of
files per split.

`audio_filepath` is relative to its manifest. Lines without a speaker get one of their own from
their id ("no-speaker-<id>"): nothing can then be said about disjoint speakers, so hold such data
out by file. A speaker who is in several splits stays in the most protected one (test, dev, search,
then train) and is dropped from the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.corpora import _files, _manifests, base
from core.records import option

VERSION = 1


@dataclass(frozen=True)
class Options:
    train: list[str] = option([], "manifests to train on")
    search: list[str] = option([], "manifests for searches and tuning, if they are apart already")
    dev: list[str] = option([], "manifests that decide recipes")
    tests: dict[str, list[str] | str] = option({}, "test split name -> manifest or list of them")
    search_share: float = option(
        0.0, "share of training speakers held out as split 'search'", low=0, high=0.5
    )
    allow_shared_speakers: bool = option(
        False, "keep speakers who are in several splits (one-voice data)"
    )
    licence: str = option("", "license and authors; known manifest names need none")
    seed: int = option(1, "decides which speakers are held out", low=0)


class Corpus(base.FileCorpus):
    """Utterances of manifests; ValueError if a manifest is missing or none is given."""

    def __init__(self, options: Options):
        roles = {"train": options.train, "search": options.search, "dev": options.dev}
        super().__init__(
            options,
            _files.named_files("manifest", roles, options.tests),
            options.search_share,
            options.allow_shared_speakers,
        )

    def items(self, file: Path, split: str) -> Iterable[base.Item]:
        return _manifests.lines(file)

    def attributions(self) -> list[tuple[str, str]]:
        return _manifests.attributions(self.files, self.options.licence)
