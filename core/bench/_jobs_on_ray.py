"""What the Ray path costs beside the local one, on a cluster of this machine that is started for
it: a job that does nothing, and the updates of a tiny training by one process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.jobs import queue, ray_client
from core.records import Recipe, as_dict
from core.registry import recipes

PATIENCE_S = 900.0
LEAVE_S = 90.0  # until a worker that was told to leave is killed
# a machine that is slow because others work on it, too, is no failure
PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_memory_monitor_refresh_ms": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_RUNTIME_ENV_AGENT_STARTUP_TIMEOUT_S": "300",
    "RAY_JOB_START_TIMEOUT_SECONDS": "900",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_enable_worker_prestart": "0",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_timeout_ms": "120000",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "600",
}
TINY = (
    "corpus.hours=0.02",
    "corpus.test_utterances=6",
    "corpus.dev_utterances=4",
    "corpus.search_utterances=4",
    "corpus.shard_utterances=8",
    "corpus.processes=1",
    "model.blocks=2",
    "model.width=32",
    "model.heads=2",
    "training.batch_seconds=10",
    "training.wer_every=0",
    "training.log_every=10",
    "training.threads=1",
    "features.speed_change=0",
    "evaluation.speed_utterances=1",
    'evaluation.splits=["dev"]',
)


def measure(
    folder: Path, count: int, updates: int, environment: dict[str, str], figures: dict[str, Any]
) -> None:
    """Into `result`, as soon as each is known: medians over `count` jobs that do nothing, and ms an
    update of both ways over `updates`,
    the first rows of the curves left out.

    `environment` names the jobs' module; the queue is that of this process's artifacts. Needs Ray;
    RuntimeError when a job fails.
    """
    recipe = recipes.override(
        recipes.load_recipe("voice_commands"),
        [
            *TINY,
            f"training.updates={max(1, updates)}",
            f"training.checkpoint_every={10 * max(1, updates)}",
        ],
    )
    if updates:
        with _watched(folder / "mine") as times:
            _here(recipe, folder / "mine")
        figures["update_ms"] = _per_update(times)
    with _cluster(environment) as address, _worker(environment):
        settings = {
            "address": address,
            "storage": f"file://{folder}/shared",
            "artifacts": str(folder / "theirs"),
            "workers": 1,
        }
        if count:
            done = [_done("search", {"run": ""}, settings) for _ in range(count)]
            figures["ray_job_s"] = round(statistics.median(j.ended - j.created for j in done), 2)
        if updates:
            with _watched(folder / "theirs") as times:
                _done("train", {"recipe": as_dict(recipe)}, settings)
            figures["ray_update_ms"] = _per_update(times)


def _here(recipe: Recipe, folder: Path) -> None:
    """The training in a process of its own, as the local runner has it."""
    writing.write_json(folder / "recipe.json", as_dict(recipe))
    done = subprocess.run(
        [sys.executable, "-m", "core", "train", str(folder / "recipe.json")],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"SUPERNET_ARTIFACTS": str(folder)},
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise RuntimeError(
            f"the local training ended with code {done.returncode}: {done.stderr[-1000:]}"
        )


def _done(kind: str, payload: dict[str, Any], settings: dict[str, Any]) -> queue.Job:
    number, until = (
        queue.add(kind, payload, runner="ray", settings=settings),
        time.monotonic() + PATIENCE_S,
    )
    while (job := queue.get(number)).state in ("queued", "running"):
        if time.monotonic() > until:
            raise RuntimeError(
                f"job {number} on Ray has not ended within {PATIENCE_S:g} s: {job.message}"
            )
        time.sleep(0.02)
    if job.state != "done":
        raise RuntimeError(f"job {number} on Ray {job.state}: {job.error}\n{queue.log(number, 20)}")
    return job


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[tuple[float, int]]]:
    """(time, rows of the curves) whenever there are more of them in the one run below `folder`."""
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for file in (folder / "runs").glob(f"*/{paths.METRICS}"):
                rows = file.read_bytes().count(b"\n")
                if rows > (seen[-1][1] if seen else 0):
                    seen.append((time.perf_counter(), rows))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _per_update(times: list[tuple[float, int]], log_every: int = 10) -> float:
    """ms between the second sight of the rows and the last; the first update makes room for
    everything.
    """
    if len(times) < 3:
        raise RuntimeError("too few updates to time them: ask for more with ray_updates")
    (began, first), (ended, last) = times[1], times[-1]
    return round(1000 * (ended - began) / ((last - first) * log_every), 2)


@contextlib.contextmanager
def _cluster(environment: dict[str, str]) -> Iterator[str]:
    """The dashboard's address of a Ray cluster of one machine, this one; nothing of it is left
    afterwards, whatever happens.

    Every port is a free one: another cluster of this machine stays what it is.
    """
    port, agent = _free_ports(2)
    local = PATIENT | {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    }  # a job's `python`
    before = dict(os.environ)
    os.environ.update(
        environment | local
    )  # Ray reads them when it is loaded, and its processes inherit them
    try:
        from ray.cluster_utils import Cluster

        created, session = Cluster(), ""
        try:
            head = created.add_node(  # Ray itself would wait for 30 s only
                wait=False,
                num_cpus=2,
                num_gpus=0,
                object_store_memory=100_000_000,
                include_dashboard=True,
                include_log_monitor=True,
                dashboard_host="127.0.0.1",
                dashboard_port=port,
                dashboard_agent_listen_port=agent,
            )
            session = head.get_session_dir_path()
            address, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
            while not _ready(address):
                if time.monotonic() > until:
                    raise RuntimeError(f"Ray's dashboard did not come up within {PATIENCE_S:g} s")
                time.sleep(0.2)
            yield address
        finally:
            created.shutdown()
            if session:  # logs and copies of the code, some MB each time
                shutil.rmtree(session, ignore_errors=True)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


def _ready(address: str) -> bool:
    with contextlib.suppress(ray_client.Unreachable):
        return any(node.alive for node in ray_client.nodes(address))
    return False


@contextlib.contextmanager
def _worker(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "core.jobs.worker"],
        cwd=paths.ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
