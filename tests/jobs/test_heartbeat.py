"""A worker that was killed is gone at once, also while nobody has asked how it ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.jobs import heartbeat


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_worker_whose_parent_lives_has_stopped():
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    name, now = f"{socket.gethostname()}:{worker.pid}:abc", time.time()
    assert not heartbeat.stopped(name, now, 60.0)
    worker.kill()
    end = time.monotonic() + 20
    while not heartbeat.stopped(name, now, 60.0) and time.monotonic() < end:
        time.sleep(0.02)  # until the system has ended it; this process does not ask how
    assert heartbeat.stopped(name, now, 60.0)
    worker.wait()
    worker.stdout.close()
    assert heartbeat.stopped(name, now, 60.0)
