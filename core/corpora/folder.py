"""A folder of recordings: audio with same-named .txt files beside it, or a CSV that names audio and
text.

Columns of the CSV: audio (or file, path), text (or transcript); speaker, split, id, offset,
duration (s; offset_ms, duration_ms) if there are. Without a split column speakers are divided by
seeded hash; without a speaker column the folder an audio file lies in is its speaker, and in a flat
folder each file is one.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.common import reading
from core.corpora import base
from core.jobs import confinement
from core.records import Utterance, option
from core.speech.audio import ENDINGS

VERSION = 2  # raise when the same files would give other items
COLUMNS = {
    "audio": ("audio", "file", "path", "filename", "audio_filepath"),
    "text": ("text", "transcript", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "id": ("id",),
    "offset": ("offset", "start"),
    "duration": ("duration", "seconds", "length"),
    "offset_ms": ("offset_ms", "start_ms", "offset[ms]", "start[ms]", "offset (ms)", "start (ms)"),
    "duration_ms": (
        "duration_ms",
        "length_ms",
        "duration[ms]",
        "length[ms]",
        "duration (ms)",
        "length (ms)",
    ),
}
ROLES = {
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
    licence: str = option("", "licence and authors, for the model card")
    seed: int = option(1, "decides which speakers go where", low=0)


class Corpus(base.Corpus):
    """The recordings; ValueError if there are none, columns are missing or speakers are too few to
    divide.
    """

    def __init__(self, options: Options):
        super().__init__(options)
        if not options.root:
            raise ValueError("folder: root is empty; give the folder that holds the recordings")
        self.root = base.resolve(options.root, "folder root")
        if not self.root.is_dir():
            raise ValueError(
                f"folder: {self.root} is not a folder; place the recordings there or correct root"
            )
        self.licence = options.licence or base.Corpus.licence
        table = self._table()
        found = list(self._csv_items(table) if table else self._txt_items())
        if not any(isinstance(item, Utterance) or not item.rule for _, item in found):
            raise ValueError(
                f"folder: nothing in {table or self.root}; there should be sound files (WAV, FLAC, "
                "Opus, MP3, M4A, WebM ...) with .txt files of the same names, or a CSV"
            )
        self._items = self._divided(found)

    def splits(self) -> list[str]:
        return sorted(self._items, key=lambda s: (base.level(s), s))

    def read(self, split: str) -> Iterator[base.Item]:
        shared = self.options.allow_shared_speakers
        taken = (
            {}
            if shared
            else base.protected(
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
        texts, sounds, others = _found(self.root)
        for audio in sounds:
            id, words = self._id(audio), texts.get(audio.with_suffix(""), audio.with_suffix(".txt"))
            try:
                text = reading.text(words.read_bytes())
            except (OSError, UnicodeDecodeError) as error:
                yield "", base.Dropped(id, f"no transcript: {words.name}: {error}")
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
        lines = [f"{line}\n" for line in reading.lines(table, "replace")]
        head = next((line for line in lines if line.strip()), "")
        found = _csv_rows(lines, max(",;\t|", key=head.count))
        number, names = next(found, (1, []))
        if isinstance(names, str):
            raise ValueError(
                f"folder: the names of the columns in line {number} of {table} cannot be read:"
                f" {names}; mend that line"
            )
        place = {name.strip().lower(): at for at, name in enumerate(names)}
        column = {
            want: next((place[a] for a in aliases if a in place), None)
            for want, aliases in COLUMNS.items()
        }
        if column["audio"] is None or column["text"] is None:
            found_names = (
                f"{len(place)} other columns"
                if confinement.folders() is not None
                else f"the columns {list(place)}"
            )
            raise ValueError(
                f"folder: {table} has {found_names}; needed are one of "
                f"{COLUMNS['audio']} and one of {COLUMNS['text']}"
            )
        split, named, splits = "" if column["split"] is None else "train", set(), set()
        for number, row in found:
            if isinstance(row, str):
                yield split, base.Dropped(f"{table.name}:{number}", row)
                continue
            cell = {
                want: row[at].strip() if at is not None and at < len(row) else ""
                for want, at in column.items()
            }
            if column["split"] is not None:
                split = ROLES.get(cell["split"].lower(), cell["split"].lower())
            named.add(os.path.normpath(self.root / cell["audio"]))
            splits.add(split)
            yield split, self._row(cell, f"{table.name}:{number}")
        left = [audio for audio in _found(self.root)[1] if os.path.normpath(audio) not in named]
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
                _seconds(cell[name], cell[f"{name}_ms"]) for name in ("offset", "duration")
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

    def _divided(self, found: list[tuple[str, base.Item]]) -> dict[str, list[base.Item]]:
        """Items by split: as written, or speakers by seeded hash; bad items stay with train."""
        items: dict[str, list[base.Item]] = {}
        if any(split for split, _ in found) or not any(
            isinstance(item, Utterance) for _, item in found
        ):
            for split, item in found:
                items.setdefault(split or "train", []).append(item)
            return items
        shares = {
            "test": self.options.test_share,
            "dev": self.options.dev_share,
            "search": self.options.search_share,
        }
        shares = {split: share for split, share in shares.items() if share}
        speakers = sorted({i.speaker for _, i in found if isinstance(i, Utterance)})
        place: dict[str, str] = {}
        for split, share in shares.items():
            left = [s for s in speakers if s not in place]
            place |= dict.fromkeys(
                base.pick(left, max(1, round(share * len(speakers))), self.options.seed), split
            )
        if len(place) >= len(speakers) or len(set(place.values())) < len(shares):
            raise ValueError(
                f"folder: {len(speakers)} speakers {speakers[:5]} cannot be divided into train and "
                f"{shares}; lower shares or set them to 0, write a split column, or set "
                "each_file_a_speaker"
            )
        for _, item in found:
            split = place.get(item.speaker, "train") if isinstance(item, Utterance) else "train"
            items.setdefault(split, []).append(item)
        return items


def _seconds(seconds: str, ms: str) -> float:
    """A time as a table has it, "2.5" or "2,5" s, or 2500 ms; 0 where there is none."""
    text = (ms or seconds).replace(",", ".") or "0"
    return float(text) / (1000 if ms else 1)


def _found(root: Path) -> tuple[dict[Path, Path], list[Path], dict[str, list[Path]]]:
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


def _csv_rows(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(number of its first line, cells or why there are none) of each row; empty lines are none.

    A quote that is never closed would swallow all rows up to the next quote or the end: it costs
    its own line only, and so does
    what else the reader refuses, e.g. a cell of more than 131072 characters.
    """
    start = 0
    while start < len(lines):
        reader, first = (
            csv.reader(
                map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter, strict=True
            ),
            start,
        )
        try:
            for row in reader:
                if row:
                    yield first + 1, row
                first = start + reader.line_num
            return
        except csv.Error:
            yield first + 1, _csv_line(lines[first], delimiter)
            start = first + 1


def _csv_line(line: str, delimiter: str) -> list[str] | str:
    """The cells of a line on its own, read as leniently as can be, or why there are none."""
    if line.count('"') % 2:
        return "not a usable line: a quote is opened and never closed"
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        return f"not a usable line: {error}"
