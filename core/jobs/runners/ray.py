"""Runs a job on a Ray cluster: submitted to its dashboard's address, followed from here, and going
on when this machine does not.

Ray's own word on a job wins: whoever follows it again after a pause takes over what Ray says. What
the job tells comes as lines of its log (`core/jobs/runners/_ray_work.py` writes them), finished
runs and new measurements come through the storage.
"""

from __future__ import annotations

import base64
import contextlib
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
from core.common import writing
from core.jobs import queue as jobs, ray_client as cluster, visitors
from core.jobs.job import Job
from core.jobs.runners import base
from core.jobs.runners._ray_words import KEY, heard, job_key, versions
from core.records import Report, Subnet, from_dict, option
from core.storage import metrics as history, remote as storage, store

VERSION = 1
INSTALL = "pip install 'ray[default,train]==2.60.0'"
LOOK_S = 1.0  # between two questions to the cluster
# bytes of a job's log a second: Ray tells all of it every time, so a long one is asked for less
# often
READ_BS = 1e6
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


class RayHandle(base.Handle):
    """A submitted job. What it has told is kept by how many lines of its log were read."""

    stays = True

    def __init__(self, job: Job, options: Options, log: Path) -> None:
        self.job, self.o, self.log = job, options, log
        self.read, self.looked, self.heard = 0, 0.0, time.monotonic()
        self.code: int | None = None
        self.asked, self.key, self.run = (
            False,
            job_key(job.remote),
            job.payload.get("run") or job.run,
        )

    def poll(self) -> int | None:
        """A cluster that does not answer is waited for, however long: the job goes on there, and
        what Ray says of it then is right.
        """
        now = time.monotonic()
        if self.code is None and now - self.looked >= max(LOOK_S, self.read / READ_BS):
            self.looked = now
            try:
                if self.asked:
                    self.stop()
                self._look()
                self.heard = now
            except cluster.Unreachable:
                jobs.beat(
                    self.job.id,
                    self.job.worker,
                    message=f"the cluster does not answer for {now - self.heard:.0f} s",
                )
            except (
                ValueError,
                OSError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:  # what it told cannot be kept here
                jobs.fail(
                    self.job.id,
                    f"{error}; on the cluster the job {self.job.remote} goes on",
                    self.job.worker,
                )
                self.code = 1
        return self.code

    def _look(self) -> None:
        found = cluster.status(self.o.address, self.job.remote)
        if found is None:
            jobs.fail(
                self.job.id,
                f"the cluster does not know job {self.job.remote}: it was begun anew since; resume"
                " this job to submit it again, a training goes on from its checkpoint",
                self.job.worker,
            )
            self.code = 1
            return
        state, message = found
        self._take(cluster.log(self.o.address, self.job.remote))
        if state == "FAILED":
            jobs.fail(
                self.job.id, f"{message}\nits last lines are in the log", self.job.worker
            )  # nothing if its own words came
        if state == "STOPPED" and not jobs.get(self.job.id).cancel:
            jobs.cancel(self.job.id)  # somebody stopped it there
        self.code = cluster.ENDED.get(state)

    def _take(self, text: str) -> None:
        """New whole lines of the job's log: what it has signed is obeyed, the rest is for
        people.
        """
        whole = text[: text.rfind("\n") + 1]
        with self.log.open("a") as out:
            for line in whole[self.read :].split("\n")[:-1]:
                told = heard(line, self.key)
                if told is None:
                    out.write(line + "\n")
                else:
                    self._obey(told)
        self.read = len(whole)

    def _obey(self, told: dict[str, Any]) -> None:
        number, worker = self.job.id, self.job.worker
        if "progress" in told:
            jobs.beat(number, worker, told["progress"], told.get("message", ""), told.get("left"))
        if told.get("run") or told.get("place"):
            jobs.note(
                number,
                worker,
                run=self._own(told["run"]) if told.get("run") else None,
                place=told.get("place"),
            )
        if (
            "begun" in told
        ):  # the run as the cluster has begun it, so that the pages can show its curves
            folder = paths.runs() / self._own(told["run"])
            for name in (paths.RECIPE, paths.UNITS):
                if not (folder / name).exists():
                    writing.write_json(folder / name, told["begun"][name])
        if "row" in told and not (paths.runs() / self._own(told["run"]) / paths.FINISHED).exists():
            history.truncate_metrics(
                paths.runs() / told["run"], told["row"]["step"] - 1
            )  # told again after a restart or a reconnection
            history.append_metrics(paths.runs() / told["run"], told["row"])
        if "finished" in told:
            storage.pull(self._own(told["finished"]), self.o.storage)
        if "subnet" in told:
            store.save_subnet(
                storage.here(self._own(told["subnet"]["run"])), from_dict(Subnet, told["subnet"])
            )
        if "report" in told:
            store.save_report(
                storage.here(self._own(told["report"]["run"])),
                from_dict(Report, told["report"]),
                told["rows"],
            )
        if "wrong" in told:
            jobs.fail(number, told["wrong"], worker, again=bool(told.get("again")))

    def _own(self, run: str) -> str:
        """The run's id, which is that of the job, or of a training the first that it told.
        ValueError for any other.
        """
        if not store.SAFE.fullmatch(str(run)) or run != (self.run or run):
            raise ValueError(
                f"the job {self.job.remote} on the cluster told of the run {run!r}, which is not"
                f" its own ({self.run or 'none yet'})"
            )
        self.run = run
        return run

    def stop(self) -> None:
        """Asks until the cluster has heard it."""
        self.asked = True
        with contextlib.suppress(cluster.Unreachable):
            cluster.stop(self.o.address, self.job.remote)
            self.asked = False

    def kill(self) -> None:
        if self.code is None:
            self.stop()
            if self.asked:
                with self.log.open("a") as out:
                    out.write(
                        f"the cluster at {self.o.address} does not answer: the job"
                        f" {self.job.remote} may go on there\n"
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

    def start(self, job: Job, log: Path) -> RayHandle:
        """Submit the job, or follow it where it was submitted before, also when its cluster does
        not answer yet.
        """
        visitors.check_cluster(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        if job.remote:
            try:
                known = cluster.status(self.o.address, job.remote) is not None
            except cluster.Unreachable:
                known = True
            if known:
                return RayHandle(job, self.o, log)
        self.check(job)
        name = job.remote or f"core-{job.id}-{int(1000 * time.time()):x}"
        jobs.note(job.id, job.worker, remote=name)  # before: a submitted job is never forgotten
        job = jobs.get(job.id)
        for run in runs_needed(job):
            storage.push(store.run_folder(run), self.o.storage)
        self._submit(job, name)
        return RayHandle(job, self.o, log)

    def check(self, job: Job) -> None:
        """ValueError, within WAIT_S, for a cluster that cannot be used and for runs that are
        gone.
        """
        if job.kind == "export":
            raise ValueError(
                "an export writes files on this machine: queue it with the local runner"
            )
        theirs = cluster.version(self.o.address)
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
        asked = {
            "kind": job.kind,
            "payload": job.payload,
            "settings": self.settings(),
            "versions": versions(),
            "name": name,
        }
        words = base64.urlsafe_b64encode(json.dumps(asked).encode()).decode()
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
                raise cluster.Unreachable(
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
