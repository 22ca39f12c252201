"""CR-CTC: the loss by hand, whom its gradient reaches, and what it does in a training."""

from __future__ import annotations

import math

import pytest
import torch

from core.data.batches import Batch
from core.registry import plugins
from core.training.consistency import VIEWS, consistency_loss
from core.training.options import Options
from core.training.trainer import Trainer
from tests import tiny


def log(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_two_frames_by_hand():
    first, second = log([0.5, 0.5], [0.9, 0.1]), log([0.25, 0.75], [0.9, 0.1])
    kl = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(
        0.75 / 0.5
    )  # KL(second || first), which the first view learns from
    back = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    found = consistency_loss(torch.stack([first, second]), torch.tensor([2, 2]))
    assert float(found) == pytest.approx(kl + back)


def test_equal_views_cost_nothing_and_padding_does_not_count():
    torch.manual_seed(0)
    one = torch.randn(3, 5, 4).log_softmax(-1)
    assert float(
        consistency_loss(torch.cat([one, one]), torch.tensor([5, 3, 1] * 2))
    ) == pytest.approx(0, abs=1e-5)
    other = one.clone()
    other[1, 3:] = torch.randn(2, 4).log_softmax(-1)
    assert float(
        consistency_loss(torch.cat([one, other]), torch.tensor([5, 3, 1] * 2))
    ) == pytest.approx(0, abs=1e-5)
    assert float(consistency_loss(torch.cat([one, other]), torch.tensor([5, 4, 1] * 2))) > 0.01


def test_a_view_learns_from_the_other_which_is_held_still():
    torch.manual_seed(0)
    scores = [torch.randn(1, 2, 4, requires_grad=True) for _ in range(VIEWS)]
    log_probs = torch.cat([s.log_softmax(-1) for s in scores])
    consistency_loss(log_probs, torch.tensor([2, 2])).backward()
    p, q = log_probs.detach().exp()
    assert torch.allclose(scores[0].grad[0], p - q, atol=1e-6) and torch.allclose(
        scores[1].grad[0], q - p, atol=1e-6
    )


def trainer(folder, weight: float) -> Trainer:
    module, model = plugins.load("methods", "dense"), tiny.model()
    method = module.Method(module.Options(), model, model.spec(), 4, 3)
    folder.mkdir()
    return Trainer(
        model,
        method,
        tiny.Batches(),
        Options(updates=4, threads=1, precision="fp32", consistency=weight),
        3,
        folder,
    )


def test_it_is_weighed_in_the_loss_of_a_training(tmp_path):
    one, other = tiny.batch(0), tiny.batch(0)
    changed = one.features + 0.5 * torch.randn(
        one.features.shape, generator=torch.Generator().manual_seed(0)
    )
    two = Batch(
        torch.cat([one.features, changed]),
        one.lengths.repeat(2),
        one.tokens.repeat(2, 1),
        one.token_lengths.repeat(2),
        [*one.ids, *(f"{i}#1" for i in other.ids)],
        2 * one.seconds,
    )
    losses = []
    for weight in (0.0, 2.0):
        made = trainer(tmp_path / f"{weight}", weight)
        (a_pass,) = made.method.plan(0)
        output, loss = made.run_pass(a_pass, two, 8, None, 0)
        losses.append(float(loss))
        apart = float(consistency_loss(output.log_probs, output.lengths) / output.lengths.sum())
    assert losses[1] - losses[0] == pytest.approx(2 * apart, rel=1e-3)
    assert apart > 1e-4
