"""Numbers that can be trusted: known edit counts, intervals against a plain loop, and WER of the
file read back.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

from core import paths, runtime
from core.common import writing
from core.decoding.ctc import greedy
from core.decoding.graph_search import Weights
from core.evaluation import (
    conditions,
    evaluate as evaluation,
    latency as speed,
    provenance,
    scoring,
    sweep,
)
from core.evaluation.material import Material
from core.records import Interrupted
from core.registry import plugins
from core.sparsity import blocks
from core.speech import audio
from core.speech.features import fbank
from core.speech.normalizer import NORMALIZER as TEXT_NORMALIZER
from core.storage import packing, run_files, store
from core.storage.packing import NORMALIZER
from tests import standin
from tests.standin import reference

QUICK = conditions.Options(threads=1, speed_utterances=0, repetitions=500)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(5)
    waves = [
        (0.2 * rng.normal(size=n) * np.sin(np.arange(n) / 700)).astype(np.float32)
        for n in rng.integers(9000, 40000, 10)
    ]
    for i, wave in enumerate(waves):
        audio.write(folder / f"{i}.wav", wave)
    return Material(
        "tiny/test",
        [f"u{i}" for i in range(10)],
        ["yes no stop"] * 10,
        [f"s{i % 3}" for i in range(10)],
        sum(map(len, waves)) / 16000,
        [fbank(w) for w in waves],
        [(str(folder / f"{i}.wav"), 0.0, len(w) / 16000) for i, w in enumerate(waves)],
    )


def test_edits_of_known_answers():
    edits = scoring.word_edits(["a b c d", "", "one two"], ["a x c", "extra", "one two"])
    assert edits.insertions.tolist() == [0, 1, 0] and edits.words.tolist() == [4, 0, 2]
    assert edits.deletions.tolist() == [1, 0, 0] and edits.substitutions.tolist() == [1, 0, 0]
    assert edits.rate == pytest.approx(3 / 6)
    assert scoring.character_edits(["abc"], ["axcd"]).rate == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="as many"):
        scoring.word_edits(["a"], [])


@pytest.mark.slow
def test_bootstrap_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    speakers = [f"s{i}" for i in rng.integers(0, 6, 60)]
    words = rng.integers(3, 12, 60)
    errors = rng.binomial(words, 0.3)
    groups = [np.flatnonzero(np.array(speakers) == s) for s in sorted(set(speakers))]
    rates = []
    for _ in range(4000):
        picks = np.concatenate(
            [rng.choice(groups[s], len(groups[s])) for s in rng.integers(0, 6, 6)]
        )
        rates.append(errors[picks].sum() / words[picks].sum())
    low, high = scoring.bootstrap(errors, words, speakers)
    np.testing.assert_allclose([low, high], np.percentile(rates, [2.5, 97.5]), atol=0.006)
    assert scoring.bootstrap(errors, words, speakers) == (low, high), "seeded"
    assert scoring.resampled_unit(["a", "a"]) == "utterances"
    one = scoring.bootstrap(errors, words, ["same"] * 60)
    assert one[0] < errors.sum() / words.sum() < one[1]


def test_paired_test_and_holm():
    rng = np.random.default_rng(1)
    speakers = [f"s{i % 10}" for i in range(200)]
    words = np.full(200, 10)
    base = rng.binomial(10, 0.2, 200)
    assert scoring.paired(base, base, words, speakers)[3] == 1.0
    worse = scoring.paired(base + rng.binomial(1, 0.5, 200), base, words, speakers)
    assert (
        worse[1] < worse[0] < worse[2]
        and worse[0] == pytest.approx(0.05, abs=0.01)
        and worse[3] < 0.01
    )
    noise = scoring.paired(base + rng.choice([-1, 1], 200) * (base > 0), base, words, speakers)
    assert noise[3] > 0.05
    assert scoring.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert scoring.holm([]) == []


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(2)
    speakers = [f"s{i % 20}" for i in range(100)]
    words = np.full(100, 8)
    pairs = rng.binomial(8, 0.3, (100, 2, 100))
    p = [scoring.paired(a, b, words, speakers, 400)[3] for a, b in pairs]
    assert np.mean(np.array(p) < 0.05) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "s70"])
def test_error_rate_of_the_file_is_that_of_the_masked_supernet(run, material, name):
    """The supernet as training sees it: stored weights times masks from ranks, without packing."""
    subnet, spec, recipe = store.subnet(run, name), store.spec(run), store.recipe(run)
    module = plugins.load("models", recipe.model.name)
    model = module.build(
        plugins.make_options(module.Options, recipe.model.options, "model"), standin.SYMBOLS
    ).eval()
    ranks = {n: torch.from_numpy(r.astype(np.int64)) for n, r in store.ranks(run).items()}
    weights = {n: w.float() for n, w in load_file(run / paths.WEIGHTS).items()}
    weights = blocks.masked(weights, blocks.block_masks(ranks, spec, subnet.keep))
    heard = reference(run, name)
    texts = []
    for features in material.features:
        one = torch.from_numpy(heard.normalized(features)).unsqueeze(0)
        with torch.inference_mode():
            output = functional_call(
                model, weights, (one, torch.tensor([one.shape[1]])), {"chunk": 8}
            )
        texts += [heard.tokenizer.decode(ids) for ids in greedy(output.log_probs, output.lengths)]
    report, rows = evaluation.evaluate(run, subnet, material, QUICK)
    assert [row["hypothesis"] for row in rows] == texts
    assert report.wer == scoring.word_edits(material.references, texts).rate
    assert report.sparsity == pytest.approx(subnet.sparsity, abs=1e-3)
    assert report.wer_low <= report.wer <= report.wer_high


class Prepared:
    """What evaluation asks of prepared data."""

    splits = ["train", "search", "dev", "test"]

    def __init__(self, material):
        self.material = material

    def rows(self, split):
        m = self.material
        names = ("id", "text", "speaker", "corpus", "audio", "offset", "seconds")
        kind = dataclasses.make_dataclass("Row", names)
        return [
            kind(i, t, s, "tiny", *sound)
            for i, t, s, sound in zip(m.ids, m.references, m.speakers, m.sounds)
        ]

    def features(self, row, speed):
        return self.material.features[int(row.id[1:])]


@pytest.mark.slow
def test_many_are_stored_paired_and_not_measured_twice(tmp_path, material, monkeypatch):
    run = standin.make_run(tmp_path, utterances=2)
    subnets = [store.subnet(run, n) for n in ("s90", "dense")]
    told = []
    options = dataclasses.replace(QUICK, speed_utterances=3)
    made = sweep.evaluate_many(
        run,
        subnets,
        Prepared(material),
        options,
        lambda share, text, left: told.append((share, text)) or True,
    )
    assert [(r.subnet, r.split) for r in made] == [("dense", "tiny/test"), ("s90", "tiny/test")]
    dense, sparse = made
    assert dense.delta_wer is None and sparse.delta_wer == pytest.approx(sparse.wer - dense.wer)
    assert sparse in store.reports(run) and told[-1][0] == 1.0
    assert len(store.hypotheses(run, "s90", "tiny/test", 320.0)) == 10
    assert (
        dense.rtf > 0 and dense.chunk_p95_ms >= dense.chunk_median_ms > 0 and dense.peak_rss_mb > 50
    )
    for report in made:  # the file, and what little else loading reads (the model's own source)
        assert report.file_bytes <= report.bytes_read < report.file_bytes + 300_000
    assert (
        sparse.file_bytes < dense.file_bytes
        and sparse.nonzero_parameters < dense.nonzero_parameters
    )
    assert (
        dense.speed_ratio is None
        and 0.1 < sparse.speed_ratio_low <= sparse.speed_ratio <= sparse.speed_ratio_high < 10
    )
    monkeypatch.setattr(sweep, "evaluate", None)
    assert sweep.evaluate_many(run, subnets, Prepared(material), options) == made
    with pytest.raises(Interrupted):
        sweep.evaluate_many(run, subnets, Prepared(material), options, lambda *_: False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "precision"), [("onnx", "fp32"), ("onnx", "int8"), ("sparse", "fp32")]
)
def test_an_engine_of_devices_has_reports_of_its_own(engine, precision, tmp_path, material):
    """The very file in the runtime that people use: beside the reference's, never in its place."""
    run, prepared = standin.make_run(tmp_path, utterances=2), Prepared(material)
    for report in store.reports(run):
        paths.report_file(run, report.subnet, report.split, report.chunk_ms).unlink()
    subnets = [store.subnet(run, n) for n in ("dense", "s90")]
    options = dataclasses.replace(QUICK, splits=["test"])
    reference = sweep.evaluate_many(run, subnets, prepared, options)
    other = dataclasses.replace(options, engine=engine, precision=precision, threads=2)
    found = sweep.evaluate_many(run, subnets, prepared, other)
    assert len(store.reports(run)) == 4
    assert {(r.engine, r.precision) for r in found} == {(engine, precision)}
    assert found[1].delta_wer is not None, "paired with dense on the same engine"
    where = ("tiny/test", 320.0, "greedy", "none")
    for mine, theirs in zip(found, reference):
        assert theirs.engine == "torch" and mine.runtime != theirs.runtime
        texts = store.hypotheses(run, mine.subnet, *where, f"{engine}-{precision}")
        assert len(texts) == 10
        if precision == "fp32":
            assert texts == store.hypotheses(run, theirs.subnet, *where)
    assert sweep.evaluate_many(run, subnets, prepared, other) == found


def test_what_an_engine_cannot_do_is_said():
    with pytest.raises(ValueError, match="precision"):
        conditions.load_recognizer(
            runtime.packed("supernet", "u90"),
            dataclasses.replace(QUICK, engine="torch", precision="int8"),
        )


class Machine:
    """It gets slower with every stream it has run; `bursts` {number of the stream: slower by}."""

    def __init__(self):
        self.now, self.streams, self.bursts, self.longest = 0.0, [], {}, 0

    def pair(self, dense: float, other: float):
        return Net(self, "dense", dense), Net(self, "other", other)


class Net:
    """Takes `cost` s for a sample of sound where nothing slows it down."""

    def __init__(self, machine: Machine, name: str, cost: float):
        self.machine, self.name, self.cost, self.heard = machine, name, cost, 0

    def stream(self):
        self.machine.streams.append(self.name)
        self.heard = 0
        return self

    def accept(self, samples):
        number = len(self.machine.streams)
        self.machine.now += (
            self.cost * len(samples) * (1 + 0.05 * number) * self.machine.bursts.get(number, 1.0)
        )
        self.heard += len(samples)
        self.machine.longest = max(self.machine.longest, self.heard)

    def finish(self):
        pass


@pytest.mark.slow
def test_a_ratio_of_times_is_that_of_the_nets_on_a_machine_that_gets_slower(monkeypatch):
    machine, opened, waves = Machine(), [], [np.zeros(10 * 16000, np.float32)] * 5
    monkeypatch.setattr(speed.time, "perf_counter", lambda: machine.now)
    told = speed.in_turn(lambda: opened.append(1) or machine.pair(2e-6, 1e-6), waves, 5120)
    assert told == pytest.approx((2.0, 2.0, 2.0)), (
        "what slows it down meets both; timed one after the other they would not come to 2"
    )
    assert len(opened) == speed.ROUNDS and machine.longest == speed.PIECE
    assert machine.streams[:6] == [
        "dense",
        "other",
        "dense",
        "other",
        "other",
        "dense",
    ], "warmed up, then each goes first once"
    assert speed.in_turn(lambda: machine.pair(1e-6, 1e-6), waves[:1], 5120) == pytest.approx(
        (1.0, 1.0, 1.0)
    ), "also with one sound"
    machine.bursts = {len(machine.streams) + 4: 10.0}  # the first time the other one is timed
    ratio, low, high = speed.in_turn(lambda: machine.pair(2e-6, 1e-6), waves, 5120)
    assert low < 1 < ratio == pytest.approx(high), (
        "one disturbed round is enough to keep the interval from excluding 1"
    )


SPEED = speed.Speed(0.03, 8.0, 9.0, 100.0, 300.0, 1, 1000)


@pytest.mark.slow
def test_sizes_are_timed_in_turn_with_dense_once_and_older_reports_again(
    tmp_path, material, monkeypatch
):
    run, prepared, timed = standin.make_run(tmp_path, utterances=2), Prepared(material), []

    def measure(data, waves, chunk_ms, threads, precision, *others):
        decoder, beam, language, dense, weights, engine = others
        timed.append((packing.sha256(data), dense and packing.sha256(dense)))
        return dataclasses.replace(
            SPEED, **dict(zip(evaluation.TIMES[-3:], (1.5, 1.4, 1.6) if dense else (None,) * 3))
        )

    monkeypatch.setattr(conditions, "measure", measure)
    subnets = [store.subnet(run, n) for n in ("s90", "dense")]
    dense, s90 = (packing.sha256(packing.pack(run, store.subnet(run, n))) for n in ("dense", "s90"))
    prepared.splits = ["test", "other"]
    silent = sweep.evaluate_many(run, subnets, prepared, QUICK)
    assert {(r.rtf, r.threads, r.speed_ratio) for r in silent} == {(None, 1, None)} and not timed
    options = dataclasses.replace(QUICK, speed_utterances=3)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "evaluate", lambda *_, **__: pytest.fail("decoded again"))
        made = sweep.evaluate_many(run, subnets, prepared, options)
    assert {(r.subnet, r.split): r.wer for r in made} == {
        (r.subnet, r.split): r.wer for r in silent
    }, "what was stored without speed gets it, and its errors stay"
    assert all(report in store.reports(run) for report in made)
    assert timed == [(dense, None), (s90, dense)], "once a size, not once a split"
    assert [(r.subnet, r.speed_ratio, r.speed_ratio_low, r.speed_ratio_high) for r in made] == [
        ("dense", None, None, None),
        ("s90", 1.5, 1.4, 1.6),
    ] * 2 and {r.rtf for r in made} == {0.03}
    for split in (
        "test",
        "other",
    ):  # as reports were before they knew these fields; the other split is measured anew
        file = paths.report_file(run, "s90", f"tiny/{split}", 320.0)
        writing.write_json(
            file,
            {n: v for n, v in run_files.read_json(file).items() if not n.startswith("speed_ratio")},
        )
    file.unlink()
    old, new = [
        r for r in sweep.evaluate_many(run, subnets, prepared, options) if r.subnet == "s90"
    ]
    assert (
        old.speed_ratio is None
        and old.rtf == 0.03
        and new.speed_ratio == 1.5
        and timed[2:] == [(s90, dense)]
    )


@pytest.mark.slow
def test_what_was_heard_elsewhere_has_the_speed_of_that_machine_or_none(tmp_path, material):
    run, prepared, asked = standin.make_run(tmp_path, utterances=2), Prepared(material), []

    def spread(subnets, material, options, dense):
        asked.append(packing.sha256(dense))
        quick = dataclasses.replace(
            SPEED, speed_ratio=2.0, speed_ratio_low=1.9, speed_ratio_high=2.1
        )
        told = {
            "tiny/test": (quick, provenance.hardware()),
            "tiny/other": (None, "another machine"),
        }[material.split]
        return lambda subnet: evaluation.Hypotheses(material.references, *told)

    prepared.splits = ["test", "other"]
    here, there = sweep.evaluate_many(
        run, [store.subnet(run, "s90")], prepared, QUICK, spread=spread
    )
    assert asked == [packing.sha256(packing.pack(run, store.subnet(run, "dense")))] * 2
    assert (here.rtf, here.speed_ratio, here.wer) == (0.03, 2.0, 0.0)
    assert (there.rtf, there.speed_ratio, there.hardware) == (None, None, "another machine")


def test_a_decoding_graph_is_weighed_alike_by_recipes_and_by_recognizers():
    options, weights = conditions.Options(), Weights()
    assert (options.scale, options.blank_penalty) == (weights.scale, weights.blank_penalty)


@pytest.mark.slow
def test_one_normalizer_and_known_conditions(run, material):
    assert NORMALIZER == TEXT_NORMALIZER
    report, _ = evaluation.evaluate(
        run, store.subnet(run, "dense"), material, dataclasses.replace(QUICK, chunk_ms=0.0)
    )
    assert (report.chunk_ms, report.normaliser, report.decoder) == (0.0, NORMALIZER, "greedy")
    assert report.hardware and report.code_version and len(report.file_sha256) == 64


def test_a_gpu_is_named_before_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert provenance.hardware.__wrapped__("cuda") == f"Some GPU; {provenance.hardware()}"
