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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.corpora import base
from core.data.extract import Earlier, Extracted, Task, Writer, extract, extract_one
from core.data.filters import Drop, check_bad, gather, length_drop
from core.data.prepared import (
    DROPPED,
    FEATURES,
    FORMAT,
    INDEX,
    MARKER,
    TRAIN,
    Prepared,
    Row,
    checksum,
)
from core.records import Recipe, Utterance, as_dict
from core.registry import plugins
from core.speech import features, lexicon, normalizer as text, tokenizer
from core.storage import checksums, store

VERSION = 1  # raise when the same recipe and files would be prepared otherwise
SUBSAMPLING = 4  # encoder frames are 40 ms, four feature frames
LOSS_SPLITS = (
    "train",
    "search",
    "dev",
)  # CTC loss is computed on these: their labels must fit into the frames
NUMBERS = re.compile(
    r"-?\d+(\.\d+)?"
)  # particulars of a change in a sound, which are left out for counting
BYTES_PER_SECOND = features.FRAMES_PER_SECOND * features.BINS * 2

Progress = Callable[[int, int, str], None]


def prepare(recipe: Recipe, progress: Progress | None = None, processes: int | None = None) -> Path:
    """The folder of prepared data for a recipe's corpus, features and tokens; made only if it is
    not there yet.

    With `init_from` the tokenizer and the feature statistics are those of that run, so that its
    weights fit; only a run whose encoder
    alone is continued, under new tokens (new_tokens), leaves both to this recipe.
    `progress(done, total, text)` counts utterances; `processes` is the number of CPU cores if None.
    ValueError for a
    corpus that is missing, more than 5 % bad items in a split, or features larger than
    `features.cache_gb`.
    """
    progress = progress or (lambda done, total, text: None)
    options = plugins.make_options(features.Options, recipe.features, "features")
    token_options = plugins.make_options(tokenizer.Options, recipe.tokens, "tokens")
    corpus = base.make(recipe.corpus)
    corpus.follow(progress)
    found, dropped = gather(corpus, token_options.marks)
    stamps = {
        audio: _stamp(audio) for audio in sorted({u.audio for mine in found.values() for u in mine})
    }
    contents = _contents(recipe, corpus, options, found, dropped, stamps)
    known = inherited(recipe)[1] if recipe.init_from and not new_tokens(recipe) else {}
    lexical = (
        {}
        if paths.BPE in known or not known and token_options.kind != "phonemes"
        else {"lexicon": lexicon.version()}
    )
    folder = _folder({**contents, "tokens": _told(token_options) | lexical})
    if known and not (_ready(folder) and _same(folder, known)):
        folder = _folder(
            {**contents, "tokens": {n: _sha256(data) for n, data in known.items()} | lexical}
        )
    if not _ready(folder):
        check_bad(found, dropped, folder)
        _check_size(found, options)
        tokens = known or token_options
        _make(
            folder,
            lambda aside: _build(
                aside,
                folder,
                corpus,
                found,
                dropped,
                tokens,
                contents,
                _Extraction(options.speeds, stamps, progress, processes),
            ),
        )
    return folder


def _check_size(found: dict[str, list[Utterance]], options: features.Options) -> None:
    """ValueError if the features need more than the cap or than the disk has."""
    hours = {
        split: sum(u.seconds for u in utterances) / 3600 for split, utterances in found.items()
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


def _told(options: tokenizer.Options) -> dict[str, Any]:
    """Without the marks: they are in the texts, or rather not, and these are part of the key. And
    without word ends where there are none: speech prepared before them is found.
    """
    told = {name: value for name, value in as_dict(options).items() if name != "marks"}
    return told if options.word_ends else {n: v for n, v in told.items() if n != "word_ends"}


def _contents(
    recipe: Recipe,
    corpus: base.Corpus,
    options: features.Options,
    found: dict[str, list[Utterance]],
    dropped: list[Drop],
    stamps: dict[str, str],
) -> dict[str, Any]:
    """Everything but the tokens that decides what is prepared."""
    digest = hashlib.sha256()
    for split, utterances in found.items():
        for u in utterances:
            digest.update(json.dumps([split, *as_dict(u).values(), stamps[u.audio]]).encode())
    for drop in dropped:
        digest.update(json.dumps([drop.split, drop.id, drop.reason]).encode())
    return {
        "corpus": store.same_numbers(as_dict(recipe.corpus)),
        "versions": {"prepare": VERSION, **corpus.versions()},
        "normaliser": text.NORMALISER,
        "features": features.settings(),
        "speeds": list(options.speeds),
        "shares": corpus.shares(),
        "utterances": digest.hexdigest(),
    }


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"unreadable: {error.errno}"
    return f"{status.st_size} {status.st_mtime_ns}"


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


def new_tokens(recipe: Recipe) -> bool:
    """Whether the recipe asks for phonemes where the run it continues has letters or pieces, or the
    reverse, or for word ends otherwise than it: then the encoder alone is continued.
    """
    kind, ends = recipe.tokens.get("kind"), recipe.tokens.get("word_ends")
    run = tokenizer.load(store.run_folder(recipe.init_from))
    phonemes = run.unit == "phonemes"
    other_ends = phonemes and ends is not None and ends != run.word_ends
    return kind is not None and ((kind == "phonemes") != phonemes or other_ends)


def inherited(recipe: Recipe) -> tuple[int, dict[str, bytes]]:
    """Of the run that this recipe continues: number of tokens, {file name: content} of tokenizer
    and statistics.
    """
    run = store.run_folder(recipe.init_from)
    names = [
        n
        for n in (paths.BPE, paths.TOKENS, paths.FEATURE_STATISTICS)
        if n != paths.BPE or (run / n).is_file()
    ]
    missing = [name for name in names if not (run / name).is_file()]
    if missing:
        raise ValueError(
            f"init_from = '{recipe.init_from}': {run} lacks {missing}, so its weights cannot be"
            " continued"
        )
    size, asked = tokenizer.load(run).size, recipe.tokens.get("size")
    if asked not in (None, size):
        raise ValueError(
            f"tokens.size = {asked}, but '{recipe.init_from}' has {size} tokens: leave tokens out"
        )
    return size, {name: store.read(run / name) for name in names}


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


def _build(
    aside: Path,
    folder: Path,
    corpus: base.Corpus,
    found: dict[str, list[Utterance]],
    dropped: list[Drop],
    tokens: tokenizer.Options | dict[str, bytes],
    contents: dict[str, Any],
    extraction: _Extraction,
) -> None:
    """Writes everything into `aside`, the marker last. `tokens`: how to learn them, or the files of
    another run.
    """
    inherited = tokens if isinstance(tokens, dict) else {}
    for name, data in inherited.items():
        store.write_bytes(aside / name, data)
    if not inherited:
        tokenizer.train((u.text for u in found.get(TRAIN, [])), tokens, aside)
    encoder = tokenizer.load(aside)
    corpus_of = (lambda id: id.partition(":")[0]) if corpus.parts() else (lambda id: corpus.name)
    rows: dict[str, list[Row]] = {split: [] for split in found}
    dropped, changed = list(dropped), Counter[str]()
    with contextlib.closing(Writer(aside, extraction.speeds)) as writer:
        for split, utterance, result in extraction.run(found):
            row = _row(split, corpus_of(utterance.id), utterance, result, encoder)
            if isinstance(row, Drop):
                dropped.append(row)
            else:
                changed.update(NUMBERS.sub("...", change) for change in result.changes)
                frames = writer.append(result.features, split == TRAIN)
                sums = {speed: checksum(array) for speed, array in result.features.items()}
                rows[split].append(
                    replace(row, frames=frames, sums=sums, stamp=extraction.stamps[utterance.audio])
                )
    check_bad(rows, dropped, folder)
    if not inherited:
        store.write_json(aside / paths.FEATURE_STATISTICS, writer.statistics().to_json())
    store.write_lines(aside / INDEX, [row.to_json() for split in rows.values() for row in split])
    store.write_lines(aside / DROPPED, [d.__dict__ for d in dropped])
    files = {p.name: p.stat().st_size for p in sorted(aside.iterdir())}
    sha256 = {
        name: checksums.of_file(aside / name) for name in files if not name.endswith(FEATURES)
    }  # those have theirs in the index
    store.write_json(
        aside / MARKER,
        checksums.sealed(
            {
                **contents,
                "format": FORMAT,
                "hash": folder.name,
                "files": files,
                "sha256": sha256,
                "vocabulary": encoder.size,
                "tokens": (
                    {"files_of_another_run": sorted(inherited)} if inherited else as_dict(tokens)
                ),
                "splits": {
                    split: _summary(
                        mine, [d for d in dropped if d.split == split], rows.get(TRAIN, [])
                    )
                    for split, mine in rows.items()
                },
                "changed": changed,
                "attributions": corpus.attributions(),
                "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            }
        ),
    )


@dataclass(frozen=True)
class _Extraction:
    """How features come about: from folders prepared earlier where the sound is the same, else from
    the sound.
    """

    speeds: tuple[float, ...]
    stamps: dict[str, str]
    progress: Progress
    processes: int | None

    def run(
        self, found: dict[str, list[Utterance]]
    ) -> Iterator[tuple[str, Utterance, Extracted | str]]:
        """Every utterance, in order, with its features or the reason why it has none."""
        work = [
            (split, u, self.speeds if split == TRAIN else (1.0,))
            for split, mine in found.items()
            for u in mine
        ]
        earlier = Earlier(paths.prepared(), features.settings())
        known = [earlier.find(u, self.stamps[u.audio], speeds) for _, u, speeds in work]
        fresh = extract(
            (
                Task(u.audio, u.offset, u.seconds, speeds)
                for (_, u, speeds), have in zip(work, known)
                if have is None
            ),
            self.processes,
        )
        started, heard = time.monotonic(), 0.0
        for number, ((split, utterance, _), have) in enumerate(zip(work, known), 1):
            yield (
                split,
                utterance,
                (
                    next(fresh)
                    if have is None
                    else _known(
                        have,
                        Task(
                            utterance.audio,
                            utterance.offset,
                            utterance.seconds,
                            self.speeds if split == TRAIN else (1.0,),
                        ),
                    )
                ),
            )
            heard += utterance.seconds
            if number % 50 == 0 or number == len(work):
                rate = heard / max(1e-3, time.monotonic() - started)
                self.progress(
                    number,
                    len(work),
                    f"features, {heard / 3600:.1f} h at {rate:.0f} times real time",
                )


def _known(have: Callable[[], Extracted], task: Task) -> Extracted | str:
    """Features prepared earlier, or made anew where those are damaged."""
    try:
        return have()
    except ValueError:
        return extract_one(task)


def _row(
    split: str,
    corpus: str,
    utterance: Utterance,
    result: Extracted | str,
    tokens: tokenizer.Tokenizer,
) -> Row | Drop:
    """The index row of an utterance, its frames not placed yet, or why it is left out."""
    if isinstance(result, str):
        return Drop(split, utterance.id, f"audio cannot be used: {result}")
    drop = length_drop(split, utterance.id, result.seconds)
    if drop:
        return drop
    try:
        ids = tokens.encode(utterance.text)
    except ValueError as error:
        return Drop(split, utterance.id, f"no tokens: {error}")
    room = min(len(array) for array in result.features.values()) // SUBSAMPLING
    if not room:
        return Drop(
            split, utterance.id, f"no audio: {result.seconds:.3f} s are less than one encoder frame"
        )
    needed = len(ids) + tokenizer.repeats(ids)
    if split in LOSS_SPLITS and needed > room:
        return Drop(
            split,
            utterance.id,
            f"more labels than frames: {needed} tokens and repeats, {room} frames of "
            f"{SUBSAMPLING * features.FRAME_SHIFT_MS} ms at the fastest speed",
        )
    return Row(
        utterance.id,
        split,
        corpus,
        utterance.text,
        utterance.speaker,
        round(result.seconds, 4),
        utterance.audio,
        utterance.offset,
        utterance.seconds,
        "",
        tuple(ids),
        {},
    )


def _summary(rows: list[Row], dropped: list[Drop], training: list[Row]) -> dict[str, Any]:
    """What a split holds, for people and for the model card."""
    speakers, heard = {r.speaker for r in rows}, {r.speaker for r in training}
    return {
        "utterances": len(rows),
        "hours": round(sum(r.seconds for r in rows) / 3600, 3),
        "speakers": len(speakers),
        "words": sum(len(r.text.split()) for r in rows),
        "training_speakers": len(speakers & heard),
        "hours_by_corpus": {
            c: round(sum(r.seconds for r in rows if r.corpus == c) / 3600, 3)
            for c in sorted({r.corpus for r in rows})
        },
        "bad": Counter(d.kind for d in dropped if not d.rule),
        "left_out_by_rule": Counter(d.kind for d in dropped if d.rule),
    }
