"""Runs a job on a Ray cluster: submitted to its dashboard's address, followed from here, and going
on when this machine does not.

Ray's own word on a job wins: whoever follows it again after a pause takes over what Ray says. What
the job tells comes as lines of its log (`core/jobs/runners/_ray_work.py` writes them), finished
runs and new measurements come through the storage.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import paths
from core.jobs import leases, queue, ray_client, visitors
from core.jobs.job import Job
from core.jobs.runners import _ray_handle, base
from core.jobs.runners._ray_words import KEY, job_key, versions
from core.records import option
from core.storage import remote as storage, store

VERSION = 1
INSTALL = "pip install 'ray[default,train]==2.60.0'"
GRACE_S = 120  # from asking a job to stop until Ray kills it: a checkpoint is written in it


@dataclass(frozen=True)
class Options:
    address: str = option(
        "", "the cluster's dashboard, e.g. http://head:8265; empty = $RAY_API_SERVER_ADDRESS"
    )
    storage: str = option(
        "",
        "where runs go between here and the cluster, e.g. s3://bucket/runs; empty ="
        " $SUPERNET_STORAGE",
    )
    workers: int = option(
        2, "processes that train together, or measure beside each other", low=1, high=4096
    )
    device: str = option(
        "auto",
        "what each computes on; auto = a GPU where the cluster has enough",
        choices=("auto", "cpu", "cuda"),
    )
    cpus: float = option(1.0, "processors of each", low=0.1, high=256.0)
    shards: int = option(2, "parts a split is measured in, each on its own", low=1, high=1024)
    restarts: int = option(
        5, "how often lost workers are started again, from the last checkpoint", low=0, high=1000
    )
    artifacts: str = option(
        "~/.supernet",
        "folder on each machine of the cluster for prepared speech, checkpoints and runs",
    )


class Runner(base.Runner):
    elsewhere = 8

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.o = replace(
            options, address=options.address or os.environ.get("RAY_API_SERVER_ADDRESS", "")
        )

    def settings(self) -> dict[str, Any]:
        return vars(self.o) | {"storage": storage.url(self.o.storage)}

    def start(self, job: Job, log: Path) -> base.Handle:
        """Submit the job, or follow it where it was submitted before, also when its cluster does
        not answer yet.
        """
        visitors.check_cluster(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        if job.remote:
            try:
                known = ray_client.status(self.o.address, job.remote) is not None
            except ray_client.Unreachable:
                known = True
            if known:
                return _ray_handle.RayHandle(job, self.o, log)
        self.check(job)
        name = job.remote or f"core-{job.id}-{int(1000 * time.time()):x}"
        leases.note(job.id, job.worker, remote=name)  # before: a submitted job is never forgotten
        job = queue.get(job.id)
        for run in runs_needed(job):
            storage.push(store.run_folder(run), self.o.storage)
        self._submit(job, name)
        return _ray_handle.RayHandle(job, self.o, log)

    def check(self, job: Job) -> None:
        """ValueError, within WAIT_S, for a cluster that cannot be used and for runs that are
        gone.
        """
        if job.kind == "export":
            raise ValueError(
                "an export writes files on this machine: queue it with the local runner"
            )
        theirs = ray_client.version(self.o.address)
        ours = _ray().__version__
        if theirs != ours:
            raise ValueError(
                f"the cluster at {self.o.address} runs Ray {theirs}, this machine Ray {ours}:"
                " install the same on both"
            )
        storage.runs(self.o.storage)
        if job.kind == "prepare":
            raise ValueError(
                "speech is prepared on each machine of the cluster by the training that needs it:"
                " queue the training, or prepare here with the local runner"
            )
        if not job.remote:
            for run in runs_needed(job):
                store.run_folder(run)

    def _submit(self, job: Job, name: str) -> None:
        submission = _ray("ray.job_submission")
        request = {
            "kind": job.kind,
            "payload": job.payload,
            "settings": self.settings(),
            "versions": versions(),
            "name": name,
        }
        words = base64.urlsafe_b64encode(json.dumps(request).encode()).decode()
        keys = {n: v for n, v in os.environ.items() if n.startswith("AWS_") or n == "SPEECH_ROOT"}
        keys |= {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S), KEY: job_key(name)}
        with tempfile.TemporaryDirectory() as folder:  # only the code: runs go through the storage
            shutil.copytree(
                paths.CORE, Path(folder) / "core", ignore=shutil.ignore_patterns("__pycache__")
            )
            try:
                client = submission.JobSubmissionClient(self.o.address)
                client.submit_job(
                    entrypoint=f"python -m core.jobs.runners._ray_work {words}",
                    submission_id=name,
                    entrypoint_num_cpus=0,
                    runtime_env={"working_dir": folder, "env_vars": keys},
                )
            except (
                Exception
            ) as error:  # Ray has many for what its server says and for a line that breaks
                raise ray_client.Unreachable(
                    f"the cluster at {self.o.address} did not take the job: {error}"
                ) from error

    def clear(self, job: Job) -> None:
        """Nothing is left of it here; there it goes on, and is followed again when the job's turn
        comes.
        """


def runs_needed(job: Job) -> list[str]:
    """The runs a job reads, which the cluster must have."""
    before = (
        job.payload.get("recipe", {}).get("init_from", "")
        if isinstance(job.payload.get("recipe"), dict)
        else ""
    )
    return [run for run in (job.payload.get("run", ""), before) if run]


def _ray(module: str = "ray") -> Any:
    """Ray, loaded only when it is used: ValueError says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"the runner ray needs Ray, which is not installed here ({error}): {INSTALL}"
        ) from None
