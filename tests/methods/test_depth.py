"""Sizes that leave out whole branches: what they cost, what is stored of them, and the methods that
choose them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from core import cost
from core.evaluation import evaluate as evaluation
from core.methods import (
    _depth,
    aux_loss,
    individual,
    iterative_zero_out,
    random_branches,
    simple_topk,
)
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe, Subnet
from core.registry import plugins
from core.storage import packing, store
from core.training.trainer import Interrupted
from tests import standin, tiny
from tests.methods.test_methods import trainer
from tests.standin import reference

OFF = ("blocks.0.attention", "blocks.1.feed_forward_2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("depth"))


def without(run, branches=OFF) -> Subnet:
    spec = store.spec(run)
    keep = {u.name: 0.0 if u.branch in branches else 0.5 for u in spec.units}
    return Subnet("d6", run.name, keep, cost.sparsity_reached(spec, keep))


@pytest.mark.slow
def test_a_branch_of_which_nothing_is_kept_is_not_stored_not_run_and_not_counted(run):
    spec, subnet = store.spec(run), without(run)
    same_zeros = dataclasses.replace(subnet, keep={n: k or 0.02 for n, k in subnet.keep.items()})
    assert cost.branches_off(spec, subnet.keep) == set(OFF) and not cost.branches_off(
        spec, same_zeros.keep
    )
    data = packing.pack(run, subnet)
    tensors, metadata = packing.unpack(data)
    assert not any(n.startswith(tuple(f"{b}." for b in OFF)) for n in tensors)
    assert {u.branch for u in spec.units if metadata["subnet"]["keep"][u.name] == 0} == set(OFF)
    assert (
        len(data) < len(packing.pack(run, same_zeros))
        and abs(cost.file_bytes(spec, subnet.keep) - len(data)) < 6_500
    )
    told = evaluation.sizes(data, spec, subnet)
    assert told["sparsity"] == pytest.approx(subnet.sparsity, abs=0.01)
    assert (
        told["mmacs_per_second"]
        < evaluation.sizes(packing.pack(run, same_zeros), spec, same_zeros)["mmacs_per_second"]
    )
    assert told["nonzero_parameters"] == pytest.approx(
        cost.nonzero_parameters(spec, subnet.keep), rel=0.03
    )  # biases are zero
    assert told["sparsity_whole"] == pytest.approx(cost.whole_sparsity(spec, subnet.keep), abs=0.01)


@pytest.mark.slow
def test_streams_and_whole_utterances_leave_the_branch_out(run):
    heard = reference(packing.pack(run, without(run)))
    assert heard.gates == dict.fromkeys(OFF, 0.0)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((80, 80)).astype(np.float32)
    batch = torch.from_numpy(heard.normalized(features))[None]
    with torch.inference_mode():
        whole = heard.model(
            batch, torch.tensor([80]), chunk=heard.chunk, gates=heard.gates
        ).log_probs
        for name, p in heard.model.named_parameters():
            if name.startswith(tuple(f"{b}." for b in OFF)):
                p.fill_(float("nan"))  # not looked at
        again = heard.model(
            batch, torch.tensor([80]), chunk=heard.chunk, gates=heard.gates
        ).log_probs
        state, parts = heard.model.initial_state(1), []
        padded = torch.nn.functional.pad(batch, (0, 0, 3, 16))
        for start in range(0, 80, 32):
            valid = min(8, (80 - start) // 4)
            window = padded[:, start : start + 35]
            out, state = heard.model.stream(window, torch.tensor([valid]), state, gates=heard.gates)
            parts.append(out[:, :valid])
    assert torch.equal(whole, again) and torch.isfinite(again).all()
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


def test_relaxed_top_k_sums_to_k_and_prefers_high_scores():
    scores = torch.tensor([0.1, 3.0, 0.2, 2.0, -1.0], requires_grad=True)
    gates = simple_topk.relaxed_topk(scores, 2)
    assert float(gates.detach().sum()) == pytest.approx(2, abs=1e-5) and set(
        gates.detach().topk(2).indices.tolist()
    ) == {1, 3}
    gates[1].backward()
    assert scores.grad.abs().sum() > 0
    first = scores.detach().softmax(0)
    second = first * (1 - first) / (first * (1 - first)).sum()  # what was taken counts less
    assert torch.allclose(gates.detach(), first + second, atol=1e-6)


@pytest.mark.slow
def test_top_k_falls_to_the_smallest_size_and_freezes(tmp_path):
    options = simple_topk.Options(sizes=[3, 6], selection=0.5)
    made = trainer(tmp_path / "a", simple_topk.Method, options, updates=12)
    method = made.method
    assert (
        [method.count(s) for s in range(6)][0] == 7 and method.count(5) == 3 and method.count(2) > 3
    )
    hard = torch.stack(list(method.gates(method.plan(0)[1].subnet, 0).values()))
    assert sorted(hard.tolist()) == pytest.approx([0.0] + [1.0] * 7) and hard.requires_grad
    assert [p.name for p in method.plan(0)] == ["dense", "shrinking"] and method.plan(0)[
        1
    ].head == 2
    method.results(made.averaged)  # as a snapshot on the way asks for
    assert method.scores.requires_grad and not method.chosen.any()
    made.run(lambda *_: True)
    assert [int(c.sum()) for c in method.chosen] == [6, 3] and bool(
        (method.chosen[0] | ~method.chosen[1]).all()
    ), "nested"
    frozen = method.scores.detach().clone()
    made.update(tiny.batch())
    assert torch.equal(frozen, method.scores) and float((frozen - 0.5).abs().max()) > 0
    passes = method.plan(11)
    assert [p.name for p in passes] == ["dense", "sparsest", "random"] and [
        p.head for p in passes
    ] == [0, 2, 1]
    assert len(passes[0].drop_branches) == 5 and set(method.gates(passes[1].subnet, 11)) == set(
        passes[0].drop_branches
    )
    sizes = method.results(made.averaged).subnets
    assert [(s.name, s.head) for s in sizes] == [("dense", 0), ("d6", 1), ("d3", 2)]


@pytest.mark.slow
def test_iterative_zero_out_goes_round_by_round_and_branches_may_recover(tmp_path):
    options = iterative_zero_out.Options(sizes=[4, 6], selection=0.8, rounds=4)
    made = trainer(tmp_path / "a", iterative_zero_out.Method, options, updates=10)
    method = made.method
    assert [method.zeroed(i) for i in range(4)] == [1, 2, 3, 4] and method.end == 8
    assert (
        method.penalty(0).item() == pytest.approx(5 * 1 / 8, abs=1e-3) and method.penalty(8) is None
    )
    with torch.no_grad():
        method.scores[5] = 1.0
    method.zero_out(0, 1)
    assert method.scores[5] == -5.0 and method.scores.requires_grad
    with torch.no_grad():
        method.scores[5], method.scores[2], method.scores[3] = (
            11.0,
            0.0,
            1.0,
        )  # it recovers, two others fall
    method.zero_out(1, 2)
    assert method.chosen[0].tolist() == [True, True, False, False, True, True, True, True]
    method.scores.data.fill_(10.0)
    method.chosen.zero_()
    made.run(lambda *_: True)
    assert [int(c.sum()) for c in method.chosen] == [6, 4] and not method.scores.requires_grad


@pytest.mark.parametrize("method, start", [(simple_topk, 0.5), (iterative_zero_out, 10.0)])
def test_scores_travel_score_rate_times_as_far(method, start, tmp_path):
    moved = {}
    for rate in (1.0, 300.0):
        made = trainer(
            tmp_path / str(rate),
            method.Method,
            method.Options(sizes=[3], selection=0.9, score_rate=rate),
            updates=40,
        )
        assert made.method.scaled().detach() == pytest.approx(start)
        made.update(tiny.batch())
        moved[rate] = float((made.method.scaled().detach() - start).abs().max())
    assert moved[1.0] > 0 and moved[300.0] == pytest.approx(
        300 * moved[1.0], rel=0.05
    )  # Adam's first step is the learning rate


def test_the_first_round_may_be_longer():
    model = tiny.model()
    options = iterative_zero_out.Options(sizes=[4], selection=0.5, rounds=4, first_round=0.4)
    method = iterative_zero_out.Method(options, model, model.spec(), 40, 1)
    assert [method.round_of(step) for step in range(20)] == [0] * 8 + [1] * 4 + [2] * 4 + [3] * 4
    alike = iterative_zero_out.Method(
        dataclasses.replace(options, first_round=0.0), model, model.spec(), 40, 1
    )
    assert [alike.round_of(step) for step in range(20)] == [r for r in range(4) for _ in range(5)]


@pytest.mark.slow
def test_random_branches_are_drawn_once_nested_and_other_for_another_seed(tmp_path):
    options = random_branches.Options(sizes=[3, 6], selection=0.5)
    made = trainer(tmp_path / "a", random_branches.Method, options, updates=12)
    method, drawn = made.method, made.method.choice(3)
    assert [int(method.soft_gates(step).sum()) for step in range(6)] == [
        7,
        7,
        6,
        5,
        4,
        3,
    ] and not method.parameters()
    made.run(lambda *_: True)
    assert [int(c.sum()) for c in method.chosen] == [6, 3] and bool(
        (method.chosen[0] | ~method.chosen[1]).all()
    )
    assert torch.equal(method.chosen[1], drawn), "training moves nothing"
    model = tiny.model()
    others = [
        random_branches.Method(options, model, model.spec(), 12, seed).choice(3)
        for seed in range(5)
    ]
    assert len({tuple(o.tolist()) for o in others}) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["simple_topk", "iterative_zero_out", "ortho_softmax", "random_branches"]
)
@pytest.mark.parametrize("stop_at", [2, 5])
def test_resuming_equals_not_stopping(name, stop_at, tmp_path):
    whole = trainer(tmp_path / "whole", name=name, updates=8)
    whole.run(lambda *_: True)
    first = trainer(tmp_path / "cut", name=name, updates=8)
    first.options = dataclasses.replace(first.options, log_every=1)
    with pytest.raises(Interrupted):
        first.run(lambda *_: first.step < stop_at)
    again = trainer(tmp_path / "cut", name=name, updates=8)
    assert again.resume()
    again.run(lambda *_: True)
    assert torch.equal(again.method.scores, whole.method.scores) and torch.equal(
        again.method.chosen, whole.method.chosen
    )
    assert all(torch.equal(again.parameters[n], p) for n, p in whole.parameters.items())


def test_an_exit_hears_what_the_bottom_blocks_alone_give(tmp_path):
    made = trainer(tmp_path / "a", name="aux_loss")
    model, batch = made.model.eval(), tiny.batch()
    size = made.method.results(made.averaged).subnets[1]
    assert (size.name, size.head) == ("b1", 1) and cost.branches_off(
        made.method.spec, size.keep
    ) == {b for b in _depth.branches(made.method.spec) if b.startswith("blocks.1.")}
    tap = model(batch.features, batch.lengths, taps=(0,)).taps[0]
    alone = model(batch.features, batch.lengths, gates=made.method.gates(size, 0), head=1).log_probs
    assert torch.allclose(model.read_out(tap, 1), alone, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("methods"))
def test_every_method_trains_in_bf16(name, tmp_path):
    made = trainer(tmp_path / name, name=name, updates=3)
    made.bf16 = True
    made.run(lambda *_: True)


@pytest.mark.slow
def test_sizes_and_exits_and_blocks_are_checked():
    def recipe(method, options):
        return Recipe(
            Choice("manifest"), Choice("conformer_ctc", {"blocks": 4}), Choice(method, options)
        )

    for module, given, outputs in (
        (simple_topk, {"sizes": [4, 9]}, 3),
        (iterative_zero_out, {"sizes": [5]}, 2),
        (aux_loss, {"exits": [1, 3]}, 3),
    ):
        name = module.__name__.rsplit(".", 1)[-1]
        built = ResolvedRecipe(recipe(name, given)).built(20)
        assert built.model.outputs == outputs
        assert built.built(20) == built
        field = next(iter(given))
        for wrong in ([16], [0], [2, 2], []):
            with pytest.raises(ValueError, match=f"method.{field} are numbers"):
                ResolvedRecipe(recipe(name, {field: wrong})).built(20)
    assert ResolvedRecipe(recipe("individual", {"blocks": 2})).built(20).model.blocks == 2
    with pytest.raises(ValueError, match="1 to 4"):
        ResolvedRecipe(recipe("individual", {"blocks": 5})).built(20)
    for blocks, start, taken in (
        (3, "first", [0, 1, 2]),
        (3, "even", [0, 4, 7]),
        (1, "even", [0]),
        (8, "even", list(range(8))),
    ):
        options = individual.Options(blocks=blocks, start=start)
        assert individual.Method.blocks_of(options, 8) == taken
    assert {"simple_topk", "iterative_zero_out", "aux_loss", "individual"} <= set(
        plugins.names("methods")
    )
