"""Dry runs: what is built and tried is the recipe's own, and nothing is left behind."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from core import cost, paths
from core.cli import main as cli
from core.pipelines import build as building, dry_run
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe
from core.registry import plugins, recipes
from tests.pipelines.test_experiment import TINY

pytestmark = pytest.mark.slow

SMALL = Recipe(
    Choice("librispeech", {"root": "nowhere"}),
    Choice("conformer_ctc", TINY),
    Choice("omni_sparsity", {"sparsest": 0.8}),
    training={"updates": 1000, "batch_seconds": 20.0, "threads": 1},
    tokens={"kind": "characters"},
)


def test_a_dry_run_needs_no_speech_and_leaves_nothing(own_artifacts):
    found = dry_run.estimate(SMALL)
    model, method = building.build(ResolvedRecipe(SMALL), 29, 1000)
    assert found["parameters"] == cost.parameters(method.spec) and found["passes"] == 3
    assert found["hours"] == pytest.approx(0.8 * found["seconds_per_update"] / 3.6, rel=0.01), (
        "0.3 of it trains the dense net alone"
    )
    assert found["memory_bytes"] > 1e8
    assert not paths.runs().exists() and not paths.prepared().exists()
    told = dry_run.describe(found)
    assert (
        "would use 6 h" in told
        and "two updates of 3 pass(es)" in told
        and "utterances of 12.3 s" in told
    )
    assert (
        dry_run.estimate(replace(SMALL, corpus=Choice("voice_commands")))["utterance_s"] == 2.7
    ), "commands are short"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": Choice("simple_topk", {"sizes": [99]})}, "method.sizes"),
        ({"method": Choice("gradual_magnitude", {"sparsity": 1.5})}, "sparsity"),
        ({"training": {"chunks_ms": [50]}}, "training.chunks_ms"),
        ({"model": Choice("conformer_ctc", {**TINY, "width": 36})}, "model.width"),
        ({"init_from": "no-such-run"}, "no-such-run"),
    ],
)
def test_what_cannot_be_trained_is_said_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        dry_run.estimate(replace(SMALL, **changes))


def test_synthetic_speech_has_real_shape():
    batch = dry_run.synthetic_batch(150.0, 256, False, 1)
    assert (
        batch.seconds == pytest.approx(150.0, rel=0.1)
        and batch.features.shape[1] == 1230
        and len(batch.ids) == len(batch.lengths) == 12
    )
    assert (
        bool((batch.tokens[:, 1:] != batch.tokens[:, :-1]).float().mean() > 0.99)
        and int(batch.tokens.max()) < 256
    )
    assert bool((batch.token_lengths * 4 < batch.lengths).all()) and int(batch.tokens.min()) >= 1
    assert torch.equal(batch.features, dry_run.synthetic_batch(150.0, 256, False, 1).features)
    letters = dry_run.synthetic_batch(150.0, 29, True, 1)
    assert float((letters.token_lengths / letters.lengths * 100).mean()) == pytest.approx(
        14.5, rel=0.02
    )


PAPERS = sorted(name for name in recipes.recipe_names() if name.startswith("paper_"))
SHRUNK = {
    "conformer_ctc": ["model.width=16", "model.heads=2", "model.kernel=3", "tokens.size=32"],
    "emformer_transducer": [
        "model.blocks=2",
        "model.width=32",
        "model.heads=2",
        "model.embedding=16",
        "model.joint=32",
        "tokens.size=64",
    ],
}
# passes of an update at the end; updates; hours of speech heard: as the recipes' comments say
SCHEDULES = {
    "paper_librispeech": (3, 732_000, 30_500),
    "paper_librispeech_izo": (3, 732_000, 30_500),
    "paper_librispeech_100": (3, 240_000, 10_000),
    "paper_tedlium2": (2, 350_000, 10_403),
    "paper_tedlium2_sizes": (3, 286_700, 10_353),
    "paper_tedlium2_izo": (3, 350_000, 10_403),
    "paper_transducer": (4, 400_000, 16_667),
}


def variants(name: str) -> list[list[str]]:
    """What a recipe's comment offers: the --set of each of its lines."""
    lines = (paths.RECIPES / f"{name}.toml").read_text().splitlines()
    return [
        [word for word in line.split() if "=" in word]
        for line in lines
        if line.startswith("#   --set")
    ]


@pytest.mark.parametrize("name", PAPERS)
def test_papers_recipes_are_tried_by_the_command_line(name, capsys, own_artifacts):
    recipe = recipes.load_recipe(name)
    settings = [*SHRUNK[recipe.model.name], "training.batch_seconds=3", "training.threads=1"]
    assert (
        cli.main(["train", name, "--dry-run", *(word for s in settings for word in ("--set", s))])
        == 0
    )
    shown, told = capsys.readouterr()
    passes, updates, hours = SCHEDULES[name]
    assert (
        json.loads(shown)["training"]["updates"] == updates
        and f"two updates of {passes} pass(es)" in told
    )
    assert (
        f"would use {updates * 3 / 3600:,.0f} h" in told
        and "with utterances of 3 s" in told
        and "on this device" in told
    )
    assert recipe.training["updates"] * recipe.training["batch_seconds"] / 3600 == pytest.approx(
        hours, abs=1
    )
    pieces = int(settings[-3].removeprefix("tokens.size="))
    _, method = building.build(
        ResolvedRecipe(recipes.override(recipe, settings)).built(pieces), pieces, 100
    )
    assert f"built: {cost.parameters(method.spec) / 1e6:.1f} million" in told
    assert [f.name for f in own_artifacts.iterdir()] == ["speeds.json"]
    assert "as a job: about" in told and "on this machine (training" in told


@pytest.mark.parametrize(
    ("name", "settings"), [(n, v) for n in PAPERS for v in variants(n)], ids=lambda v: str(v)[:60]
)
def test_variants_in_papers_comments_can_be_trained(name, settings):
    recipe = recipes.override(recipes.load_recipe(name), settings)
    wide = [s for s in settings if s.startswith("model.")]
    assert (
        building.check(
            ResolvedRecipe(
                recipes.override(
                    recipe,
                    [s for s in SHRUNK[recipe.model.name] if s.split("=")[0] not in str(wide)],
                )
            ),
            64,
        )
        is None
    )


def test_there_are_variants_for_every_data_set():
    assert all(
        variants(n)
        for n in (
            "paper_librispeech",
            "paper_librispeech_100",
            "paper_tedlium2",
            "paper_transducer",
        )
    )


def test_the_papers_schedules_are_the_papers():
    def method(name):
        recipe = recipes.load_recipe(name)
        changed = recipes.override(recipe, SHRUNK["conformer_ctc"])
        return building.build(ResolvedRecipe(changed).built(32), 32, recipe.training["updates"])[1]

    for name, d, r, smallest in (
        ("paper_librispeech", 14_640, 1, 16),
        ("paper_tedlium2", 35_000, 4, 24),
        ("paper_tedlium2_sizes", 5_734, 1, 16),
    ):
        made = method(name)
        assert [made.count(t) for t in (0, d - 1, d, 3 * d, 3 * d + 1)] == [
            48 - r,
            48 - r,
            48 - 2 * r,
            48 - 4 * r,
            48 - 4 * r,
        ]
        assert (
            made.count(made.end - 1)
            == made.count(made.end - d)
            == smallest
            < made.count(made.end - d - 1)
        )
    zero_out = method("paper_librispeech_izo")
    assert zero_out.end == 16 * 27_450 and [zero_out.zeroed(i) for i in range(16)] == list(
        range(2, 33, 2)
    )
    assert [zero_out.round_of(t) for t in (27_449, 27_450, zero_out.end - 1)] == [0, 1, 15]
    assert method("paper_tedlium2_izo").end == 210_000


# One output layer each. 74.2, 41.7 and 76.7 million are the papers'; the first has a larger
# front-end and output layer.
@pytest.mark.parametrize(
    ("name", "parameters", "paper"),
    [
        ("paper_librispeech", 73_762_048, 74.2e6),
        ("paper_librispeech_izo", 73_762_048, 74.2e6),
        ("paper_librispeech_100", 73_762_048, 74.2e6),
        ("paper_tedlium2", 41_608_192, 41.7e6),
        ("paper_tedlium2_sizes", 41_608_192, 41.7e6),
        ("paper_tedlium2_izo", 41_608_192, 41.7e6),
        ("paper_transducer", 76_736_512, 76.7e6),
    ],
)
def test_papers_recipes_build_at_the_papers_sizes(name, parameters, paper):
    recipe = recipes.load_recipe(name)
    room = plugins.load("models", recipe.model.name)
    with torch.device("meta"):  # shapes only
        model = room.build(
            plugins.make_options(room.Options, recipe.model.options, "model"), recipe.tokens["size"]
        )
    assert (
        sum(p.numel() for p in model.parameters()) == parameters == pytest.approx(paper, rel=0.007)
    )


def test_a_busy_machine_is_said():
    found = dry_run.estimate(replace(SMALL, training=SMALL.training | {"batch_seconds": 2.0}))
    assert 0 < found["share"] <= 1.0
    words = dry_run.describe(found | {"share": 0.25, "hours": 8.0})
    assert "got 25% of its threads' time; alone, the whole would take about 2.0 h" in words
    assert "other programs were busy" not in dry_run.describe(found | {"share": 0.9})
