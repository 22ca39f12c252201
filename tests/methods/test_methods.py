"""The contract of all methods, what each adds, and that methods to come fit the loop without
touching it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from core import cost
from core.methods import _sandwich, base, gradual_magnitude, omni, omni_sparsity
from core.models.base import ctc_loss
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe
from core.registry import plugins
from core.training.options import Options
from core.training.trainer import Trainer
from tests import tiny

SMALL = {
    "simple_topk": {"sizes": [3, 5]},
    "random_branches": {"sizes": [3, 5]},
    "iterative_zero_out": {"sizes": [3, 5], "rounds": 2},
    "aux_loss": {"exits": [1]},
    "ortho_softmax": {"sizes": [0.5, 0.7]},
}


def trainer(folder, method_class=None, options=None, name="dense", updates=6, **training):
    """A method on the tiny model of 2 blocks and 8 branches."""
    if method_class is None:
        module = plugins.load("methods", name)
        method_class, options = module.Method, options or module.Options(**SMALL.get(name, {}))
    model = tiny.model(outputs=1 + len(getattr(options, "sizes", getattr(options, "exits", []))))
    method = method_class(options, model, model.spec(), updates, 3)
    settings = Options(
        updates=updates, threads=1, precision="fp32", log_every=2, checkpoint_every=100, **training
    )
    folder.mkdir(exist_ok=True)
    return Trainer(model, method, tiny.Batches(), settings, 3, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_trains_in_the_loop_and_leaves_ranks(name, tmp_path):
    made = trainer(tmp_path / name, name=name)
    before = {n: p.detach().clone() for n, p in made.parameters.items()}
    made.run(lambda *_: True)
    assert any(not torch.equal(before[n], p) for n, p in made.parameters.items())
    results = made.method.results(made.averaged)
    assert set(results.ranks) == {u.name for u in made.method.spec.units}
    for a_pass in made.method.plan(made.step - 1):
        assert set(made.method.mask(a_pass.subnet, made.step - 1)) <= set(made.parameters)
    state = made.method.state()
    made.method.load_state(state)
    assert {n: t.shape for n, t in made.method.state().items()} == {
        n: t.shape for n, t in state.items()
    }


def test_omni_sandwich_has_densest_sparsest_and_independent_random_subnets():
    model = tiny.model()
    options = omni_sparsity.Options(sparsest=0.8, warmup=0.5, randoms=2)
    method = omni_sparsity.Method(options, model, model.spec(), 100, 1)
    assert [p.name for p in method.plan(49)] == ["dense"]
    passes = method.plan(50)
    assert [p.name for p in passes] == ["dense", "sparsest", "random", "random"]
    assert passes[0].subnet is None and passes[1].subnet.sparsity == pytest.approx(0.8, abs=0.01)
    keeps = passes[2].subnet.keep
    assert len({round(k, 6) for k in keeps.values()}) > 5 and keeps != passes[3].subnet.keep
    assert (
        passes[2].dropout == pytest.approx(1 - passes[2].subnet.sparsity) and passes[2].teacher == 0
    )
    assert method.plan(50)[2].subnet.keep == keeps, "a step is a function of seed and step"


def test_omni_sandwich_draws_random_subnets_where_it_is_told_to():
    model = tiny.model()

    def drawn(least: float) -> list[float]:
        method = omni_sparsity.Method(
            omni_sparsity.Options(warmup=0.0, random_from=least), model, model.spec(), 100, 1
        )
        return [method.plan(step)[2].subnet.sparsity for step in range(100)]

    assert min(drawn(0.0)) < 0.2 and min(drawn(0.7)) > 0.55 and max(drawn(0.7)) < 0.95
    with pytest.raises(
        ValueError, match="random_from is 0.95; it must lie between 0 and method.sparsest, 0.9"
    ):
        drawn(0.95)


def test_omni_zeros_may_grow_over_the_first_updates():
    model = tiny.model()

    def reached(ramp: float) -> list[float]:
        method = omni_sparsity.Method(
            omni_sparsity.Options(warmup=0.0, sparsest=0.8, ramp=ramp),
            model,
            model.spec(),
            100,
            1,
        )
        assert all(
            method.plan(step)[2].subnet.sparsity <= method.plan(step)[1].subnet.sparsity + 0.06
            for step in range(100)
        )
        return [method.plan(step)[1].subnet.sparsity for step in (0, 30, 60, 99)]

    assert reached(0.0) == pytest.approx([0.8] * 4, abs=0.02)
    assert reached(0.6) == pytest.approx([0.0, 0.8 * 0.875, 0.8, 0.8], abs=0.02)


def test_omni_leaves_out_branches_and_has_hardly_more_zeros_than_the_sparsest():
    model = tiny.model()
    method = omni.Method(
        omni.Options(sparsest=0.8, left_out=0.5, whole=0.5), model, model.spec(), 100, 1
    )
    assert omni.Method.left_out(method.options) == 0.5, "what a search may leave out"
    drawn = [p for step in range(60, 100) for p in method.plan(step)[2:]]
    off = [set(method.gates(p.subnet, 0)) for p in drawn]
    assert (
        0.4 < sum(not o for o in off) / len(off) < 0.8
        and max(map(len, off)) <= 4
        and len(set().union(*off)) == 8
    )
    assert max(p.subnet.sparsity for p in drawn) < 0.9 and all(
        v == 0.0 for p in drawn for v in method.gates(p.subnet, 0).values()
    )


def test_divergences_are_zero_for_equals_and_only_the_pupil_learns():
    for kind in ("kl", "alpha"):
        logits = torch.randn(2, 5, 7, requires_grad=True)
        other = torch.randn(2, 5, 7, requires_grad=True)
        lengths = torch.tensor([5, 3])

        def output(x):
            return base.Output(x.log_softmax(-1), lengths, {})

        same = _sandwich.divergence(output(logits), output(logits), kind)
        assert abs(float(same.detach())) < 1e-5
        apart = _sandwich.divergence(output(logits), output(other), kind)
        apart.backward()
        assert (
            float(apart.detach()) > 0 and other.grad is None and logits.grad[1, 3:].abs().sum() == 0
        )


def test_gradual_ramp_is_cubic_ends_on_time_and_ships_the_trained_mask():
    model = tiny.model()
    options = gradual_magnitude.Options(sparsity=0.8, ramp_end=0.5, refresh=1)
    method = gradual_magnitude.Method(options, model, model.spec(), 100, 1)
    assert method.sparsity_at(0) == 0 and method.sparsity_at(50) == method.sparsity_at(
        99
    ) == pytest.approx(0.8)
    assert method.sparsity_at(25) == pytest.approx(0.8 * (1 - 0.5**3))
    final = method.mask(method.plan(99)[0].subnet, 99)
    results = method.results({n: torch.randn_like(p) for n, p in model.named_parameters()})
    subnet = results.subnets[0]
    shipped = base.blocks.block_masks(results.ranks, method.spec, subnet.keep)
    assert subnet.sparsity == pytest.approx(0.8, abs=0.01) and all(
        torch.equal(final[n], shipped[n]) for n in final
    )


@pytest.mark.slow
def test_small_dense_fits_the_bytes_and_resolves_once():
    recipe = Recipe(
        Choice("manifest"), Choice("conformer_ctc"), Choice("small_dense", {"same_bytes_as": 0.7})
    )
    built = ResolvedRecipe(recipe).built(257)
    resolved = built.recipe
    module = plugins.load("models", "conformer_ctc")

    def bytes_of(r, sparsity):
        spec = module.build(
            plugins.make_options(module.Options, r.model.options, "model"), 257
        ).spec()
        return cost.file_bytes(spec, cost.uniform(spec, sparsity))

    assert 0.8 * bytes_of(recipe, 0.7) < bytes_of(resolved, 0.0) <= bytes_of(recipe, 0.7)
    assert built.built(257) == built
    with pytest.raises(ValueError, match="same_bytes_as"):
        ResolvedRecipe(
            dataclasses.replace(
                recipe,
                method=Choice("small_dense", {"same_bytes_as": 0.99}),
                model=Choice("conformer_ctc", {"heads": 22}),
            )
        ).built(257)


class SimpleTopK(base.Method):
    """Relaxed top-k gates of Xu et al. 2024, written on the contract alone."""

    def __init__(self, options, model, spec, updates, seed):
        super().__init__(options, model, spec, updates, seed)
        self.branches = sorted({u.branch for u in spec.units})
        self.scores = nn.Parameter(torch.full((len(self.branches),), 0.5))

    def plan(self, step):
        from core.records import Subnet

        return [base.Pass("dense"), base.Pass("shrinking", Subnet("shrinking", "", {}, 0.0), 0.3)]

    def gates(self, subnet, step):
        if subnet is None:
            return {}
        a, p, z = self.scores, torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        for _ in range(5):
            a = a + torch.log((1 - p).clamp(min=1e-6))
            p = a.softmax(-1)
            z = z + p
        return dict(zip(self.branches, z.unbind()))

    def parameters(self):
        return [self.scores]

    def penalty(self, step):
        return 1e-3 * self.scores.square().sum()


class IntermediateCTC(base.Method):
    """CTC at a middle block (Lee & Watanabe 2021), written on the contract alone."""

    def plan(self, step):
        return [base.Pass("dense", taps=(0,))]

    def loss(self, a_pass, output, batch, teacher):
        middle = ctc_loss(self.model.read_out(output.taps[0]), output.lengths, batch)
        return 0.7 * super().loss(a_pass, output, batch, teacher) + 0.3 * middle


@pytest.mark.slow
def test_simple_top_k_fits_the_contract(tmp_path):
    made = trainer(tmp_path / "a", SimpleTopK)
    made.run(lambda *_: True)
    assert float((made.method.scores.detach() - 0.5).abs().max()) > 1e-4, (
        "the scores learn with the weights' optimizer"
    )
    assert sum(
        float(g.detach()) for g in made.method.gates(made.method.plan(0)[1].subnet, 0).values()
    ) == pytest.approx(5, abs=1e-3)


def test_intermediate_ctc_fits_the_contract(tmp_path):
    made, plain = trainer(tmp_path / "a", IntermediateCTC), trainer(tmp_path / "b")
    for t in (made, plain):
        t.update(tiny.batch())
    assert float(made.sums["dense"][0]) != float(plain.sums["dense"][0])
    made.run(lambda *_: True)


def test_stochastic_depth_drops_more_of_later_blocks_and_nothing_where_it_is_measured():
    model, module = tiny.model(), plugins.load("methods", "dense")
    features = torch.randn(2, 80, 80)

    def rates(share: float) -> dict[str, float]:
        (a_pass,) = module.Method(
            module.Options(layer_dropout=share), model, model.spec(), 10, 1
        ).plan(3)
        return a_pass.drop_branches

    assert rates(0.0) == {}
    found = rates(0.4)
    assert {b.split(".")[1]: p for b, p in found.items()} == pytest.approx(
        {"0": 0.2, "1": 0.4}
    ) and len(found) == 8
    method = module.Method(module.Options(layer_dropout=0.4), model, model.spec(), 10, 1)
    assert method.gates(None, 3) == {} and method.results(dict(model.named_parameters())).ranks
    with torch.inference_mode():
        assert torch.equal(
            model(features, torch.tensor([80, 80])).log_probs,
            model.eval()(features, torch.tensor([80, 80])).log_probs,
        )


def test_stochastic_depth_is_drawn_for_each_utterance_and_keeps_its_mean(tmp_path):
    module = plugins.load("methods", "dense")
    made = trainer(tmp_path / "a", module.Method, module.Options(layer_dropout=0.5))
    (a_pass,) = made.method.plan(0)
    generators = [np.random.default_rng(i) for i in range(400)]
    gates = made._dropped(a_pass, generators)
    last = gates["blocks.1.attention"]
    assert set(last.unique().tolist()) == {0.0, 2.0} and float(last.mean()) == pytest.approx(
        1.0, abs=0.2
    )
    assert not torch.equal(last, gates["blocks.1.convolution"])
    assert gates["blocks.0.attention"].unique().tolist() == pytest.approx([0.0, 4 / 3])
    losses = {}
    for share in (0.0, 0.5):
        one = trainer(tmp_path / f"{share}", module.Method, module.Options(layer_dropout=share))
        losses[share] = float(one.run_pass(one.method.plan(0)[0], tiny.batch(0), 8, None, 0)[1])
    assert losses[0.0] != losses[0.5]
