"""The one training loop: batch after batch, curves, checkpoints. How one update is made is the
learner's (core/training/learner.py).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import safetensors.numpy
import torch
from torch import Tensor

from core import paths
from core.common import stages, writing
from core.data.batches import Batches
from core.methods.base import Method, Results
from core.models.base import Model
from core.records import Interrupted, ProgressCallback
from core.sparsity import blocks
from core.storage import metrics as history
from core.training import checkpoints
from core.training.distributed import Group
from core.training.learner import Learner
from core.training.options import Options, learning_rate
from core.training.pace import Pace

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

REPORT_S = 1.0  # between two reports of progress where no row of the curves is due
Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, facts
# what a checkpoint keeps of a Trainer beside tensors
COUNTERS = ("step", "epoch", "position", "seconds_heard", "seconds_spent")
Listen = Callable[
    ..., dict[str, float]
]  # (model, weights, gates=, head=) -> {corpus: word error rate} on held-out speech


class Trainer(Learner):
    """One run in progress. `stop` may be set from a signal handler. `listen` measures WER for the
    curves, if given.

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
        pace: Pace | None = None,
    ):
        rows = batches.rows if options.mmi and batches else ()
        super().__init__(model, method, options, seed, group, (row.tokens for row in rows))
        self.pace = pace or Pace(options.updates)
        self.reported = 0.0  # when progress was last reported
        self.batches, self.folder, self.listen = batches, folder, listen
        self.keeps = group is None or group.keeps
        self.position = 0  # batches of this epoch that are done
        self.seconds_heard, self.seconds_spent = 0.0, 0.0
        self.board: SummaryWriter | None = None

    def run(self, progress: ProgressCallback) -> None:
        """Train from the present step to the last; raises Interrupted when asked to stop (SIGTERM
        or progress says no).
        """
        assert self.batches is not None  # only dry runs have none, and update() alone
        self._obey_sigterm()
        from torch.utils.tensorboard import SummaryWriter  # a second, which dry runs save

        self.board = (
            SummaryWriter(self.folder / paths.TENSORBOARD, purge_step=self.step)
            if self.keeps
            else None
        )
        snapshots = {
            round(self.options.updates * (i + 1) / (self.options.snapshots + 1))
            for i in range(self.options.snapshots)
        }
        self._tell(progress)
        while self.step < self.options.updates:
            waited = time.monotonic()
            for batch in self.batches.iterate(self.epoch, self.position):
                started = time.monotonic()
                self.update(batch.to(self.device))
                self.position += 1
                self.seconds_heard += batch.seconds
                self.seconds_spent += time.monotonic() - started
                self.pace.note(self.step - 1, time.monotonic() - waited)
                if self.step in snapshots and self.keeps:
                    self.write_ranks(self.step)
                losses = self.log() if self._logs() else ""
                if losses or time.monotonic() - self.reported > REPORT_S:
                    self._tell(progress, losses)
                waited = time.monotonic()
                stop = self.stop if self.group is None else self.stop_agreed
                if stop or self.step % self.options.checkpoint_every == 0:
                    self.checkpoint()
                if stop:
                    raise Interrupted(
                        f"stopped at update {self.step} of {self.options.updates}; the checkpoint"
                        " is written"
                    )
                if self.step >= self.options.updates:
                    return
            self.epoch, self.position = self.epoch + 1, 0

    def _logs(self) -> bool:
        """Whether this update ends a row of the curves: the first does, so that they begin at
        once.
        """
        return self.step in (1, self.options.updates) or self.step % self.options.log_every == 0

    def _tell(self, progress: ProgressCallback, losses: str = "") -> None:
        """How far it is; a no asks to stop. SIGTERM may come meanwhile."""
        self.reported, updates = time.monotonic(), self.options.updates
        text = stages.counted(stages.TRAINING, self.step, updates, "updates", losses)
        goes_on = progress(self.step / updates, text, self.pace.left(self.step))
        self.stop = self.stop or not goes_on

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
        """A row of the curves, also in the run's log; its numbers in words."""
        losses = {n: float(torch.stack(v).mean()) for n, v in self.sums.items()}
        self.sums = {}
        row: dict[str, Any] = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": losses,
            "lr": learning_rate(self.step - 1, self.options),
            "audio_hours": self.seconds_heard / 3600,
            "hours": self.seconds_spent / 3600,
        }
        every, before = self.options.wer_every, self.step - self.options.log_every
        if self.step == 1:  # the first row, of one update
            before = 0
        if every and (self.step // every > before // every or self.step == self.options.updates):
            measured = {"wer": self.word_errors()} if self.listen else {}
            row |= measured if self.group is None else self.group.broadcast(measured)
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
        hours = self.seconds_heard / 3600
        audio = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
        words = f"loss per frame: {said}; {audio} of training audio"
        if self.keeps:
            with open(self.folder / paths.LOG, "a") as log:
                log.write(f"update {self.step}/{self.options.updates}, {words}\n")
        return words

    def word_errors(self) -> dict[str, dict[str, float]]:
        """{pass: {corpus: WER}} of the averaged weights under the masks of now, for passes that are
        the same every step.
        """
        step = min(self.step, self.options.updates - 1)
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

    def checkpoint(self) -> None:
        prefixed = checkpoints.with_prefix
        extra = {str(i): p for i, p in enumerate(self.method.parameters())}
        tensors = (
            prefixed("model", self.parameters)
            | prefixed("averaged", self.averaged)
            | prefixed("method", self.method.state())
            | prefixed("extra", extra)
        )
        for name, optimizer in self.optimizers.items():
            tensors |= prefixed(name, checkpoints.optimizer_tensors(optimizer))
        if self.group is not None:
            self.group.broadcast_tensors(tensors)
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
