"""What the largest recipe would take on 1 to 512 GPUs: its work counted and measured here, the GPUs
assumed. Writes SCALE.md.

Step times are those of updates of several sizes up to the recipe's own, through which a line is
laid; nothing about GPUs is measured.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core import cost, paths
from core.bench import _scale_page
from core.bench._scale_page import FLOPS_PER_MAC, Work
from core.common import writing
from core.corpora import base as corpora
from core.evaluation import provenance
from core.pipelines import build as building, dry_run as rehearsal
from core.pipelines.resolved import ResolvedRecipe
from core.records import option
from core.registry import recipes
from core.speech import tokenizer
from core.speech.features import BINS, FRAMES_PER_SECOND
from core.training.options import Options as TrainingOptions
from core.training.trainer import Trainer

TITLE = "what many GPUs would take"
SIDE = 4096  # of the square product
# numbers of the sum that measures this machine's memory traffic: 256 MB, more than caches hold
STREAM = 1 << 26
SCATTER = 0.15  # times farther from their line than this are no line
# of what moving the weights takes at this machine's memory traffic: a shorter fixed part cannot be
LEAST = 0.5
FEATURE_BYTES = 2  # half precision, as core/data/extract.py keeps them
STATE_BYTES = 16  # of a parameter in a checkpoint: itself, its average, AdamW's two moments
ASSUMED = (
    "gpu_tflops",
    "gpu_share",
    "launch_us",
    "memory_GBs",
    "gpus_a_node",
    "node_GBs",
    "network_GBs",
    "latency_us",
    "evaluation_s",
    "disk_GBs",
)


@dataclass(frozen=True)
class Options:
    recipe: str = option("paper_librispeech", "recipe whose training is worked out")
    out: str = option("", "file that is written; empty: artifacts/released/SCALE.md")
    rounds: int = option(3, "times each update is measured; medians count", low=1, high=100)
    gpu_tflops: float = option(
        312.0,
        "assumed: a GPU's bf16 peak (A100, its data sheet)",
        unit="TFLOP/s",
        low=0.1,
        high=100_000.0,
    )
    gpu_share: float = option(
        0.25, "assumed: share of it that a large batch reaches", low=0.001, high=1.0
    )
    launch_us: float = option(
        8.0, "assumed: host time to start one operator", unit="us", low=0.0, high=1000.0
    )
    memory_GBs: float = option(
        1500.0, "assumed: a GPU's memory traffic", unit="GB/s", low=1.0, high=100_000.0
    )
    gpus_a_node: int = option(8, "assumed: GPUs of one machine", low=1, high=1024)
    node_GBs: float = option(
        200.0, "assumed: traffic of a ring within a machine", unit="GB/s", low=0.1, high=10_000.0
    )
    network_GBs: float = option(
        20.0,
        "assumed: traffic of a ring between machines (200 Gbit/s, less a fifth)",
        unit="GB/s",
        low=0.01,
        high=10_000.0,
    )
    latency_us: float = option(
        10.0,
        "assumed: one hop of the ring, of which there are 2 (N-1)",
        unit="us",
        low=0.0,
        high=100_000.0,
    )
    evaluation_s: float = option(
        20.0,
        "assumed: measuring word errors for the curves once, while all wait",
        unit="s",
        low=0.0,
        high=1e4,
    )
    disk_GBs: float = option(
        1.0, "assumed: writing checkpoints", unit="GB/s", low=0.01, high=1000.0
    )


def run(options: Options | dict[str, Any]) -> dict[str, Any]:
    """Measures for some minutes on two quiet cores (four rounds of updates that hear 280 s of
    speech together), writes the page,
    returns its numbers.

    ValueError for a recipe that cannot be, and for times that cannot be true: nothing is written
    then.
    """
    o = Options(**options) if isinstance(options, dict) else options
    load = os.getloadavg()[0]
    recipe = recipes.load_recipe(o.recipe)
    settings = ResolvedRecipe(recipe).training
    work, facts = _measured(dataclasses.replace(recipe, init_from=""), settings, o.rounds)
    pair = added_up(work.values, o.rounds)
    facts |= {
        "load": load,
        "cores": len(os.sched_getaffinity(0)),
        "pair_whole": pair["whole_s"],
        "pair_least": pair["least_s"],
        "hardware": provenance.hardware(),
        "date": datetime.date.today().isoformat(),
        "assumed": _assumed(o),
    }
    target = Path(o.out) if o.out else paths.RELEASED / paths.SCALE
    writing.write_bytes(target, _scale_page.page(work, facts, o, _command(o)).encode())
    print(f"{TITLE}: {target}", file=sys.stderr)
    every = {"hours": lambda n: work, "hours_grown": lambda n: _scale_page.grown(work, n)}
    return (
        vars(work)
        | facts
        | {
            name: {n: round(_scale_page.hours(of(n), n, o), 2) for n in _scale_page.COUNTS}
            for name, of in every.items()
        }
    )


def _command(o: Options) -> str:
    changed = [
        f"--set {shlex.quote(f'{f.name}={getattr(o, f.name)}')}"
        for f in dataclasses.fields(o)
        if getattr(o, f.name) != f.default and f.name != "out"
    ]
    return " ".join(["python -m core bench scale", *changed])


def _assumed(o: Options) -> list[tuple[str, str, str]]:
    from core.registry import catalog

    cards = {one.name: one for one in catalog.card("bench", "scale").options}
    return [
        (
            f"`{n}`",
            f"{getattr(o, n):g} {cards[n].unit}".strip(),
            cards[n].help.removeprefix("assumed: "),
        )
        for n in ASSUMED
    ]


class Counting(TorchDispatchMode):
    """Counts operators that touch memory: all but those whose result is a view or room without
    content.
    """

    count = 0
    IDLE = (
        "_unsafe_view",
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = any(
            r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns
        )
        self.count += not views and func.overloadpacket.__name__ not in self.IDLE
        return func(*args, **kwargs or {})


def _measured(recipe: Any, settings: TrainingOptions, rounds: int) -> tuple[Work, dict[str, Any]]:
    """The recipe's work, and the times of batches of several sizes, of the big product and of
    memory in turn.
    """
    resolved = ResolvedRecipe(recipe)
    vocabulary = resolved.speech.vocabulary()
    building.check(resolved, vocabulary)
    model, method = building.build(resolved.built(vocabulary), vocabulary, settings.updates)
    length = min(corpora.Corpus.mean_s, settings.batch_seconds / 4)
    counts = sizes(round(settings.batch_seconds / length))
    batches = [
        rehearsal.stand_in(n * length, vocabulary, vocabulary == tokenizer.CHARACTERS, n, length)
        for n in counts
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, method, None, settings, recipe.seed, Path(folder))
        late = max(0, settings.updates - rounds - 2)  # of the last phase
        kind = torch.bfloat16 if trainer.bf16 else torch.float32
        values = sum(p.numel() for p in [*trainer.parameters.values(), *method.parameters()])
        with Counting() as counter:
            _at(trainer, late, batches[0])
        took, product, stream = _times(trainer, batches, late, rounds, kind)
    seconds = [batch.seconds for batch in batches]
    touched = 4 * values * _scale_page.TOUCHED_ALONE
    fixed, slope, off = line(seconds, took, touched / stream)
    peak = 2 * SIDE**3 / product
    macs, macs_late = (
        rehearsal.average(method, settings.updates, rehearsal.macs),
        rehearsal.macs(method, late),
    )
    passes = rehearsal.average(method, settings.updates, lambda m, step: len(m.plan(step)))
    facts = {
        "updates_took": list(zip(seconds, took)),
        "fixed": fixed,
        "off": off,
        "stream": stream,
        "least": touched / stream,
        "whole": fixed + slope * settings.batch_seconds * macs / macs_late,
        "peak": peak,
        "share": FLOPS_PER_MAC * macs_late * seconds[-1] / took[-1] / peak,
        "parameters": cost.parameters(method.anatomy),
        "precision": str(kind).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "feature_bytes": settings.batch_seconds * FRAMES_PER_SECOND * BINS * FEATURE_BYTES,
    }
    return (
        Work(
            settings.batch_seconds,
            length,
            settings.updates,
            macs,
            counter.count * passes / len(method.plan(late)),
            values,
            settings.wer_every,
            settings.checkpoint_every,
            STATE_BYTES * values,
            passes,
        ),
        facts,
    )


def sizes(whole: int) -> list[int]:
    """Utterances of the batches that are timed: one, and a quarter, a half and all of the
    recipe's.
    """
    return sorted({1, max(1, whole // 4), max(2, whole // 2), max(3, whole)})


def _at(trainer: Trainer, step: int, batch: Any) -> None:
    """An update as that of `step`: its passes, its random subnet and its chunk, whatever the
    batch.
    """
    trainer.step = step
    trainer.update(batch)


def _times(
    trainer: Trainer, batches: list[Any], late: int, rounds: int, kind: torch.dtype
) -> tuple[list[float], float, float]:
    """(seconds of an update of each batch, of the big product, bytes of memory traffic a second):
    medians over rounds in each of which
    all of them are timed in turn, after one that counts nowhere and makes room.
    """
    square, one, other = torch.randn(SIDE, SIDE).to(kind), torch.zeros(STREAM), torch.ones(STREAM)
    works = [
        *(lambda step, b=batch: _at(trainer, step, b) for batch in batches),
        lambda _: square @ square,
        lambda _: one.add_(other),
    ]
    took: list[list[float]] = [[] for _ in works]
    for step in range(late, late + rounds + 1):
        for times, work in zip(took, works):
            began = time.perf_counter()
            work(step)
            times.append(time.perf_counter() - began)
    *updates, product, stream = (statistics.median(times[1:]) for times in took)
    return updates, product, 3 * 4 * STREAM / stream


def line(seconds: list[float], took: list[float], least: float) -> tuple[float, float, float]:
    """(fixed part, seconds a second of speech, farthest share from the line) through the times of
    updates, each as exact as it is long.

    ValueError for what cannot be true: more speech in less time, times that are no line, a fixed
    part far below `least`.
    """
    inverse = 1 / np.asarray(took)
    fixed, slope = np.linalg.lstsq(
        np.stack([inverse, np.asarray(seconds) * inverse], 1), np.ones(len(took)), rcond=None
    )[0].tolist()
    off = float(np.max(np.abs((fixed + slope * np.asarray(seconds)) * inverse - 1)))
    told = ", ".join(f"{s:.0f} s of speech {t:.3g} s" for s, t in zip(seconds, took))
    if sorted(took) != took or off > SCATTER:
        raise ValueError(
            f"the times of updates lie on no line that rises ({told}; {off:.0%} off at most,"
            f" {SCATTER:.0%} are allowed): others had the machine; run it again when it is quiet,"
            " or with more rounds"
        )
    if fixed < LEAST * least:
        raise ValueError(
            f"of an update, {fixed:.3g} s would not depend on its speech ({told}), but to move the"
            f" weights alone takes {least:.3g} s on this machine: others had the machine; run it"
            " again when it is quiet, or with more rounds"
        )
    return fixed, slope, off


def added_up(values: int, rounds: int) -> dict[str, float]:
    """Seconds that core/training/distributed.py needs to add up so many gradients, and one, between
    two processes of this machine.
    """
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "SUPERNET_ARTIFACTS": folder,
            "CUDA_VISIBLE_DEVICES": "",
        }
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "core.bench._scale_pair", str(values), str(rounds)],
                cwd=paths.ROOT,
                text=True,
                env=os.environ | own | {"RANK": str(rank)},
                stdout=subprocess.PIPE,
            )
            for rank in (0, 1)
        ]
        said = [process.communicate()[0] for process in both]
    if any(process.returncode for process in both):
        raise RuntimeError(
            "two processes could not add up their gradients; what they said stands above"
        )
    return json.loads(said[0].splitlines()[-1])
