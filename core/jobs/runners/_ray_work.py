"""A job on the cluster, as Ray starts it: `python -m core.jobs.runners._ray_work <words>`. It
trains with Ray Train, measures and searches in Ray tasks, and tells the machine that submitted it
in marked lines.

Ray Train places the processes, forms torch.distributed's group and, when one is lost, starts all of
them again; they go on from the newest checkpoint on their disks. The sum of gradients and
everything else is ours (core/training/distributed.py).
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from core import paths
from core.jobs import confinement
from core.jobs.runners._ray_spread import Spread, node
from core.jobs.runners._ray_words import check_versions, say
from core.pipelines import evaluate as evaluating, search, train as training
from core.records import Interrupted, as_dict
from core.registry import recipes
from core.storage import metrics as history, remote as storage, store

POST, SPACE = (
    "post",
    "core",
)  # the actor through which the job's processes speak, and its namespace's beginning
POLL_S = 0.5
PASSED = (
    "SUPERNET_ARTIFACTS",
    storage.VARIABLE,
    "SPEECH_ROOT",
    confinement.VARIABLE,
)  # on to every process of the job, beside AWS_*


@ray.remote(num_cpus=0)
class Post:
    """Words from the training's processes to the job, and the job's wish to stop."""

    def __init__(self) -> None:
        self.words: list[dict[str, Any]] = []
        self.asked = False
        self.ended: tuple[str, str] | None = None

    def tell(self, word: dict[str, Any]) -> None:
        self.words.append(word)

    def taken(self) -> list[dict[str, Any]]:
        found, self.words = self.words, []
        return found

    def stop(self) -> None:
        self.asked = True

    def go_on(self) -> bool:
        return not self.asked

    def end(self, how: str, text: str) -> None:
        self.ended = self.ended or (how, text)

    def how(self) -> tuple[str, str] | None:
        return self.ended


class Job:
    """This job: what was asked, whether to go on, and its report function."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.kind, self.payload, self.o, self.name = (
            asked["kind"],
            asked["payload"],
            asked["settings"],
            asked["name"],
        )
        self.stopped, self.told = False, 0.0

    def __call__(self, progress: float, message: str = "", left: float | None = None) -> bool:
        if time.monotonic() - self.told > POLL_S or progress >= 1:
            self.told = time.monotonic()
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


# training


def train(job: Job) -> str:
    """The recipe's training by Ray Train -> id of the finished run, which is stored. ValueError and
    Interrupted as one process has them.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    device = job.device()
    post = Post.options(  # type: ignore[attr-defined]  # ray.remote adds it
        name=POST, namespace=f"{SPACE}-{job.name}"
    ).remote()
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(job, post, over), daemon=True)
    listener.start()
    config = {
        "recipe": job.payload["recipe"],
        "name": job.name,
        "device": device,
        "environment": _environment(),
    }
    trainer = TorchTrainer(
        one_process,
        train_loop_config=config,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.o["workers"],
            use_gpu=device == "cuda",
            placement_strategy="SPREAD",
            resources_per_worker={"CPU": job.o["cpus"]} | ({"GPU": 1} if device == "cuda" else {}),
        ),
        run_config=RunConfig(
            name=job.name,
            failure_config=FailureConfig(max_failures=job.o["restarts"]),
            **_notes(job.o["storage"]),
        ),
    )
    problem = None
    try:
        trainer.fit()
    except Exception as error:  # Ray Train wraps what a process raised
        problem = error
    how = ray.get(post.how.remote())
    over.set()
    listener.join()
    if how is None:
        raise problem or RuntimeError("the training ended without a word")
    if how[0] != "finished":
        raise {"stopped": Interrupted, "wrong": ValueError}[how[0]](how[1])
    return how[1]


def _notes(where: str) -> dict[str, Any]:
    """Where Ray Train keeps its own notes: it wants a place that every machine sees."""
    import fsspec
    import pyarrow.fs

    system, root = fsspec.core.url_to_fs(where)
    return {
        "storage_filesystem": pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(system)),
        "storage_path": f"{root.rstrip('/')}/.ray",
    }


def _listen(job: Job, post: Any, over: threading.Event) -> None:
    """Hands on what the processes tell, and to them that the job was asked to stop."""
    told = False
    while True:
        last = over.is_set()
        with contextlib.suppress(ray.exceptions.RayError):
            if job.stopped and not told:
                ray.get(post.stop.remote())
                told = True
            for word in ray.get(post.taken.remote()):
                say(**word)
        if last:
            return
        over.wait(POLL_S)


def one_process(config: dict[str, Any]) -> None:
    """What each process of Ray Train does: the training of core.pipelines.train, in the group
    that Ray Train has formed.
    """
    os.environ.update(config["environment"])
    if config["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from core.training import distributed as processes

    post = ray.get_actor(POST, namespace=f"{SPACE}-{config['name']}")
    if ray.get(post.how.remote()) is not None:  # it was no accident: nothing to begin again
        return
    group = processes.joined()
    report = ProcessReport(post, group)
    try:
        folder = training.train(
            recipes.recipe_from(config["recipe"]), report, group=group, begun=report.belongs_to
        )
        if report.first:
            ray.get(post.end.remote("finished", folder.name))
    except (Interrupted, ValueError) as error:
        ray.get(
            post.end.remote("stopped" if isinstance(error, Interrupted) else "wrong", str(error))
        )
        if isinstance(error, ValueError):
            raise  # the others wait for this one: Ray Train ends them


class ProcessReport:
    """Progress of one process; the first one's goes out, with the new rows of the curves."""

    def __init__(self, post: Any, group: Any) -> None:
        self.post, self.first, self.run = post, group is None or group.rank == 0, ""
        self.rows: int | None = None
        own = (
            node(),
            "GPU " + ", ".join(map(str, ray.get_gpu_ids())) if ray.get_gpu_ids() else "cpu",
            os.getpid(),
        )
        placed = group.gather(own) if group else [own]
        if self.first:
            post.tell.remote(
                {
                    "place": ", ".join(f"{ip} {device}" for ip, device, _ in placed),
                    "processes": [p for *_, p in placed],
                }
            )

    def belongs_to(self, run: str) -> None:
        self.run = run

    def __call__(self, progress: float, message: str = "", left: float | None = None) -> bool:
        if self.first:
            word = {"progress": progress, "message": message, "left": left}
            folder = paths.runs() / self.run
            if self.run and (folder / paths.METRICS).is_file():
                if self.rows is None:
                    begun = {
                        name: store.read_json(folder / name) for name in (paths.RECIPE, paths.UNITS)
                    }
                    self.post.tell.remote({"run": self.run, "begun": begun})
                rows = history.metrics(folder)
                for row in rows[-1 if self.rows is None else self.rows :]:
                    self.post.tell.remote({"run": self.run, "row": row})
                self.rows = len(rows)
            self.post.tell.remote(word)
        return ray.get(self.post.go_on.remote())


def evaluate(job: Job, run: str) -> None:
    """Subnets x parts of the splits; every report goes home as soon as it is stored here."""
    folder, known = storage.here(run), set()
    given = job.payload

    def report(progress: float, message: str = "", left: float | None = None) -> bool:
        for one in store.reports(folder):
            key = (
                one.subnet,
                one.split,
                one.chunk_ms,
                one.decoder,
                one.language_model,
                one.file_sha256,
                one.delta_wer,
            )
            if key not in known:
                known.add(key)
                rows = store.hypotheses(
                    folder, one.subnet, one.split, one.chunk_ms, one.decoder, one.language_model
                )
                say(report=as_dict(one), rows=rows)
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


def work(job: Job) -> None:
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
            storage.here(before)
        run = train(job)
        storage.here(run)  # this process may be on a machine that did not train
        say(run=run, finished=run)
        evaluate(job, run)
        return
    run = job.payload["run"]
    storage.pull(run)  # also where it is here already: sizes may have been added since
    say(run=run)
    job.device(1)
    if job.kind == "search":
        for subnet in search.search(run, job, Spread(job.o).search):
            say(subnet=as_dict(subnet))
    else:
        evaluate(job, run)


def _environment() -> dict[str, str]:
    """What every process of the job needs of this one's environment."""
    return {n: v for n, v in os.environ.items() if n in PASSED or n.startswith("AWS_")}


def main(words: str) -> int:
    asked = json.loads(base64.urlsafe_b64decode(words))
    job = Job(asked)
    os.environ["SUPERNET_ARTIFACTS"] = str(Path(job.o["artifacts"]).expanduser())
    os.environ[storage.VARIABLE] = job.o["storage"]
    confinement.confine(job.payload)
    try:
        check_versions(asked["versions"], "the cluster")
        ray.init(address="auto", namespace=f"{SPACE}-{job.name}", log_to_driver=True)

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
