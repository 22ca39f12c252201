"""The LSTM transducer: torch's LSTM under the weights of the pass, streams token-identical, every
matrix prunable and heard by CSP.
"""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from torch.func import functional_call

from core import cost, paths, runtime
from core.evaluation import conditions
from core.layers.lstm import LSTM
from core.methods import csp
from core.models import lstm_transducer
from core.models.base import with_weights
from core.pipelines import build as building
from core.pipelines.resolved import ResolvedRecipe
from core.records import BRANCH_KINDS, Choice, Recipe
from core.registry import catalog, plugins, recipes as recipe_files
from core.sparsity import blocks
from core.speech.features import fbank
from core.storage import packing, store
from core.training.options import Options as TrainingOptions
from core.training.trainer import Trainer
from dashboard.charts.layers import KIND_STYLE, short_name
from tests import standin, tiny
from tests.models import test_transducer
from tests.standin import reference

SMALL = {"blocks": 2, "width": 32, "embedding": 16, "joint": 32}
VARIANTS = ({}, {"expansion": 2, "predictor": "lstm"})  # with and without projections


def built(vocabulary: int = tiny.VOCABULARY, **changes) -> lstm_transducer.LSTMTransducer:
    torch.manual_seed(0)
    return lstm_transducer.build(lstm_transducer.Options(**SMALL | changes), vocabulary)


def masks_of(model, pattern: str, sparsity: float) -> dict[str, torch.Tensor]:
    spec = cost.with_pattern(model.spec(), pattern)
    return blocks.block_masks(
        blocks.rank_all(dict(model.named_parameters()), spec.units),
        spec,
        cost.uniform(spec, sparsity),
    )


# the layer


@pytest.mark.parametrize("cells", [16, 24])
def test_the_layer_is_torchs_lstm_whole_and_in_pieces(cells):
    torch.manual_seed(0)
    ours, theirs = LSTM(16, cells), torch.nn.LSTM(16, cells, batch_first=True)
    theirs.load_state_dict(
        {
            "weight_ih_l0": ours.input.weight,
            "weight_hh_l0": ours.recurrent.weight,
            "bias_ih_l0": ours.input.bias,
            "bias_hh_l0": torch.zeros(4 * cells),
        }
    )
    x, (h, c) = torch.randn(2, 30, 16), torch.randn(2, 2, cells)
    with torch.no_grad():
        expected, (h1, c1) = theirs(x, (h[None], c[None]))
        whole = ours(x, h, c)
        torch.testing.assert_close(whole, (ours.projection(expected), h1[0], c1[0]))
        parts = []
        for piece in x.split([1, 7, 22], 1):
            part, h, c = ours(piece, h, c)
            parts.append(part)
    torch.testing.assert_close((torch.cat(parts, 1), h, c), whole)
    bias = ours.input.bias.detach()
    assert float(bias[cells : 2 * cells].min()) > 0.7 and float(bias[:cells].abs().max()) <= 0.25, (
        "forget gates are open"
    )


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("pattern", cost.PATTERNS)
@pytest.mark.parametrize("changes", VARIANTS)
def test_a_masked_pass_is_that_of_a_copy_with_the_product_baked_in(changes, pattern, bf16):
    """Encoder, loss and gradients: nothing keeps a list of weights of its own beside the
    parameters, as torch.nn.LSTM does.
    """
    model, baked = built(**changes), built(**changes)
    masks = masks_of(model, pattern, 0.5)
    units = {f"{u.name}.weight": u for u in model.spec().units}
    assert set(masks) == set(units)
    batch = tiny.batch()
    baked.load_state_dict(blocks.masked(dict(model.named_parameters()), masks))

    def loss(of, weights):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = functional_call(of, weights, (batch.features, batch.lengths))
        return output.encodings, with_weights(of, weights, lambda m: m.loss(output, batch))

    parameters = dict(model.named_parameters())
    found, value = loss(model, blocks.masked(parameters, masks))
    expected, same = loss(baked, dict(baked.named_parameters()))
    assert (
        torch.equal(found, expected)
        and torch.equal(value, same)
        and found.dtype == (torch.bfloat16 if bf16 else torch.float32)
    )
    assert not torch.allclose(
        found, model(batch.features, batch.lengths).encodings.to(found.dtype), atol=1e-2
    )
    value.backward()
    same.backward()
    theirs = dict(baked.named_parameters())
    for name, mask in masks.items():
        gradient = parameters[name].grad
        expected = blocks.multiply(theirs[name].grad, mask)
        assert float(gradient.abs().max()) > 0 and (bf16 or torch.equal(gradient, expected)), name
        # autocast casts a leaf once and sums its gradients in bf16, those of a product in fp32
        torch.testing.assert_close(
            gradient, expected, rtol=0, atol=0.02 * float(expected.abs().max()), msg=name
        )


# the encoder


@pytest.mark.parametrize("changes", VARIANTS)
def test_nothing_of_the_future_is_heard_and_a_batch_changes_nothing(changes):
    model = built(**changes).eval()
    features = torch.randn(2, 202, 80)
    features[1, 131:] = 0
    with torch.inference_mode():
        both = model(features, torch.tensor([202, 131]))
        alone = model(features[1:, :131], torch.tensor([131]))
        assert both.lengths.tolist() == [51, 33] and alone.encodings.shape[1] == 33
        torch.testing.assert_close(both.encodings[1, :33], alone.encodings[0], atol=1e-5, rtol=0)
        later = features.clone()
        later[:, 100:] += 1
        changed = (
            (model(later, torch.tensor([202, 131])).encodings - both.encodings).abs().amax(-1)[0]
        )
        assert float(changed[:25].max()) == 0 and float(changed[25:].min()) > 0, (
            "to the end: the state remembers"
        )


def test_gates_skip_scale_and_reach_single_utterances():
    model = built().eval()
    features, lengths = torch.randn(2, 64, 80), torch.tensor([64, 64])
    assert {u.branch for u in model.spec().units} == {"", "layers.0", "layers.1"}
    whole, calls = model(features, lengths).encodings, []
    model.layers[1].register_forward_hook(lambda *_: calls.append(1))
    skipped = model(features, lengths, gates={"layers.1": 0.0}).encodings
    state = {n: torch.randn_like(t) for n, t in model.initial_state().items()}
    _, after = model.stream(features[:1, :16], torch.tensor([4]), state, gates={"layers.1": 0.0})
    assert not calls
    assert all(
        torch.equal(after[n][:, 1], state[n][:, 1])
        and not torch.equal(after[n][:, 0], state[n][:, 0])
        for n in state
    )
    first, state = model.stream(
        features[:, :24], torch.tensor([6, 6]), model.initial_state(2), gates={"layers.1": 0.0}
    )
    rest, _ = model.stream(features[:, 24:], torch.tensor([10, 10]), state, gates={"layers.1": 0.0})
    torch.testing.assert_close(torch.cat([first, rest], 1), skipped)
    gate = torch.tensor([0.0, 1.0], requires_grad=True)
    mixed = model(features, lengths, gates={"layers.1": gate}).encodings
    torch.testing.assert_close(mixed[0], skipped[0])
    torch.testing.assert_close(mixed[1], whole[1])
    assert calls and not torch.allclose(skipped[0], whole[0])
    mixed.square().sum().backward()
    assert gate.grad.abs().min() > 0


# a run of it: files, streams, words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return test_transducer.left_by_training(
        tmp_path_factory.mktemp("runs") / "lstm", built(standin.SYMBOLS), SMALL, ("layers.1",)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chunk_ms", "decoder", "name"),
    [(40, "greedy", "s30"), (160, "modified_beam_search", "s30"), (640, "greedy", "dense")],
)
def test_streams_say_the_same_tokens_as_whole_utterances(run, chunk_ms, decoder, name):
    """Raw samples in random packets, several utterances side by side, end flush included, in
    fp32.
    """
    heard, waves, rng = (
        reference(run, name, chunk_ms=chunk_ms, decoder=decoder),
        test_transducer.sounds(8),
        np.random.default_rng(0),
    )
    whole = heard.tokens([fbank(w) for w in waves])
    assert (
        len(set(map(tuple, whole))) > 6
        and 40 < sum(map(len, whole)) < 0.95 * sum(map(len, waves)) / 640
    )
    streams = [heard.stream() for _ in waves]
    packets = [np.split(w, np.sort(rng.integers(0, len(w), rng.integers(0, 20)))) for w in waves]
    for round_ in itertools.zip_longest(*packets):
        for stream, packet in zip(streams, round_):
            if packet is not None:
                stream.accept(packet)
                assert {n: t.shape for n, t in stream.state.items()} == dict.fromkeys(
                    ("hidden", "cell"), (1, 2, 32)
                )
    for stream, ids in zip(streams, whole):
        assert stream.finish() == heard.tokenizer.decode(ids) and stream.decoder.decoder.ids == ids
    assert heard.conditions["chunk_ms"] == chunk_ms and heard.conditions["lookahead_ms"] == 7.5


@pytest.mark.parametrize("name", ["dense", "s30", "off"])
def test_the_file_read_back_is_the_masked_supernet(run, name):
    subnet, spec = store.subnet(run, name), store.spec(run)
    model = built(standin.SYMBOLS).eval()
    weights = {
        n: torch.from_numpy(t.astype(np.float32))
        for n, t in packing.load_tensors((run / paths.WEIGHTS).read_bytes()).items()
    }
    ranks = {n: torch.from_numpy(r.astype(np.int64)) for n, r in store.ranks(run).items()}
    weights = blocks.masked(weights, blocks.block_masks(ranks, spec, subnet.keep))
    heard = reference(run, name)
    assert set(heard.gates) == ({"layers.1"} if name == "off" else set())
    stored = set(packing.load_tensors(runtime.packed(run, name)))
    assert any(n.startswith("layers.1.") for n in stored) == (name != "off"), (
        "nothing of a layer that is not run"
    )
    features, lengths = torch.randn(2, 160, 80), torch.tensor([160, 150])
    with torch.inference_mode():
        expected = functional_call(
            model, weights, (features, lengths), {"gates": dict.fromkeys(heard.gates, 0.0)}
        )
        assert torch.equal(
            heard.model(features, lengths, gates=heard.gates).encodings, expected.encodings
        )
    assert abs(cost.file_bytes(spec, subnet.keep) - heard.conditions["file_bytes"]) < 6_500


# what it is made of


def test_anatomy_by_hand():
    shape = built(256, expansion=2).spec()
    assert (shape.lookahead_ms, shape.left_context_ms) == (7.5, 0.0)
    # input 80 x 8 at 100 Hz; layers 4 H D + 4 H H + H D; D E; V E at 25; 2 e E at 15
    macs = (
        640 * 100
        + 2 * (4 * 64 * 32 + 4 * 64 * 64 + 64 * 32) * 25
        + 1024 * 25
        + 256 * 32 * 25
        + 32 * 32 * 15
    )
    assert cost.macs_per_second(shape) == pytest.approx(macs)
    assert cost.macs_nonzero_per_second(shape, cost.uniform(shape, 0.5)) == pytest.approx(macs / 2)
    assert cost.branches_off(shape, cost.uniform(shape, 1.0)) == {"layers.0", "layers.1"}


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_matrix_is_a_unit_that_can_be_drawn(changes):
    model = built(256, **changes)
    units = {u.name: u for u in model.spec().units}
    two_dimensional = {
        n.removesuffix(".weight")
        for n, p in model.named_parameters()
        if p.dim() == 2 and "embedding" not in n
    }
    assert set(units) == two_dimensional and {
        "layers.1.input",
        "layers.1.recurrent",
        "joiner.linear",
    } <= set(units)
    assert (
        ("layers.0.projection" in units)
        == ("expansion" in changes)
        == ("predictor.lstm.lstm_layers.0.p2g" in units)
    )
    assert {u.kind for u in units.values()} <= set(BRANCH_KINDS) == set(KIND_STYLE)
    assert (
        units["layers.1.recurrent"].kind == "recurrent"
        and short_name("layers.1.recurrent", 1) == "recurrent"
    )
    assert {u.name for u in built(29).spec().units} == {u.name for u in built(256).spec().units} - {
        "joiner.linear"
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": 72}, "model.width is 72; it must be a multiple of 32"),
        ({"joint": 20}, "model.joint is 20.*multiple of 8"),
        ({"embedding": 12}, "model.embedding is 12"),
        ({"expansion": 0}, "model.expansion: expected a number from 1 to 8"),
        ({"predictor": "gru"}, "model.predictor: expected one of 'stateless', 'lstm'"),
    ],
)
def test_wrong_options_are_named(given, words):
    with pytest.raises(ValueError, match=words):
        lstm_transducer.build(
            plugins.make_options(lstm_transducer.Options, SMALL | given, "model"), 29
        )


# methods


def trained(
    folder,
    name: str,
    updates: int = 4,
    precision: str = "fp32",
    model: dict | None = None,
    **options,
) -> Trainer:
    module, net = plugins.load("methods", name), built(**model or {})
    made = module.Options(**options)
    method = module.Method(
        made, net, cost.with_pattern(net.spec(), getattr(made, "pattern", "8x1")), updates, 3
    )
    settings = TrainingOptions(
        updates=updates, threads=1, precision=precision, peak_lr=5e-3, checkpoint_every=1000
    )
    trainer = Trainer(net, method, tiny.Batches(), settings, 3, folder)
    trainer.run(lambda *_: True)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tiny_one_learns_and_a_second_time_draws_the_same(tmp_path, precision):
    made, again = (trained(tmp_path, "dense", updates=40, precision=precision) for _ in range(2))
    assert all(torch.equal(made.parameters[n], p) for n, p in again.parameters.items()), (
        "seeded, dropout included"
    )
    rows = [
        json.loads(line)["loss"]["dense"]
        for line in (tmp_path / paths.METRICS).read_text().splitlines()
    ]
    assert rows[3] < 0.7 * rows[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "zeros"),
    [
        (
            "gradual_magnitude",
            {"sparsity": 0.75, "ramp_end": 0.5, "refresh": 1, "pattern": "8x1"},
            0.75,
        ),
        (
            "gradual_magnitude",
            {"sparsity": 0.5, "ramp_end": 0.5, "refresh": 1, "pattern": "2:4"},
            0.5,
        ),
        ("csp", {"sparsity": 0.75, "ramp_end": 0.5, "refresh": 1, "pattern": "1x1"}, 0.75),
        (
            "csp",
            {"sparsity": 0.5, "ramp_end": 0.5, "refresh": 1, "pattern": "2:4", "reading": "random"},
            0.5,
        ),
    ],
)
def test_a_pruned_one_has_its_zeros_and_they_stay(tmp_path, name, options, zeros):
    made = trained(tmp_path, name, model=VARIANTS[1], **options)
    subnet = made.method.results(made.averaged).subnets[0]
    assert subnet.sparsity == pytest.approx(zeros, abs=0.01)
    weights = blocks.masked(made.parameters, made.method.mask(made.method.plan(3)[0].subnet, 3))
    for unit in made.method.spec.units:
        assert float((weights[f"{unit.name}.weight"] == 0).float().mean()) == pytest.approx(
            zeros, abs=0.01
        ), unit.name


@pytest.mark.slow
def test_omni_trains_any_sparsity_and_leaves_out_layers(tmp_path):
    made = trained(tmp_path / "a", "omni_sparsity", distillation="none", warmup=0.25, sparsest=0.8)
    assert set(made.method.results(made.averaged).ranks) == {u.name for u in made.method.spec.units}
    deep = trained(
        tmp_path / "b",
        "omni",
        updates=8,
        distillation="none",
        warmup=0.25,
        whole=0.0,
        model={"blocks": 4},
    )
    off = [
        set(deep.method.gates(p.subnet, s))
        for s in range(2, 8)
        for p in deep.method.plan(s)
        if p.name == "random"
    ]
    assert set().union(*off) <= {f"layers.{i}" for i in range(4)} and 0 < max(map(len, off)) <= 2


@pytest.mark.slow
def test_csp_hears_the_inputs_of_every_matrix():
    """Reading R3: X'X of each, the recurrent matrices' inputs being what the layer said a frame
    before.
    """
    model = built(256, **VARIANTS[1])
    method = csp.Method(
        csp.Options(refresh=1, ramp_end=0.5),
        model,
        cost.with_pattern(model.spec(), "1x1"),
        10,
        1,
    )
    batch, seen, said = tiny.batch(), {}, {}
    layer = model.layers[1]
    hooks = [
        layer.norm.register_forward_hook(lambda m, i, o: seen.update(input=o)),
        layer.projection.register_forward_pre_hook(lambda m, i: said.update(said=i[0])),
    ]
    method.plan(0)
    model.loss(model(batch.features, batch.lengths), batch).backward()
    for hook in hooks:
        hook.remove()
    assert set(method.metrics) == {u.name for u in method.spec.units}
    seen["projection"] = said["said"]
    seen["recurrent"] = torch.cat([torch.zeros_like(said["said"][:, :1]), said["said"][:, :-1]], 1)
    for name, x in seen.items():
        x = x.detach().flatten(0, -2)
        torch.testing.assert_close(
            method.metrics[f"layers.1.{name}"], x.T @ x, rtol=1e-4, atol=1e-4
        )
    method.after_step(0)
    assert set(method.auxiliary) == {u.name for u in method.spec.units} and method.metrics == {}


def recipe_of(method: str, **options) -> Recipe:
    return Recipe(Choice("manifest"), Choice("lstm_transducer", SMALL), Choice(method, options))


@pytest.mark.slow
def test_methods_that_need_what_it_lacks_say_so_before_anything_is_trained():
    for method in ("simple_topk", "iterative_zero_out", "aux_loss"):
        with pytest.raises(
            ValueError, match=f"{method}.*model.outputs.*lstm_transducer does not have"
        ):
            ResolvedRecipe(recipe_of(method)).built(29)
    for method in ("omni_sparsity", "omni"):
        with pytest.raises(ValueError, match="method.distillation is 'kl'.*allowed is 'none'"):
            building.build(ResolvedRecipe(recipe_of(method)), 29, 10)
    with pytest.raises(ValueError, match="training.chunks_ms 120 is not possible.*40, 80, 160"):
        building.check_model(built(), TrainingOptions(chunks_ms=[120]), conditions.Options())
    building.check_model(built(), TrainingOptions(), conditions.Options())


@pytest.mark.slow
def test_other_architectures_can_be_made_of_it():
    wide = dataclasses.replace(
        recipe_of("small_dense", same_bytes_as=0.6),
        model=Choice("lstm_transducer", SMALL | {"width": 160}),
    )
    assert ResolvedRecipe(wide).built(29).model.width in (64, 96)
    assert ResolvedRecipe(recipe_of("individual", blocks=1)).built(29).model.blocks == 1


def test_the_recipe_and_the_card_say_the_same_model():
    recipe = recipe_files.load_recipe("lstm_transducer_commands")
    model, method = building.build(ResolvedRecipe(recipe), recipe.tokens["size"], 100)
    building.check_model(
        model,
        plugins.make_options(TrainingOptions, recipe.training, "training"),
        ResolvedRecipe(recipe).evaluation,
    )
    assert (
        isinstance(model, lstm_transducer.LSTMTransducer) and cost.pattern_of(method.spec) == "1x1"
    )
    card = catalog.card("models", "lstm_transducer")
    assert {o.name for o in card.options} == {
        f.name for f in dataclasses.fields(lstm_transducer.Options)
    } and not card.broken
