"""A real Ray cluster of two machines' worth of processes on this one: training that loses a
process, measuring on both, reconnection. What needs no cluster is in test_ray_submission.py and
test_ray_words.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from core import paths
from core.bench._jobs_on_ray import PATIENT
from core.common import writing
from core.jobs import queue, ray_client, worker
from core.pipelines import evaluate as pipelines_evaluate, train as pipelines_train
from core.records import Recipe, as_dict
from core.registry import plugins
from core.storage import metrics, remote as storage, store
from tests.conftest import ROOT
from tests.pipelines.test_experiment import recipe as given

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

LONG_S = 1200.0  # a machine that is slow because others work on it, too, is no failure
QUICK = {  # each look and each actor of Ray Train costs more than the trainings of these tests
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
UPDATES = 60
STUB = """
import time
from core.records import Interrupted

def evaluate_job(payload, report):
    while report(0.5, "measuring"):
        time.sleep(0.1)
    raise Interrupted("it was asked to stop")
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait(condition, what: str, seconds: float = LONG_S):
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The dashboard's address of a cluster of two raylets with a processor each, whose jobs of the
    kind "evaluate" only wait to be stopped.
    """
    if not os.environ.get("REQUIRE_ALL"):
        pytest.skip(
            "a real Ray cluster takes minutes on two cores: .ci/run does it, or set REQUIRE_ALL=1"
        )
    small = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100_000_000}
    port, before = free_port(), signal.getsignal(signal.SIGTERM)
    seen = {
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        "include_log_monitor": True,
    }
    stub = tmp_path_factory.mktemp("stub")
    (stub / "stub_jobs.py").write_text(STUB)
    here = os.path.dirname(sys.executable)
    there = {
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",  # a job's `python`
        "PYTHONPATH": str(stub),
        "SUPERNET_JOB_MODULE": "stub_jobs",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (PATIENT | QUICK | there).items():
            patch.setenv(name, value)
        # it reads its environment now
        pytest.importorskip("ray", reason="Ray is not installed (tests/requirements.txt)")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=small | seen)
        try:
            cluster.add_node(**small)
            where = f"http://127.0.0.1:{port}"
            wait(lambda: sum(n.alive for n in ray_client.nodes(where)) == 2, "two machines", 300)
            yield where
        finally:
            cluster.shutdown()
            # Ray's own ends this process, and with it tests of other files
            signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory, spoken_once):
    """The submitting machine's folder, the cluster's and the storage, shared by this file's
    tests.
    """
    folder = tmp_path_factory.mktemp("home")
    for machine in ("mine", "theirs"):
        (folder / machine / "prepared").mkdir(parents=True)
        (folder / machine / "prepared" / "corpora").symlink_to(spoken_once)
    return folder


@pytest.fixture
def settings(address, home, monkeypatch):
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(home / "mine"))
    return {
        "address": address,
        "storage": f"file://{home}/shared",
        "artifacts": str(home / "theirs"),
        "workers": 2,
        "restarts": 2,
    }


class Following:
    """A worker of this process that follows jobs elsewhere."""

    def __enter__(self):
        local = plugins.load("runners", "local")
        self.worker = worker.Worker(local.Runner(local.Options()), slots=("ray", "ray"))
        self.thread = threading.Thread(target=self.worker.work)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.worker.stop = True
        self.thread.join(60)
        assert not self.thread.is_alive()


def ended(number: int) -> queue.Job:
    job = queue.get(number)
    return job if job.state not in ("queued", "running") else None


def on_the_cluster(settings: dict, job: queue.Job) -> str:
    return ray_client.status(settings["address"], job.remote)[0]


def training() -> Recipe:
    """Of few sizes, of which none is timed: that takes minutes, and what is timed elsewhere has a
    test without a cluster.
    """
    small = given("omni_sparsity", {"warmup": 0.5, "sparsest": 0.3})
    changes = {
        "updates": UPDATES,
        "log_every": 2,
        "checkpoint_every": 4,
        "batch_seconds": 6.0,
        "wer_every": 0,
        "precision": "fp32",
    }
    return replace(
        small,
        model=replace(small.model, options=small.model.options | {"dropout": 0.0}),
        training=small.training | changes,
        evaluation=small.evaluation | {"speed_utterances": 0},
        search=small.search | {"sparsities": [0.2, 0.3]},
    )


def training_processes() -> list[psutil.Process]:
    everything = psutil.Process().children(recursive=True)
    return [p for p in everything if "TrainWorker" in " ".join(p.cmdline())]


def assert_as_alone(recipe: Recipe, folder: Path) -> None:
    """What two processes made of it on the cluster is what one makes of it here."""
    alone = pipelines_train.train(recipe, lambda *_: True)
    for here, there in zip(metrics.metrics(alone), metrics.metrics(folder), strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=0.01)
        assert there["audio_hours"] == here["audio_hours"]
    ours, theirs = (load_file(f / paths.WEIGHTS) for f in (alone, folder))
    assert max(float((ours[n].float() - theirs[n].float()).abs().max()) for n in ours) < 0.01


def command(settings: dict, *words: str) -> list[str]:
    """As a person gives it, with the cluster's settings."""
    there = [w for n, v in settings.items() if n != "address" for w in ("--with", f"{n}={v}")]
    runner = ["--runner", "ray", "--address", settings["address"], *there]
    return [sys.executable, "-m", "core", *words, *runner]


def worker_stops() -> None:
    """The worker that a command began outlives it."""
    with contextlib.closing(sqlite3.connect(paths.jobs_database())) as db:
        for (name,) in db.execute("select name from worker").fetchall():
            os.kill(int(name.split(":")[1]), signal.SIGTERM)
    wait(lambda: not queue.worker_alive(), "the worker's end", 120)


def begun_and_left(words: list[str], said: Path) -> queue.Job:
    """The job of a training that has lost a process, the command that began it, and the worker."""
    with said.open("w") as out:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=out)
    try:
        number = wait(queue.list_jobs, "the job")[0].id
        wait(lambda: queue.get(number).progress > 0.05 or ended(number), "progress")
        job = queue.get(number)
        assert job.state == "running", job
        assert job.remote, job
        assert job.place.count("cpu") == 2, job
        processes = training_processes()
        assert len(processes) == 2, processes
        processes[1].kill()
    finally:
        process.kill()
        process.wait()
        worker_stops()
    assert "is queued: it goes on if this command dies" in said.read_text()
    job = queue.get(number)
    assert job.state == "queued", job
    assert job.remote, job
    return job


def test_a_training_loses_a_process_and_its_followers_and_comes_to_the_right_end(
    settings, tmp_path
):
    """`train RECIPE --runner ray`, and the same command again."""
    recipe = training()
    writing.write_json(tmp_path / "recipe.json", as_dict(recipe))
    words = command(settings, "train", str(tmp_path / "recipe.json"))
    job = begun_and_left(words, tmp_path / "said")
    wait(lambda: on_the_cluster(settings, job) in ray_client.ENDED, "the end on the cluster")
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S)
    finally:
        worker_stops()
    assert done.returncode == 0, done.stderr
    assert f"job {job.id} is this already, and is followed" in done.stderr
    job = queue.get(job.id)
    assert job.state == "done", (job.error, queue.log(job.id))
    assert done.stdout == f"{paths.runs() / job.run}\n"
    assert on_the_cluster(settings, job) == "SUCCEEDED"
    assert job.place.count("(") == 2, "its sizes are measured on both machines"
    assert "cpu" not in job.place
    folder = store.run_folder(job.run)
    assert (folder / paths.FINISHED).is_file()
    assert [r["step"] for r in metrics.metrics(folder)] == [1, *range(2, UPDATES + 1, 2)]
    assert storage.runs(settings["storage"]) == [job.run]
    assert len(store.reports(folder)) == len(store.subnets(folder))
    assert len(store.hypotheses(folder, "u20", "voice_commands/test", 320.0)) == 6
    assert_as_alone(recipe, folder)


def test_sizes_are_searched_on_both_machines_and_a_cancelled_job_stops(settings):
    run = storage.runs(settings["storage"])[0]
    stub = {"run": run, "subnets": ["dense"], "splits": ["test"]}
    waiting = queue.add("evaluate", stub, runner="ray", settings=settings)
    number = queue.add("search", {"run": run}, runner="ray", settings=settings)
    with Following():
        wait(lambda: queue.get(waiting).progress > 0, "progress")
        queue.cancel(waiting)
        cancelled = wait(lambda: ended(waiting), "the stop")
        search = wait(lambda: ended(number), "the search")
    assert cancelled.state == "cancelled", (cancelled.error, queue.log(waiting))
    assert on_the_cluster(settings, cancelled) == "STOPPED"
    assert search.state == "done", (search.error, queue.log(number))
    assert search.place.count("(") == 2, search
    assert {s.name for s in store.subnets(run)} >= {"s20", "u20", "m20", "r20", "s30"}
    (report,) = pipelines_evaluate.evaluate(run, ["s30"], ["test"], lambda *_: True)
    assert report.utterances == 6
