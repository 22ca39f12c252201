"""Prepared speech for a training or for measuring a stored run: made if it is not there."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core import paths
from core.common import stages
from core.corpora import base as corpora
from core.data import prepare as preparing, test_sets
from core.data.prepared import Prepared
from core.data.source import SpeechRecipe
from core.records import Interrupted, ProgressCallback
from core.registry import plugins
from core.speech import normalizer
from core.speech.frontends import base as frontends


def prepare(speech: SpeechRecipe, progress: ProgressCallback) -> Path:
    """Features, tokens and lists of a recipe's speech, made once. Raises Interrupted when
    `progress` says stop.
    """

    began: dict[str, tuple[float, int]] = {}  # {stage: when it began, what was done then}

    def count(done: int, total: int, text: str) -> None:
        now = time.monotonic()
        since, before = began.setdefault(f"{stages.read(text).name} {total}", (now, done))
        left = (now - since) / (done - before) * (total - done) if done > before else None
        if not progress(done / max(1, total), text, left):
            raise Interrupted(
                "stopped while speech was made ready; what was not finished is made again"
            )

    return preparing.prepare(speech, progress=count)


def prepared_now(speech: SpeechRecipe, progress: ProgressCallback) -> Prepared:
    """The same on the way to something else."""
    return Prepared(prepare(speech, lambda _, text, eta: progress(0.0, text, eta)))


def prepared_of(
    folder: Path, speech: SpeechRecipe, progress: ProgressCallback, splits: Sequence[str] = ()
) -> Prepared:
    """A run's speech under its own tokens and statistics, whatever stage it began from (that one
    may be elsewhere).

    What the run was trained on is taken if it is here; else only what `splits` need is made ready,
    where the corpus can say what that is: measuring one split must not need speech of another.
    """
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        trained_on = json.loads((folder / paths.FINISHED).read_text())["prepared"]
        prepared = Prepared(paths.prepared() / trained_on)
        own = any(map(test_sets.is_own, splits))
        if not own and _still_good(prepared, speech.features.kind, splits):
            return prepared
    narrow = corpora.plugin(speech.corpus.name).narrow
    corpus = replace(speech.corpus, options=narrow(speech.corpus.options, splits))
    return prepared_now(replace(speech, corpus=corpus, init_from=folder.name), progress)


def _still_good(prepared: Prepared, kind: str, splits: Sequence[str]) -> bool:
    """Lists, features and words are made today as they were then, and the sound of the splits is
    still there.
    """
    code = {"prepare": preparing.VERSION}
    code |= {
        n: plugins.load("corpora", n).VERSION for n in prepared.info["versions"] if n not in code
    }
    same = (prepared.info["features"], prepared.info["normaliser"], prepared.info["versions"]) == (
        frontends.load(kind).settings(),
        normalizer.NORMALIZER,
        code,
    )
    first = [
        rows[0].audio
        for s in splits or prepared.splits
        if s in prepared.splits
        for rows in [prepared.rows(s)]
        if rows
    ]
    return same and all(Path(audio).is_file() for audio in first)
