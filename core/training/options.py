"""What a training can be told, the learning rate over its updates, and its batches as these options
want them augmented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.data.batches import Batches
from core.data.prepared import TRAIN, Prepared
from core.records import option
from core.registry import plugins
from core.speech import augment as augmentation
from core.speech.features import SpecAugment
from core.training.consistency import VIEWS


@dataclass(frozen=True)
class Options:
    updates: int = option(2000, "optimizer steps of the whole run", low=1, high=10_000_000)
    batch_seconds: float = option(80.0, "speech per batch", unit="s", low=0.5, high=100_000.0)
    shares: dict[str, float] = option(
        {},
        "largest part of an epoch's speech by corpus, where it differs from what the corpus"
        " asks for",
        low=0.0,
        high=1.0,
    )
    peak_lr: float = option(
        7e-4, "highest learning rate of the one-cycle schedule", low=1e-7, high=1.0
    )
    rise: float = option(
        0.15, "share of the updates in which the learning rate rises", low=0.0, high=1.0
    )
    optimizer: str = option(
        "adamw",
        "muon = Muon for the prunable matrices, AdamW for the rest",
        choices=("adamw", "muon"),
    )
    muon_rate: float = option(2.0, "Muon's learning rate over AdamW's", low=0.01, high=100.0)
    weight_decay: float = option(1e-3, "weight decay", low=0.0, high=1.0)
    clip: float = option(1.0, "largest norm of the gradient", low=0.0, high=1000.0)
    average: float = option(
        0.995, "decay per update of the averaged weights, which ship", low=0.0, high=0.99999
    )
    chunks_ms: list[int | float] = option(
        [160, 320, 640, 1280, 0],
        "chunks drawn from, one a step; 0 = full context",
        unit="ms",
        low=0,
    )
    masking: bool = option(True, "SpecAugment")
    augment: dict = option(
        {},
        "further augmentation on the fly: warp, tempo, loudness, noise, babble, room, and"
        " SpecAugment's strength",
        table="speech/augment",
    )
    consistency: float = option(
        0.0,
        "weight of CR-CTC: two differently augmented views of every utterance should say the same;"
        " 0 = one view",
        low=0.0,
        high=10.0,
    )
    intermediate: dict = option(
        {},
        "a second CTC loss at an inner block: layer (from 1; 0 = the middle one) and weight, e.g."
        " {layer = 4, weight = 0.3}",
        table="training/intermediate",
    )
    mmi: dict = option(
        {},
        "lattice-free MMI beside CTC: what was said must beat all other sequences of tokens;"
        " weight, e.g. {weight = 0.9}",
        table="training/mmi",
    )
    precision: str = option(
        "auto",
        "auto = bf16 where the processor multiplies it natively",
        choices=("auto", "fp32", "bf16"),
    )
    threads: int = option(2, "CPU threads", low=1, high=256)
    log_every: int = option(10, "updates between rows of the curves", low=1, high=100_000)
    checkpoint_every: int = option(200, "updates between checkpoints", low=1, high=1_000_000)
    wer_every: int = option(
        500,
        "updates between measurements of WER on held-out speech in the curves; 0 = none",
        low=0,
        high=1_000_000,
    )
    wer_seconds: float = option(
        120.0, "held-out speech for that WER", unit="s", low=1.0, high=100_000.0
    )
    snapshots: int = option(
        2, "block ranks kept along the way, for the Layers page", low=0, high=20
    )


def augmentation_of(o: Options, speeds: Sequence[float]) -> augmentation.Options:
    """What these options change on the fly in speech that is prepared at these speeds. ValueError
    where both change the tempo.
    """
    change = plugins.make_options(augmentation.Options, o.augment, "training.augment")
    if change.tempo and len(speeds) > 1:
        raise ValueError(
            f"training.augment.tempo = {change.tempo:g} changes the tempo on the fly, but the"
            f" speech is prepared at the speeds {list(speeds)}: set features.speed_change = 0"
        )
    return change


def training_batches(
    prepared: Prepared, o: Options, seed: int, part: tuple[int, int] = (0, 1)
) -> Batches:
    """The split train as these options want it augmented. ValueError for unknown augmentation."""
    change = augmentation_of(o, prepared.speeds(TRAIN))
    masks = SpecAugment(
        change.frequency_masks,
        change.frequency_width,
        change.time_share,
        change.time_mask_every_s,
        change.time_masks,
    )
    return Batches(
        prepared,
        TRAIN,
        o.batch_seconds,
        seed,
        max_share=prepared.shares | o.shares,
        augment=masks if o.masking else None,
        change=change,
        views=VIEWS if o.consistency else 1,
        part=part,
    )


def learning_rate(step: int, o: Options) -> float:
    """One cycle (Smith & Topin 2018): linear rise, cosine fall to 1e-3 of the peak."""
    rise = max(1.0, o.rise * o.updates)
    if step < rise:
        return o.peak_lr * (step + 1) / rise
    fallen = (step - rise) / max(1.0, o.updates - rise)
    return o.peak_lr * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen))))
