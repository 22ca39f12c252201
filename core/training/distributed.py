"""The processes that train one run together: torch.distributed's group, and what they say to each
other. One process alone has none.

Every process takes its part of each batch of one global plan, the gradients are added up once a
step, and everything else (optimizer, averaging, ranks) is done by all of them on equal numbers. So
there is no wrapper around the model, and nobody is the master: on every disk the first process that
sees it keeps the run's folder, and process 0 counts words and talks.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from core import paths
from core.records import Interrupted

VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)  # as torchrun, Slurm scripts and Ray Train set them
JOIN_S = 300.0  # until all processes must have come
WORDS_H = 24.0  # how long one may wait for what another prepares


class Group:
    """This process among the others. Every method but the properties must be called by all of
    them.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.words = dist.new_group(backend="gloo", timeout=datetime.timedelta(hours=WORDS_H))
        self.keeps = self._first_on_disk(
            paths.artifacts()
        )  # whether this process writes the run's folder

    def _first_on_disk(self, folder: Path) -> bool:
        """Whether no process before this one sees the same folder; machines may share a disk or
        have their own.
        """
        name = f".group-{self.broadcast(uuid.uuid4().hex[:8])}"
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"{name}-{self.rank}.tmp"
        mine.touch()
        try:
            self.gather(None)
            return not any((folder / f"{name}-{rank}.tmp").exists() for rank in range(self.rank))
        finally:
            self.gather(None)
            mine.unlink(missing_ok=True)

    @property
    def processes_here(self) -> int:
        """How many of the processes run on this machine, as their starter says."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

    # words

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, by rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.words)
        return values

    def broadcast(self, value: Any, rank: int = 0) -> Any:
        """The value that process `rank` gave."""
        held = [value]
        dist.broadcast_object_list(held, rank, group=self.words)
        return held[0]

    def run_once_per_disk(self, work: Callable[[], Any]) -> Any:
        """work() of the processes that keep a folder, then of the others, which find its files
        made. What one raises, all raise:
        Interrupted, else ValueError.
        """
        value, failure = None, None
        for turn in (True, False):
            if self.keeps is turn:
                try:
                    value = work()
                except Exception as error:
                    failure = error
            errors = self.gather(
                None
                if failure is None
                else (isinstance(failure, Interrupted), f"{failure}" or type(failure).__name__)
            )
            wrong = [(rank, *t) for rank, t in enumerate(errors) if t is not None]
            if failure is not None:
                raise failure
            for rank, stopped, text in wrong:
                raise (
                    Interrupted(text)
                    if stopped
                    else ValueError(f"process {rank} of {self.size}: {text}")
                )
        return value

    def same(self, value: str, what: str) -> None:
        """ValueError unless all processes have the same `what`."""
        values = self.gather(value)
        if len(set(values)) > 1:
            raise ValueError(
                f"the processes disagree on {what}:"
                f" {', '.join(f'{r}: {v}' for r, v in enumerate(values))}; they need the same code,"
                " recipe and speech on every machine"
            )

    def agree_on_name(self, name_here: str, common: str) -> str:
        """The run's id for all of them. Each machine has another one, for it knows when and where
        files of speech were written; `common`
        (recipe, plug-ins, what is heard) must be the same. An id under which one of them has begun
        before goes first.
        """
        self.same(common, "the run (recipe, speech and plug-ins)")
        begun = [
            p.parent.name
            for p in sorted(paths.runs().glob(f"*/{paths.TOGETHER}"))
            if p.read_text() == common
        ]
        known, first = (
            [name for names in self.gather(begun) for name in names],
            self.broadcast(name_here),
        )
        return first if first in known or not known else known[0]

    def newest(self, step: int, load: Callable[[], Any]) -> Any:
        """What the process with the highest `step` loads (the first of them); None when nobody has
        one (-1).
        """
        steps = self.gather(step)
        best = max(range(self.size), key=lambda rank: (steps[rank], -rank))
        return (
            None if steps[best] < 0 else self.broadcast(load() if best == self.rank else None, best)
        )

    # numbers

    def all_reduce(self, parameters: Sequence[Tensor], more: Sequence[Tensor] = ()) -> None:
        """One flat all-reduce: gradients and further tensors become their sums over the processes,
        in place. A gradient that nobody
        has stays None: an optimizer leaves such a parameter alone.
        """
        first = parameters[0]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=first.device)
        parts = [there, *grads, *more]
        flat = torch.cat([t.detach().to(first.device, torch.float32).flatten() for t in parts])
        dist.all_reduce(flat)
        sums = flat.split([t.numel() for t in parts])
        for parameter, grad, is_there, value in zip(parameters, grads, sums[0].tolist(), sums[1:]):
            parameter.grad = grad.copy_(value.view_as(grad)) if is_there else None
        for tensor, value in zip(more, sums[1 + len(grads) :]):
            tensor.copy_(value.view_as(tensor))

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Everyone takes process 0's values: machines of different kinds round differently and
        drift apart.
        """
        for name in sorted(tensors):
            dist.broadcast(tensors[name].detach(), 0)


def joined() -> Group | None:
    """The group that the environment variables RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name;
    None without them or for one process.

    ValueError for variables that contradict each other, and when the others do not come within
    JOIN_S.
    """
    if dist.is_available() and dist.is_initialized():
        return Group() if dist.get_world_size() > 1 else None
    rank, world_size = _number("RANK"), _number("WORLD_SIZE")
    if world_size is None or world_size == 1:
        return None
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing or rank is None or not 0 <= rank < world_size:
        raise ValueError(
            f"WORLD_SIZE is {world_size}, and RANK is {os.environ.get('RANK')!r}: training"
            f" together needs {', '.join(VARIABLES)} with RANK from 0 to WORLD_SIZE - 1"
            + (f"; {', '.join(missing)} missing" if missing else "")
            + "; start it with torchrun, or unset WORLD_SIZE"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device((_number("LOCAL_RANK") or 0) % torch.cuda.device_count())
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            timeout=datetime.timedelta(seconds=JOIN_S),
        )
    except (RuntimeError, dist.DistError) as error:
        raise ValueError(
            f"process {rank} found no group of {world_size} at"
            f" {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {JOIN_S:g} s"
            f" ({str(error).splitlines()[0]}); are all of them started?"
        ) from None
    return Group()


def leave(group: Group | None) -> None:
    """End the group, so that no process waits for one that has gone."""
    if group is not None and dist.is_initialized():
        dist.destroy_process_group()


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is not None and not text.strip().lstrip("-").isdigit():
        raise ValueError(f"the environment variable {name}: expected an integer, got {text!r}")
    return None if text is None else int(text)
