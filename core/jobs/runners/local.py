"""Runs a job as one child process of the worker on this machine, in a process group of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from core import paths
from core.jobs.job import Job
from core.jobs.runners import base
from core.records import option

VERSION = 1
MARK = "SUPERNET_JOB"  # environment variable that every process of a job carries
PR_SET_PDEATHSIG = 1  # Linux: <sys/prctl.h>


@dataclass(frozen=True)
class Options:
    threads: int = option(
        0, "Threads of the job's matrix products; 0 = the library chooses", low=0, high=1024
    )
    niceness: int = option(0, "How far the job gives way to other programs", low=0, high=19)


class LocalHandle(base.Handle):
    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # the group is empty: nothing was left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Runner(base.Runner):
    def start(self, job: Job, log: Path) -> LocalHandle:
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {MARK: _mark(job), "PYTHONUNBUFFERED": "1"}
        kind, _, card = job.place.partition(":")
        if kind == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""  # another slot has the GPU
        elif card:
            environment["CUDA_VISIBLE_DEVICES"] = card
        if self.options.threads:
            environment["OMP_NUM_THREADS"] = str(self.options.threads)
        command = [sys.executable, "-m", "core.cli.main", "_job", str(job.id)]
        with log.open("ab") as out:
            return LocalHandle(
                subprocess.Popen(
                    command,
                    cwd=paths.ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(os.getpid(), self.options.niceness),
                )
            )

    def clear(self, job: Job) -> None:
        """The child dies with its worker (Linux), its own children need not: found by the mark they
        inherited.
        """
        mark = f"{MARK}={_mark(job)}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:  # ended meanwhile, or another user's
                continue


def _mark(job: Job) -> str:
    return f"{paths.jobs_database().resolve()}#{job.id}"


def _die_with_parent(parent: int, niceness: int):
    """What the child does before it becomes Python: be killed when the worker is, even by kill -9
    (Linux only).
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None

    def prepare() -> None:
        os.nice(niceness)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the worker died before the call
                os._exit(1)

    return prepare
