"""What the worker's child process does with one job: calls the job's function and reports to the
queue.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import time
import traceback
from pathlib import Path
from types import FrameType

from core.common.writing import in_words
from core.jobs import confinement, leases, queue
from core.jobs.job import Job
from core.jobs.runners.base import STOPPED
from core.records import Interrupted

ASK_S = 0.5  # the queue is told and asked at most this often


class Stop:
    """The first SIGTERM or Ctrl-C asks the work to stop at its next report, a second Ctrl-C ends it
    at once.
    """

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


class JobReport:
    """What a job's function is given: report(progress 0..1, message, eta in s) -> whether to go
    on.
    """

    def __init__(self, job: Job, stop: Stop) -> None:
        self.job, self.stop, self.reported = job, stop, 0.0

    def __call__(self, progress: float, message: str = "", eta_s: float | None = None) -> bool:
        now = time.monotonic()
        if now - self.reported >= ASK_S or progress >= 1:
            self.reported = now
            if not leases.beat(self.job.id, self.job.worker, progress, message, eta_s):
                self.stop.requested = True
        return not self.stop.requested

    def belongs_to(self, run: str) -> None:
        """Tell as soon as it is known which run the job writes, so that the pages can show its
        curves.
        """
        leases.note(self.job.id, self.job.worker, run=run)


def run_job(job_id: int) -> int:
    """Call `<kind>_job(payload, report)` of core.pipelines.handlers (SUPERNET_JOB_MODULE names
    another, for tests).

    Returns the exit code: 0 done, 1 failed with the traceback kept in the job, STOPPED when it was
    asked to stop.
    """
    stop = Stop()
    job = queue.get(job_id)
    report = JobReport(job, stop)
    confinement.confine(job.payload)
    try:
        module = importlib.import_module(
            os.environ.get("SUPERNET_JOB_MODULE", "core.pipelines.handlers")
        )
        run = getattr(module, f"{job.kind}_job")(job.payload, report)
        if isinstance(run, Path) and not job.run and job.kind == "train":
            report.belongs_to(run.name)
    except Interrupted as reached:
        print(reached)
        return STOPPED
    except Exception as error:
        with contextlib.suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
        if (
            not stop.requested and not queue.get(job_id).cancel
        ):  # what breaks because it was told to stop is no failure
            text = traceback.format_exc()
            words = in_words(error)  # the last line is what the pages show
            wrong = isinstance(error, ValueError)  # the input's fault
            leases.fail(
                job_id,
                f"{error}\n\n{text}" if wrong else f"{text}\n{words or ''}".strip(),
                job.worker,
                # of no use where it would end in the same way
                again=not (wrong or isinstance(error, ModuleNotFoundError)),
            )
            return 1
        return STOPPED
    return STOPPED if stop.requested else 0
