"""A job on the cluster, as Ray starts it: `python -m core.jobs.runners._ray_work <words>`. It
trains with Ray Train, measures and searches in Ray tasks, and tells the machine that submitted it
in marked lines.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from core import paths
from core.jobs import confinement
from core.jobs.runners import _ray_train
from core.jobs.runners._ray_spread import Spread
from core.jobs.runners._ray_words import check_versions, say
from core.pipelines import evaluate as evaluating, search
from core.records import Interrupted, as_dict
from core.storage import remote, store


class ClusterJob:
    """This job: what was asked, whether to go on, and its report function."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.kind, self.payload, self.o, self.name = (
            request["kind"],
            request["payload"],
            request["settings"],
            request["name"],
        )
        self.stopped, self.reported = False, 0.0

    def __call__(self, progress: float, message: str = "", left: float | None = None) -> bool:
        if time.monotonic() - self.reported > _ray_train.POLL_S or progress >= 1:
            self.reported = time.monotonic()
            say(progress=progress, message=message, left=left)
        return not self.stopped

    def device(self, processes: int | None = None) -> str:
        """What every process computes on. ValueError, at once instead of waiting for ever, for what
        the cluster does not have.
        """
        machines, o = (
            [n["Resources"] for n in ray.nodes() if n["Alive"]],
            self.o | {"workers": processes or self.o["workers"]},
        )
        gpus, cpus = (
            sum(int(m.get("GPU", 0)) for m in machines),
            [m.get("CPU", 0.0) for m in machines],
        )
        if o["device"] == "cuda" and gpus < o["workers"]:
            raise ValueError(
                f"{o['workers']} processes with a GPU each are asked for, and the cluster has"
                f" {gpus} GPUs: add machines, ask for fewer workers, or set device to cpu"
            )
        room = sum(int(have / o["cpus"] + 1e-6) for have in cpus)  # a process is on one machine
        if room < o["workers"]:
            raise ValueError(
                f"{o['workers']} processes with {o['cpus']:g} processors each are asked for, and"
                f" the cluster has room for {room} (processors of its machines:"
                f" {', '.join(f'{n:g}' for n in cpus)}): add machines, or ask for fewer workers or"
                " cpus"
            )
        return "cuda" if o["device"] != "cpu" and gpus >= o["workers"] else "cpu"


def evaluate(job: ClusterJob, run: str) -> None:
    """Subnets x parts of the splits; every report goes home as soon as it is stored here."""
    folder, known = remote.here(run), set()
    given = job.payload

    def report(progress: float, message: str = "", left: float | None = None) -> bool:
        for stored in store.reports(folder):
            where = paths.report_key(stored)
            key = (*where, stored.file_sha256, stored.delta_wer)
            if key not in known:
                known.add(key)
                rows = store.hypotheses(folder, *where)
                say(report=as_dict(stored), rows=rows)
        return job(progress, message, left)

    if given.get("new"):
        say(subnet=given["new"] | {"run": run, "ranks_sha256": store.ranks_sha256(folder)})
    evaluating.evaluate(
        run,
        given.get("subnets") or [],
        given.get("splits") or [],
        report,
        given.get("new"),
        given.get("chunk_ms"),
        given.get("decoding"),
        spread=Spread(job.o).evaluate,
    )


def work(job: ClusterJob) -> None:
    module = os.environ.get(
        "SUPERNET_JOB_MODULE"
    )  # for tests and benches, as in core/jobs/process.py
    other = getattr(importlib.import_module(module), f"{job.kind}_job", None) if module else None
    if other is not None:
        other(job.payload, job)
        return
    if job.kind == "train":
        before = job.payload["recipe"].get("init_from")
        if before:
            remote.here(before)
        run = _ray_train.train(job)
        remote.here(run)  # this process may be on a machine that did not train
        say(run=run, finished=run)
        evaluate(job, run)
        return
    run = job.payload["run"]
    remote.pull(run)  # also where it is here already: sizes may have been added since
    say(run=run)
    job.device(1)
    if job.kind == "search":
        for subnet in search.search(run, job, Spread(job.o).search):
            say(subnet=as_dict(subnet))
    else:
        evaluate(job, run)


def main(words: str) -> int:
    request = json.loads(base64.urlsafe_b64decode(words))
    job = ClusterJob(request)
    os.environ["SUPERNET_ARTIFACTS"] = str(Path(job.o["artifacts"]).expanduser())
    os.environ[remote.VARIABLE] = job.o["storage"]
    confinement.confine(job.payload)
    try:
        check_versions(request["versions"], "the cluster")
        ray.init(address="auto", namespace=f"{_ray_train.SPACE}-{job.name}", log_to_driver=True)

        def ask(number: int, frame: FrameType | None) -> None:
            job.stopped = True

        signal.signal(signal.SIGTERM, ask)
        work(job)
        say(progress=1.0, message="done")
    except Interrupted as reached:
        print(reached)
        return 75
    except ValueError as error:
        say(wrong=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
