"""What killed processes leave: temporary files go at the next start, and a job that gets further is
never given up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import paths
from core.cli.main import main as cli
from core.common import writing
from core.jobs import leases, queue, worker
from core.training import checkpoints

pytestmark = pytest.mark.slow


def left_by(code: str) -> None:
    """Files of a process that was killed while it wrote them."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, pathlib, signal\nfrom core.common import writing; from core import paths;"
            " from core.training import checkpoints\n"
            + code
            + "\nos.kill(os.getpid(), signal.SIGKILL)",
        ],
        cwd=paths.ROOT,
        env=os.environ,
    )
    assert done.returncode == -9


def names(folder) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if writing.ASIDE in p.name
    )


@pytest.mark.parametrize(
    "start",
    [
        lambda: worker.main(["--idle-minutes", "0"]),
        lambda: cli(["train", "no-such-recipe"]),
        lambda: cli(["search", "no-such-run"]),
    ],
    ids=["worker", "train", "search"],
)
def test_what_a_killed_process_left_aside_goes_at_the_next_start(
    own_artifacts, start, tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    left_by("""
run = paths.runs() / "mine"
for path in (run / "reports" / "a.json", run / paths.CHECKPOINT, paths.prepared() / "abc",
             paths.jobs_database(), paths.exports("mine") / "x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    writing.beside(path).write_bytes(b"half") if path.suffix else writing.beside(path).mkdir()
""")
    (own_artifacts / "prepared" / "old.tmp-4194300").mkdir()  # as earlier versions called them
    mine = writing.beside(own_artifacts / "runs" / "mine" / "b.json")
    mine.write_bytes(b"this process lives")
    elsewhere = mine.with_name(f"c.json.tmp-00000000-{2**22 - 1}-00000000")
    elsewhere.write_bytes(b"another machine's")
    assert len(names(own_artifacts)) == 8
    start()
    assert set(names(own_artifacts)) == {
        p.relative_to(own_artifacts).as_posix() for p in (mine, elsewhere)
    }
    mine.unlink()


def deaths(number: int, count: int, between=lambda: None) -> str:
    for _ in range(count):
        assert leases.claim("elsewhere:1:a").id == number
        between()
        leases.beat(number, "elsewhere:1:a", 0.5)
        leases.requeue_stale(-1.0)
        if queue.get(number).state != "queued":
            break
    return queue.get(number).state


def test_deaths_are_counted_only_while_a_job_gets_no_further(own_artifacts):
    import torch

    run = paths.runs() / "mine"
    run.mkdir(parents=True)
    number = queue.add("train", {}, run="mine")

    def save() -> None:
        time.sleep(0.02)
        checkpoints.save(run, {"a": torch.zeros(1)}, {})

    assert deaths(number, 12, save) == "queued"  # twelve deaths, each after a new checkpoint
    assert deaths(number, leases.MAX_ATTEMPTS) == "failed"
    assert "its worker died 5 times while it ran and got no further" in queue.get(number).error


def test_what_cannot_be_written_is_named_and_not_what_is_written_aside():
    with pytest.raises(OSError, match="'/proc/a.arpa'$") as error:
        writing.write_bytes(Path("/proc/a.arpa"), b"x")
    assert error.value.filename == "/proc/a.arpa"
