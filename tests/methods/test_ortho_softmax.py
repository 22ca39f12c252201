"""OrthoSoftmax: gates by hand, parts that are not run, choices within their budgets that stay, and
files that are what was trained.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.func import functional_call

from core import cost, paths
from core.layers import attention
from core.layers.dropout import Noise
from core.layers.feed_forward import FeedForward
from core.layers.parts import Parts
from core.methods import ortho_softmax
from core.methods._components import MEASURES, Components
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe
from core.sparsity import blocks
from tests import tiny
from tests.methods.test_methods import trainer

NAME = "ortho_softmax"
HEADS_OF_12 = {"width": 24, "heads": 2}  # a block of 8 rows belongs to both


def method(
    budget: str = "parameters", updates: int = 20, model: dict | None = None, **options
) -> ortho_softmax.Method:
    made = tiny.model(outputs=3, **model or {})
    given = ortho_softmax.Options(
        **{"sizes": [0.5, 0.7], "budget": budget, "selection": 0.5} | options
    )
    return ortho_softmax.Method(given, made, made.spec(), updates, 1)


# the parts of a branch


def branches():
    torch.manual_seed(0)
    layer, lengths = attention.Attention(32, 4), torch.tensor([200, 180])
    forward = FeedForward(32, 64)
    masked, by_blocks = (attention.Layout(200, lengths, chunk) for chunk in (0, 8))
    matrices = (layer.query, layer.key, layer.value), layer.out
    return [
        ((forward.up,), forward.down, lambda x, *parts: forward(x, None, *parts)),
        (*matrices, lambda x, *parts: layer(x, masked, None, *parts)),
        (*matrices, lambda x, *parts: layer(x, by_blocks, None, *parts)),
    ]


@pytest.mark.parametrize("index", range(3))
def test_parts_of_zero_are_not_run_and_tensors_multiply(index):
    firsts, last, run = branches()[index]
    x = torch.randn(2, 200, 32)
    with torch.no_grad():
        whole = run(x)
        torch.testing.assert_close(run(x, Parts((1, 1, 1, 1))), whole)
        torch.testing.assert_close(run(x, Parts(torch.ones(4))), whole)
        gates = torch.tensor([0.0, 0.5, 0.0, 2.0])
        alone = [run(x, Parts([int(i == part) for i in range(4)])) - last.bias for part in range(4)]
        torch.testing.assert_close(
            run(x, Parts(gates)), sum(g * y for g, y in zip(gates, alone)) + 2 * last.bias
        )
        assert float(run(x, Parts(torch.zeros(4))).abs().max()) == 0, (
            "as if the branch were left out"
        )
        expected = run(x, Parts(torch.tensor([1.0, 0.0, 0.0, 1.0])))
        for linear in firsts:
            linear.weight.unflatten(0, (4, -1))[1:3] = float("nan")
        last.weight.unflatten(1, (4, -1))[:, 1:3] = float("nan")
        torch.testing.assert_close(run(x, Parts((1, 0, 0, 1))), expected)
    gate = torch.ones(4, requires_grad=True)
    run = branches()[index][-1]
    run(x, Parts(gate)).square().sum().backward()
    assert gate.grad.abs().min() > 0


def test_dropout_of_a_feed_forward_goes_down_with_its_share():
    torch.manual_seed(0)
    layer, x = FeedForward(8, 16), torch.randn(1, 5, 8)

    def dropped(
        *parts,
    ) -> bool:  # all channels have the number 0.7: dropped at a rate of 0.4, kept at 0.2
        return (
            float(layer(x, Noise(torch.full((1, 24), 0.7), 0.4), *parts).detach().abs().max()) == 0
        )

    assert dropped() and dropped(Parts((1, 1, 1, 1))) and not dropped(Parts((1, 0, 1, 0)))
    assert not dropped(Parts(torch.tensor([1.0, 0.5, 0.5, 0.0]))) and dropped(
        Parts(torch.tensor([1.0, 1.0, 0.9, 0.9]))
    )


# what a choice costs and keeps


@pytest.mark.parametrize("model", [{}, HEADS_OF_12])
@pytest.mark.parametrize("budget", MEASURES)
def test_costs_add_up_and_the_stored_zeros_are_those_of_the_choice(budget, model):
    net = tiny.model(**model)
    parts = Components(net.spec(), net.cuts())
    assert parts.names[3:7] == [
        f"blocks.0.{n}" for n in ("feed_forward_1.3", "convolution", "attention.0", "attention.1")
    ]
    assert len(parts) == 2 * (4 + 1 + 2 + 4)
    fixed, costs = parts.costs(budget)
    everything = torch.ones(len(parts), dtype=torch.bool)
    whole = MEASURES[budget](net.spec(), {})
    assert (
        fixed + float(costs.sum()) == pytest.approx(whole) == parts.cost(everything, budget)
        and parts.keep(everything) == {}
    )
    assert parts.cost(~everything, budget) == pytest.approx(fixed) and float(costs.min()) > 0
    chosen = torch.rand(len(parts), generator=torch.Generator().manual_seed(3)) < 0.6
    chosen[:4], chosen[7:11] = False, torch.tensor([True, False, False, True])
    keep, weights = parts.keep(chosen), dict(net.named_parameters())
    masks = blocks.block_masks(parts.ranks(weights, (~chosen).int()), net.spec(), keep)
    assert cost.branches_off(net.spec(), keep) >= {"blocks.0.feed_forward_1"}
    for unit in net.spec().units:
        mask = masks.get(f"{unit.name}.weight", torch.ones(1, 1, 1)).expand(-1, 8, -1).flatten(0, 1)
        assert unit.name not in keep or float(mask.float().mean()) == pytest.approx(keep[unit.name])
    up = (
        masks["blocks.0.feed_forward_2.up.weight"]
        .expand(-1, 8, -1)
        .flatten(0, 1)
        .unflatten(0, (4, -1))
        .float()
        .mean((1, 2))
    )
    down = (
        masks["blocks.0.feed_forward_2.down.weight"].float().unflatten(2, (4, -1)).mean((0, 1, 3))
    )
    assert up.tolist() == down.tolist() == [1, 0, 0, 1], "whole quarters, nothing else"


@pytest.mark.parametrize("model", [{}, HEADS_OF_12])
def test_the_net_with_the_stored_zeros_is_the_net_whose_parts_are_not_run(model):
    made = method(model=model)
    made.freeze()
    net, batch = made.model.eval(), tiny.batch()
    with torch.inference_mode():
        for subnet in made.results(dict(net.named_parameters())).subnets[1:]:
            trained = net(
                batch.features,
                batch.lengths,
                chunk=8,
                gates=made.gates(subnet, 19),
                head=subnet.head,
            )
            ranks = made.results(dict(net.named_parameters())).ranks
            stored = blocks.masked(
                dict(net.named_parameters()), blocks.block_masks(ranks, made.spec, subnet.keep)
            )
            off = dict.fromkeys(cost.branches_off(made.spec, subnet.keep), 0.0)
            told = functional_call(
                net,
                stored,
                (batch.features, batch.lengths),
                {"chunk": 8, "gates": off, "head": subnet.head},
            )
            torch.testing.assert_close(told.log_probs, trained.log_probs, atol=1e-5, rtol=1e-5)
            assert (
                any(isinstance(g, Parts) for g in made.gates(subnet, 19).values()) and subnet.keep
            )


# the idea


def test_orthogonality_is_zero_for_rows_that_choose_different_components():
    assert float(ortho_softmax.overlap(torch.eye(7)[[3, 0, 5]])) == 0
    assert float(ortho_softmax.overlap(torch.eye(7)[[3, 3]])) == pytest.approx(1.0)
    assert float(ortho_softmax.overlap(torch.full((2, 4), 0.25))) == pytest.approx(
        (2 * 0.75**2 + 2 * 0.25**2) / 2
    )


@pytest.mark.parametrize("budget", MEASURES)
def test_gates_sum_to_k_and_their_expected_cost_is_the_budgets(budget):
    made = method(budget)
    rows = made.rows()
    torch.testing.assert_close(rows.sum(1), torch.ones(22))
    for step in range(made.end):
        gates, share = made.soft_gates(step), made.share(step)
        k = made.count(rows, share)
        assert float(gates.detach().sum()) == pytest.approx(k, abs=1e-4) and gates.requires_grad
        expected = made.fixed + float(gates.detach().double() @ made.costs)
        assert expected <= share * made.whole and share * made.whole - expected <= float(
            made.costs.max()
        )
    assert made.share(made.end - 1) == pytest.approx(0.5) and made.share(0) == pytest.approx(0.95)
    by_branch = made.gates(made.plan(3)[1].subnet, 3)
    flat = torch.cat([g.soft if isinstance(g, Parts) else g[None] for g in by_branch.values()])
    assert torch.equal(flat, made.soft_gates(3)) and [p.name for p in made.plan(3)] == [
        "dense",
        "shrinking",
    ]


def test_a_subnets_loss_weighs_less_the_smaller_it_is():
    made, batch = method(), tiny.batch()
    output = made.model(batch.features, batch.lengths)
    weight = made.model.heads[0].weight
    (plain,) = torch.autograd.grad(made.model.loss(output, batch), weight, retain_graph=True)
    dense, shrinking = made.plan(0)
    assert torch.equal(
        torch.autograd.grad(made.loss(dense, output, batch, None), weight, retain_graph=True)[0],
        plain,
    )
    value = made.loss(shrinking, output, batch, None)
    per_frame = value.detach() / output.lengths.sum()
    torch.testing.assert_close(value, made.model.loss(output, batch))
    torch.testing.assert_close(
        torch.autograd.grad(value, weight)[0], plain * (1 - (-per_frame).exp())
    )


# a training


@pytest.mark.slow
@pytest.mark.parametrize("budget", MEASURES)
def test_it_trains_in_the_loop_and_its_sizes_stay_within_their_budgets(budget, tmp_path):
    options = ortho_softmax.Options(
        sizes=[0.5, 0.7], budget=budget, selection=0.5, orthogonality=10.0
    )
    made = trainer(tmp_path / "a", ortho_softmax.Method, options, updates=40, peak_lr=5e-3)
    own = made.method
    before = float(ortho_softmax.overlap(own.rows().detach()))
    own.results(made.averaged)  # as a snapshot on the way asks for
    assert own.scores.requires_grad and not own.chosen.any()
    made.run(lambda *_: True)
    assert float(ortho_softmax.overlap(own.rows().detach())) < 0.8 * before, "rows part"
    frozen, scores = own.chosen.clone(), own.scores.detach().clone()
    made.update(tiny.batch())
    assert (
        torch.equal(own.scores, scores)
        and torch.equal(own.chosen, frozen)
        and not own.scores.requires_grad
    )
    assert bool((own.chosen[0] | ~own.chosen[1]).all()), "nested: the first is the larger"
    whole = MEASURES[budget](own.spec, {})
    sizes = own.results(made.averaged).subnets
    assert [(s.name, s.head) for s in sizes] == [("dense", 0), ("c70", 1), ("c50", 2)]
    for share, subnet in zip((0.7, 0.5), sizes[1:]):
        reached = MEASURES[budget](own.spec, subnet.keep)
        assert reached <= share * whole and share * whole - reached <= float(own.costs.max())
    passes = own.plan(30)
    assert [(p.name, p.head) for p in passes] == [("dense", 0), ("sparsest", 2), ("random", 1)]
    assert set(passes[0].drop_branches) == cost.branches_off(own.spec, sizes[2].keep)
    rows = [
        json.loads(line)["loss"]["sparsest"]
        for line in (tmp_path / "a" / paths.METRICS).read_text().splitlines()[-10:]
    ]
    assert rows[-1] < rows[0]


def test_sizes_are_checked_and_resolving_twice_changes_nothing():
    def recipe(**options) -> Recipe:
        return Recipe(
            Choice("manifest"),
            Choice("conformer_ctc", {"blocks": 2, "width": 32, "heads": 2}),
            Choice(NAME, options),
        )

    made = ResolvedRecipe(recipe()).built(20)
    assert made.recipe.model.options["outputs"] == 3
    assert made.built(20) == made
    with pytest.raises(ValueError, match=r"method.sizes: expected list\[float\], got \['half'\]"):
        ResolvedRecipe(recipe(sizes=["half"])).built(20)
    for wrong in ([1.0], [0.01], [0.5, 0.5], []):
        with pytest.raises(
            ValueError,
            match=r"method.sizes are shares of the dense net's parameters.*at least 0\.\d+",
        ):
            ResolvedRecipe(recipe(sizes=wrong)).built(20)
    with pytest.raises(ValueError, match="emformer_transducer does not have"):
        ResolvedRecipe(dataclasses.replace(recipe(), model=Choice("emformer_transducer"))).built(20)
