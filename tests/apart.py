"""One of two processes whose machines have a disk each: `torchrun --nproc-per-node 2 -m tests.apart
FOLDER RECIPE [UPDATE]`.

Each has its own files of speech, whose paths and times differ. With UPDATE both are asked to
stop there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from core.pipelines import train as pipelines_train
from core.records import Interrupted
from core.registry import recipes
from core.training import distributed as processes


def main(folder: Path, recipe: str, update: str = "") -> None:
    os.environ["SUPERNET_ARTIFACTS"] = str(folder / f"disk{os.environ['RANK']}")
    group = processes.joined()
    try:
        pipelines_train.train(
            recipes.load_recipe(recipe),
            lambda _, text, left: not update or f"training: {update} of " not in text,
            group=group,
        )
    except Interrupted as reached:
        print(reached)
    finally:
        processes.leave(group)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # as core/__main__.py does, and why
