"""A training killed with -9 again and again: `python -m tests.killing FOLDER`. Run as a process of
its own, because autograd's threads do not survive a fork: this one never trains, its children do.

Twice the same training of UPDATES updates with a checkpoint each 10: once left alone, once killed
at seeded moments, RANDOM of them anywhere, the others inside the writing of a checkpoint. Prints
{"killed": [[moment, update begun at, exit code], ...], "last": [update, code]}; the weights lie in
FOLDER/*/final.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch._dynamo  # noqa: F401 - what any optimizer imports, once instead of in every child
from safetensors.torch import save_file

from core.methods import gradual_magnitude
from core.training import checkpoints
from tests.methods.test_methods import trainer

UPDATES, EVERY, RANDOM = 100, 10, 5
MOMENTS = (
    "half the tensors",
    "before the facts",
    "before the swap",
    "between the renames",
    "before the old one goes",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside(moment: str) -> None:
    """The next checkpoint kills this process at `moment` of its writing."""
    save, rename, rmtree = checkpoints.save_file, Path.rename, checkpoints.shutil.rmtree

    def half(tensors, path):
        save(tensors, path)
        if moment == MOMENTS[0]:
            os.truncate(path, os.path.getsize(path) // 2)
        if moment in MOMENTS[:2]:
            die()

    def swap(self, target):
        if moment == MOMENTS[2] or (moment == MOMENTS[3] and Path(target).name == "checkpoint"):
            die()
        return rename(self, target)

    def clear(path, **named):
        if (
            moment == MOMENTS[4]
            and str(path).endswith(".old")
            and Path(path).exists()
            and Path(path).with_suffix("").exists()
        ):
            die()
        rmtree(path, **named)

    checkpoints.save_file, Path.rename, checkpoints.shutil.rmtree = half, swap, clear


def train(folder: Path, pipe: int, inside: str | None) -> None:
    """In a child: go on from the checkpoint to the end, a byte down the pipe for every update."""
    made = trainer(
        folder,
        gradual_magnitude.Method,
        gradual_magnitude.Options(refresh=7),
        updates=UPDATES,
        snapshots=0,
    )
    made.options = type(made.options)(
        **{**vars(made.options), "log_every": 1, "checkpoint_every": EVERY}
    )
    made.resume()
    os.write(pipe, made.step.to_bytes(2, "big"))
    if inside:
        die_inside(inside)
    begun = made.step  # which is reported, too, before the first update
    made.run(lambda *_: made.step == begun or bool(os.write(pipe, b".")))
    save_file(
        {
            **{f"averaged/{n}": t for n, t in made.averaged.items()},
            **{n: p.detach() for n, p in made.parameters.items()},
        },
        folder / "final",
    )


def attempt(
    folder: Path, updates: int | None = None, wait_s: float = 0.0, inside: str | None = None
) -> tuple[int, int]:
    """One child, killed after `updates` updates and `wait_s` more (or by itself inside a
    checkpoint) -> (update begun at, signal).
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        code = 1
        try:
            train(folder, writer, inside)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as told:
        begun, seen = int.from_bytes(told.read(2), "big"), 0
        while byte := told.read(1):
            seen += len(byte)
            if updates is not None and seen >= updates:
                time.sleep(wait_s)
                os.kill(child, signal.SIGKILL)
                break
    return begun, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    assert attempt(home / "alone")[1] == 0
    rng = np.random.default_rng(7)
    plan = [("update", None)] * RANDOM + [("checkpoint", moment) for moment in MOMENTS]
    killed = []
    for i in rng.permutation(len(plan)):
        kind, moment = plan[i]
        if kind == "update":
            begun, code = attempt(
                home / "killed", int(rng.integers(2, 20)), float(rng.uniform(0, 0.02))
            )
        else:
            begun, code = attempt(home / "killed", inside=moment)
        killed.append([moment or "update", begun, code])
    begun, code = attempt(home / "killed")
    print(json.dumps({"killed": killed, "last": [begun, code]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
