"""The one training loop: passes of a method, one optimizer step, an averaged copy, curves,
checkpoints. Names no method.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from core import paths
from core.common import writing
from core.common.hardware import native_bf16
from core.common.randomness import utterance_rng
from core.data.batches import Batch, Batches
from core.layers.dropout import Noise, uniform
from core.methods.base import Method, Pass, Results
from core.models.base import Model, Output, with_weights
from core.records import Interrupted, ProgressCallback
from core.sparsity import blocks
from core.storage import metrics as history
from core.training import checkpoints, dealing, intermediate
from core.training.consistency import VIEWS, consistency_loss
from core.training.distributed import Group
from core.training.muon import Muon
from core.training.options import Options, learning_rate

Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, facts
# what a checkpoint keeps of a Trainer beside tensors
COUNTERS = ("step", "epoch", "position", "seconds_heard", "seconds_spent")
Listen = Callable[
    ..., dict[str, float]
]  # (model, weights, gates=, head=) -> {corpus: word error rate} on held-out speech


class Trainer:
    """One run in progress. `stop` may be set from a signal handler. `listen` measures word errors
    for the curves, if given.

    In a group of processes `batches` gives this one's parts, and only process 0 needs to listen.
    """

    def __init__(
        self,
        model: Model,
        method: Method,
        batches: Batches | None,
        options: Options,
        seed: int,
        folder: Path,
        listen: Listen | None = None,
        group: Group | None = None,
    ):
        self.listen, self.group, self.keeps = listen, group, group is None or group.keeps
        self.model, self.method, self.batches, self.o, self.seed, self.folder = (
            model,
            method,
            batches,
            options,
            seed,
            folder,
        )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(
                options.threads
                if group is None
                else max(1, min(options.threads, (os.cpu_count() or 1) // group.here))
            )
        if options.consistency and not model.posteriors:
            raise ValueError(
                "training.consistency compares the token probabilities of every frame, and this"
                " model has none (they depend on the tokens before): leave it at 0"
            )
        self.intermediate = intermediate.chosen(options.intermediate, model, method.anatomy)
        self.model.to(self.device).train()
        self.bf16 = options.precision == "bf16" or (options.precision == "auto" and native_bf16())
        self.parameters = dict(model.named_parameters())
        self.optimizers = self._optimizers([*method.parameters()])
        self.averaged = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.step, self.epoch, self.position = 0, 0, 0
        self.seconds_heard, self.seconds_spent, self.stop = 0.0, 0.0, False
        self.stop_agreed = (
            False  # in a group: everyone knows that one was asked to stop, at the same update
        )
        self.sums, self.rounded = dict[str, list[Tensor]](), dict[str, Tensor]()
        self.board: SummaryWriter | None = None

    def _optimizers(self, extra: list[torch.nn.Parameter]) -> dict[str, torch.optim.Optimizer]:
        """{name: optimizer}; the name is where a checkpoint keeps its state."""
        units = (
            {f"{u.name}.weight" for u in self.method.anatomy.units}
            if self.o.optimizer == "muon"
            else set()
        )
        matrices = [p for n, p in self.parameters.items() if n in units]
        others = [p for n, p in self.parameters.items() if n not in units] + extra
        made: dict[str, torch.optim.Optimizer] = {
            "optimizer": torch.optim.AdamW(
                others,
                lr=self.o.peak_lr,
                weight_decay=self.o.weight_decay,
                betas=(0.9, 0.98),
                fused=True,
            )
        }
        if matrices:
            made["muon"] = Muon(
                matrices,
                self.o.peak_lr,
                self.o.weight_decay,
                torch.bfloat16 if self.bf16 else torch.float32,
            )
        return made

    # one update

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
            if self.o.consistency:
                loss = loss + self.o.consistency * consistency_loss(
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
        chunk = round(int(rng.choice(self.o.chunks_ms)) / self.method.anatomy.frame_ms)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        # as autocast would make them in every pass; not where the loss reads weights in fp32
        self.rounded = (
            blocks.rounded(self.parameters, self.method.anatomy.units)
            if self.bf16 and self.model.posteriors
            else {}
        )
        plan = self.method.plan(self.step)
        parts = dealing.dealt(plan, batch, rng, VIEWS if self.o.consistency else 1)
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
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.o.clip)
        if not torch.isfinite(norm):
            raise ValueError(
                f"the gradient is not finite at update {self.step}: lower training.peak_lr "
                f"(now {self.o.peak_lr}) and start again"
            )
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.o) * (
                    self.o.muon_rate if name == "muon" else 1.0
                )
            optimizer.step()
        self.method.after_step(self.step)
        decay = min(self.o.average, (1 + self.step) / (10 + self.step))  # short memory at the start
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
        told = torch.tensor([float(self.stop), *sums, *frames], device=self.device)
        parameters = [*self.parameters.values(), *self.method.parameters()]
        group.add_up(parameters, [told, *self.method.sums()])
        whole, heard = told[1:].chunk(2)
        torch._foreach_div_(
            [p.grad for p in parameters if p.grad is not None], dealing.frames(plan, heard)
        )
        self.stop_agreed = bool(told[0] > 0)
        return [loss / n if n > 0 else None for loss, n in zip(whole, heard)]

    # the run

    def run(self, report: ProgressCallback) -> None:
        """Train from the present step to the last; raises Interrupted when asked to stop (SIGTERM
        or report says no).
        """
        assert self.batches is not None  # only dry runs have none, and update() alone
        self._obey_sigterm()
        self.board = (
            SummaryWriter(self.folder / paths.TENSORBOARD, purge_step=self.step)
            if self.keeps
            else None
        )
        snapshots = {
            round(self.o.updates * (i + 1) / (self.o.snapshots + 1))
            for i in range(self.o.snapshots)
        }
        began, at = time.monotonic(), self.step
        while self.step < self.o.updates:
            for batch in self.batches.iterate(self.epoch, self.position):
                started = time.monotonic()
                self.update(batch.to(self.device))
                self.position += 1
                self.seconds_heard += batch.seconds
                self.seconds_spent += time.monotonic() - started
                if self.step in snapshots and self.keeps:
                    self.write_ranks(self.step)
                if self.step % self.o.log_every == 0 or self.step == self.o.updates:
                    left = (
                        (time.monotonic() - began) / (self.step - at) * (self.o.updates - self.step)
                    )
                    goes_on = report(
                        self.step / self.o.updates, self.log(), left
                    )  # SIGTERM may come meanwhile
                    self.stop = self.stop or not goes_on
                stop = self.stop if self.group is None else self.stop_agreed
                if stop or self.step % self.o.checkpoint_every == 0:
                    self.checkpoint()
                if stop:
                    raise Interrupted(
                        f"stopped at update {self.step} of {self.o.updates}; the checkpoint is"
                        " written"
                    )
                if self.step >= self.o.updates:
                    return
            self.epoch, self.position = self.epoch + 1, 0

    def _obey_sigterm(self) -> None:
        """SIGTERM asks this run to stop, beside what the process does on it already."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)

        def ask(number: int, frame: FrameType | None) -> None:
            self.stop = True
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, ask)

    def log(self) -> str:
        """A row of the curves, and the same as a line for people."""
        losses = {n: float(torch.stack(v).mean()) for n, v in self.sums.items()}
        self.sums = {}
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": losses,
            "lr": learning_rate(self.step - 1, self.o),
            "audio_hours": self.seconds_heard / 3600,
            "hours": self.seconds_spent / 3600,
        }
        every, before = self.o.wer_every, self.step - self.o.log_every
        if every and (self.step // every > before // every or self.step == self.o.updates):
            heard = {"wer": self.word_errors()} if self.listen else {}
            row |= heard if self.group is None else self.group.of_first(heard)
        if self.keeps:
            history.append_metrics(self.folder, row)
        if self.board:
            for name, value in losses.items():
                self.board.add_scalar(f"loss/{name}", value, self.step)
            for name, rates in row.get("wer", {}).items():
                for corpus, rate in rates.items():
                    self.board.add_scalar(f"wer/{name}/{corpus}", rate, self.step)
            self.board.add_scalar("lr", row["lr"], self.step)
        said = ", ".join(f"{n} {v:.3f}" for n, v in losses.items())
        for name, rates in row.get("wer", {}).items():
            phonemes = self.batches and self.batches.prepared.tokenizer.unit == "phonemes"
            rate = "PER" if phonemes else "WER"
            said += f"; {rate}, {name}: " + ", ".join(f"{c} {v:.1%}" for c, v in rates.items())
        return (
            f"update {self.step}/{self.o.updates}, loss per frame: {said}; {row['audio_hours']:.1f}"
            " h of training audio"
        )

    def word_errors(self) -> dict[str, dict[str, float]]:
        """{pass: {corpus: WER}} of the averaged weights under the masks of now, for passes that are
        the same every step.
        """
        step = min(self.step, self.o.updates - 1)
        assert self.listen is not None  # asked by log(), which looks
        return {
            p.name: self.listen(
                self.model,
                blocks.masked(self.averaged, self.method.mask(p.subnet, step)),
                gates=self.method.gates(p.subnet, step),
                head=p.head,
            )
            for p in self.method.plan(step)
            if not p.drawn
        }

    def restart_average(self) -> None:
        """The average begins at the present weights (after init_from)."""
        for name, parameter in self.parameters.items():
            self.averaged[name].copy_(parameter.detach())

    # state

    def checkpoint(self) -> None:
        own = checkpoints.with_prefix
        extra = {str(i): p for i, p in enumerate(self.method.parameters())}
        tensors = (
            own("model", self.parameters)
            | own("averaged", self.averaged)
            | own("method", self.method.state())
            | own("extra", extra)
        )
        for name, optimizer in self.optimizers.items():
            tensors |= own(name, checkpoints.optimizer_tensors(optimizer))
        if self.group is not None:
            self.group.follow_first(tensors)
        if not self.keeps:
            return
        facts = {n: getattr(self, n) for n in COUNTERS}
        checkpoints.save(
            self.folder,
            tensors,
            facts | {"sums": {n: [float(v) for v in s] for n, s in self.sums.items()}},
        )

    def resume(self) -> bool:
        """Continue from the run's checkpoint, if it has one."""
        checkpoint = self._newest(checkpoints.load(self.folder) if self.keeps else None)
        # rows that are computed again, also of an attempt that died before its first checkpoint
        if self.keeps:
            history.truncate_metrics(self.folder, checkpoint[1]["step"] if checkpoint else -1)
        if checkpoint is None:
            return False
        self._load(*checkpoint)
        return True

    def _newest(self, here: Checkpoint | None) -> Checkpoint | None:
        """The newest checkpoint of all disks of a group, and its curves on this one: the machine
        that began the run may be gone.
        """
        if self.group is None:
            return here
        step = here[1]["step"] if here else -1
        newest = self.group.newest(
            step, lambda: here and (here, history.metrics(self.folder))
        )  # asked of the process that has it
        if newest is None:
            return None
        checkpoint, rows = newest
        if checkpoint[1]["step"] != step and self.keeps:
            writing.write_lines(self.folder / paths.METRICS, rows)
        return checkpoint

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Weights, average, method, optimizers and counters of a checkpoint."""
        part = checkpoints.of_prefix
        with torch.no_grad():
            for name, value in part("model", tensors).items():
                self.parameters[name].copy_(value)
            for i, p in enumerate(self.method.parameters()):
                p.copy_(tensors[f"extra/{i}"])
        self.averaged = {n: tensors[f"averaged/{n}"].to(self.device) for n in self.parameters}
        self.method.load_state({n: t.to(self.device) for n, t in part("method", tensors).items()})
        for name, optimizer in self.optimizers.items():
            checkpoints.load_optimizer(optimizer, part(name, tensors))
        for name in COUNTERS:
            setattr(self, name, facts[name])
        self.sums = {
            n: [torch.tensor(v, device=self.device) for v in s] for n, s in facts["sums"].items()
        }

    def write_ranks(self, step: int | None) -> Results:
        """Store the block ranks of the averaged weights as they are now."""
        results = self.method.results(self.averaged)
        writing.write_bytes(
            paths.ranks_file(self.folder, step),
            safetensors.numpy.save(blocks.to_numpy(results.ranks)),
        )
        return results
