"""A trial of every kind of work that a training job does, so that its time can be estimated before
the first one has run here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from core.common.stages import FEATURES, SPEECH
from core.corpora import base as corpora
from core.pipelines import build as building, dry_run
from core.pipelines.resolved import ResolvedRecipe
from core.records import Recipe
from core.registry import recipes
from core.speech import audio, features
from core.storage import estimates, speeds
from core.storage.estimates import Estimate

LOADING_S = time.process_time()  # what a process computes until torch and all of this is loaded
SHORT_S = 30.0  # training audio of an update that is tried for a page
SOUND_S = 20.0  # noise whose features are computed
STARTS = 2  # processes that load torch to time a size, itself and in turn with the dense one
ROUNDS_S = 5.0  # of timing a size, beside starting (core/evaluation/latency.py)
MOST_S = 300  # of a trial that a page waits for
DECODED = 2.0  # measuring over a plain forward pass: chunks one by one, scoring, intervals


def estimate(recipe: Recipe) -> Estimate:
    """What a training job of this recipe will take here; nothing but speeds.json is written.

    ValueError as a training would raise it.
    """
    return keep(recipe, dry_run.estimate(recipe))


def keep(recipe: Recipe, found: dict[str, Any]) -> Estimate:
    """The same where a dry run has just been made: `found` is what it said."""
    work = estimates.training_work(recipe, found["device"])
    if not speeds.costs(work):
        speeds.note(work, found["audio_hours"] * 3600, found["hours"] * 3600)
    _speech(recipe)
    if not speeds.costs(measuring := estimates.measuring_work(recipe)):
        speeds.note(measuring, 1.0, _measuring_s(recipe, found, min(LOADING_S, 30.0)))
    known = estimates.of(recipe, found["device"])
    assert known is not None  # its training was noted just now
    return known


def _speech(recipe: Recipe) -> None:
    """How much speech there will be, and what making it and its features costs."""
    try:
        corpus = corpora.make(recipe.corpus)
    except ValueError:  # its recordings are not here: a training says so
        return
    hours, key = corpus.hours(), estimates.speech_key(recipe)
    resolved = ResolvedRecipe(recipe)
    copies = {s: len(resolved.speech.features.speeds) if s == "train" else 1 for s in hours}
    seconds = {s: 3600 * h for s, h in hours.items() if s != corpora.MADE}
    amounts = {
        "made_seconds": 3600 * hours.get(corpora.MADE, 0.0),
        "feature_seconds": sum(copies[s] * length for s, length in seconds.items()),
    }
    if not hours or estimates.ready(speeds.amounts_of(key)):
        return
    speeds.note_amounts(key, amounts)
    if not speeds.costs(f"{SPEECH} {recipe.corpus.name}"):
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # a job says what is wrong
            corpus.try_speed()
    if not speeds.costs(FEATURES):
        speeds.note(FEATURES, *_features())


def _features() -> tuple[float, float]:
    """(seconds of sound, seconds of computing) of a little noise, at one speed that is changed."""
    noise = np.random.default_rng(1).standard_normal(int(SOUND_S * audio.SAMPLE_RATE))
    began = time.perf_counter()
    features.fbank_in_bulk(audio.speed((0.1 * noise).astype(np.float32), 1.1))
    return SOUND_S, time.perf_counter() - began


def _measuring_s(recipe: Recipe, found: dict[str, Any], loading_s: float) -> float:
    """Measuring the sizes that a training leaves, by what a forward pass takes."""
    resolved = ResolvedRecipe(recipe)
    options, vocabulary = resolved.evaluation, resolved.speech.vocabulary()
    sizes = options.sizes or building.size_names(resolved.built(vocabulary), vocabulary)
    hours = {}
    with contextlib.suppress(ValueError):
        hours = corpora.make(recipe.corpus).hours()
    splits = options.splits or [s for s in hours if s not in ("train", "search", "dev", "made")]
    sound_s = sum(3600 * hours.get(s.rpartition("/")[2], 0.0) for s in splits)
    timing_s = STARTS * loading_s + ROUNDS_S if options.speed_utterances else 0.0
    # of an update's passes about a third is forward
    forward = found["seconds_per_update"] / max(1, found["passes"]) / 3
    forward /= resolved.training.batch_seconds
    return len(sizes) * (sound_s * forward * DECODED + timing_s)


def alone(file: str, parent: int) -> None:
    """The trial of the recipe in a file, which is removed, in a process of its own: in the
    background, at most MOST_S long, and no longer than the process `parent` that began it.
    """
    os.nice(10)
    signal.alarm(MOST_S)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    data = json.loads(Path(file).read_text(encoding="utf-8"))
    Path(file).unlink()
    in_short(data)


def in_short(data: dict[str, Any]) -> Estimate:
    """The estimate of a recipe's tables from batches of at most SHORT_S, whatever it asks for: a
    page waits for it, and a large model's whole batch might not fit into memory.
    """
    recipe = recipes.recipe_from(data)
    batch_s = estimates.training_options(recipe)["batch_seconds"]
    shorter = {"batch_seconds": min(batch_s, SHORT_S)}
    found = dry_run.estimate(dataclasses.replace(recipe, training=recipe.training | shorter))
    return keep(recipe, found)
