"""A dry run: all that a training builds, two updates on synthetic features of real shape, and what
the whole would take on this device.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import torch

from core import cost
from core.corpora import base as corpora
from core.data.batches import Batch
from core.evaluation import provenance
from core.pipelines import build as building
from core.pipelines.resolved import ResolvedRecipe
from core.records import Recipe
from core.speech import tokenizer
from core.training import pace
from core.training.learner import Learner

LONG_S = 20.0  # an update that takes longer is timed once, not twice
# share of its threads' time below which other programs were busy (a guess: some operators use one
# thread alone)
BUSY = 0.6
CHARACTERS_S = 14.5  # characters spoken in a second, spaces included, about


def synthetic_batch(
    batch_seconds: float,
    vocabulary: int,
    characters: bool,
    seed: int,
    utterance_s: float = corpora.Corpus.mean_s,
) -> Batch:
    """About `batch_seconds` of seeded noise in utterances of nearly one length, with as many tokens
    as such speech has.
    """
    rng = np.random.default_rng(seed)
    longest = int(100 * min(utterance_s, batch_seconds))
    count = max(1, round(batch_seconds * 100 / longest))
    lengths = np.sort(rng.integers(int(0.9 * longest), longest + 1, count))[::-1].copy()
    lengths[0] = longest
    # characters in a piece: 2.5 of 256 pieces, 4.5 of 4096 (rough; fewer pieces are shorter)
    length = 1.0 if characters else 2.5 + 0.5 * max(0.0, np.log2(vocabulary / 256))
    tokens = np.maximum(1, (lengths / 100 * CHARACTERS_S / length).astype(int))
    drawn = rng.integers(1, vocabulary, (count, int(tokens.max())))
    drawn[:, 1:] += drawn[:, 1:] == drawn[:, :-1]  # repeats would need more frames than there are
    return Batch(
        torch.from_numpy(rng.standard_normal((count, longest, 80)).astype(np.float32)),
        torch.tensor(lengths),
        torch.tensor(drawn.clip(max=vocabulary - 1)),
        torch.tensor(tokens),
        [f"synthetic-{seed}-{i}" for i in range(count)],
        float(lengths.sum()) / 100,
    )


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Parameters, memory, passes and time of a recipe on this device; nothing is read, stored or
    prepared.

    ValueError as a training would raise it: options, sizes, chunks. A recipe that starts from
    another run takes its tokens.
    """
    resolved = ResolvedRecipe(recipe)
    settings, vocabulary = resolved.training, resolved.speech.vocabulary()
    building.check(resolved, vocabulary)
    built = resolved.built(vocabulary)
    mean_s = corpora.plugin(recipe.corpus.name).mean_s
    utterance_s = min(mean_s, settings.batch_seconds)
    model, method = building.build(built, vocabulary, settings.updates)
    if recipe.init_from:
        building.start_from(model, built, building.tokens_of(built))
    learner = Learner(model, method, settings, recipe.seed)
    learner.step = max(0, settings.updates - 3)  # of the last phase
    times, got = list[float](), list[float]()  # seconds; share of the threads' time
    while len(times) < 2 or (len(times) == 2 and times[1] < LONG_S):
        letters = vocabulary == tokenizer.CHARACTERS
        batch = synthetic_batch(
            settings.batch_seconds, vocabulary, letters, len(times), utterance_s
        ).to(learner.device)
        began, worked = time.perf_counter(), time.process_time()
        learner.update(batch)
        if learner.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        got.append((time.process_time() - worked) / times[-1] / torch.get_num_threads())
    passes = round(sum(p.share for p in method.plan(learner.step - 1)))
    whole = pace.average(method, settings.updates, pace.macs) / pace.macs(
        method, learner.step - 1
    )  # an average update over one of the last
    on_gpu = learner.device == "cuda"
    memory = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    step = min(times[1:])  # the first one makes room for everything
    share = 1.0 if on_gpu else min(1.0, got[times.index(step)])
    whole *= step
    return {
        "parameters": cost.parameters(method.spec),
        "prunable": cost.prunable_parameters(method.spec),
        "passes": passes,
        "utterance_s": utterance_s,
        "seconds_per_update": step,
        "share": share,
        "memory_bytes": memory,
        "hours": whole * settings.updates / 3600,
        "audio_hours": settings.updates * settings.batch_seconds / 3600,
        "device": learner.device,
        "threads": settings.threads,
        "precision": "bf16" if learner.bf16 else "fp32",
        "hardware": provenance.hardware(learner.device),
    }


def describe(estimate: dict[str, Any]) -> str:
    """The same in words."""
    busy = (
        ""
        if estimate["share"] >= BUSY
        else (
            f"\nother programs were busy: the trial got {estimate['share']:.0%} of its threads'"
            " time;"
            f" alone, the whole would take about {estimate['hours'] * estimate['share']:,.1f} h"
        )
    )
    return (
        f"built: {estimate['parameters'] / 1e6:.1f} million parameters with one output layer,"
        f" {estimate['prunable'] / estimate['parameters']:.0%} of them prunable\n"
        f"tried: two updates of {estimate['passes']} pass(es) on synthetic features,"
        f" {estimate['seconds_per_update']:.2f} s each"
        f" ({estimate['hardware']}, {estimate['device']}, {estimate['threads']} threads,"
        f" {estimate['precision']})\nmemory: {estimate['memory_bytes'] / 1e9:.1f} GB at most, with"
        f" utterances of {estimate['utterance_s']:g} s; batches of longer ones may take more\nthe"
        f" whole training would use {estimate['audio_hours']:,.0f} h and take about"
        f" {estimate['hours']:,.1f} h on this device (its other phases by their passes; without"
        f" reading speech, measuring and what a method does between updates){busy}"
    )
