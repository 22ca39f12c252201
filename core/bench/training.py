"""Training throughput: useful work of a step over what the best of some large matrix products does,
in one run.

Useful work = 6 x multiply-accumulates x valid frames for every pass of the step (2 forward, 4
backward; padding and recomputation are not counted). Ceiling = the same-shape products of the units
alone. Each round times the big product, the step and the ceiling in turn.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from core import cost
from core.data.batches import Batch, Batches
from core.data.prepared import Prepared
from core.pipelines import build, dry_run, speech
from core.pipelines.resolved import ResolvedRecipe
from core.records import option
from core.registry import recipes
from core.training.learner import Learner

SIDE = 4096  # of the square product
PRODUCTS = 3  # of them in every round; the best counts


@dataclass(frozen=True)
class Options:
    recipe: str = option(
        "commands_and_books_omni_more", "recipe whose shapes and passes are measured"
    )
    rounds: int = option(5, "rounds; medians are printed", low=1, high=100)
    prepared: bool = option(
        True, "use the recipe's own speech; off = seeded noise of 1-16 s utterances"
    )


def run(options: Options) -> dict:
    """Prints and returns the ratios. Speech that was never prepared is prepared first."""
    recipe = recipes.load_recipe(options.recipe)
    resolved = ResolvedRecipe(recipe)
    settings = resolved.training
    if options.prepared:
        prepared = Prepared(speech.prepare(resolved.speech, lambda *_: True))
        vocabulary, batches = (
            prepared.tokenizer.size,
            Batches(prepared, "train", settings.batch_seconds, recipe.seed),
        )
        epoch = batches.iterate(0)
        some = [next(epoch) for _ in range(options.rounds + 1)]
    else:
        vocabulary = 257
        lengths = np.random.default_rng(0).uniform(1, 16, options.rounds + 1)
        some = [
            dry_run.synthetic_batch(settings.batch_seconds, vocabulary, False, i, seconds)
            for i, seconds in enumerate(lengths)
        ]
    model, method = build.build(resolved.built(vocabulary), vocabulary, settings.updates)
    learner = Learner(model, method, settings, recipe.seed)
    learner.step = settings.updates - options.rounds - 2  # the phase with the most passes
    learner.update(some[0].to(learner.device))
    return _measure(learner, some[1:])


def _measure(learner: Learner, batches: list[Batch]) -> dict:
    kind = torch.bfloat16 if learner.bf16 else torch.float32
    spec, device = learner.method.spec, learner.device
    square = torch.randn(SIDE, SIDE, device=device).to(kind)
    macs = cost.macs_per_second(spec)
    rows = []
    for batch in batches:
        passes = round(sum(p.share for p in learner.method.plan(learner.step)))
        peak = 2 * SIDE**3 / min(_seconds(lambda: square @ square, device) for _ in range(PRODUCTS))
        took = _seconds(lambda b=batch: learner.update(b.to(device)), device)
        useful = 6 * macs * batch.seconds * passes
        ceiling = (
            _products(
                spec, int(batch.features.shape[0] * batch.features.shape[1] / 4), kind, device
            )
            * passes
        )
        rows.append(
            (useful / took / peak, took, peak, batch.seconds * passes / took, ceiling / took)
        )
    names = (
        "share_of_peak",
        "seconds_per_step",
        "peak_flops",
        "times_real_time_per_pass",
        "products_share_of_step",
    )
    figures = {n: statistics.median(r[i] for r in rows) for i, n in enumerate(names)}
    figures |= {
        "passes": passes,
        "precision": str(kind).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    print(
        f"{figures['share_of_peak']:.1%} of the {SIDE}^3 {figures['precision']} product"
        f" ({figures['peak_flops'] / 1e9:.0f} GFLOP/s); the step's own matrix products take"
        f" {figures['products_share_of_step']:.0%} of it;\n"
        f"{figures['times_real_time_per_pass']:.0f} x real time a pass, {passes} passes,"
        f" {figures['seconds_per_step']:.2f} s a step, {figures['threads']} threads"
    )
    return figures


def _products(spec, frames: int, kind: torch.dtype, device: str) -> float:
    """Seconds for forward, input gradient and weight gradient of every unit on [frames, C] inputs,
    nothing else.
    """
    shapes = {}
    for unit in spec.units:
        shapes[(unit.rows, unit.columns)] = shapes.get((unit.rows, unit.columns), 0) + 1
    total = 0.0
    for (rows, columns), count in shapes.items():
        x, w = (
            torch.randn(frames, columns, device=device).to(kind),
            torch.randn(rows, columns, device=device).to(kind),
        )
        y = x @ w.T
        total += count * _seconds(lambda: (x @ w.T, y @ w, y.T @ x), device)  # noqa: B023 - called at once
    return total


def _seconds(work, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
