"""TED-LIUM release 2 in torchaudio's layout: TEDLIUM_release2/{train,dev,test}/{sph,stm}; segments
come from the stm.

Segments marked ignore_time_segment_in_scoring are left out, as scoring does. A speaker is the name
before the year of the talk (AlGore_2009 -> AlGore), so that a person's two talks never lie in two
splits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.common import reading
from core.corpora import _files, base
from core.records import Utterance, option

VERSION = 1
FOLDER = "TEDLIUM_release2"
SUBSETS = ("train", "dev", "test")
ENDINGS = (".sph", ".flac", ".wav", ".opus")
IGNORED = "ignore_time_segment_in_scoring"
_MARKS = re.compile(r"\(\d+\)|<[^>]*>|\{[^}]*\}|\[[^\]]*\]")  # the(2), <unk>, {SMACK}, [NOISE]


@dataclass(frozen=True)
class Options:
    root: str = option(
        "artifacts/data", "the folder that holds TEDLIUM_release2, or that folder itself"
    )
    subsets: list[str] = option(
        ["train", "dev", "test"], "what to use", choices=("train", "dev", "test")
    )
    unknown: str = option(
        "remove",
        "<unk> in a transcript: take the mark out, or drop the segment",
        choices=("remove", "drop"),
    )
    search_share: float = option(
        0.02, "share of training speakers held out as split 'search'", low=0, high=0.5
    )
    download: bool = option(True, "fetch it if it is missing (35 GB)")
    seed: int = option(1, "decides which speakers are held out", low=0)


class Corpus(base.FileCorpus):
    """Segments of talks; ValueError if the release is not there and cannot be fetched."""

    licence = "TED-LIUM release 2 (A. Rousseau, P. Deleglise, Y. Esteve 2014), CC BY-NC-ND 3.0"

    def __init__(self, options: Options):
        root = _files.resolve(options.root, "tedlium2 root")
        self.folder = root if root.name == FOLDER else root / FOLDER
        wanted = [s for s in SUBSETS if s in options.subsets]
        super().__init__(options, {s: [self.folder / s] for s in wanted}, options.search_share)

    def items(self, file: Path, split: str) -> Iterator[base.Item]:
        if not (file / "stm").is_dir():
            _fetch(self.folder, split, self.options.download)
        for stm in sorted((file / "stm").glob("*.stm")):
            audio = next(
                (a for e in ENDINGS if (a := file / "sph" / f"{stm.stem}{e}").is_file()),
                file / "sph" / f"{stm.stem}.sph",
            )
            for number, line in enumerate(reading.lines(stm, "replace"), 1):
                if line.strip() and not line.startswith(";;") and IGNORED not in line:
                    yield _segment(line, f"{stm.stem}-{number:04d}", audio, self.options.unknown)


def _segment(line: str, id: str, audio: Path, unknown: str) -> base.Item:
    """One stm line: talk channel speaker start end <labels> words."""
    try:
        _, _, speaker, start, end, *words = line.split()
        first, last = float(start), float(end)
    except ValueError:
        return base.Dropped(
            id, f"not an stm line (talk channel speaker start end <labels> words): '{line[:80]}'"
        )
    if words and words[0].startswith("<") and "," in words[0]:
        words = words[1:]
    if unknown == "drop" and "<unk>" in words:
        return base.Dropped(id, "a word is <unk>")
    return Utterance(
        id,
        str(audio),
        first,
        round(last - first, 4),
        plain(" ".join(words)),
        re.sub(r"_\d{4}\w*$", "", speaker),
    )


def plain(text: str) -> str:
    """A transcript without marks, its split words whole again: "it 's the(2) <unk> end" -> "it's
    the end".
    """
    return " ".join(_MARKS.sub(" ", text).replace(" '", "'").split())


def _fetch(folder: Path, subset: str, download: bool) -> None:
    """Downloads the release; ValueError that says what to place where when that is not possible."""
    place = (
        f"place the release at {folder} (layout {FOLDER}/{{train,dev,test}}/{{sph,stm}};"
        f" openslr.org/19 has {FOLDER}.tar.gz) or set root to the folder that holds it"
    )
    if not download:
        raise ValueError(
            f"tedlium2: {folder / subset / 'stm'} is missing and download is off; {place}"
        )
    print(f"tedlium2: downloading 35 GB to {folder.parent} ...", file=sys.stderr, flush=True)
    try:
        from torchaudio.datasets import TEDLIUM

        folder.parent.mkdir(parents=True, exist_ok=True)
        TEDLIUM(str(folder.parent), release="release2", subset=subset, download=True)
    except (OSError, RuntimeError, ImportError, ValueError) as error:
        raise ValueError(
            f"tedlium2: {folder / subset} is missing and could not be downloaded ({error}); {place}"
        ) from error
    if not (folder / subset / "stm").is_dir():
        raise ValueError(f"tedlium2: the download did not bring {folder / subset / 'stm'}; {place}")
