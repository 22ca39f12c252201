"""Checkpoints of a run in progress: safetensors and JSON in a folder that is swapped in whole,
never pickle.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core import paths
from core.common.writing import beside, os_errors
from core.storage import checksums

TENSORS, FACTS = "state.safetensors", "state.json"


@contextlib.contextmanager
def held(run: Path, wait_s: float = 20.0) -> Iterator[None]:
    """The run's folder for this process alone, so that two trainings of one recipe never write each
    other's checkpoints. Whoever dies lets
    go. ValueError when another one has it for so long; on disks that know no locks it is as good as
    before.
    """
    opened, until = os.open(run, os.O_RDONLY), time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ValueError(
                        f"the run {run.name} is being trained by another process now: wait for it,"
                        " or stop it and give the command again, which goes on from its checkpoint"
                    ) from None
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(opened)


def save(run: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write beside, sync, then rename: a reader sees the old checkpoint or the new one, also after
    a crash.
    """
    target = run / paths.CHECKPOINT
    aside = beside(run / paths.CHECKPOINT)
    for dead in run.glob(
        f"{paths.CHECKPOINT}.tmp-*"
    ):  # a run has one writer; what a full disk left behind goes first
        shutil.rmtree(dead, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with os_errors(aside / TENSORS, SafetensorError):
            save_file(
                {n: t.detach().cpu().contiguous() for n, t in tensors.items()}, aside / TENSORS
            )
        (aside / FACTS).write_text(
            json.dumps(
                checksums.sealed(
                    facts | {checksums.FILES: {TENSORS: checksums.of_file(aside / TENSORS)}}
                )
            )
        )
        for name in (TENSORS, FACTS):
            with open(aside / name, "rb") as file:
                os.fsync(file.fileno())
    except OSError:  # a full disk: give back what the half checkpoint takes; the one before stays
        shutil.rmtree(aside, ignore_errors=True)
        raise
    old = run / f"{paths.CHECKPOINT}.old"
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def load(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The latest whole checkpoint of a run, or None. Between the two renames of save() it is the
    old one.

    ValueError when one of its files is not what was written. Those of earlier versions carry no
    checksum.
    """
    for folder in (run / paths.CHECKPOINT, run / f"{paths.CHECKPOINT}.old"):
        if (folder / TENSORS).is_file() and (folder / FACTS).is_file():
            return _read(folder)
    return None


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    file = folder / FACTS
    try:
        facts = checksums.opened(json.loads(file.read_bytes()), file)
        wanted, file = facts.pop(checksums.FILES, {}).get(TENSORS), folder / TENSORS
        if wanted is not None and checksums.of_file(file) != wanted:
            raise ValueError(f"its SHA-256 is not the one that {FACTS} names")
        return load_file(file), facts
    except (ValueError, AttributeError, TypeError, RecursionError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint {file} is damaged ({error}): put a whole copy of its folder in its"
            f" place, or remove the folder {folder}, and the training begins from its start"
        ) from None


def remove(run: Path) -> None:
    """A finished run needs none."""
    for folder in run.glob(f"{paths.CHECKPOINT}*"):
        shutil.rmtree(folder, ignore_errors=True)


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{n}": t for n, t in tensors.items()}


def of_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{prefix}/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of every parameter, by position."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}/{n}": v if isinstance(v, Tensor) else torch.tensor(v)
        for i, s in state.items()
        for n, v in s.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    full = optimizer.state_dict()
    full["state"] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        full["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(full)
