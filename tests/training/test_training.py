"""The loop: it learns, resuming equals not stopping to the last bit, SIGTERM leaves a checkpoint,
bad numbers are said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from core.methods import omni_sparsity
from core.storage import metrics as history
from core.training import checkpoints
from core.training.muon import Muon, orthogonal
from core.training.options import Options, learning_rate
from core.training.trainer import Interrupted
from tests import tiny
from tests.conftest import ROOT
from tests.methods.test_methods import trainer

OMNI = omni_sparsity.Options(warmup=0.25, refresh=3, sparsest=0.8)


@pytest.mark.slow
def test_a_tiny_model_overfits(tmp_path):
    made = trainer(tmp_path / "a", updates=120, peak_lr=5e-3, masking=False)
    made.run(lambda *_: True)
    losses = [r["loss"]["dense"] for r in history.metrics(tmp_path / "a")]
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.slow
def test_resuming_equals_not_stopping_bit_for_bit(tmp_path):
    whole = trainer(tmp_path / "whole", name="omni_sparsity", options=OMNI, updates=12)
    whole.run(lambda *_: True)
    for stop_at in (1, 5, 8):
        folder = tmp_path / f"cut{stop_at}"
        first = trainer(folder, name="omni_sparsity", options=OMNI, updates=12)
        first.options = Options(**{**vars(first.options), "log_every": 1})
        with pytest.raises(Interrupted):
            first.run(lambda *_, t=first, n=stop_at: t.step < n)
        again = trainer(folder, name="omni_sparsity", options=OMNI, updates=12)
        assert again.resume() and again.step == stop_at
        again.run(lambda *_: True)
        assert all(torch.equal(again.parameters[n], p) for n, p in whole.parameters.items())
        assert all(torch.equal(again.averaged[n], p) for n, p in whole.averaged.items())


def test_muon_moves_as_torchs_own_and_leaves_what_has_no_gradient():
    torch.manual_seed(0)
    shapes = ((16, 24), (24, 16), (16, 24))
    ours = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    made = Muon(ours, 0.1, 0.01, torch.float32)
    reference = torch.optim.Muon(
        theirs, 0.1, 0.01, adjust_lr_fn="match_rms_adamw"
    )  # iterates in bf16
    for _ in range(3):
        for p, q in zip(ours, theirs):
            p.grad = q.grad = torch.randn(p.shape)
        made.step()
        reference.step()
    for p, q in zip(ours, theirs):
        assert (p - q).norm() < 0.03 * p.norm()
    values = torch.linalg.svdvals(orthogonal(torch.randn(4, 16, 24)))
    assert values.min() > 0.5 and values.max() < 1.3
    pruned = ours[0].grad = torch.randn(16, 24)
    pruned[:8, 3] = 0
    before = ours[0].detach().clone()
    made.param_groups[0]["weight_decay"] = 0.0
    made.step()
    assert torch.equal(ours[0][:8, 3], before[:8, 3]) and not torch.equal(
        ours[0][8:, 3], before[8:, 3]
    )


@pytest.mark.slow
def test_muon_takes_the_prunable_matrices_and_resumes_bit_for_bit(tmp_path):
    whole = trainer(
        tmp_path / "whole", name="omni_sparsity", options=OMNI, updates=8, optimizer="muon"
    )
    assert len(whole.optimizers["muon"].param_groups[0]["params"]) == len(whole.method.spec.units)
    whole.run(lambda *_: True)
    first = trainer(
        tmp_path / "cut", name="omni_sparsity", options=OMNI, updates=8, optimizer="muon"
    )
    with pytest.raises(Interrupted):
        first.run(lambda *_: first.step < 4)
    again = trainer(
        tmp_path / "cut", name="omni_sparsity", options=OMNI, updates=8, optimizer="muon"
    )
    assert again.resume() and again.step == 4
    again.run(lambda *_: True)
    assert all(torch.equal(again.parameters[n], p) for n, p in whole.parameters.items())


@pytest.mark.slow
def test_sigterm_checkpoints_and_stops(tmp_path):
    made = trainer(tmp_path / "a", updates=50)
    with pytest.raises(Interrupted, match="checkpoint is written"):
        made.run(lambda *_: os.kill(os.getpid(), signal.SIGTERM) or True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tensors, facts = checkpoints.load(tmp_path / "a")
    assert 0 < facts["step"] < 50 and any(n.startswith("optimizer/") for n in tensors)


@pytest.mark.slow
def test_rows_after_the_checkpoint_are_forgotten(tmp_path):
    made = trainer(tmp_path / "a", updates=8)
    made.update(tiny.batch())
    made.checkpoint()
    for _ in range(3):
        made.update(tiny.batch())
    made.log()
    again = trainer(tmp_path / "a", updates=8)
    again.resume()
    assert history.metrics(tmp_path / "a") == []


def test_a_gradient_that_is_not_finite_stops_the_run_with_advice(tmp_path):
    made = trainer(tmp_path / "a")
    bad = tiny.batch()
    bad.features[:] = float("nan")
    with pytest.raises(ValueError, match="peak_lr"):
        made.update(bad)


def test_one_cycle_rises_and_falls():
    o = Options(updates=100, peak_lr=1.0, rise=0.2)
    rates = [learning_rate(s, o) for s in range(100)]
    assert max(rates) == rates[19] == 1.0 and rates[0] == pytest.approx(0.05) and rates[-1] < 0.01


@pytest.mark.slow
def test_a_run_has_one_writer_and_a_dead_one_lets_go(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from core.training import checkpoints\n"
        "with checkpoints.held(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(
                ValueError, match="is being trained by another process now: wait for it, or stop it"
            ),
            checkpoints.held(tmp_path, wait_s=0.1),
        ):
            pass
        other.kill()
        with checkpoints.held(tmp_path):
            pass
    with checkpoints.held(tmp_path, wait_s=0.0):
        pass
