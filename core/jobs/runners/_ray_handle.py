"""A job that was submitted to a Ray cluster, followed from here: what it tells comes as lines
of its log, finished runs and new measurements through the storage.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.jobs import leases, queue, ray_client
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
    """A submitted job. What it has told is kept by how many lines of its log were read."""

    stays = True

    def __init__(self, job: Job, options: Any, log: Path) -> None:
        self.job, self.o, self.log = job, options, log
        self.read, self.looked, self.answered = 0, 0.0, time.monotonic()
        self.code: int | None = None
        self.stopping, self.key, self.run = (
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
                if self.stopping:
                    self.stop()
                self._look()
                self.answered = now
            except ray_client.Unreachable:
                leases.beat(
                    self.job.id,
                    self.job.worker,
                    message=f"the cluster does not answer for {now - self.answered:.0f} s",
                )
            except (
                ValueError,
                OSError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:  # what it told cannot be kept here
                leases.fail(
                    self.job.id,
                    f"{error}; on the cluster the job {self.job.remote} goes on",
                    self.job.worker,
                )
                self.code = 1
        return self.code

    def _look(self) -> None:
        result = ray_client.status(self.o.address, self.job.remote)
        if result is None:
            leases.fail(
                self.job.id,
                f"the cluster does not know job {self.job.remote}: it was begun anew since; resume"
                " this job to submit it again, a training goes on from its checkpoint",
                self.job.worker,
            )
            self.code = 1
            return
        state, message = result
        self._take(ray_client.log(self.o.address, self.job.remote))
        if state == "FAILED":
            leases.fail(
                self.job.id, f"{message}\nits last lines are in the log", self.job.worker
            )  # nothing if its own words came
        if state == "STOPPED" and not queue.get(self.job.id).cancel:
            queue.cancel(self.job.id)  # somebody stopped it there
        self.code = ray_client.ENDED.get(state)

    def _take(self, text: str) -> None:
        """New whole lines of the job's log: what it has signed is obeyed, the rest is for
        people.
        """
        whole = text[: text.rfind("\n") + 1]
        with self.log.open("a") as out:
            for line in whole[self.read :].split("\n")[:-1]:
                facts = parse(line, self.key)
                if facts is None:
                    out.write(line + "\n")
                else:
                    self._obey(facts)
        self.read = len(whole)

    def _obey(self, facts: dict[str, Any]) -> None:
        number, worker = self.job.id, self.job.worker
        if "progress" in facts:
            leases.beat(
                number, worker, facts["progress"], facts.get("message", ""), facts.get("left")
            )
        if facts.get("run") or facts.get("place"):
            leases.note(
                number,
                worker,
                run=self._own(facts["run"]) if facts.get("run") else None,
                place=facts.get("place"),
            )
        if (
            "begun" in facts
        ):  # the run as the cluster has begun it, so that the pages can show its curves
            folder = paths.runs() / self._own(facts["run"])
            for name in (paths.RECIPE, paths.UNITS):
                if not (folder / name).exists():
                    writing.write_json(folder / name, facts["begun"][name])
        if (
            "row" in facts
            and not (paths.runs() / self._own(facts["run"]) / paths.FINISHED).exists()
        ):
            metrics.truncate_metrics(
                paths.runs() / facts["run"], facts["row"]["step"] - 1
            )  # told again after a restart or a reconnection
            metrics.append_metrics(paths.runs() / facts["run"], facts["row"])
        if "finished" in facts:
            remote.pull(self._own(facts["finished"]), self.o.storage)
        if "subnet" in facts:
            store.save_subnet(
                remote.here(self._own(facts["subnet"]["run"])), from_dict(Subnet, facts["subnet"])
            )
        if "report" in facts:
            store.save_report(
                remote.here(self._own(facts["report"]["run"])),
                from_dict(Report, facts["report"]),
                facts["rows"],
            )
        if "wrong" in facts:
            leases.fail(number, facts["wrong"], worker, again=bool(facts.get("again")))

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
        self.stopping = True
        with contextlib.suppress(ray_client.Unreachable):
            ray_client.stop(self.o.address, self.job.remote)
            self.stopping = False

    def kill(self) -> None:
        if self.code is None:
            self.stop()
            if self.stopping:
                with self.log.open("a") as out:
                    out.write(
                        f"the cluster at {self.o.address} does not answer: the job"
                        f" {self.job.remote} may go on there\n"
                    )
