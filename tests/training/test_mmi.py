"""The sum over all token sequences and its gradient, against each of them counted."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.methods import omni_sparsity
from core.training import mmi
from core.training.learner import Learner
from core.training.options import Options as TrainingOptions
from tests import tiny

SIZE = 4  # tokens with the blank


@pytest.fixture
def chances():
    rng = np.random.default_rng(1)
    texts = [rng.integers(1, SIZE, rng.integers(1, 6)).tolist() for _ in range(20)]
    return torch.from_numpy(mmi.trigrams([*texts, [2, 2]], SIZE)).double()


def probabilities(lengths, seed=0):
    torch.manual_seed(seed)
    return F.log_softmax(torch.randn(len(lengths), max(lengths), SIZE, dtype=torch.double), -1)


def counted(log_probs, chances):
    """The same sum for one utterance [T, V], path by path."""
    total = 0.0
    for path in itertools.product(range(SIZE), repeat=len(log_probs)):
        tokens = [k for k, _ in itertools.groupby(path) if k]
        padded = [0, 0, *tokens, 0]
        p = math.prod(float(chances[tuple(padded[n : n + 3])]) for n in range(len(tokens) + 1))
        total = total + p * torch.stack([log_probs[t, v] for t, v in enumerate(path)]).sum().exp()
    return total.log()


def test_trigrams_are_a_distribution_that_follows_the_counts(chances):
    assert torch.allclose(chances.sum(-1), torch.ones(SIZE, SIZE).double(), atol=1e-6)
    assert chances.min() > 0
    often = mmi.trigrams([[1, 2, 3]] * 50 + [[1, 2, 1]], SIZE)
    assert often[1, 2, 3] > 0.9
    assert often[1, 2, 1] > often[1, 2, 2]
    assert often[2, 3, 0] > 0.9, "the end"


def test_it_is_the_sum_over_all_sequences_and_so_is_its_gradient(chances):
    lengths = [5, 3, 1]
    log_probs = probabilities(lengths).requires_grad_()
    sums = mmi.log_sum(log_probs, torch.tensor(lengths), chances)
    wanted = torch.stack([counted(row[:n], chances) for row, n in zip(log_probs, lengths)])
    assert torch.allclose(sums, wanted)
    scales = torch.tensor([1.0, 2.0, 3.0]).double()
    ours = torch.autograd.grad((sums * scales).sum(), log_probs)[0]
    theirs = torch.autograd.grad((wanted * scales).sum(), log_probs)[0]
    assert torch.allclose(ours, theirs)
    assert not ours[1, 3:].any()


def batch(tokens, lengths):
    return SimpleNamespace(tokens=torch.tensor(tokens), token_lengths=torch.tensor(lengths))


def test_the_loss_is_that_of_what_was_said_against_all(chances):
    log_probs, lengths = probabilities([6, 4]), torch.tensor([6, 4])
    said = batch([[1, 2, 2], [3, 0, 0]], [3, 1])
    ctc = F.ctc_loss(log_probs.transpose(0, 1), said.tokens, lengths, said.token_lengths, 0, "none")
    joint = chances[0, 0, 1] * chances[0, 1, 2] * chances[1, 2, 2] * chances[2, 2, 0]
    alone = chances[0, 0, 3] * chances[0, 3, 0]
    everything = torch.stack([counted(log_probs[0], chances), counted(log_probs[1, :4], chances)])
    wanted = ctc + everything.float() - torch.stack([joint, alone]).log()
    output = SimpleNamespace(log_probs=log_probs, lengths=lengths)
    term = mmi.MMI(chances.float(), 1.0).loss(output, said)
    assert ctc.sum() + term == pytest.approx(float(wanted.sum()), rel=1e-4)
    assert mmi.MMI(chances.float(), 0.5).loss(output, said) == pytest.approx(0.5 * float(term))
    assert wanted.min() > 0


def test_it_needs_few_tokens_and_posteriors():
    few, many = (SimpleNamespace(posteriors=True, vocabulary=n) for n in (40, 500))
    assert mmi.chosen({}, few) is None
    for model in (many, SimpleNamespace(posteriors=False, vocabulary=40)):
        with pytest.raises(ValueError, match="at most 64 of them.*leave it out"):
            mmi.chosen({"weight": 1.0}, model)
    with pytest.raises(ValueError, match=r"training\.mmi"):
        mmi.chosen({"wait": 1.0}, few)


def losses(distillation: str, **training) -> dict[str, float]:
    """{pass: its loss in the first update} of a supernet."""
    model = tiny.model()
    options = omni_sparsity.Options(warmup=0.0, distillation=distillation)
    method = omni_sparsity.Method(options, model, model.spec(), 9, 3)
    settings = TrainingOptions(updates=9, threads=1, precision="fp32", **training)
    learner = Learner(model, method, settings, 3)
    learner.update(tiny.batch())
    return {name: float(values[0]) for name, values in learner.sums.items()}


@pytest.mark.slow
def test_every_pass_without_a_teacher_has_it():
    plain, ours = losses("none"), losses("none", mmi={"weight": 0.5})
    assert all(ours[name] != plain[name] for name in plain)
    assert len(plain) == 3
    plain, ours = losses("kl"), losses("kl", mmi={"weight": 0.5})
    assert [name for name in plain if ours[name] != plain[name]] == ["dense"]
