"""What only a training would refuse is refused before it reads speech, and by the dry run."""

from __future__ import annotations

import shutil
from unittest.mock import Mock

import pytest

from core import paths
from core.cli.main import main as cli
from core.pipelines import build as building, evaluate, handlers
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Recipe, as_dict
from core.registry import recipes
from tests import standin

TINY = {"blocks": 2, "width": 32, "heads": 2, "kernel": 5}
NO_SIZE = ['evaluation.sizes=["dense", "u999"]', "init_from=", "tokens.kind=characters"]


def tiny(method="omni_sparsity", options=None, **tables) -> ResolvedRecipe:
    chosen = Choice(method, options or {})
    corpus = Choice("voice_commands")
    tables = {"tokens": {"kind": "characters"}} | tables
    return ResolvedRecipe(Recipe(corpus, Choice("conformer_ctc", TINY), chosen, **tables))


@pytest.mark.parametrize(
    ("method", "options", "known"),
    [
        ("omni_sparsity", {"sparsest": 0.5}, "dense, u10, u20, u30, u40, u50"),
        ("simple_topk", {"sizes": [4]}, "dense, d4"),
    ],
)
def test_sizes_that_a_training_does_not_store_are_said_before_it(method, options, known):
    with pytest.raises(ValueError) as error:
        building.check(tiny(method, options, evaluation={"sizes": ["dense", "u999"]}), 29)
    assert str(error.value) == (
        f"evaluation.sizes measures 'u999', but its training stores {known}"
    )
    building.check(tiny(method, options, evaluation={"sizes": known.split(", ")}), 29)


@pytest.mark.slow
def test_sizes_are_checked_by_all_that_lead_to_a_training(own_artifacts, capsys):
    """A job checks them first of all, before it reads speech."""
    settings = [word for setting in NO_SIZE for word in ("--set", setting)]
    for words in (["train"], ["train", "--dry-run"]):
        assert cli([*words, "quick_look", *settings]) == 2, words
        assert "evaluation.sizes measures 'u999', but its training stores dense, u10" in (
            capsys.readouterr().err
        )
    recipe = recipes.override(recipes.load_recipe("quick_look"), NO_SIZE)
    with pytest.raises(ValueError, match="evaluation.sizes measures 'u999'"):
        handlers.train_job({"recipe": as_dict(recipe)}, Mock(return_value=True))
    assert not (own_artifacts / "prepared").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('training.augment={warp="x"}', "training.augment.warp: expected float, got 'x'"),
        ("training.augment={warp=9}", "training.augment.warp: expected a number from 0 to 0.3"),
        ("training.augment={wrap=0.1}", "training.augment: unknown option 'wrap' (did you mean"),
        ("training.intermediate={layer=1.5}", "training.intermediate.layer: expected int"),
        ('training.shares={voice_commands="x"}', "training.shares: expected dict[str, float]"),
        (
            'corpus={name="noisy",options={corpus="voice_commands",options={hours="x"}}}',
            "corpus.options.options.hours: expected float",
        ),
        (
            'corpus={name="noisy",options={corpus="nothing",options={hours=1}}}',
            "there is no corpora plug-in called 'nothing'",
        ),
    ],
)
def test_tables_inside_tables_are_checked_with_the_recipe(setting, said):
    table, _, value = setting.partition("=")
    data = as_dict(recipes.load_recipe("quick_look"))
    if table == "corpus":
        data["corpus"] = recipes.setting_value(value)
    else:
        data["training"][table.partition(".")[2]] = recipes.setting_value(value)
    with pytest.raises(ValueError) as error:
        recipes.recipe_from(data)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"augment": {"tempo": 0.1}}, "training.augment.tempo = 0.1 changes the tempo on the fly"),
        ({"intermediate": {"layer": 9}}, "training.intermediate.layer: expected a block from 1"),
    ],
)
def test_what_tables_inside_tables_ask_of_the_rest_is_checked_before_speech_is_read(training, said):
    with pytest.raises(ValueError, match=said):
        building.check(tiny(training=training, features={"speed_change": 0.1}), 29)


def test_a_stage_without_sizes_cannot_be_measured(own_artifacts):
    run = standin.make_run(paths.runs(), "stage")
    shutil.rmtree(run / paths.SUBNETS)
    for decoding in ({}, {"engine": "onnx"}):
        with pytest.raises(ValueError, match=r"'stage' has no sizes \(yet\)"):
            evaluate.evaluate("stage", [], [], lambda *_: True, decoding=decoding)
