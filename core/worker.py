"""The background worker: claims one job after another and runs each in a process of its own; needs no torch."""
from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass

from core import jobs, paths, plugins
from core.records import Job
from core.runners.base import STOPPED, Handle, Runner

POLL_S = 0.5     # between two looks at the queue or the child
BEAT_S = 2.0     # between two heartbeats
IDLE_MINUTES = 10.0
GRACE_S = 60.0   # from asking a job to stop until it is killed
ERROR_LINES = 30


@dataclass
class Worker:
    """`stop` becomes True on SIGTERM or SIGINT: the job is asked to stop and goes back to the queue."""
    runner: Runner
    idle_minutes: float = IDLE_MINUTES
    grace_s: float = GRACE_S
    stale_s: float = jobs.STALE_S
    stop: bool = False

    def work(self) -> int:
        """Until nothing has come for `idle_minutes`; returns the number of jobs done."""
        self.name, done, idle_since = jobs.worker_name(), 0, time.monotonic()
        if not jobs.worker_beat(self.name):
            _say("another worker is at work")
            return 0
        _say(f"{self.name} is at work")
        try:
            while not self.stop and jobs.worker_beat(self.name):
                for lost in jobs.requeue_stale(self.stale_s):
                    _say(f"job {lost.id} lost its worker {lost.worker}")
                    self.runner.clear(lost)
                job = jobs.claim(self.name)
                if job is not None:
                    self.run(job)
                    done, idle_since = done + 1, time.monotonic()
                elif time.monotonic() - idle_since > 60 * self.idle_minutes:
                    break
                else:
                    time.sleep(POLL_S)
        finally:
            jobs.worker_leave(self.name)
        _say(f"{self.name} leaves after {done} jobs")
        return done

    def run(self, job: Job) -> None:
        """One job from start to its end, whatever that is."""
        _say(f"job {job.id} ({job.kind}) starts")
        try:
            handle = self.runner.start(job, paths.job_log(job.id))
        except OSError as error:
            jobs.fail(job.id, f"the job's process could not be started: {error}", self.name)
            return
        try:
            jobs.note(job.id, self.name, pid=handle.pid)
            code, told = self._watch(job, handle)
        finally:
            handle.kill()
        if told or code == STOPPED:
            jobs.stopped(job.id, self.name)
        elif code == 0:
            jobs.finish(job.id, self.name)
        else:  # does nothing when the child has written its traceback
            jobs.fail(job.id, _reason(code, job.id), self.name)
        _say(f"job {job.id} is {jobs.get(job.id).state}")

    def _watch(self, job: Job, handle: Handle) -> tuple[int | None, bool]:
        """The child's exit code, and whether it had been told to stop."""
        beaten, told = 0.0, 0.0
        while (code := handle.poll()) is None:
            now = time.monotonic()
            if now - beaten > BEAT_S:
                beaten = now
                go_on = jobs.beat(job.id, self.name) and jobs.worker_beat(self.name)
                if jobs.get(job.id).worker != self.name:  # this machine slept and another worker took over
                    return None, True
                if not go_on and not told:
                    told = now
                    handle.stop()
            if self.stop and not told:
                told = now
                handle.stop()
            if told and now - told > self.grace_s:
                _say(f"job {job.id} did not stop in {self.grace_s:g} s and is killed")
                return None, True
            time.sleep(POLL_S / 5)
        return code, bool(told)


def _reason(code: int, job_id: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        why = f"the job's process was ended by {name}" + (" (often lack of memory)" if name == "SIGKILL" else "")
    else:
        why = f"the job's process ended with code {code}"
    return f"{why}; its last lines:\n{jobs.log(job_id, ERROR_LINES)}"


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m core.worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("--runner", default="local", help="where jobs run: %(default)s")
    parser.add_argument("--idle-minutes", type=float, default=IDLE_MINUTES, help="leave when nothing came for so long")
    parser.add_argument("--grace-s", type=float, default=GRACE_S, help="s from asking a job to stop until it is killed")
    parser.add_argument("--stale-s", type=float, default=jobs.STALE_S, help="s without heartbeat until a job is lost")
    given = parser.parse_args(arguments)
    try:
        module = plugins.load("runners", given.runner)
        worker = Worker(module.Runner(module.Options()), given.idle_minutes, given.grace_s, given.stale_s)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(worker, "stop", True))
        worker.work()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
