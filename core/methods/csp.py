"""CSP-style pruning: a compressed-sensing problem inside training says which weights become zero
and pulls them there.

After Zhen et al. 2021 (arXiv 2102.04932) for the idea: inducing sparsity and reducing the
compression error, alternately. The equations are ours (METHODS.md section 2). Every `refresh`
updates each matrix W gets a sparse auxiliary variable Z of as many weights as the cubic ramp
allows: R1 "weights": min |W - Z|; R2 "random": min |(Z - W) Phi'|, Phi Gaussian; R3 "outputs": min
|(Z - W) X'|, X the layer's inputs of the updates at which auxiliary variables are made, the last
ones counting most.
Until the ramp ends the loss has l1 |W|_1 + l2 |W - Z|^2 more and nothing is masked; then Z takes
the weights' place (not R1's, which is only shrunk), its support is frozen, and the weights in it
are fine-tuned. `schedule` and `support` swap each half for that of gradual magnitude pruning.

Version 1 took X from one update (500 frames for up to 704 inputs), did not scale columns, and
dropped Z's values at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core import cost
from core.methods import _pruned, base
from core.models.base import Model
from core.records import ModelSpec, PrunableMatrix, option
from core.registry.cards import Display
from core.sparsity import blocks, sensing

VERSION = 2
DISPLAY = Display(
    name="compressed sensing",
    color="#8C8C8C",
    marker="x",
    sentence="It was pruned to one size while it was trained, by compressed sensing.",
)


@dataclass(frozen=True)
class Options:
    sparsity: float = option(0.7, "sparsity at the end", low=0.0, high=0.99)
    pattern: str = option(
        "1x1",
        "where zeros may lie: anywhere, blocks of 8 outputs, or 2 of every 4 inputs",
        choices=("1x1", "8x1", "2:4"),
    )
    reading: str = option(
        "outputs",
        "what the auxiliary variable is near to: weights (R1), random measurements (R2), outputs"
        " (R3)",
        choices=("weights", "random", "outputs"),
    )
    schedule: str = option(
        "csp",
        "how weights become zero: pulled by penalties until the ramp ends (csp), or masked along"
        " it (ramp)",
        choices=("csp", "ramp"),
    )
    support: str = option(
        "csp",
        "which weights stay: the auxiliary variable's (csp), or the largest (magnitude)",
        choices=("csp", "magnitude"),
    )
    l1: float = option(1e-7, "weight of the sum of all prunable weights' sizes", low=0.0, high=1.0)
    l2: float = option(
        1e-3, "weight of the squared distance to the auxiliary variables", low=0.0, high=100.0
    )
    measurements: float = option(0.5, "rows of Phi over its columns (R2)", low=0.05, high=1.0)
    iterations: int = option(
        10, "FISTA steps per auxiliary variable, from the last one", low=1, high=1000
    )
    memory: float = option(
        0.9,
        "what the layers' inputs seen before still count for at new auxiliary variables (R3)",
        low=0.0,
        high=0.999,
    )
    damping: float = option(
        0.1, "share of the mean of X'X's diagonal added to it (R3)", low=0.0, high=100.0
    )
    ramp_end: float = option(
        0.6, "share of the updates after which the support is frozen", low=0.0, high=1.0
    )
    refresh: int = option(50, "updates between new auxiliary variables", low=1, high=10000)
    adaptive_dropout: bool = option(True, "dropout times the share kept, once weights are masked")


class Method(_pruned.Pruned):
    def __init__(
        self, options: Options, model: Model, spec: ModelSpec, updates: int, seed: int
    ) -> None:
        super().__init__(options, model, spec, updates, seed)
        self.auxiliary: dict[str, Tensor] = {}  # {unit: Z [R, C]}
        self.metrics: dict[str, Tensor] = {}  # {unit: X'X [C, C]} of the update under way (R3)
        self.seen: dict[str, Tensor] = {}  # and of those before
        self.collecting = False
        self.sparsity_now = 0.0  # of the ramp, where the auxiliary variables were made last
        if options.reading == "outputs" and options.support == "csp":
            for unit in spec.units:
                model.get_submodule(unit.name).register_forward_pre_hook(self._collector(unit.name))

    def _collector(self, name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def collect(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if (
                self.collecting and torch.is_grad_enabled()
            ):  # not while words are counted for the curves
                x = inputs[0].detach().float().flatten(0, -2)
                with torch.autocast(x.device.type, enabled=False):
                    self.metrics[name] = self.metrics.get(name, 0.0) + x.T @ x

        return collect

    def pulling(self, step: int) -> bool:
        """Whether penalties pull towards the auxiliary variables at this update; else masks
        rule.
        """
        return self.options.schedule == "csp" and step < self.end

    def _due(self, step: int) -> bool:
        """New auxiliary variables after this update: every so often along the ramp, and at its
        very end.
        """
        return step + 1 == self.end or (
            step + 1 < self.end and (step + 1) % self.options.refresh == 0
        )

    def plan(self, step: int) -> list[base.Pass]:
        self.collecting = self._due(step)
        if self.pulling(step):
            return [base.Pass("pulled")]  # of all weights: no size of its own yet
        return super().plan(step)

    def penalty(self, step: int) -> Tensor | None:
        if not self.pulling(step) or not self.auxiliary:
            return None
        weights = {u.name: self.model.get_parameter(f"{u.name}.weight") for u in self.spec.units}
        magnitude = torch.stack([w.abs().sum() for w in weights.values()]).sum()
        distance = torch.stack(
            [(w - self.auxiliary[n]).square().sum() for n, w in weights.items()]
        ).sum()
        return self.options.l1 * magnitude + self.options.l2 * distance

    def sums(self) -> list[Tensor]:
        if (
            not self.collecting
            or self.options.reading != "outputs"
            or self.options.support != "csp"
        ):
            return []
        for unit in self.spec.units:
            if unit.name not in self.metrics:  # a process without speech in this update
                device = self.model.get_parameter(f"{unit.name}.weight").device
                self.metrics[unit.name] = torch.zeros(unit.columns, unit.columns, device=device)
        return [self.metrics[unit.name] for unit in self.spec.units]

    def after_step(self, step: int) -> None:
        if self._due(step):
            self.sparsity_now = self.sparsity_at(step + 1)
            self.seen = {
                n: m + self.options.memory * self.seen[n] if n in self.seen else m
                for n, m in self.metrics.items()
            }
            self._refresh()
            if step + 1 == self.end and self.options.schedule == "csp":
                self._take_the_weights_place()
        self.metrics = {}

    def _refresh(self) -> None:
        """New auxiliary variables at the ramp's sparsity of now, and ranks that put their blocks
        first.
        """
        keep = cost.uniform(self.spec, self.sparsity_now)
        with torch.no_grad():
            for index, unit in enumerate(self.spec.units):
                weight, kept = (
                    self.model.get_parameter(f"{unit.name}.weight").detach(),
                    cost.blocks_kept(unit, keep[unit.name]),
                )
                self.ranks[unit.name] = self._rank(index, unit, weight, kept)
                if self.options.schedule == "csp" and self.options.support == "magnitude":
                    mask = (self.ranks[unit.name] < kept).unsqueeze(1)
                    self.auxiliary[unit.name] = blocks.multiply(weight, mask)

    def _take_the_weights_place(self) -> None:
        """The weights that stay become the auxiliary variable's, which make up for those that go;
        not R1's, which are only shrunk.
        """
        if self.options.support == "magnitude" or self.options.reading == "weights":
            return
        with torch.no_grad():
            for name, z in self.auxiliary.items():
                weight = self.model.get_parameter(f"{name}.weight")
                weight.copy_(torch.where(z != 0, z, weight))

    def _rank(self, index: int, unit: PrunableMatrix, weight: Tensor, kept: int) -> Tensor:
        scores = blocks.block_scores(weight, unit.block)
        if self.options.support == "csp" and kept < unit.blocks:
            z = sensing.auxiliary_variable(
                weight,
                unit,
                kept,
                self._metric(index, unit),
                self.auxiliary.get(unit.name),
                self.options.iterations,
            )
            self.auxiliary[unit.name] = z
            inside = blocks.block_scores(z, unit.block)
            scores = torch.where(
                inside > 0, inside + scores.max() + 1, scores
            )  # the support first, then what is largest
        elif self.options.support == "csp":
            self.auxiliary[unit.name] = weight.clone()
        return blocks.block_ranks(scores, unit.group)

    def _metric(self, index: int, unit: PrunableMatrix) -> Tensor | None:
        if self.options.reading == "random":
            maker = torch.Generator().manual_seed(
                1_000_003 * self.seed + index
            )  # the same Phi at every refresh of a run
            rows = max(1, round(self.options.measurements * unit.columns))
            phi = torch.randn(rows, unit.columns, generator=maker).to(
                self.model.get_parameter(f"{unit.name}.weight").device
            )
            return phi.T @ phi / rows
        return (
            sensing.damped(self.seen[unit.name], self.options.damping)
            if self.options.reading == "outputs"
            else None
        )

    def state(self) -> dict[str, Tensor]:
        kept = {"rank": self.ranks, "z": self.auxiliary, "seen": self.seen}
        return {f"{part}/{n}": t for part, tensors in kept.items() for n, t in tensors.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.ranks = {n.removeprefix("rank/"): t for n, t in state.items() if n.startswith("rank/")}
        self.auxiliary = {n.removeprefix("z/"): t for n, t in state.items() if n.startswith("z/")}
        self.seen = {n.removeprefix("seen/"): t for n, t in state.items() if n.startswith("seen/")}
