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
from core.jobs import leases, queue, ray_client as cluster
from core.jobs.job import Job
from core.jobs.runners import base
from core.jobs.runners._ray_words import heard, job_key
from core.records import Report, Subnet, from_dict
from core.storage import metrics as history, remote as storage, store

LOOK_S = 1.0  # between two questions to the cluster


# bytes of a job's log a second: Ray tells all of it every time, so a long one is asked for less
# often
READ_BS = 1e6


class RayHandle(base.Handle):
    """A submitted job. What it has told is kept by how many lines of its log were read."""

    stays = True

    def __init__(self, job: Job, options: Any, log: Path) -> None:
        self.job, self.o, self.log = job, options, log
        self.read, self.looked, self.heard, self.code = 0, 0.0, time.monotonic(), None
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
                leases.beat(
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
                leases.fail(
                    self.job.id,
                    f"{error}; on the cluster the job {self.job.remote} goes on",
                    self.job.worker,
                )
                self.code = 1
        return self.code

    def _look(self) -> None:
        found = cluster.status(self.o.address, self.job.remote)
        if found is None:
            leases.fail(
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
            leases.fail(
                self.job.id, f"{message}\nits last lines are in the log", self.job.worker
            )  # nothing if its own words came
        if state == "STOPPED" and not queue.get(self.job.id).cancel:
            queue.cancel(self.job.id)  # somebody stopped it there
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
            leases.beat(number, worker, told["progress"], told.get("message", ""), told.get("left"))
        if told.get("run") or told.get("place"):
            leases.note(
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
            leases.fail(number, told["wrong"], worker, again=bool(told.get("again")))

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
