"""The questions a training method answers; every answer has a default, so the dense baseline
answers none.

A plug-in file holds a docstring, VERSION, DISPLAY (how charts and cards show it), a frozen
dataclass Options and `class Method(base.Method)`.

One step of the loop: for each Pass of plan(step), run the model under mask() and gates(), add
weight * loss() to the gradient; then one optimizer step, then after_step(). Gradients of all passes
are summed before the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core import cost
from core.data.batches import Batch
from core.models.base import Model, Output
from core.records import ModelSpec, Recipe, Subnet
from core.registry import plugins
from core.sparsity import blocks


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a step."""

    name: str  # for the curves: "dense", "sparsest", "random" ...
    subnet: Subnet | None = None  # None = everything kept
    weight: float = 1.0
    dropout: float = 1.0  # times the model's own rate
    drop_branches: dict[str, float] = field(
        default_factory=dict
    )  # {branch: probability of leaving it out, per utterance}
    head: int = 0
    teacher: int | None = None  # index in the plan of the pass this one learns from
    taps: tuple[int, ...] = ()
    drawn: bool = False  # another subnet every step: a curve of its WER would mean nothing
    part: tuple[int, int] | None = None  # (number, of how many) of a batch's parts that it runs on

    @property
    def share(self) -> float:
        """Of a batch's utterances that it runs on."""
        return 1 / self.part[1] if self.part else 1.0


@dataclass
class Results:
    """What training leaves behind: block ranks of the averaged weights, and the sizes to list."""

    ranks: blocks.Ranks
    subnets: list[Subnet]


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """[B, T] True inside the utterance."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


class Method:
    """Base of all methods and, as it stands, dense training."""

    nested = True  # one rank array serves every size

    # asked of the options alone, before anything is built

    @classmethod
    def resolve(cls, recipe: Recipe, options: Any, vocabulary: int) -> Recipe:
        """The recipe to build, where the method trains another architecture than the recipe's.
        Resolving twice changes nothing. ValueError for options that the model does not allow.
        """
        return recipe

    @classmethod
    def blocks_of(cls, options: Any, deeper: int) -> list[int] | None:
        """Which blocks of a model of `deeper` blocks the training starts from; None = a deeper
        model is another one.
        """
        return None

    @classmethod
    def pattern(cls, options: Any) -> str:
        """Where zeros may lie, one of cost.PATTERNS."""
        return "8x1"

    @classmethod
    def sparsest(cls, options: Any) -> float:
        """Sparsity of the sparsest size it trains; nothing sparser is listed or searched."""
        return 1.0

    @classmethod
    def left_out(cls, options: Any) -> float:
        """Largest share of the residual branches that its sizes leave out, for the search."""
        return 0.0

    # asked while it trains

    def __init__(self, options: Any, model: Model, spec: ModelSpec, updates: int, seed: int):
        self.options, self.model, self.spec, self.updates, self.seed = (
            options,
            model,
            spec,
            updates,
            seed,
        )

    def plan(self, step: int) -> list[Pass]:
        """The passes of update `step` (from 0), teacher before pupil."""
        return [Pass("dense")]

    def mask(self, subnet: Subnet | None, step: int) -> dict[str, Tensor]:
        """Multipliers {parameter name: tensor [R, C] or one per block [R/b, 1, C]}; gradients may
        flow into them.
        """
        return {}

    def gates(self, subnet: Subnet | None, step: int) -> dict[str, float | Tensor]:
        """{branch: number or tensor}; the number 0 means that the branch is not run: one of which
        the subnet keeps nothing.
        """
        return (
            {} if subnet is None else dict.fromkeys(cost.branches_off(self.spec, subnet.keep), 0.0)
        )

    def loss(self, a_pass: Pass, output: Output, batch: Batch, teacher: Output | None) -> Tensor:
        """Summed over the batch, or over the pass's part of it; the loop divides by the number of
        encoder frames of that. The model's own, unless a method says otherwise.
        """
        return self.model.loss(output, batch)

    def penalty(self, step: int) -> Tensor | None:
        """Added once per step, as it is."""
        return None

    def sums(self) -> list[Tensor]:
        """Sums over the utterances of this update that the method keeps beside the gradient.
        Processes that train together add them up
        in place, so every process has them in the same shapes, also one that heard nothing.
        """
        return []

    def after_step(self, step: int) -> None:
        """After the optimizer's update `step`."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """Trained beside the model's, e.g. scores of branches."""
        return []

    def state(self) -> dict[str, Tensor]:
        """Tensors a resumed run needs to go on with the same bits."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The counterpart of state()."""

    def results(self, averaged: dict[str, Tensor]) -> Results:
        """From the averaged weights that ship."""
        return Results(blocks.rank_all(averaged, self.spec.units), [])


class Ranked(Method):
    """Base of methods whose masks come from block ranks of the present weights; _refresh() ranks
    anew.
    """

    def __init__(self, options: Any, model: Model, spec: ModelSpec, updates: int, seed: int):
        super().__init__(options, model, spec, updates, seed)
        self.ranks: blocks.Ranks = {}

    def mask(self, subnet: Subnet | None, step: int) -> dict[str, Tensor]:
        return {} if subnet is None else blocks.block_masks(self.ranks, self.spec, subnet.keep)

    def _refresh(self) -> None:
        self.ranks = blocks.rank_all(dict(self.model.named_parameters()), self.spec.units)

    def state(self) -> dict[str, Tensor]:
        return self.ranks

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.ranks = dict(state)


def grown(step: int, end: float) -> float:
    """Share of its zeros that a net has at an update while they grow until `end`: cubic (Zhu &
    Gupta 2017, arXiv 1710.01878).
    """
    return 1 - (1 - min(1.0, step / end)) ** 3


def training_tmacs(
    method: Method, updates: int, audio_hours: float, chosen: dict[str, Subnet]
) -> float:
    """What a training executes: 3 (forward, and twice as much backward) x multiply-accumulates of
    all its passes, in 10^12.

    `chosen` {name: size}: those that the method chose while it trained, which its plan does not
    know before. Ours.
    """
    passes = [a_pass for step in range(updates) for a_pass in method.plan(step)]
    rates = [
        p.share
        * cost.macs_per_second(
            method.spec, chosen.get(p.subnet.name, p.subnet).keep if p.subnet else None
        )
        for p in passes
    ]
    return round(3 * sum(rates) * audio_hours * 3600 / max(1, updates) / 1e12, 6)


def need_outputs(recipe: Recipe) -> None:
    """ValueError when the recipe's model cannot have one output layer per size, read by CTC."""
    if "outputs" not in plugins.defaults("models", recipe.model.name):
        raise ValueError(
            f"method {recipe.method.name} gives every size an output layer of its own"
            f" (model.outputs), which the model {recipe.model.name} does not have: choose another"
            " method or model"
        )
