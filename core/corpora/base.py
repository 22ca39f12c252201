"""What every corpus has in common: splits of Utterances, problems as data, speaker-disjoint by
construction.

A plug-in file holds a docstring, `VERSION`, a frozen dataclass `Options` and `class
Corpus(base.Corpus)` which gives `splits()` and `read(split)`. Splits named "train", "search" and
"dev" play those roles; any other name is a test. Audio is named, not read, here: only headers are
opened.
"""

from __future__ import annotations

import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.corpora._speakers import protected, split_of
from core.jobs import confinement
from core.records import Choice, CountCallback, Utterance
from core.registry import plugins
from core.speech import audio as audio_module

LONG_S = 60.0  # longer utterances are not used: then the file itself is asked


@dataclass(frozen=True)
class Dropped:
    """An item that cannot be used, and why; yielded beside Utterances so that nothing vanishes
    silently. `rule`: it is not bad.
    """

    id: str
    reason: str
    rule: bool = False


Item = Utterance | Dropped
MADE = "made"  # key of Corpus.hours


def print_progress(done: int, total: int, text: str) -> None:
    """One line on stderr that is overwritten; silent when stderr is not a terminal, but for the
    end.
    """
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else "\r"
        print(
            f"{text}: {done}/{total} ({100 * done // max(1, total)} %)",
            end=end,
            file=sys.stderr,
            flush=True,
        )


class Corpus(ABC):
    """A source of speech. Constructing it is cheap; `ValueError` if the whole corpus is missing."""

    licence: str = "unknown: see the corpus' own documents"
    mean_s: float = 12.3  # length of an utterance, for the dry run; LibriSpeech's

    def __init__(self, options: Any):
        self.options = options
        self.progress: CountCallback = print_progress

    @property
    def name(self) -> str:
        """The plug-in's name, e.g. "librispeech"."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @classmethod
    def narrow(cls, options: dict[str, Any], splits: Iterable[str]) -> dict[str, Any]:
        """Options that give only `splits`, with the same ids; here all of them."""
        return options

    @abstractmethod
    def splits(self) -> list[str]:
        """Names of the splits, training first, e.g. ["train", "search", "dev", "test-clean"]."""

    def read(self, split: str) -> Iterable[Item]:
        """The items of one split as found; `utterances` checks them."""
        raise NotImplementedError(f"corpus '{self.name}' gives neither read() nor utterances()")

    def utterances(self, split: str) -> Iterator[Item]:
        """Utterances of `split` (and Dropped beside them): unique ids, words, a file that exists, a
        length.

        Raises ValueError for an unknown split or a corpus that is missing as a whole.
        """
        if split not in self.splits():
            raise ValueError(f"corpus '{self.name}' has no split '{split}'; it has {self.splits()}")
        return checked(self.read(split))

    def at_hand(self, split: str) -> bool:
        """Whether a split can be read now, with nothing to download and no audio to make first."""
        return True

    def parts(self) -> list[Corpus]:
        """The corpora this one is made of; none for a plain one."""
        return []

    def follow(self, progress: CountCallback) -> None:
        """Long work (making audio) is told to `progress(done, total, text)` from now on."""
        self.progress = progress
        for part in self.parts():
            part.follow(progress)

    def hours(self) -> dict[str, float]:
        """{split: length in h} as far as the options alone tell it, for estimates; MADE: of the
        speech that is made here.
        """
        return {}

    def try_speed(self) -> None:  # noqa: B027 - most have nothing to try
        """Note what making its speech costs on this machine, from a few utterances; nothing where
        recordings are read.
        """

    def shares(self) -> dict[str, float]:
        """{id prefix before ":" : largest share of an epoch}; {} where nothing is capped."""
        return {}

    def attributions(self) -> list[tuple[str, str]]:
        """(corpus, license and authors) of everything in it, for the model card."""
        return [(self.name, self.licence)]

    def versions(self) -> dict[str, int]:
        """{plug-in: VERSION} of everything that decides what comes out: part of the prepared data's
        key.
        """
        versions = {self.name: int(sys.modules[type(self).__module__].VERSION)}
        for part in self.parts():
            versions.update(part.versions())
        return versions


class FileCorpus(Corpus):
    """A corpus whose splits are given as files or folders; `search` may be a share of training
    speakers, and a speaker
    of several splits stays in the most protected one (tests, dev, search, then train). Subclasses
    give `items`.
    """

    def __init__(
        self,
        options: Any,
        files: dict[str, list[Path]],
        search_share: float = 0.0,
        shared: bool = False,
    ):
        super().__init__(options)
        if search_share and "search" in files:
            raise ValueError(
                f"{self.name}: give either search (files) or search_share (of train), not both"
            )
        self.files, self._share, self._shared = (
            files,
            search_share if "train" in files else 0.0,
            shared,
        )
        self._speakers: dict[str, set[str]] = {}

    def items(self, file: Path, split: str) -> Iterable[Item]:
        """What one of the files holds."""
        raise NotImplementedError

    def splits(self) -> list[str]:
        first = ["train"] if "train" in self.files else []
        return [
            *first,
            *(["search"] if self._share else []),
            *(s for s in self.files if s not in first),
        ]

    def read(self, split: str) -> Iterable[Item]:
        taken = {} if self._shared else protected(split, self.splits(), self._speakers_of)
        return without_speakers(self._items_of(split), taken)

    def _items_of(self, split: str) -> Iterator[Item]:
        """Items of a split as its files have them; what is bad in train stays with train."""
        source = "train" if split == "search" and self._share else split
        for file in self.files[source]:
            for item in self.items(file, source):
                if not self._share or source != "train":
                    yield item
                elif isinstance(item, Dropped):
                    if split == "train":
                        yield item
                elif split_of(item.speaker, {"search": self._share}, self.options.seed) == split:
                    yield item

    def _speakers_of(self, split: str) -> set[str]:
        if split not in self._speakers:
            self._speakers[split] = {
                i.speaker for i in self._items_of(split) if isinstance(i, Utterance)
            }
        return self._speakers[split]


def make(choice: Choice, where: str = "") -> Corpus:
    """The corpus a recipe names; ValueError for unknown names and options."""
    options = plugins.options("corpora", choice, where or f"corpus {choice.name}")
    return plugin(choice.name)(options)


def plugin(name: str) -> type[Corpus]:
    """The class of a corpus plug-in; ValueError for unknown names."""
    corpus: type[Corpus] = plugins.load("corpora", name).Corpus
    return corpus


def checked(items: Iterable[Item]) -> Iterator[Item]:
    """Turns items without words, file or length, and ids seen before, into Dropped."""
    seen: set[str] = set()
    exists: dict[str, bool] = {}
    for item in items:
        if isinstance(item, Dropped):
            yield item
            continue
        if item.audio not in exists:
            exists[item.audio] = os.path.isfile(item.audio)
        reason = ""
        if item.id in seen:
            reason = "duplicate id: the first one is kept"
        elif not item.text.strip():
            reason = "empty transcript"
        elif not confinement.inside(item.audio):
            reason = confinement.OUTSIDE
        elif not exists[item.audio]:
            reason = f"audio file is missing: {item.audio}"
        elif not (0 <= item.offset < math.inf and 0 < item.seconds < math.inf):
            reason = f"no audio: offset {item.offset} s, length {item.seconds} s"
        elif item.seconds > LONG_S:
            reason = _too_long(item)
        seen.add(item.id)
        yield Dropped(item.id, reason) if reason else item


def _too_long(utterance: Utterance) -> str:
    """Why a length cannot be in s, "" when it can: a table in ms would be left out as a whole, by a
    rule and without a word.
    """
    try:
        whole = audio_module.duration(utterance.audio)
    except ValueError:
        return ""  # said when it is decoded
    ends = utterance.offset + utterance.seconds
    return (
        f"length in ms, not in s: it would end at {ends:g} s of a file of {whole:.2f} s"
        if whole < ends / 100
        else ""
    )


def spoken(id: str, audio: str | Path, text: str, speaker: str, offset: float = 0.0) -> Item:
    """An Utterance that is a file from `offset` s to its end; Dropped if the file is damaged or no
    sound.
    """
    if not confinement.inside(audio):  # first: whether it is there is not for a visitor to know
        return Dropped(id, confinement.OUTSIDE)
    if not Path(audio).exists():
        return Dropped(id, f"audio file is missing: {audio}")
    try:
        return Utterance(
            id, str(audio), offset, audio_module.duration(audio) - offset, text, speaker
        )
    except ValueError as error:
        reason = str(error).replace(str(audio), Path(audio).name)  # no folder of this machine
        return Dropped(id, f"audio cannot be used: {reason}")


def without_speakers(items: Iterable[Item], taken: dict[str, str]) -> Iterator[Item]:
    """Drops utterances whose speaker is in `taken` {speaker: split that has it}."""
    for item in items:
        if isinstance(item, Utterance) and item.speaker in taken:
            reason = f"speaker '{item.speaker}' is also in split '{taken[item.speaker]}'"
            yield Dropped(item.id, reason)
        else:
            yield item
