"""What each of several processes does in tests/training/test_group.py: `torchrun --nproc-per-node 2
-m tests.together FOLDER`.

Every case is a training of the tiny model on parts of the same batches; process 0 writes what all
of them ended with.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from safetensors.torch import save_file

from core.data.batches import Batch
from core.records import Interrupted
from core.training import distributed as processes
from core.training.options import Options
from tests import tiny
from tests.methods.test_methods import trainer

SPLIT = {"warmup": 0.25, "sparsest": 0.8, "passes": "split", "distillation": "none"}
CASES = {  # name: (method, its options, training options)
    "dense": ("dense", {}, {}),
    "sandwich": (
        "omni_sparsity",
        {"warmup": 0.25, "refresh": 3, "sparsest": 0.8},
        {"optimizer": "muon"},
    ),
    "csp": ("csp", {"refresh": 2, "l2": 0.1}, {}),
    "depth": ("iterative_zero_out", {"sizes": [3, 5], "rounds": 2}, {}),
}
ALSO = {"split": ("omni_sparsity", SPLIT, {})}  # every process deals its own utterances
UPDATES = 8


def part(batch: Batch, rank: int, size: int) -> Batch:
    own = slice(rank, None, size)
    return Batch(
        batch.features[own],
        batch.lengths[own],
        batch.tokens[own],
        batch.token_lengths[own],
        batch.ids[own],
        batch.seconds,
    )


class Parts(tiny.Batches):
    """One process's part of the batches; the third of four has one utterance, so one process has
    nothing of it.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size

    def iterate(self, epoch: int, start: int = 0, augment: bool = True):
        for i, one in list(enumerate(super().iterate(epoch)))[start:]:
            yield part(part(one, 0, 3) if i == 2 else one, self.rank, self.size)


def made(folder: Path, case: str, group: processes.Group | None = None, **training):
    from core.registry import plugins

    method, options, more = (CASES | ALSO)[case]
    one = trainer(
        folder,
        name=method,
        options=plugins.load("methods", method).Options(**options),
        updates=UPDATES,
        **more | training,
    )
    one.batches = Parts(group.rank, group.size) if group else Parts()
    one.options = Options(**{**vars(one.options), "chunks_ms": [160, 0]})
    one.group, one.keeps = group, group is None or group.keeps
    return one


def digest(one) -> str:
    told = hashlib.sha256()
    for tensors in (one.parameters, one.averaged, one.method.state()):
        for name in sorted(tensors):
            told.update(tensors[name].detach().numpy().tobytes())
    return told.hexdigest()


def main(folder: Path) -> None:
    group = processes.joined()
    facts = {"keeps": group.gather(group.keeps)}
    for case in CASES | ALSO:
        one = made(folder / case, case, group)
        one.run(lambda *_: True)
        facts[case] = group.gather(digest(one))
        if group.rank == 0:
            save_file(
                {n: p.detach().clone() for n, p in one.averaged.items()},
                folder / f"{case}.safetensors",
            )
    one = made(folder / "stopped", "sandwich", group)
    one.options = Options(**{**vars(one.options), "log_every": 1})
    # the last process is asked to stop while update 4 is reported, all stop after the next one
    try:
        one.run(
            lambda *_: (
                (one.step == 4 and group.rank == 1 and os.kill(os.getpid(), signal.SIGTERM)) or True
            )
        )
    except Interrupted:
        facts["stopped"] = group.gather(one.step)
    again = made(folder / "stopped", "sandwich", group)
    assert again.resume() and again.step == one.step
    again.run(lambda *_: True)
    facts["resumed"] = group.gather(digest(again))
    try:
        group.run_once_per_disk(lambda: 1 // 0 if group.rank == 1 else group.rank)
    except (ValueError, ZeroDivisionError) as error:
        facts["wrong"] = group.gather(f"{type(error).__name__}: {error}")
    if group.rank == 0:
        (folder / "facts.json").write_text(json.dumps(facts))
    processes.leave(group)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # as core/__main__.py does, and why
