"""A folder of recordings: audio with same-named .txt files beside it, or a CSV that names audio and
text.

Columns of the CSV: audio (or file, path), text (or transcript); speaker, split, id, offset,
duration (s; offset_ms, duration_ms) if there are. Without a split column speakers are divided by
seeded hash; without a speaker column the folder an audio file lies in is its speaker, and in a flat
folder each file is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.common import reading
from core.corpora import _files, _speakers, _tables, base
from core.records import Utterance, option
from core.speech.audio import ENDINGS

VERSION = 3  # raise when the same files would give other items
ROLE_ALIASES = {
    "training": "train",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "development": "dev",
    "": "train",
}


@dataclass(frozen=True)
class Options:
    root: str = option("", "the folder")
    csv: str = option(
        "",
        "a CSV in it (comma, semicolon, tab or |); empty: the only .csv there is, else .txt files",
    )
    search_share: float = option(0.05, "share of speakers for searches and tuning", low=0, high=0.5)
    dev_share: float = option(0.05, "share of speakers that decide recipes", low=0, high=0.5)
    test_share: float = option(0.1, "share of speakers to test on", low=0, high=0.5)
    each_file_a_speaker: bool = option(
        False, "divide files, not speakers (all by one voice: results flatter)"
    )
    allow_shared_speakers: bool = option(
        False, "keep speakers whom the split column has in several splits"
    )
    split: str = option("", "the split of every recording, e.g. test; empty: divided")
    licence: str = option("", "license and authors, for the model card")
    seed: int = option(1, "decides which speakers go where", low=0)


class Corpus(base.Corpus):
    """The recordings; ValueError if there are none, columns are missing or speakers are too few to
    divide.
    """

    def __init__(self, options: Options):
        super().__init__(options)
        if not options.root:
            raise ValueError("folder: root is empty; give the folder that holds the recordings")
        self.root = _files.resolve(options.root, "folder root")
        if not self.root.is_dir():
            raise ValueError(
                f"folder: {self.root} is not a folder; place the recordings there or correct root"
            )
        self.licence = options.licence or base.Corpus.licence
        table = self._table()
        items = list(self._csv_items(table) if table else self._txt_items())
        if not any(isinstance(item, Utterance) or not item.rule for _, item in items):
            raise ValueError(
                f"folder: nothing in {table or self.root}; there should be sound files (WAV, FLAC, "
                "Opus, MP3, M4A, WebM ...) with .txt files of the same names, or a CSV"
            )
        self._items = self._divided(items)

    def splits(self) -> list[str]:
        return sorted(self._items, key=lambda s: (_speakers.level(s), s))

    def read(self, split: str) -> Iterator[base.Item]:
        shared = self.options.allow_shared_speakers
        taken = (
            {}
            if shared
            else _speakers.protected(
                split,
                self._items,
                lambda s: {i.speaker for i in self._items[s] if isinstance(i, Utterance)},
            )
        )
        yield from base.without_speakers(self._items[split], taken)

    def _table(self) -> Path | None:
        """The CSV to read, or None for .txt files."""
        if self.options.csv:
            table = self.root / self.options.csv
            if not table.resolve().is_relative_to(self.root.resolve()):
                raise ValueError(
                    f"folder: expected csv to name a file in {self.root}, got {self.options.csv!r}:"
                    " move it there, or give the folder that holds both as root"
                )
            if not table.is_file():
                raise ValueError(
                    f"folder: {table} is missing; there are"
                    f" {[p.name for p in self.root.glob('*.csv')]}"
                )
            return table
        tables = sorted(self.root.glob("*.csv"))
        if len(tables) > 1:
            raise ValueError(
                f"folder: {self.root} has {[p.name for p in tables]}; say which with the option csv"
            )
        return tables[0] if tables else None

    def _txt_items(self) -> Iterator[tuple[str, base.Item]]:
        """Every file is used or listed: sound by its ending or by a .txt of its name beside it, the
        rest by endings.
        """
        texts, sounds, others = _files_below(self.root)
        for audio in sounds:
            id, words = self._id(audio), texts.get(audio.with_suffix(""), audio.with_suffix(".txt"))
            try:
                text = reading.text(words.read_bytes())
            except (OSError, UnicodeDecodeError) as error:
                yield "", base.Dropped(id, f"no transcript: {_without_words(words, error)}")
                continue
            yield "", base.spoken(id, audio, " ".join(text.split()), self._speaker(audio, ""))
        used = {audio.with_suffix("") for audio in sounds}
        for words in sorted(words for stem, words in texts.items() if stem not in used):
            yield (
                "",
                base.Dropped(
                    self._id(words), f"no sound of the same name beside {words.name}", rule=True
                ),
            )
        for ending, files in others.items():
            yield (
                "",
                base.Dropped(
                    f"*{ending}",
                    f"neither sound nor its transcript: {len(files)} files, e.g. {files[0].name}",
                    rule=True,
                ),
            )

    def _id(self, file: Path) -> str:
        return file.relative_to(self.root).with_suffix("").as_posix()

    def _csv_items(self, table: Path) -> Iterator[tuple[str, base.Item]]:
        """(split as written, item) of each row; a line that cannot be read counts with the row
        before it.
        """
        has_split, rows = _tables.read(table)
        split, named, splits = "train" if has_split else "", set(), set()
        for number, row in rows:
            if isinstance(row, str):
                yield split, base.Dropped(f"{table.name}:{number}", row)
                continue
            if has_split:
                split = ROLE_ALIASES.get(row["split"].lower(), row["split"].lower())
            named.add(os.path.normpath(self.root / row["audio"]))
            splits.add(split)
            yield split, self._row(row, f"{table.name}:{number}")
        left = [
            audio for audio in _files_below(self.root)[1] if os.path.normpath(audio) not in named
        ]
        if left:
            reason = (
                f"no row of {table.name} names it: {len(left)} sound files, e.g. {left[0].name}"
            )
            yield "train" if "train" in splits else split, base.Dropped("*", reason, rule=True)

    def _row(self, cell: dict[str, str], place: str) -> base.Item:
        if not cell["audio"]:
            return base.Dropped(place, "no audio file is named")
        audio = self.root / cell["audio"]
        id = cell["id"] or "-".join(
            filter(None, (Path(cell["audio"]).with_suffix("").as_posix(), cell["offset"]))
        )
        try:
            offset, seconds = (
                _tables.seconds(cell[name], cell[f"{name}_ms"]) for name in ("offset", "duration")
            )
        except ValueError as error:
            return base.Dropped(id, f"offset or duration is no number: {error} in {place}")
        speaker = self._speaker(audio, cell["speaker"])
        if seconds:
            return Utterance(id, str(audio), offset, seconds, cell["text"], speaker)
        return base.spoken(id, audio, cell["text"], speaker, offset)

    def _speaker(self, audio: Path, named: str) -> str:
        """Speakers carry the folder's name, so that "1" here and "1" in another corpus are two
        people.
        """
        inside = audio.is_relative_to(self.root)
        parent = audio.parent.relative_to(self.root).as_posix() if inside else audio.parent.name
        if self.options.each_file_a_speaker or not named and parent == ".":
            named = audio.stem if parent == "." else f"{parent}/{audio.stem}"
        return f"{self.root.name}/{named or parent}"

    def _divided(self, written: list[tuple[str, base.Item]]) -> dict[str, list[base.Item]]:
        """Items by split: as written, or speakers by seeded hash; bad items stay with train."""
        items: dict[str, list[base.Item]] = {}
        if self.options.split:
            return {self.options.split: [item for _, item in written]}
        if any(split for split, _ in written) or not any(
            isinstance(item, Utterance) for _, item in written
        ):
            for split, item in written:
                items.setdefault(split or "train", []).append(item)
            return items
        shares = {
            "test": self.options.test_share,
            "dev": self.options.dev_share,
            "search": self.options.search_share,
        }
        shares = {split: share for split, share in shares.items() if share}
        speakers = sorted({i.speaker for _, i in written if isinstance(i, Utterance)})
        place: dict[str, str] = {}
        for split, share in shares.items():
            left = [s for s in speakers if s not in place]
            place |= dict.fromkeys(
                _speakers.pick(left, max(1, round(share * len(speakers))), self.options.seed), split
            )
        if len(place) >= len(speakers) or len(set(place.values())) < len(shares):
            raise ValueError(
                f"folder: {len(speakers)} speakers {speakers[:5]} cannot be divided into train and "
                f"{shares}; lower shares or set them to 0, write a split column, or set "
                "each_file_a_speaker"
            )
        for _, item in written:
            split = place.get(item.speaker, "train") if isinstance(item, Utterance) else "train"
            items.setdefault(split, []).append(item)
        return items


def _without_words(words: Path, error: Exception) -> str:
    """Why there is no transcript; no folder of this machine, which visitors read."""
    if isinstance(error, FileNotFoundError):
        return f"expected {words.name} with UTF-8 text beside the sound, got no such file"
    return f"{words.name}: {getattr(error, 'strerror', None) or error}"


def _files_below(root: Path) -> tuple[dict[Path, Path], list[Path], dict[str, list[Path]]]:
    """What lies in a folder: transcripts by their paths without ending, sounds, and other files by
    ending.
    """
    files = sorted(p for p in root.rglob("*") if not p.is_dir())
    texts: dict[Path, Path] = {}
    for file in files:
        if file.suffix.lower() == ".txt":
            texts.setdefault(file.with_suffix(""), file)
    sounds, others = list[Path](), dict[str, list[Path]]()
    for file in files:
        if file.suffix.lower() == ".txt":
            continue
        if file.name.startswith("._"):  # what macOS keeps beside a file
            others.setdefault("._", []).append(file)
        elif file.suffix.lower() in ENDINGS or file.with_suffix("") in texts:
            sounds.append(file)
        else:
            others.setdefault(file.suffix, []).append(file)
    return texts, sounds, others
