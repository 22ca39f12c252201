"""Compressed sensing: stand-ins are sparse and near in their metric; the method pulls, freezes and
ships what it says.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from core import cost
from core.methods import csp, gradual_magnitude
from core.records import PrunableMatrix
from core.sparsity import blocks, sensing
from tests import tiny
from tests.methods.test_methods import trainer


def unit(pattern: str, rows: int = 16, columns: int = 24) -> PrunableMatrix:
    block, group = cost.PATTERNS[pattern]
    return PrunableMatrix("u", "attention", 0, "b", rows, columns, block=block, group=group)


@pytest.mark.parametrize("pattern", cost.PATTERNS)
def test_shrinking_keeps_the_count_of_its_pattern(pattern):
    torch.manual_seed(0)
    weight, shape = torch.randn(16, 24), unit(pattern)
    z = sensing.shrink(weight, shape, shape.blocks // 2)
    kept = blocks.block_scores(z, shape.block) > 0
    assert (
        int(kept.sum()) == shape.blocks // 2
        and bool((z.abs() <= weight.abs()).all())
        and bool((z * weight >= 0).all())
    )
    if shape.group:
        assert bool((kept.unflatten(1, (-1, 4)).sum(-1) == 2).all()), "two of every four"
    assert torch.equal(sensing.shrink(weight, shape, shape.blocks), weight)


def test_shrinking_is_the_soft_threshold():
    weight = torch.tensor([[3.0, -2.0, 1.0, 0.5]])
    z = sensing.shrink(weight, unit("1x1", 1, 4), 2)
    assert torch.allclose(
        z, torch.tensor([[2.0, -1.0, 0.0, 0.0]])
    )  # soft(W, 1): the largest that falls


@pytest.mark.parametrize("pattern", cost.PATTERNS)
def test_an_auxiliary_variable_is_nearer_in_its_metric_than_one_found_without(pattern):
    torch.manual_seed(1)
    weight, shape = torch.randn(16, 24), unit(pattern)
    x = torch.randn(400, 4) @ torch.randn(4, 24) + 0.2 * torch.randn(
        400, 24
    )  # inputs that hang together, as a layer's do
    metric, kept = x.T @ x / 400, shape.blocks // 2

    def error(z):
        return float(((z - weight) @ metric * (z - weight)).sum())

    z = sensing.auxiliary_variable(weight, shape, kept, metric, steps=100)
    assert int((blocks.block_scores(z, shape.block) > 0).sum()) <= kept
    assert error(z) < 0.5 * error(sensing.shrink(weight, shape, kept))
    again = sensing.auxiliary_variable(weight, shape, kept, metric, start=z, steps=20)
    assert error(again) <= 1.02 * error(z), "a warm start goes on"


def test_values_are_refitted_on_their_support():
    torch.manual_seed(3)
    weight, support = torch.randn(8, 24), torch.rand(8, 24) < 0.3
    x = torch.randn(400, 4) @ torch.randn(4, 24) + 0.5 * torch.randn(400, 24)
    metric = sensing.damped(x.T @ x / 400, 0.1)
    z = sensing.refit(weight, support, metric, steps=40)
    for row in range(8):  # the normal equations of one row's least squares
        s = support[row]
        exact = torch.linalg.solve(metric[s][:, s], metric[s] @ weight[row])
        assert torch.allclose(z[row, s], exact, atol=1e-3) and not z[row, ~s].any()


def test_a_loud_input_counts_more_than_a_large_weight():
    weight, metric = (
        torch.tensor([[3.0, 1.0, 2.0, 0.5]]),
        torch.diag(torch.tensor([0.01, 100.0, 1.0, 1.0])),
    )
    assert (sensing.auxiliary_variable(weight, unit("1x1", 1, 4), 2, metric) != 0).tolist() == [
        [False, True, True, False]
    ]
    assert (sensing.shrink(weight, unit("1x1", 1, 4), 2) != 0).tolist() == [
        [True, False, True, False]
    ]


def test_largest_eigenvalue():
    torch.manual_seed(2)
    a = torch.randn(12, 30)
    assert (
        0.99
        <= sensing.largest_eigenvalue(a.T @ a, 200)
        / (1.05 * float(torch.linalg.matrix_norm(a, 2)) ** 2)
        <= 1.001
    )


def method(updates: int = 20, **options) -> csp.Method:
    model = tiny.model()
    made = csp.Options(**{"sparsity": 0.5, "refresh": 2, "ramp_end": 0.5} | options)
    return csp.Method(made, model, cost.with_pattern(model.spec(), made.pattern), updates, 1)


def step(made: csp.Method, at: int) -> None:
    """What the loop does at an update, without the optimizer."""
    for a_pass in made.plan(at):
        made.model(tiny.batch(at).features, tiny.batch(at).lengths).log_probs.sum().backward()
        assert a_pass.name == ("pulled" if made.pulling(at) else "pruned")
    made.after_step(at)


@pytest.mark.slow
@pytest.mark.parametrize("reading", ["weights", "random", "outputs"])
def test_it_pulls_until_the_ramp_ends_and_then_freezes_the_support(reading):
    made = method(reading=reading, l1=1e-4, l2=1e-2)
    for at in range(10):
        assert made.plan(at)[0].subnet is None, "nothing is masked while penalties pull"
        penalty = made.penalty(at)
        assert (penalty is None) == (at < 2)
        if penalty is not None:
            made.model.zero_grad()
            penalty.backward()
            pulled = made.model.get_parameter("blocks.0.attention.query.weight").grad
            z, w = (
                made.auxiliary["blocks.0.attention.query"],
                made.model.get_parameter("blocks.0.attention.query.weight"),
            )
            assert torch.allclose(pulled, 1e-4 * w.sign() + 2e-2 * (w - z), atol=1e-6)
        step(made, at)
    assert made.penalty(10) is None
    subnet = made.plan(10)[0].subnet
    masks = made.mask(subnet, 10)
    for u in made.spec.units:
        support = made.auxiliary[u.name] != 0
        assert int(masks[f"{u.name}.weight"].sum()) == u.blocks // 2
        assert bool((masks[f"{u.name}.weight"].squeeze(1) | ~support).all()), (
            "the stand-in's weights are all kept"
        )
        taken = (
            made.model.get_parameter(f"{u.name}.weight")[support] == made.auxiliary[u.name][support]
        )
        assert bool(taken.all()) == (reading != "weights"), (
            "a refitted stand-in takes the weights' place"
        )
    before = {n: m.clone() for n, m in masks.items()}
    for at in range(10, 20):
        step(made, at)
    assert all(torch.equal(m, before[n]) for n, m in made.mask(made.plan(19)[0].subnet, 19).items())
    shipped = made.results({n: torch.randn_like(p) for n, p in made.model.named_parameters()})
    again = blocks.block_masks(shipped.ranks, made.spec, shipped.subnets[0].keep)
    assert all(torch.equal(m, before[n]) for n, m in again.items())


def test_outputs_are_those_of_the_update_under_way():
    made = method(reading="outputs")
    seen = {}
    hook = made.model.get_submodule("blocks.1.feed_forward_1.down").register_forward_pre_hook(
        lambda _, inputs: seen.update(x=inputs[0].detach().flatten(0, -2))
    )
    made.plan(1)
    made.model(tiny.batch(1).features, tiny.batch(1).lengths)
    hook.remove()
    name = "blocks.1.feed_forward_1.down"
    own = seen["x"].T @ seen["x"]
    assert torch.allclose(made.metrics[name], own, rtol=1e-4)
    made.seen[name] = torch.eye(len(own))
    made.after_step(1)
    assert made.metrics == {} and torch.allclose(
        made.seen[name], own + 0.9 * torch.eye(len(own)), rtol=1e-4
    ), "what was seen before fades"
    made.plan(2)  # no new stand-ins after this update: nothing is collected
    made.model(tiny.batch(2).features, tiny.batch(2).lengths)
    assert made.metrics == {}


def test_with_both_halves_swapped_it_is_gradual_magnitude_pruning():
    ours = method(schedule="ramp", support="magnitude")
    known = gradual_magnitude.Options(sparsity=0.5, pattern="1x1", ramp_end=0.5, refresh=2)
    theirs = gradual_magnitude.Method(known, ours.model, ours.spec, 20, 1)
    for at in range(9):  # at its very end the ramp of CSP has new masks once more
        a, b = (m.mask(m.plan(at)[0].subnet, at) for m in (ours, theirs))
        assert (
            set(a) == set(b) and all(torch.equal(m, b[n]) for n, m in a.items()) and (at < 2 or a)
        )
        assert ours.penalty(at) is None
        with torch.no_grad():
            for p in ours.model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        ours.after_step(at), theirs.after_step(at)


def test_two_of_four_has_its_own_sparsities():
    with pytest.raises(
        ValueError,
        match=r"method.sparsity is 0.7; with the pattern 2:4 it is one of 0.25, 0.5, 0.75",
    ):
        method(pattern="2:4", sparsity=0.7)
    assert method(pattern="2:4", sparsity=0.5).spec.units[0].group == 4


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_bits(tmp_path):
    options = csp.Options(sparsity=0.5, refresh=2, ramp_end=0.7)
    whole, begun = (
        trainer(tmp_path / n, csp.Method, options, updates=8) for n in ("whole", "begun")
    )
    whole.run(lambda *_: True)
    begun.options = dataclasses.replace(begun.options, checkpoint_every=3)

    class Killed(Exception):
        pass

    def kill(done: float, *_) -> bool:
        if done >= 0.5:
            raise Killed
        return True

    with pytest.raises(Killed):
        begun.run(kill)
    resumed = trainer(tmp_path / "begun", csp.Method, options, updates=8)
    assert resumed.resume() and resumed.step == 3
    resumed.run(lambda *_: True)
    assert all(torch.equal(t, resumed.averaged[n]) for n, t in whole.averaged.items())
