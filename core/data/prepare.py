"""Makes speech ready once: reads a corpus, drops what cannot be used and says why, learns tokens,
stores features.

The folder is named by a hash of everything that decides its content. It is built aside, renamed
when complete and its marker is written last, so a folder that is there is whole. Letters: F frames
of 10 ms, U tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.common.reading import fingerprint
from core.corpora import base
from core.data.extract import Extraction, Writer
from core.data.filters import Drop, check_bad, gather
from core.data.prepared import (
    DROPPED,
    FEATURES,
    FORMAT,
    INDEX,
    MARKER,
    TRAIN,
    Prepared,
    Row,
    Statistics,
    checksum,
)
from core.data.rows import row_of, summary
from core.data.source import SpeechRecipe
from core.records import CountCallback, Utterance, as_dict
from core.registry import recipes
from core.speech import features, lexicon, normalizer as text, tokenizer
from core.speech.frontends import base as frontends
from core.storage import checksums, estimates, speeds

VERSION = 1  # raise when the same recipe and files would be prepared otherwise
# particulars of a change in a sound, which are left out for counting
NUMBERS = re.compile(r"-?\d+(\.\d+)?")
BYTES_PER_SECOND = features.FRAMES_PER_SECOND * features.BINS * 2


def prepare(
    speech: SpeechRecipe, progress: CountCallback | None = None, processes: int | None = None
) -> Path:
    """The folder of prepared data for a corpus, features and tokens; made only if it is not there
    yet.

    With `init_from` the tokenizer and the feature statistics are those of that run, so that its
    weights fit; only a run whose encoder alone is continued, under new tokens, leaves both to this
    recipe. `progress(done, total, text)` counts utterances; `processes` is the number of CPU cores
    if None. ValueError for a corpus that is missing, more than 5 % bad items in a split, or
    features larger than `features.cache_gb`.
    """
    progress = progress or (lambda done, total, text: None)
    corpus = base.make(speech.corpus)
    corpus.follow(progress)
    utterances, dropped = gather(corpus, speech.tokens.marks, progress)
    audio = sorted({u.audio for of_split in utterances.values() for u in of_split})
    stamps = {file: fingerprint(file) for file in audio}
    contents = _contents(speech, corpus, utterances, dropped, stamps)
    inherited = speech.inherited()[1] if speech.inherits() else {}
    folder = _folder_of(speech, contents, inherited)
    if not _ready(folder):
        check_bad(utterances, dropped, folder)
        _check_size(utterances, speech.features)
        options = speech.features
        extraction = Extraction(options.speeds, stamps, progress, processes, options.kind)
        build = _Build(
            folder, corpus, utterances, dropped, inherited, speech.tokens, contents, extraction
        )
        _make(folder, build.write)
    hours = {s: sum(u.seconds for u in of_split) / 3600 for s, of_split in utterances.items()}
    key = estimates.corpus_key(speech.corpus, as_dict(speech.features))
    speeds.note_amounts(key, {"hours": hours, "folder": folder.name})
    return folder


def _folder_of(speech: SpeechRecipe, contents: dict[str, Any], inherited: dict[str, bytes]) -> Path:
    """The folder that a hash of everything names. Inherited tokens that are those which the recipe
    would learn share the folder with them.
    """
    phonemes = not inherited and speech.tokens.kind == "phonemes"
    lexical = (
        {"lexicon": lexicon.version()}
        if phonemes or (inherited and paths.BPE not in inherited)
        else {}
    )
    folder = _folder({**contents, "tokens": _without_marks(speech.tokens) | lexical})
    if not inherited or (_ready(folder) and _same(folder, inherited)):
        return folder
    digests = {n: _sha256(data) for n, data in inherited.items()}
    return _folder({**contents, "tokens": digests | lexical})


def _check_size(by_split: dict[str, list[Utterance]], options: features.Options) -> None:
    """ValueError if the features need more than the cap or than the disk has."""
    hours = {
        split: sum(u.seconds for u in utterances) / 3600 for split, utterances in by_split.items()
    }
    copies = sum(1 / speed for speed in options.speeds)
    need = (
        sum(
            h * 3600 * BYTES_PER_SECOND * (copies if split == TRAIN else 1)
            for split, h in hours.items()
        )
        / 1e9
    )
    if need > options.cache_gb:
        raise ValueError(
            f"the features need {need:.2f} GB ({hours.get(TRAIN, 0):.1f} h of training speech at"
            f" {len(options.speeds)} speeds), features.cache_gb allows {options.cache_gb:g} GB:"
            " raise it, set features.speed_change = 0, or take fewer hours"
        )
    paths.prepared().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(paths.prepared()).free / 1e9
    if need * 1.01 > free:
        raise ValueError(
            f"the features need {need:.2f} GB, the disk of {paths.prepared()} has {free:.2f} GB"
            " free: make room or move it with SUPERNET_ARTIFACTS"
        )


# ---- the key


def _without_marks(options: tokenizer.Options) -> dict[str, Any]:
    """The marks are left out: what they change is in the texts, which are part of the key. Word
    ends are left out where there are none: speech prepared before they existed is found.
    """
    left_out = {"marks"} if options.word_ends else {"marks", "word_ends"}
    return {name: value for name, value in as_dict(options).items() if name not in left_out}


def _contents(
    speech: SpeechRecipe,
    corpus: base.Corpus,
    by_split: dict[str, list[Utterance]],
    dropped: list[Drop],
    stamps: dict[str, str],
) -> dict[str, Any]:
    """Everything but the tokens that decides what is prepared."""
    digest = hashlib.sha256()
    for split, utterances in by_split.items():
        for u in utterances:
            digest.update(json.dumps([split, *as_dict(u).values(), stamps[u.audio]]).encode())
    for drop in dropped:
        digest.update(json.dumps([drop.split, drop.id, drop.reason]).encode())
    return {
        "corpus": recipes.same_numbers(as_dict(speech.corpus)),
        "versions": {"prepare": VERSION, **corpus.versions()},
        "normaliser": text.NORMALIZER,
        "features": frontends.load(speech.features.kind).settings(),
        "speeds": list(speech.features.speeds),
        "shares": corpus.shares(),
        "utterances": digest.hexdigest(),
    }


def _folder(key: dict[str, Any]) -> Path:
    return paths.prepared() / _sha256(json.dumps(key, sort_keys=True).encode())[:16]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ready(folder: Path) -> bool:
    try:
        Prepared(folder)
    except ValueError:
        return False
    return True


def _same(folder: Path, inherited: dict[str, bytes]) -> bool:
    return all((folder / name).read_bytes() == data for name, data in inherited.items())


# ---- making it


def _make(folder: Path, build: Callable[[Path], None]) -> None:
    """Builds aside and renames; what dead attempts left is removed, never trusted."""
    writing.sweep(folder.parent, 1)
    aside = writing.beside(folder)
    aside.mkdir(parents=True)
    try:
        build(aside)
        if folder.exists() and not _ready(folder):
            shutil.rmtree(folder)
        if not folder.exists():  # else another process was as fast: its folder has the same content
            os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class _Build:
    """One folder in the making: what goes into it."""

    folder: Path  # as it is called when it is done
    corpus: base.Corpus
    utterances: dict[str, list[Utterance]]
    dropped: list[Drop]
    inherited: dict[str, bytes]  # files of another run; none: tokens are learned
    tokens: tokenizer.Options
    contents: dict[str, Any]
    extraction: Extraction

    def write(self, aside: Path) -> None:
        """Everything, into `aside`; the marker last."""
        self._tokens(aside)
        encoder = tokenizer.load(aside)
        rows, dropped, changed, statistics = self._features(aside, encoder)
        check_bad(rows, dropped, self.folder)
        if not self.inherited:
            writing.write_json(aside / paths.FEATURE_STATISTICS, statistics().to_json())
        writing.write_lines(aside / INDEX, [r.to_json() for split in rows.values() for r in split])
        writing.write_lines(aside / DROPPED, [d.__dict__ for d in dropped])
        self._marker(aside, encoder, rows, dropped, changed)

    def _tokens(self, aside: Path) -> None:
        for name, data in self.inherited.items():
            writing.write_bytes(aside / name, data)
        if not self.inherited:
            tokenizer.train((u.text for u in self.utterances.get(TRAIN, [])), self.tokens, aside)

    def _features(
        self, aside: Path, encoder: tokenizer.Tokenizer
    ) -> tuple[dict[str, list[Row]], list[Drop], Counter[str], Callable[[], Statistics]]:
        """Features on disk -> (rows by split, what is left out, how often sounds were changed,
        the features' statistics).
        """
        rows: dict[str, list[Row]] = {split: [] for split in self.utterances}
        dropped, changed = list(self.dropped), Counter[str]()
        with contextlib.closing(Writer(aside, self.extraction.speeds)) as writer:
            for split, utterance, extracted in self.extraction.run(self.utterances):
                row = row_of(split, self._corpus_of(utterance.id), utterance, extracted, encoder)
                if isinstance(row, Drop):
                    dropped.append(row)
                    continue
                assert not isinstance(extracted, str)  # else there is no row
                changed.update(NUMBERS.sub("...", change) for change in extracted.changes)
                frames = writer.append(extracted.features, split == TRAIN)
                sums = {speed: checksum(array) for speed, array in extracted.features.items()}
                stamp = self.extraction.stamps[utterance.audio]
                rows[split].append(replace(row, frames=frames, sums=sums, stamp=stamp))
        return rows, dropped, changed, writer.statistics

    def _corpus_of(self, id: str) -> str:
        return id.partition(":")[0] if self.corpus.parts() else self.corpus.name

    def _marker(
        self,
        aside: Path,
        encoder: tokenizer.Tokenizer,
        rows: dict[str, list[Row]],
        dropped: list[Drop],
        changed: Counter[str],
    ) -> None:
        files = {p.name: p.stat().st_size for p in sorted(aside.iterdir())}
        # features have their checksums in the index
        hashed = [name for name in files if not name.endswith(FEATURES)]
        marker = {
            **self.contents,
            "format": FORMAT,
            "hash": self.folder.name,
            "files": files,
            "sha256": {name: checksums.of_file(aside / name) for name in hashed},
            "vocabulary": encoder.size,
            "tokens": (
                {"files_of_another_run": sorted(self.inherited)}
                if self.inherited
                else as_dict(self.tokens)
            ),
            "splits": {
                split: summary(
                    of_split, [d for d in dropped if d.split == split], rows.get(TRAIN, [])
                )
                for split, of_split in rows.items()
            },
            "changed": changed,
            "attributions": self.corpus.attributions(),
            "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        writing.write_json(aside / MARKER, checksums.sealed(marker))
