"""A job's training by Ray Train: it places the processes, forms torch.distributed's group and, when
one is lost, starts all of them again; they go on from the newest checkpoint on their disks. The
sum of gradients and everything else is ours (core/training/distributed.py).
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

import ray

from core import paths
from core.jobs import confinement
from core.jobs.runners._ray_spread import node
from core.jobs.runners._ray_words import say
from core.pipelines import train as training
from core.records import Interrupted
from core.registry import recipes
from core.storage import metrics, remote, run_files

POLL_S = 0.5
POST, SPACE = (
    "post",
    "core",
)  # the actor through which the job's processes speak, and its namespace's beginning


PASSED = (
    "SUPERNET_ARTIFACTS",
    remote.VARIABLE,
    "SPEECH_ROOT",
    confinement.VARIABLE,
)  # on to every process of the job, beside AWS_*


@ray.remote(num_cpus=0)
class Post:
    """Words from the training's processes to the job, and the job's wish to stop."""

    def __init__(self) -> None:
        self.words: list[dict[str, Any]] = []
        self.stopping = False
        self.ended: tuple[str, str] | None = None

    def tell(self, word: dict[str, Any]) -> None:
        self.words.append(word)

    def taken(self) -> list[dict[str, Any]]:
        words, self.words = self.words, []
        return words

    def stop(self) -> None:
        self.stopping = True

    def go_on(self) -> bool:
        return not self.stopping

    def end(self, how: str, text: str) -> None:
        self.ended = self.ended or (how, text)

    def how(self) -> tuple[str, str] | None:
        return self.ended


def train(job: Any) -> str:
    """The recipe's training by Ray Train -> id of the finished run, which is stored. ValueError and
    Interrupted as one process has them.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    device = job.device()
    actor: Any = Post  # which Ray's decorator has made of the class
    post = actor.options(name=POST, namespace=f"{SPACE}-{job.name}").remote()
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


def _listen(job: Any, post: Any, over: threading.Event) -> None:
    """Hands on what the processes tell, and to them that the job was asked to stop."""
    facts = False
    while True:
        last = over.is_set()
        with contextlib.suppress(ray.exceptions.RayError):
            if job.stopped and not facts:
                ray.get(post.stop.remote())
                facts = True
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
    from core.training import distributed

    post = ray.get_actor(POST, namespace=f"{SPACE}-{config['name']}")
    if ray.get(post.how.remote()) is not None:  # it was no accident: nothing to begin again
        return
    group = distributed.joined()
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
        local = (
            node(),
            "GPU " + ", ".join(map(str, ray.get_gpu_ids())) if ray.get_gpu_ids() else "cpu",
            os.getpid(),
        )
        placed = group.gather(local) if group else [local]
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
                        name: run_files.read_json(folder / name)
                        for name in (paths.RECIPE, paths.UNITS)
                    }
                    self.post.tell.remote({"run": self.run, "begun": begun})
                rows = metrics.metrics(folder)
                for row in rows[-1 if self.rows is None else self.rows :]:
                    self.post.tell.remote({"run": self.run, "row": row})
                self.rows = len(rows)
            self.post.tell.remote(word)
        return ray.get(self.post.go_on.remote())


def _environment() -> dict[str, str]:
    """What every process of the job needs of this one's environment."""
    return {n: v for n, v in os.environ.items() if n in PASSED or n.startswith("AWS_")}
