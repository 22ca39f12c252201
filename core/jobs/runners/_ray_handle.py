"""A job that was submitted to a Ray cluster, followed from here: what it says comes as lines
of its log, finished runs and new measurements through the storage.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.jobs import ray_client
from core.jobs.job import Job
from core.jobs.runners import base
from core.jobs.runners._ray_words import job_key, parse
from core.records import Report, Subnet, from_dict
from core.storage import metrics, remote, store

LOOK_S = 1.0  # between two questions to the cluster


# bytes of a job's log a second: Ray tells all of it every time, so a long one is asked for less
# often
READ_BS = 1e6


class RayHandle(base.Handle):
    """A submitted job. What it has said is known by how much of its log was read."""

    stays = True

    def __init__(self, job: Job, options: Any, log: Path) -> None:
        self.options, self.log, self.name = options, log, job.remote
        self.read, self.looked, self.answered = 0, 0.0, time.monotonic()
        self.code: int | None = None
        self.stopping, self.key = False, job_key(job.remote)
        self.run = job.payload.get("run") or job.run

    def events(self) -> Iterator[base.Event]:
        """A cluster that does not answer is waited for, however long: the job goes on there, and
        what Ray says of it then is right.
        """
        now = time.monotonic()
        if self.code is not None or now - self.looked < max(LOOK_S, self.read / READ_BS):
            return
        self.looked = now
        try:
            if self.stopping:
                self.stop()
            yield from self._look()
            self.answered = now
        except ray_client.Unreachable:
            silent_s = now - self.answered
            yield base.Event(message=f"the cluster does not answer for {silent_s:.0f} s")
        # what it said cannot be kept here
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            self.code = 1
            yield base.Event(error=f"{error}; on the cluster the job {self.name} goes on")

    def poll(self) -> int | None:
        return self.code

    def _look(self) -> Iterator[base.Event]:
        status = ray_client.status(self.options.address, self.name)
        if status is None:
            self.code = 1
            yield base.Event(
                error=f"the cluster does not know job {self.name}: it was begun anew since; resume"
                " this job to submit it again, a training goes on from its checkpoint"
            )
            return
        state, message = status
        yield from self.read_log(ray_client.log(self.options.address, self.name))
        if state == "FAILED":  # nothing if its own words came
            yield base.Event(error=f"{message}\nits last lines are in the log")
        if state == "STOPPED":
            yield base.Event(cancelled=True)
        self.code = ray_client.ENDED.get(state)

    def read_log(self, text: str) -> Iterator[base.Event]:
        """New whole lines of the job's log: what it has signed is kept and said, the rest is for
        people.
        """
        whole = text[: text.rfind("\n") + 1]
        with self.log.open("a") as out:
            for line in whole[self.read :].split("\n")[:-1]:
                facts = parse(line, self.key)
                if facts is None:
                    out.write(line + "\n")
                else:
                    self._keep(facts)
                    yield from self._said(facts)
        self.read = len(whole)

    def _said(self, facts: dict[str, Any]) -> Iterator[base.Event]:
        if "progress" in facts:
            yield base.Event(facts["progress"], facts.get("message", ""), facts.get("left"))
        if facts.get("run") or facts.get("place"):
            run = self._checked(facts["run"]) if facts.get("run") else None
            yield base.Event(run=run, place=facts.get("place"))
        if "wrong" in facts:
            yield base.Event(error=facts["wrong"], retry=bool(facts.get("again")))

    def _keep(self, facts: dict[str, Any]) -> None:
        """Its run and what is measured of it, so that the pages here can show them."""
        if "begun" in facts:  # the run as the cluster has begun it
            folder = paths.runs() / self._checked(facts["run"])
            for name in (paths.RECIPE, paths.UNITS):
                if not (folder / name).exists():
                    writing.write_json(folder / name, facts["begun"][name])
        if "row" in facts:
            folder = paths.runs() / self._checked(facts["run"])
            if not (folder / paths.FINISHED).exists():
                # said again after a restart or a reconnection
                metrics.truncate_metrics(folder, facts["row"]["step"] - 1)
                metrics.append_metrics(folder, facts["row"])
        if "finished" in facts:
            remote.pull(self._checked(facts["finished"]), self.options.storage)
        if "subnet" in facts:
            subnet = from_dict(Subnet, facts["subnet"])
            store.save_subnet(remote.here(self._checked(subnet.run)), subnet)
        if "report" in facts:
            report = from_dict(Report, facts["report"])
            store.save_report(remote.here(self._checked(report.run)), report, facts["rows"])

    def _checked(self, run: str) -> str:
        """The run's id, which is that of the job, or of a training the first that it named.
        ValueError for any other.
        """
        if not store.SAFE.fullmatch(str(run)) or run != (self.run or run):
            raise ValueError(
                f"the job {self.name} on the cluster named the run {run!r}, which is not"
                f" its own ({self.run or 'none yet'})"
            )
        self.run = run
        return run

    def stop(self) -> None:
        """Asks until the cluster answers."""
        self.stopping = True
        with contextlib.suppress(ray_client.Unreachable):
            ray_client.stop(self.options.address, self.name)
            self.stopping = False

    def kill(self) -> None:
        if self.code is None:
            self.stop()
            if self.stopping:
                with self.log.open("a") as out:
                    out.write(
                        f"the cluster at {self.options.address} does not answer: the job"
                        f" {self.name} may go on there\n"
                    )
