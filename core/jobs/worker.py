"""The background worker: claims jobs for its slots, one per device, and runs each in a process of
its own; needs no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass

from core import paths
from core.common import machine, writing
from core.jobs import (
    heartbeat,
    leases,
    queue,
    ray_client,
    seat,
    visitors,
)
from core.jobs.job import Job
from core.jobs.runners.base import STOPPED, Event, Handle, Runner
from core.registry import plugins

POLL_S = 0.5  # between two looks at the queue or the child
BEAT_S = 2.0  # between two heartbeats
IDLE_MINUTES = 10.0
GRACE_S = 60.0  # from asking a job to stop until it is killed
ERROR_LINES = 30
MOST_SLOTS = 256  # jobs at once on one device


@dataclass
class Worker:
    """`stop` becomes True on SIGTERM or SIGINT: the job is asked to stop and goes back to the
    queue.
    """

    runner: Runner
    idle_minutes: float = IDLE_MINUTES
    grace_s: float = GRACE_S
    stale_s: float = queue.STALE_S
    slots: tuple[str, ...] = ("cpu",)  # devices, each as often as jobs may run on it at once
    stop: bool = False

    def work(self) -> int:
        """Until nothing has come for `idle_minutes`; returns the number of jobs done."""
        self.name, done, idle_since = heartbeat.name(), 0, time.monotonic()
        if not seat.take(self.name):
            _say("another worker is at work")
            return 0
        _say(f"{self.name} is at work with {', '.join(self.slots)}")
        for left in writing.sweep(paths.artifacts()):
            _say(f"removed {left}, which a process left that has ended")
        running: list[threading.Thread] = []  # one for each job
        try:
            while not self.stop and seat.take(self.name):
                for lost in leases.requeue_stale(self.stale_s, but=self.name):
                    _say(f"job {lost.id} lost its worker {lost.worker}")
                    self.runner_of(lost).clear(lost)
                for job in leases.impossible(self.name, self.slots):
                    _say(f"job {job.id} asks for {job.device}: there is none here")
                running = [thread for thread in running if thread.is_alive()]
                claimed = leases.claim(self.name, self.slots)
                if claimed is not None:
                    running += self.start(claimed)
                    done += 1
                elif not running and time.monotonic() - idle_since > 60 * self.idle_minutes:
                    break
                else:
                    time.sleep(POLL_S)
                if running:
                    idle_since = time.monotonic()
        finally:
            # also when the queue cannot be used any more: no job is left without its worker
            self.stop = True
            for thread in running:
                thread.join()
            seat.leave(self.name)
        _say(f"{self.name} leaves after {done} jobs")
        return done

    def start(self, job: Job) -> list[threading.Thread]:
        """Start a job's process here, in the thread with whose end it dies, and a thread that
        follows it; [] when it cannot be started:
        no job ends the worker. Input that is wrong is not tried again, a cluster that does not
        answer is.
        """
        _say(f"job {job.id} ({job.kind}) starts on {job.place}")
        try:
            handle = self.runner_of(job).start(job, paths.job_log(job.id))
        except Exception as error:
            wrong = isinstance(error, ValueError)
            text = (
                f"{error}"
                if wrong
                else f"the job's process could not be started: {error or type(error).__name__}"
            )
            leases.fail(
                job.id,
                text,
                self.name,
                again=not wrong or isinstance(error, ray_client.Unreachable),
            )
            return []
        thread = threading.Thread(target=self.follow, args=(job, handle), name=f"job {job.id}")
        thread.start()
        return [thread]

    def runner_of(self, job: Job) -> Runner:
        """The worker's own runner, or the one that the job asks for, with the job's settings.
        ValueError for unknown ones.
        """
        if job.runner == "local" and not job.settings:
            return self.runner
        module = plugins.load("runners", job.runner)
        return module.Runner(plugins.make_options(module.Options, job.settings, "runner"))

    def follow(self, job: Job, handle: Handle) -> None:
        """One started job to its end, whatever that is."""
        try:
            leases.note(job.id, self.name, pid=handle.pid)
            code, stopping = self._watch(job, handle)
        finally:
            if not handle.stays or leases.kept(job).cancel:
                handle.kill()
        job = leases.kept(job)
        if stopping and not job.cancel and (reason := visitors.overdrawn(job)):
            leases.fail(job.id, f"stopped: {reason}", self.name, again=False)
        elif stopping or code == STOPPED:
            leases.stopped(job.id, self.name)
        elif code == 0:
            leases.finish(job.id, self.name)
        else:  # does nothing when the child has written its traceback
            leases.fail(job.id, _reason(code, job.id), self.name)
        _say(f"job {job.id} is {queue.get(job.id).state}")

    def _look(self, job: Job, handle: Handle) -> int | None:
        """What it said is written into the queue; then -> its exit code, None while it runs."""
        for event in handle.events():
            record(job.id, self.name, event)
        return handle.poll()

    def _watch(self, job: Job, handle: Handle) -> tuple[int | None, bool]:
        """The child's exit code, and whether it had been asked to stop."""
        beaten, asked_at = 0.0, 0.0
        while (code := self._look(job, handle)) is None:
            now = time.monotonic()
            if now - beaten > BEAT_S:
                beaten = now
                job = leases.kept(job)
                go_on = (
                    leases.beat(job.id, self.name)
                    and seat.take(self.name)
                    and not visitors.overdrawn(job)
                )
                if job.worker != self.name:  # this machine slept and another worker took over
                    return None, True
                if not go_on and not asked_at:
                    asked_at = now
                    handle.stop()
            if self.stop and not asked_at:
                if handle.stays and not leases.kept(job).cancel:
                    return None, True
                asked_at = now
                handle.stop()
            if asked_at and now - asked_at > self.grace_s:
                _say(f"job {job.id} did not stop in {self.grace_s:g} s and is killed")
                return None, True
            time.sleep(POLL_S / 5)
        return code, bool(asked_at)


def record(job_id: int, worker: str, event: Event) -> None:
    """Write an event of a job of this worker into the queue."""
    if event.progress is not None or event.message is not None:
        leases.beat(job_id, worker, event.progress, event.message, event.left)
    if event.run or event.place:
        leases.note(job_id, worker, run=event.run, place=event.place)
    if event.error:
        leases.fail(job_id, event.error, worker, again=event.retry)
    if event.cancelled and not queue.get(job_id).cancel:
        with contextlib.suppress(ValueError):  # it ended in the same moment
            queue.cancel(job_id)


def _reason(code: int | None, job_id: int) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        why = f"the job's process was ended by {name}" + (
            " (often lack of memory)" if name == "SIGKILL" else ""
        )
    else:
        why = f"the job's process ended with code {code}"
    return f"{why}; its last lines:\n{queue.log(job_id, ERROR_LINES)}"


def slots_here() -> tuple[str, ...]:
    """A slot for every NVIDIA GPU of this machine, and one for its processors."""
    return (*(f"cuda:{card}" for card in machine.cards()), "cpu")


def slots_elsewhere() -> tuple[str, ...]:
    """The slots of runners whose jobs run on other machines, called as the runner."""
    rooms = {name: plugins.load("runners", name).Runner for name in plugins.names("runners")}
    return tuple(name for name, runner in rooms.items() for _ in range(runner.elsewhere))


def read_slots(text: str) -> tuple[str, ...]:
    """("cuda:0", "cuda:0", "cpu") from "cuda:0=2,cpu"; ValueError for anything else."""
    slots: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"(cpu|cuda:\d+)(?:=(\d+))?", part.strip())
        if match is None:
            raise ValueError(
                f"slots: expected device=jobs at once, e.g. cpu=1,cuda:0=2, got {text[:60]!r}"
            )
        count = match.group(2) or "1"
        if len(count) > 3 or not 1 <= int(count) <= MOST_SLOTS:
            raise ValueError(
                f"slots: expected 1 to {MOST_SLOTS} jobs at once on {match.group(1)}, got"
                f" {count[:20]}"
            )
        slots += [match.group(1)] * int(count)
    return tuple(slots)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk takes no log, and ends no worker
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m core.jobs.worker", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--runner", default="local", help="where jobs run: %(default)s")
    parser.add_argument(
        "--idle-minutes",
        type=float,
        default=IDLE_MINUTES,
        help="leave when nothing came for so long",
    )
    parser.add_argument(
        "--grace-s",
        type=float,
        default=GRACE_S,
        help="s from asking a job to stop until it is killed",
    )
    parser.add_argument(
        "--stale-s",
        type=float,
        default=queue.STALE_S,
        help="s without heartbeat until a job is lost",
    )
    parser.add_argument(
        "--slots",
        default="",
        help="devices and how many jobs at once, e.g. cuda:0=2,cpu=1; each GPU one, processors one",
    )
    given = parser.parse_args(arguments)
    try:
        module = plugins.load("runners", given.runner)
        worker = Worker(
            module.Runner(module.Options()),
            given.idle_minutes,
            given.grace_s,
            given.stale_s,
            (*(read_slots(given.slots) if given.slots else slots_here()), *slots_elsewhere()),
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(worker, "stop", True))
        worker.work()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
