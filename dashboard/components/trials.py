"""How long a training will take, before it starts: from what such work has cost here, else from a
short trial in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field

import streamlit as st

from core import paths
from core.jobs import policy, queue
from core.records import Recipe, as_dict
from core.registry import recipes
from core.storage import estimates
from dashboard import data, visit
from dashboard.markdown import escape

LOOK_S = 2.0  # between two looks at a trial
CODE = "import sys; from core.pipelines import trial; trial.alone(sys.argv[1], int(sys.argv[2]))"


@dataclass
class Trials:
    """One trial at a time in a server's life, each recipe once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen | None = None
    work: str = ""  # what the process tries
    failed: dict[str, str] = field(default_factory=dict)  # {work: why}

    def look(self, recipe: Recipe, device: str) -> str:
        """Begin the trial of a recipe unless one runs; why it failed, "" while it has not."""
        work = estimates.training_work(recipe, device)
        with self.lock:
            self._collect()
            if self.process is None and work not in self.failed:
                self.work, self.process = work, _begun(recipe)
            return self.failed.get(work, "")

    def stop(self) -> None:
        """End a trial that runs; it may begin anew."""
        with self.lock:
            if self.process is not None:
                self.process.kill()
                self.process.communicate()
                self.process = None

    def _collect(self) -> None:
        """What a trial that has ended leaves: nothing, or the reason why there is no estimate."""
        if self.process is None or self.process.poll() is None:
            return
        said = (self.process.communicate()[1] or "").strip().splitlines()
        self.failed[self.work] = said[-1] if said and self.process.returncode else "no estimate"
        self.process = None


def _begun(recipe: Recipe) -> subprocess.Popen:
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(as_dict(recipe), file)
    return subprocess.Popen(
        [sys.executable, "-c", CODE, file.name, str(os.getpid())],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@st.cache_resource(show_spinner=False)
def trials() -> Trials:
    return Trials()


def show(recipe: dict, device: str) -> None:
    """The line under the Start button; it looks again by itself until there is an estimate."""
    try:
        checked = recipes.recipe_from(recipe)
    except ValueError:  # said beside the fields
        return
    known = estimates.of(checked, device)
    if known is not None:
        st.markdown(f":material/timer: **Takes {escape(known.words())}**")
        st.caption(escape(known.detail()))
    elif _job_runs():  # beside it a trial would measure half a machine, and take the other half
        trials().stop()
        st.caption("No estimate of its time while a job runs: there it would be wrong.")
    elif _may_try():
        st.fragment(_waiting, run_every=LOOK_S)(checked, device)
    else:
        st.caption("No estimate of its time yet: nothing of this kind has run on this machine.")


def _may_try() -> bool:
    """Trials take the operator's computing: only for somebody at this machine, and where
    server.toml lets pages compute ahead.
    """
    try:
        ahead = policy.load().settings.build_ahead
    except ValueError:
        return False
    return ahead and visit.visitor().local and visit.visitor().may(visit.JOBS)


def _job_runs() -> bool:
    try:
        return any(job.state == "running" for job in queue.list_jobs(50))
    except data.UNREADABLE:
        return True


def _waiting(recipe: Recipe, device: str) -> None:
    if _job_runs() or estimates.of(recipe, device) is not None:
        st.rerun()
    if problem := trials().look(recipe, device):
        st.caption(f"No estimate of its time: {escape(problem)}")
    else:
        st.caption(":material/timer: Estimating its time: a short trial on this machine ...")
