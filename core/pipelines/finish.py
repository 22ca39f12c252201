"""What a finished training leaves: weights as fp16, their ranks, sizes, the marker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from core import cost, paths
from core.common import writing
from core.data.prepared import Prepared
from core.evaluation import provenance
from core.methods import base as methods
from core.methods.base import Method
from core.pipelines import build as building, sizes
from core.pipelines.resolved import ResolvedRecipe
from core.records import Recipe, Subnet
from core.sparsity import blocks
from core.storage import store
from core.training import checkpoints
from core.training.trainer import Trainer


def facts_of(trainer: Trainer, recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """What finished.json says of a training."""
    return {
        "seconds": trainer.seconds_spent,
        "audio_hours": trainer.seconds_heard / 3600,
        "updates": trainer.step,
        "threads": trainer.options.threads,
        "device": trainer.device,
        "precision": "bf16" if trainer.bf16 else "fp32",
        "hardware": provenance.hardware(trainer.device),
        "versions": building.versions(recipe),
        "prepared": prepared.hash,
        "attributions": prepared.info["attributions"],
        "code_version": provenance.code_version(),
    }


def finish(trainer: Trainer, folder: Path, resolved: ResolvedRecipe, facts: dict[str, Any]) -> None:
    """Weights as fp16, ranks of those very weights, sizes, marker."""
    half = {n: t.half().cpu().contiguous() for n, t in trainer.averaged.items()}
    # ranks must order the weights that ship
    trainer.averaged = {n: t.float() for n, t in half.items()}
    results = trainer.write_ranks(None)
    method, spec = trainer.method, trainer.method.spec
    if not method.nested and results.subnets:  # one size was trained: what it prunes is not kept
        masks = blocks.block_masks(results.ranks, spec, results.subnets[0].keep)
        half = blocks.masked(half, {n: m.cpu() for n, m in masks.items()})
    writing.write_bytes(folder / paths.WEIGHTS, safetensors.torch.save(half))
    store_sizes(folder, folder.name, method, results.subnets, resolved.sparsest)
    chosen = {s.name: s for s in results.subnets}
    tmacs = methods.training_tmacs(method, facts["updates"], facts["audio_hours"], chosen)
    store.finish(folder, facts | {"training_tmacs": tmacs})
    checkpoints.remove(folder)


def store_sizes(
    folder: Path, run: str, method: Method, trained: list[Subnet], sparsest: float
) -> None:
    """The sizes of a run beside its ranks: those that its method trained, and uniform ones."""
    sha, pattern = store.ranks_sha256(folder), cost.pattern_of(method.spec)
    for subnet in sizes.stored(method, trained, sparsest):
        stored = replace(subnet, run=run, pattern=pattern, ranks_sha256=sha)
        store.save_subnet(folder, stored)
