"""Kill -9, ten times: the weights of a run that was killed at any moment equal those of one left
alone, bit for bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from core import paths
from core.storage import metrics as history
from tests import killing
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_kills_change_no_bit(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (
        len(told["killed"]) == killing.RANDOM + len(killing.MOMENTS)
        and all(code == -9 for _, _, code in told["killed"])
        and told["last"][1] == 0
    )
    assert {moment for moment, _, _ in told["killed"]} == {"update", *killing.MOMENTS}
    begun = [update for _, update, _ in told["killed"]] + [told["last"][0]]
    assert (
        begun == sorted(begun)
        and begun[-1] >= 2 * killing.EVERY
        and all(update % killing.EVERY == 0 for update in begun)
    ), "no step back, none lost"
    alone, killed = (
        load_file(tmp_path / "alone" / "final"),
        load_file(tmp_path / "killed" / "final"),
    )
    assert set(alone) == set(killed) and all(torch.equal(alone[n], killed[n]) for n in alone)
    rows = [
        [(row["step"], row["loss"]) for row in history.metrics(tmp_path / name)]
        for name in ("alone", "killed")
    ]
    assert rows[0] == rows[1] and [step for step, _ in rows[0]] == list(
        range(1, killing.UPDATES + 1)
    )
    left = [p.name for p in (tmp_path / "killed").glob(f"{paths.CHECKPOINT}*")]
    assert left == [paths.CHECKPOINT], "what half-written checkpoints left behind is gone"
