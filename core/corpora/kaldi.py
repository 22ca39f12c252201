"""Kaldi data folders: wav.scp, text, utt2spk and (if there) segments; one folder or more per split.

Entries of wav.scp must be files: commands ("... |") are never run. Without utt2spk each utterance
is a speaker. Speakers are told apart between data folders only by their ids, as Kaldi does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.common import reading
from core.corpora import _files, base
from core.records import Utterance, option

VERSION = 1
ADVICE = (
    "write the audio to files first (for example with Kaldi's wav-copy scp:wav.scp scp,p:list, or"
    " the command itself) and put their paths into wav.scp"
)


@dataclass(frozen=True)
class Options:
    train: list[str] = option([], "data folders to train on")
    search: list[str] = option(
        [], "data folders for searches and tuning, if they are apart already"
    )
    dev: list[str] = option([], "data folders that decide recipes")
    tests: dict[str, list[str] | str] = option({}, "test split name -> data folder or list of them")
    audio_root: str = option(
        "", "folder that relative paths of wav.scp start from; empty: the data folder"
    )
    search_share: float = option(
        0.0, "share of training speakers held out as split 'search'", low=0, high=0.5
    )
    allow_shared_speakers: bool = option(
        False, "keep speakers who are in several splits (one-voice data)"
    )
    licence: str = option("", "license and authors, for the model card")
    seed: int = option(1, "decides which speakers are held out", low=0)


class Corpus(base.FileCorpus):
    """Utterances of data folders; ValueError for a folder without wav.scp or text, or with nothing
    but commands.
    """

    def __init__(self, options: Options):
        roles = {"train": options.train, "search": options.search, "dev": options.dev}
        super().__init__(
            options,
            _files.named_files("kaldi", roles, options.tests),
            options.search_share,
            options.allow_shared_speakers,
        )
        self.licence = options.licence or base.Corpus.licence
        for folder in (f for folders in self.files.values() for f in folders):
            missing = [name for name in ("wav.scp", "text") if not (folder / name).is_file()]
            if missing:
                raise ValueError(
                    f"kaldi: {folder} has no {' and no '.join(missing)}; a data folder holds"
                    " wav.scp, text, utt2spk and, if recordings are cut, segments"
                )

    def items(self, file: Path, split: str) -> Iterator[base.Item]:
        recordings, again = reading.first_of_each(_lines(file / "wav.scp"))
        for id in again:
            yield base.Dropped(
                f"{file / 'wav.scp'}: {id}", "repeated recording: the first one is kept"
            )
        if recordings and all(place.endswith("|") for place in recordings.values()):
            raise ValueError(
                f"kaldi: all entries of {file / 'wav.scp'} are commands; they are not run: {ADVICE}"
            )
        texts, speakers, cuts = (_lines(file / name) for name in ("text", "utt2spk", "segments"))
        root = (
            _files.resolve(self.options.audio_root, "kaldi audio_root")
            if self.options.audio_root
            else file
        )
        (text_of, _), (speaker_of, _), (cut_of, _) = map(
            reading.first_of_each, (texts, speakers, cuts)
        )
        listed, other = (cut_of, "segments") if cuts else (recordings, "wav.scp")
        for id, cut in cuts or [(id, id) for id, _ in texts]:
            if id in text_of and id in listed:
                yield _item(id, text_of[id], speaker_of.get(id, id), cut, recordings, root)
        for id in sorted(text_of.keys() ^ listed.keys()):
            yield base.Dropped(
                id,
                f"it is only in {'text' if id in text_of else other} of {file}, "
                f"not in {other if id in text_of else 'text'}",
            )


def _item(
    id: str, text: str, speaker: str, cut: str, recordings: dict[str, str], root: Path
) -> base.Item:
    """One utterance; `cut` is "recording start end" of segments, or the recording itself."""
    recording, *times = cut.split() or [""]
    place = recordings.get(recording)
    if place is None:
        return base.Dropped(id, f"recording '{recording}' is not in wav.scp")
    if place.endswith("|"):
        return base.Dropped(id, f"recording '{recording}' is a command, which is not run: {ADVICE}")
    audio = root / place
    try:
        start, end = map(float, times[:2]) if times else (0.0, -1.0)
    except ValueError:
        return base.Dropped(id, f"segments has '{cut}'; it must be: recording, start and end in s")
    if end < 0:
        return base.spoken(id, audio, text, speaker, start)
    return Utterance(id, str(audio), start, round(end - start, 4), text, speaker)


def _lines(path: Path) -> list[tuple[str, str]]:
    """(first word, rest) of each line; [] if the file is not there."""
    if not path.is_file():
        return []
    lines = (line.strip().split(maxsplit=1) for line in reading.lines(path, "replace"))
    return [(parts[0], parts[1] if len(parts) > 1 else "") for parts in lines if parts]
