"""The transducer: torchaudio's numbers, RNN-T by hand, streams token-identical, one file that is
the masked supernet, clear refusals.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.func import functional_call
from torch.nn import functional as F

from core import cost, paths
from core.common import writing
from core.decoding import ctc, decoders as decoding
from core.evaluation import conditions, evaluate as evaluation
from core.evaluation.fitness import Fitness
from core.evaluation.material import Material
from core.methods import omni_sparsity
from core.models import conformer_ctc, emformer_transducer
from core.pipelines import build as building
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe, Subnet, as_dict
from core.registry import plugins, recipes as recipe_files
from core.sparsity import blocks
from core.speech import tokenizer
from core.speech.features import fbank
from core.storage import packing, store
from core.training.options import Options as TrainingOptions
from core.training.trainer import Trainer
from tests import standin, tiny
from tests.standin import reference

pytestmark = pytest.mark.slow

SMALL = {
    "blocks": 2,
    "width": 32,
    "expansion": 2,
    "heads": 2,
    "left_context": 7,
    "embedding": 16,
    "joint": 32,
}


def built(vocabulary: int = tiny.VOCABULARY, **changes):
    torch.manual_seed(0)
    return emformer_transducer.build(emformer_transducer.Options(**SMALL | changes), vocabulary)


def talkative(model, features):
    """A joiner that listens to what varies most and is silent half of the time, more to the sound
    than to what was said: a random one
    repeats one token.
    """
    with torch.no_grad():
        norm = (
            model.predictor.lstm.output_layer_norm
            if model.options.predictor == "lstm"
            else model.predictor.norm
        )
        norm.weight.mul_(0.3)
        frames = model(features, torch.tensor([features.shape[1]])).frames[0]
        said = model.predict(
            torch.randint(1, model.vocabulary, (len(frames),)), model.begin(len(frames))[1]
        )[0]
        heard = model.joiner.activation(frames + said)
        mean = heard.mean(0)
        _, scale, directions = torch.linalg.svd(heard - mean, full_matrices=False)
        mixed = (
            torch.randn(model.vocabulary, 6)
            @ (directions[:6] / scale[:6, None])
            * len(heard) ** 0.5
        )
        model.joiner.linear.weight.copy_(mixed)
        model.joiner.linear.bias.copy_(-mixed @ mean)
        logits = model.joiner.linear(heard)
        model.joiner.linear.bias[0] += (logits[:, 1:].amax(1) - logits[:, 0]).median()
    return model


# the encoder


@pytest.mark.parametrize(
    "changes",
    [{}, {"right_context": 0, "left_context": 0}, {"right_context": 16, "left_context": 12}],
)
def test_the_encoder_is_torchaudios_whole_and_segment_by_segment(changes):
    model = built(**changes).eval()
    features, right = torch.randn(3, 160, 80), model.ahead
    with torch.inference_mode():
        ours = model(features, torch.tensor([160, 160, 160]), chunk=4).encodings
        padded = F.pad(features, (0, 0, 0, right))
        theirs, _ = model.transcriber(padded, torch.tensor([160, 160, 160]))
        state, their_state, parts, their_parts = model.initial_state(3), None, [], []
        for at in range(0, 160, 16):
            window = padded[:, at : at + 16 + right]
            part, state = model.stream(window, torch.tensor([4] * 3), state)
            their_part, _, their_state = model.transcriber.infer(
                window, torch.tensor([16 + right] * 3), their_state
            )
            parts.append(part)
            their_parts.append(their_part)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(parts, 1), torch.cat(their_parts, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(parts, 1), ours, atol=1e-5, rtol=0)


def test_a_batch_changes_nothing_and_the_future_beyond_the_right_context_neither():
    model = built().eval()
    features = torch.randn(2, 200, 80)
    features[1, 131:] = 0
    with torch.inference_mode():
        both = model(features, torch.tensor([200, 131]))
        alone = model(features[1:, :131], torch.tensor([131]))
        assert both.lengths.tolist() == [50, 33] and alone.encodings.shape[1] == 33
        torch.testing.assert_close(both.encodings[1, :33], alone.encodings[0], atol=1e-5, rtol=0)
        later = features.clone()
        later[:, 36:] += 1  # two segments of 16 frames and 4 of right context end here
        changed = (
            (model(later, torch.tensor([200, 131])).encodings - both.encodings).abs().amax(-1)[0]
        )
        assert float(changed[:8].max()) == 0 and float(changed[8:12].min()) > 0
        later = features.clone()
        later[:, 35] += 1
        assert (
            float(
                (model(later, torch.tensor([200, 131])).encodings - both.encodings)[0, 4:8]
                .abs()
                .min()
            )
            > 0
        )


def test_gates_skip_scale_and_reach_single_utterances():
    model = built().eval()
    features, lengths = torch.randn(2, 64, 80), torch.tensor([64, 64])
    branches = [
        "transcriber.transformer.emformer_layers.1.attention",
        "transcriber.transformer.emformer_layers.0.pos_ff",
    ]
    assert set(branches) <= {u.branch for u in model.spec().units}
    whole = model(features, lengths).encodings
    for branch in branches:
        calls = []
        linear = model.get_submodule(branch + (".out_proj" if "attention" in branch else ".1"))
        hook = linear.register_forward_hook(lambda *_: calls.append(1))
        skipped = model(features, lengths, gates={branch: 0.0}).encodings
        state = model.initial_state()
        part, _ = model.stream(features[:1, :20], torch.tensor([4]), state, gates={branch: 0.0})
        assert not calls
        hook.remove()
        gate = torch.tensor([0.0, 1.0], requires_grad=True)
        mixed = model(features, lengths, gates={branch: gate}).encodings
        torch.testing.assert_close(mixed[0], skipped[0])
        torch.testing.assert_close(mixed[1], whole[1])
        torch.testing.assert_close(part[0], skipped[0, :4], atol=1e-5, rtol=0)
        assert not torch.allclose(skipped[0], whole[0])
        mixed.square().sum().backward()
        assert gate.grad.abs().min() > 0


# the loss and the decoders


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_the_loss_is_the_sum_over_all_alignments_of_what_the_decoders_see(predictor):
    """-log of the summed probability of every path of 3 frames and 2 tokens, by begin, predict and
    join.
    """
    model = built(predictor=predictor).eval()
    batch = dataclasses.replace(
        tiny.batch(utterances=2, frames=12),
        lengths=torch.tensor([12, 8]),
        token_lengths=torch.tensor([2, 1]),
    )
    with torch.no_grad():
        output = model(batch.features, batch.lengths)
        losses = model.loss(output, batch, "none")
        assert float(model.loss(output, batch)) == pytest.approx(float(losses.sum()))
        for b, (frames, tokens) in enumerate(
            [(3, batch.tokens[0, :2].tolist()), (2, batch.tokens[1, :1].tolist())]
        ):
            said, state = model.begin(1)
            columns = [said]
            for token in tokens:
                said, state = model.predict(torch.tensor([token]), state)
                columns.append(said)
            log = [
                [model.join(output.encodings[b, t : t + 1], c)[0].log_softmax(-1) for c in columns]
                for t in range(frames)
            ]
            total = -math.inf
            for moves in set(itertools.permutations([0] * (frames - 1) + [1] * len(tokens))):
                t = u = 0
                score = 0.0
                for move in moves:
                    score += float(log[t][u][tokens[u] if move else 0])
                    t, u = t + (move == 0), u + move
                total = np.logaddexp(total, score + float(log[t][u][0]))
            assert float(losses[b]) == pytest.approx(-total, abs=1e-4)


class Scripted:
    """A transducer by table: log-probabilities [T, 2 contexts, V]; the context is whether anything
    was said, the frame says its number.
    """

    decoding = "transducer"

    def __init__(self, table):
        self.table = table

    def begin(self, count):
        return torch.zeros(count, 1), torch.zeros(count, 1)

    def predict(self, tokens, state):
        return torch.ones(len(tokens), 1), state + 1

    def join(self, frames, said):
        return self.table[frames[:, 0].long(), said[:, 0].long()]


def test_a_wide_beam_is_exact_a_narrow_one_may_beat_greedy():
    torch.manual_seed(4)
    beaten = 0
    for _ in range(60):
        table = (2 * torch.randn(4, 2, 3)).log_softmax(-1)
        scores: dict[tuple, float] = {}
        for path in itertools.product(range(3), repeat=4):  # at most one token a frame: 81 paths
            said, score = (), 0.0
            for t, token in enumerate(path):
                score += float(table[t, int(bool(said)), token])
                said += (token,) if token else ()
            scores[said] = np.logaddexp(scores.get(said, -math.inf), score)
        best = max(scores, key=lambda s: scores[s] / (len(s) + 2))
        frames = torch.arange(4.0).unsqueeze(1)
        assert tuple(decoding.BeamSearch(Scripted(table), beam=100).read(frames)) == best
        by_greedy, narrow = (
            decoding.TransducerGreedy(Scripted(table)),
            decoding.BeamSearch(Scripted(table)),
        )
        by_greedy.accept(frames)
        value = {
            n: scores[tuple(s)] / (len(s) + 2)
            for n, s in (("greedy", by_greedy.ids), ("beam", narrow.read(frames)))
        }
        beaten += value["beam"] > value["greedy"] + 1e-9
    assert beaten > 3


@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
def test_decoders_carry_the_predictor_as_if_it_read_everything_again(predictor):
    features = torch.randn(2, 400, 80)
    model = talkative(built(predictor=predictor).eval(), features[:1])
    with torch.inference_mode():
        output = model(features, torch.tensor([400, 301]))
        expected: list[list[int]] = [[], []]
        for b, n in enumerate(output.lengths.tolist()):
            for frame in output.encodings[b, :n]:
                said = model.predictor.sequence(torch.tensor([expected[b]], dtype=torch.long))[
                    :, -1
                ]
                token = int(model.join(frame.unsqueeze(0), said).argmax())
                expected[b] += [token] if token else []
        assert decoding.whole(model, output) == expected and min(map(len, expected)) > 15
        for row, n, ids in zip(output.encodings, output.lengths.tolist(), expected):
            assert decoding.BeamSearch(model, beam=1).read(row[:n]) == ids, (
                "a beam of one is greedy"
            )
            wide = decoding.BeamSearch(model)
            wide.read(row[:n])
            for said, encoded in zip(wide.said, wide._encoded):
                torch.testing.assert_close(
                    encoded,
                    model.predictor.sequence(torch.tensor([said]))[0, -1],
                    atol=1e-5,
                    rtol=0,
                )


def test_the_beam_says_what_changed():
    table = torch.tensor([[[0.4, 0.6], [0.4, 0.6]], [[0.999, 0.001], [0.001, 0.999]]]).log()
    state = decoding.BeamSearch(Scripted(table))
    assert (
        state.accept(torch.zeros(1, 1)) == [1]
        and state.accept(torch.ones(1, 1)) == [1]
        and state.ids == [1, 1]
    )
    assert state.accept(torch.zeros(0, 1)) == []


# a run of it: files, streams, words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder as training leaves it, of random weights that say many things."""
    return left_by_training(
        tmp_path_factory.mktemp("runs") / "transducer",
        built(standin.SYMBOLS),
        SMALL,
        ("emformer_layers.1.attention", "emformer_layers.0.pos_ff"),
    )


def left_by_training(folder, model, options: dict, gone: tuple[str, ...]):
    """The files of a run of three sizes; the last leaves out the branches whose names end so."""
    for sub in ("", paths.RANKS, paths.SUBNETS, paths.REPORTS):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    tokenizer.train(
        [*standin.WORDS, "the quick brown fox jumps over the lazy dog", "it's"],
        tokenizer.Options(kind="characters"),
        folder,
    )
    spoken = np.concatenate([fbank(w) for w in sounds(6, seed=9)])
    model = talkative(model.eval(), torch.from_numpy((spoken + 8) / 3)[None])
    recipe = Recipe(
        Choice("voice_commands"), Choice(model.spec().model, options), Choice("omni_sparsity")
    )
    weights = {n: p.detach().half() for n, p in model.named_parameters()}
    ranks = blocks.rank_all({n: w.float() for n, w in weights.items()}, model.spec().units)
    writing.write_json(folder / paths.RECIPE, as_dict(recipe))
    writing.write_json(folder / paths.UNITS, as_dict(model.spec()))
    writing.write_json(folder / paths.FEATURE_STATISTICS, {"mean": [-8.0] * 80, "std": [3.0] * 80})
    save_file(weights, folder / paths.WEIGHTS)
    save_file({n: r.int() for n, r in ranks.items()}, paths.ranks_file(folder))
    for name, keep in (
        ("dense", {}),
        ("s30", cost.uniform(model.spec(), 0.3)),
        ("off", off(model.spec(), gone)),
    ):
        subnet = Subnet(
            name,
            folder.name,
            keep,
            cost.sparsity_reached(model.spec(), keep),
            ranks_sha256=store.ranks_sha256(folder),
        )
        store.save_subnet(folder, subnet)
    return folder


def off(spec, gone: tuple[str, ...]):
    """A size that leaves out branches, and all of a matrix that is on none."""
    return {
        u.name: 0.0 if u.branch.endswith(gone) or u.name.endswith("input_linear") else 0.9
        for u in spec.units
    }


def sounds(count: int, seed: int = 3) -> list[np.ndarray]:
    rng, made = np.random.default_rng(seed), []
    for n in rng.integers(800, 40000, count):
        tone = np.sin(
            2 * np.pi * np.cumsum(rng.uniform(100, 3000, n // 1600 + 1).repeat(1600)[:n]) / 16000
        )
        made.append((0.3 * tone + 0.05 * rng.normal(size=n)).astype(np.float32))
    return made


@pytest.mark.parametrize("decoder", ["greedy", "modified_beam_search"])
def test_streams_say_the_same_tokens_as_whole_utterances(run, decoder):
    """Raw samples in random packets, several utterances side by side, end flush included, in
    fp32.
    """
    heard = reference(run, "s30", decoder=decoder)
    rng, waves = np.random.default_rng(0), sounds(8)
    whole = heard.tokens([fbank(w) for w in waves])
    assert len(set(map(tuple, whole))) > 6 and sum(map(len, whole)) > 60, (
        "the net must say different things"
    )
    assert sum(map(len, whole)) < 0.9 * sum(map(len, waves)) / 640, "and keep silent at times"
    streams = [heard.stream() for _ in waves]
    shapes = {n: t.shape for n, t in streams[0].state.items()}
    packets = [np.split(w, np.sort(rng.integers(0, len(w), rng.integers(0, 20)))) for w in waves]
    for round_ in itertools.zip_longest(*packets):
        for stream, packet in zip(streams, round_):
            if packet is not None:
                stream.accept(packet)
                assert {n: t.shape for n, t in stream.state.items()} == shapes and sum(
                    map(len, stream.waiting)
                ) < 16 + 4
    for stream, ids in zip(streams, whole):
        assert stream.finish() == heard.tokenizer.decode(ids) and stream.decoder.decoder.ids == ids
    assert heard.conditions["decoder"] == decoder and heard.conditions["chunk_ms"] == 160.0


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
    assert set(heard.gates) == cost.branches_off(spec, subnet.keep) and len(heard.gates) == 2 * (
        name == "off"
    )
    features = torch.randn(2, 160, 80)
    with torch.inference_mode():
        given = {"gates": dict.fromkeys(cost.branches_off(spec, subnet.keep), 0.0)}
        expected = functional_call(model, weights, (features, torch.tensor([160, 150])), given)
        found = heard.model(features, torch.tensor([160, 150]), gates=heard.gates)
        assert torch.equal(found.encodings, expected.encodings)
        model.load_state_dict(weights)
        assert decoding.whole(heard.model, found) == decoding.whole(model, expected)
    assert abs(cost.file_bytes(spec, subnet.keep) - heard.conditions["file_bytes"]) < 6_500


def test_chunks_and_decoders_that_cannot_be_are_refused(run):
    for chunk_ms in (0, 320, 150):
        with pytest.raises(
            ValueError, match=f"chunk_ms {chunk_ms} is not possible.*allowed are 160"
        ):
            reference(run, chunk_ms=chunk_ms)
    with pytest.raises(ValueError, match="'fastest'.*allowed are greedy, modified_beam_search"):
        reference(run, decoder="fastest")
    with pytest.raises(
        ValueError, match=r"'modified_beam_search'.*\(ctc\); allowed are greedy, graph"
    ):
        ctc.check(tiny.model().decoding, "modified_beam_search")


# what it is made of


def test_anatomy_by_hand():
    model = built(256)
    shape = model.spec()
    assert cost.parameters(shape) == sum(p.numel() for p in model.parameters())
    assert (shape.lookahead_ms, shape.left_context_ms) == (47.5, 280.0)
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {u.name for u in shape.units} == linear, "every linear layer is prunable"
    assert {u.name for u in built(29).spec().units} == linear - {"joiner.linear"}, (
        "29 outputs are no whole blocks"
    )
    assert {u.name for u in built(256, predictor="lstm").spec().units} > {
        "predictor.lstm.lstm_layers.2.p2g",
        "joiner.linear",
    }
    # input 80 x 8 at 125 Hz; layers 4 D D + 2 D 2 D and their products (8 + 5 keys, twice) at
    # 31.25; D E; V E at 25; 2 e E at 15
    macs = (
        640 * 125
        + 2 * (4 * 1024 + 4 * 1024 + 2 * 13 * 32) * 31.25
        + 1024 * 25
        + 256 * 32 * 25
        + 32 * 32 * 15
    )
    assert cost.macs_per_second(shape) == pytest.approx(macs)
    assert cost.branches_off(shape, cost.uniform(shape, 1.0)) == {
        u.branch for u in shape.units if "layers" in u.branch
    }
    half = cost.uniform(shape, 0.5)
    assert cost.macs_nonzero_per_second(shape, half) == pytest.approx(
        (macs + 2 * 2 * 13 * 32 * 31.25) / 2
    )


def test_the_paper_has_76_7_million_parameters_and_the_recipes_load():
    recipe = recipe_files.load_recipe("paper_transducer")
    options = plugins.make_options(emformer_transducer.Options, recipe.model.options, "model")
    with torch.device("meta"):
        model = emformer_transducer.build(options, recipe.tokens["size"])
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(76.7e6, abs=0.1e6)
    for name in ("paper_transducer", "transducer_commands"):
        recipe = recipe_files.load_recipe(name)
        building.check_model(
            model,
            plugins.make_options(TrainingOptions, recipe.training, "training"),
            ResolvedRecipe(recipe).evaluation,
        )
        made = omni_sparsity.Options(**recipe.method.options)
        omni_sparsity.Method(made, model, model.spec(), 10, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": 72}, "model.width is 72; it must be a multiple of 32"),
        ({"heads": 3}, "model.heads is 3.*model.width, 32"),
        ({"segment": 10}, "model.segment is 10.*multiple of 4"),
        ({"right_context": 20}, "right_context is 20.*0 to model.segment, 16"),
        ({"joint": 20}, "model.joint is 20.*multiple of 8"),
        ({"embedding": 12}, "model.embedding is 12"),
        ({"predictor": "gru"}, "model.predictor: expected one of 'stateless', 'lstm'"),
        ({"blocks": 0}, "model.blocks: expected a number from 1 to 64"),
    ],
)
def test_wrong_options_are_named(given, words):
    with pytest.raises(ValueError, match=words):
        emformer_transducer.build(
            plugins.make_options(emformer_transducer.Options, SMALL | given, "model"), 29
        )


# methods


def trained(folder, name: str, updates: int = 4, precision: str = "fp32", **options) -> Trainer:
    module, model = plugins.load("methods", name), built()
    method = module.Method(module.Options(**options), model, model.spec(), updates, 3)
    settings = TrainingOptions(
        updates=updates,
        threads=1,
        precision=precision,
        chunks_ms=[160],
        peak_lr=5e-3,
        checkpoint_every=1000,
    )
    made = Trainer(model, method, tiny.Batches(), settings, 3, folder)
    made.run(lambda *_: True)
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_sandwich_trains_it_and_only_kept_weights_get_gradients(tmp_path, precision):
    made = trained(
        tmp_path,
        "omni_sparsity",
        precision=precision,
        distillation="none",
        warmup=0.25,
        sparsest=0.8,
    )
    assert set(made.method.results(made.averaged).ranks) == {u.name for u in made.method.spec.units}
    for parameter in made.parameters.values():
        parameter.grad = None
    a_pass = made.method.plan(3)[1]
    made.run_pass(a_pass, tiny.batch(), 4, None, 1)
    masks = made.method.mask(a_pass.subnet, 3)
    assert {u.name + ".weight" for u in made.method.spec.units} == set(masks)
    for name in (
        "predictor.linear.weight",
        "transcriber.output_linear.weight",
        "transcriber.input_linear.weight",
    ):
        gradient = made.parameters[name].grad.unflatten(0, (-1, 8))
        assert (
            float(gradient[~masks[name].expand_as(gradient)].abs().max())
            == 0
            < float(gradient.abs().max())
        ), name


def test_a_tiny_one_learns_and_a_resumed_pass_draws_the_same(tmp_path):
    made = trained(tmp_path, "dense", updates=40)
    again = trained(tmp_path, "dense", updates=40)
    assert all(torch.equal(made.parameters[n], p) for n, p in again.parameters.items()), (
        "seeded, dropout included"
    )
    rows = [
        json.loads(line)["loss"]["dense"]
        for line in (tmp_path / paths.METRICS).read_text().splitlines()
    ]
    assert rows[3] < 0.7 * rows[0]


@pytest.mark.parametrize("method", ["gradual_magnitude", "csp"])
def test_a_pruned_one_has_its_zeros(tmp_path, method):
    made = trained(tmp_path, method, sparsity=0.75, ramp_end=0.5, refresh=1)
    subnet = made.method.results(made.averaged).subnets[0]
    assert subnet.sparsity == pytest.approx(0.75, abs=0.01)


def recipe_of(method: str, **options) -> Recipe:
    return Recipe(Choice("manifest"), Choice("emformer_transducer", SMALL), Choice(method, options))


def test_methods_that_need_what_it_lacks_say_so_before_anything_is_trained():
    for method in ("simple_topk", "iterative_zero_out", "aux_loss"):
        with pytest.raises(
            ValueError, match=f"{method}.*model.outputs.*emformer_transducer does not have"
        ):
            ResolvedRecipe(recipe_of(method)).built(29)
    for method in ("omni_sparsity", "omni"):
        with pytest.raises(ValueError, match="method.distillation is 'kl'.*allowed is 'none'"):
            building.build(ResolvedRecipe(recipe_of(method)), 29, 10)
        building.build(ResolvedRecipe(recipe_of(method, distillation="none")), 29, 10)
    for field, training, measured in (
        ("training.chunks_ms 320", {"chunks_ms": [160, 320]}, {"chunk_ms": 160.0}),
        ("evaluation.chunk_ms 320", {"chunks_ms": [160]}, {}),
    ):
        with pytest.raises(ValueError, match=f"{field} is not possible.*160"):
            building.check_model(
                built(), TrainingOptions(**training), conditions.Options(**measured)
            )
    with pytest.raises(ValueError, match="'modified_beam_search'"):
        building.check_model(
            conformer_ctc.build(conformer_ctc.Options(blocks=1, width=8, heads=1), 29),
            TrainingOptions(),
            conditions.Options(decoder="modified_beam_search"),
        )


def test_other_architectures_can_be_made_of_it():
    wide = dataclasses.replace(
        recipe_of("small_dense", same_bytes_as=0.6),
        model=Choice("emformer_transducer", SMALL | {"width": 160}),
    )
    assert ResolvedRecipe(wide).built(29).model.width in (64, 96)
    assert ResolvedRecipe(recipe_of("individual", blocks=1)).built(29).model.blocks == 1


# what searches, curves and reports hear


def test_search_and_reports_decode_under_the_masks(run):
    """Word errors of the supernet under masks and gates, as the search measures them, are those of
    the packed file.
    """
    waves, heard = sounds(6), reference(run, "off")
    features = [fbank(w) for w in waves]
    texts = [t or "none" for t in heard.transcribe(features[::-1])]
    rows = [
        SimpleNamespace(
            id=f"u{i}",
            speaker=f"s{i % 2}",
            corpus="tiny",
            text=texts[i],
            tokens=[1 + i, 2, 3],
            seconds=len(f) / 100,
            frames={1.0: (0, len(f))},
            features=f,
        )
        for i, f in enumerate(features)
    ]
    prepared = SimpleNamespace(
        rows=lambda split: rows,
        speeds=lambda split: (1.0,),
        shares={},
        features=lambda row, speed: row.features,
        tokenizer=heard.tokenizer,
        statistics=SimpleNamespace(mean=heard.mean, std=1 / heard.scale),
    )
    subnet = store.subnet(run, "off")
    measured = Fitness(run, prepared, 100.0, 160.0, 1, seed=1)
    material = Material(
        "test", [r.id for r in rows], texts, [r.speaker for r in rows], 10.0, features, []
    )
    found = {}
    for decoder in ("greedy", "modified_beam_search"):
        options = conditions.Options(
            chunk_ms=160.0, speed_utterances=0, threads=1, repetitions=100, decoder=decoder
        )
        found[decoder], _ = evaluation.evaluate(run, subnet, material, options)
    assert (
        measured.wer(subnet.keep) == found["greedy"].wer != measured.wer({})
        and found["greedy"].decoder == "greedy"
    )
    assert (
        found["modified_beam_search"].decoder == "modified_beam_search"
        and found["modified_beam_search"].lookahead_ms == 47.5
    )
    by_speaker = np.sum([*measured.by_speaker(subnet.keep).values()], 0)
    assert by_speaker[2] / by_speaker[3] == found["greedy"].wer
    assert by_speaker[0] / by_speaker[1] == pytest.approx(measured.loss(subnet.keep), rel=1e-3)
    with pytest.raises(ValueError, match="chunk_ms 320.*allowed are 160"):
        Fitness(run, prepared, 100.0, 320.0, 1, seed=1)
