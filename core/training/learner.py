"""One update: the passes of a method, one optimizer step on their summed gradients, an averaged
copy. Names no method, and knows no files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from core.common.hardware import native_bf16
from core.common.randomness import utterance_rng
from core.data.batches import Batch
from core.layers.dropout import Noise, uniform
from core.methods.base import Method, Pass
from core.models.base import Model, Output, with_weights
from core.sparsity import blocks
from core.training import dealing, intermediate, mmi
from core.training.consistency import VIEWS, consistency_loss
from core.training.distributed import Group
from core.training.muon import Muon
from core.training.options import Options, learning_rate


class Learner:
    """A model that learns by a method, one update(batch) at a time. In a group of processes it
    learns from this one's part of each batch, and all of them take the same step. `said`: the
    tokens of the training speech, which MMI counts.
    """

    def __init__(
        self,
        model: Model,
        method: Method,
        options: Options,
        seed: int,
        group: Group | None = None,
        said: Iterable[Sequence[int]] = (),
    ):
        if options.consistency and not model.posteriors:
            raise ValueError(
                "training.consistency compares the token probabilities of every frame, and this"
                " model has none (they depend on the tokens before): leave it at 0"
            )
        self.model, self.method, self.options, self.seed = model, method, options, seed
        self.group = group
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            threads = options.threads
            if group is not None:
                threads = max(1, min(threads, (os.cpu_count() or 1) // group.processes_here))
            torch.set_num_threads(threads)
        self.intermediate = intermediate.chosen(options.intermediate, model, method.spec)
        self.mmi = mmi.chosen(options.mmi, model, said, self.device)
        self.model.to(self.device).train()
        self.bf16 = options.precision == "bf16" or (options.precision == "auto" and native_bf16())
        self.parameters = dict(model.named_parameters())
        self.optimizers = self._optimizers([*method.parameters()])
        self.averaged = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.step, self.epoch = 0, 0
        self.stop = False  # asked to stop, e.g. by a signal handler
        # in a group: all know that one was asked to stop, at the same update
        self.stop_agreed = False
        self.sums, self.rounded = dict[str, list[Tensor]](), dict[str, Tensor]()

    def _optimizers(self, extra: list[torch.nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
        """{name: optimizer}; the name is where a checkpoint keeps its state."""
        units = (
            {f"{u.name}.weight" for u in self.method.spec.units}
            if self.options.optimizer == "muon"
            else set()
        )
        matrices = [p for n, p in self.parameters.items() if n in units]
        others = [p for n, p in self.parameters.items() if n not in units] + extra
        optimizers: dict[str, torch.optim.Optimizer] = {
            "optimizer": torch.optim.AdamW(
                others,
                lr=self.options.peak_lr,
                weight_decay=self.options.weight_decay,
                betas=(0.9, 0.98),
                fused=True,
            )
        }
        if matrices:
            optimizers["muon"] = Muon(
                matrices,
                self.options.peak_lr,
                self.options.weight_decay,
                torch.bfloat16 if self.bf16 else torch.float32,
            )
        return optimizers

    def run_pass(
        self, a_pass: Pass, batch: Batch, chunk: int, teacher: Output | None, index: int
    ) -> tuple[Output, Tensor]:
        """Forward and backward of one pass -> (output, loss per frame; its sum in a group). Its
        gradient is added to the parameters'.
        """
        multipliers = self.method.mask(a_pass.subnet, self.step)
        weights = blocks.masked(self.parameters, multipliers, self.rounded)
        generators = [utterance_rng(self.seed, self.epoch, i, f"pass {index}") for i in batch.ids]
        rate = self.model.options.dropout * a_pass.dropout
        noise = (
            Noise(uniform(generators, self.model.noise_width, self.device), rate) if rate else None
        )
        gates = self.method.gates(a_pass.subnet, self.step) | self._dropped(a_pass, generators)

        def both(model: Model) -> tuple[Output, Tensor]:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                output = model(
                    batch.features,
                    batch.lengths,
                    chunk=chunk,
                    gates=gates,
                    noise=noise,
                    head=a_pass.head,
                    taps=(*a_pass.taps, *self.intermediate.taps),
                )
            # a group divides when all have added theirs, by the frames of the whole batch
            frames = output.lengths.sum() if self.group is None else a_pass.share
            loss = self.method.loss(a_pass, output, batch, teacher)
            loss = self.intermediate.mixed(loss, model, output, batch, a_pass.head)
            if self.mmi and teacher is None:  # a teacher's probabilities are a loss of their own
                loss = loss + self.mmi.loss(output, batch)
            if self.options.consistency:
                loss = loss + self.options.consistency * consistency_loss(
                    output.log_probs, output.lengths
                )
            return output, loss / frames

        output, loss = with_weights(self.model, weights, both)
        (a_pass.weight * loss).backward()
        return output.detached(), loss.detach()

    def _dropped(self, a_pass: Pass, generators: list[np.random.Generator]) -> dict[str, Tensor]:
        """Stochastic depth: a 0/1 gate [B] for every branch the pass may leave out, scaled to keep
        its mean.
        """
        gates = [
            [float(g.random() >= p) / (1 - p) for g in generators]
            for p in a_pass.drop_branches.values()
        ]
        return dict(zip(a_pass.drop_branches, torch.tensor(gates).to(self.device)))

    def update(self, batch: Batch) -> None:
        """One step of the optimizer on the summed gradients of all passes."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed + 1, self.step]))
        chunk = round(int(rng.choice(self.options.chunks_ms)) / self.method.spec.frame_ms)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        # as autocast would make them in every pass; not where the loss reads weights in fp32
        self.rounded = (
            blocks.rounded(self.parameters, self.method.spec.units)
            if self.bf16 and self.model.posteriors
            else {}
        )
        plan = self.method.plan(self.step)
        parts = dealing.dealt(plan, batch, rng, VIEWS if self.options.consistency else 1)
        outputs, losses = list[Output | None](), list[Tensor | None]()
        for index, (a_pass, part) in enumerate(zip(plan, parts)):
            output = loss = None
            if part.ids:  # a small batch may leave a process, or a pass, without a part
                teacher = None if a_pass.teacher is None else outputs[a_pass.teacher]
                output, loss = self.run_pass(a_pass, part, chunk, teacher, index)
            outputs.append(output)
            losses.append(loss)
        if self.group is not None:
            losses = self._with_others(self.group, plan, outputs, losses)
        for a_pass, loss in zip(plan, losses):
            if loss is not None:
                self.sums.setdefault(a_pass.name, []).append(loss)
        penalty = self.method.penalty(self.step)
        if penalty is not None:
            penalty.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.options.clip)
        if not torch.isfinite(norm):
            raise ValueError(
                f"the gradient is not finite at update {self.step}: lower training.peak_lr "
                f"(now {self.options.peak_lr}) and start again"
            )
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.options) * (
                    self.options.muon_rate if name == "muon" else 1.0
                )
            optimizer.step()
        self.method.after_step(self.step)
        decay = min(
            self.options.average, (1 + self.step) / (10 + self.step)
        )  # short memory at the start
        torch._foreach_lerp_(
            list(self.averaged.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )
        self.step += 1

    def _with_others(
        self,
        group: Group,
        plan: list[Pass],
        outputs: list[Output | None],
        losses: list[Tensor | None],
    ) -> list[Tensor | None]:
        """Gradients become those of the whole batch, per frame -> losses per frame of the whole
        batch, one a pass; None for a pass that had no part of it anywhere.
        """
        sums = [0.0 if loss is None else float(loss) * p.share for p, loss in zip(plan, losses)]
        frames = [0.0 if output is None else float(output.lengths.sum()) for output in outputs]
        numbers = torch.tensor([float(self.stop), *sums, *frames], device=self.device)
        parameters = [*self.parameters.values(), *self.method.parameters()]
        group.all_reduce(parameters, [numbers, *self.method.sums()])
        whole, counts = numbers[1:].chunk(2)
        torch._foreach_div_(
            [p.grad for p in parameters if p.grad is not None], dealing.frames(plan, counts)
        )
        self.stop_agreed = bool(numbers[0] > 0)
        return [loss / n if n > 0 else None for loss, n in zip(whole, counts)]

    def restart_average(self) -> None:
        """The average begins at the present weights (after init_from)."""
        for name, parameter in self.parameters.items():
            self.averaged[name].copy_(parameter.detach())
