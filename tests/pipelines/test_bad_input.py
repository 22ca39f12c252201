"""What cannot be trained is refused in one sentence that names the field and what is allowed,
before any speech is prepared.
"""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from core import paths
from core.cli import main as cli
from core.common import writing
from core.data import prepare as preparing
from core.pipelines import (
    build as building,
    evaluate as pipelines_evaluate,
    search as pipelines_search,
    train as pipelines_train,
)
from core.records import Choice, Recipe
from core.registry import plugins
from core.storage import store
from tests import standin

pytestmark = pytest.mark.slow

TINY = ["model.blocks=2", "model.width=32", "model.heads=2", "model.kernel=5"]
COUNTS = "{field} are numbers of {what}, each once, from 1 to {most}: this model has"
SHARES = "method.options.{}: expected a number from 0 to 0.99, got {}"
DEPTH = [
    (m, f"sizes={v}", COUNTS.format(field="method.sizes", what="residual branches kept", most=7))
    for m in ("simple_topk", "iterative_zero_out", "random_branches")
    for v in ("[8]", "[99]", "[0]", "[-1]", "[3,3]", "[]")
]
FAULTS = [
    (m, f"{field}={v}", f"method.options.{field}: expected {kind}, got")
    for m, field, kind in (
        ("simple_topk", "sizes", "list[int]"),
        ("iterative_zero_out", "sizes", "list[int]"),
        ("aux_loss", "exits", "list[int]"),
        ("ortho_softmax", "sizes", "list[float]"),
    )
    for v in ("[true]", '["a"]', "[[1]]", "3")
]
CASES = (
    DEPTH
    + FAULTS
    + [
        *(
            (
                "aux_loss",
                f"exits={v}",
                COUNTS.format(field="method.exits", what="bottom blocks", most=1),
            )
            for v in ("[2]", "[0]", "[]")
        ),
        *(
            (
                "ortho_softmax",
                f"sizes={v}",
                (
                    "method.sizes are shares of the dense net's parameters, each once, below 1 and"
                    " at least 0."
                ),
            )
            for v in ("[1]", "[1.5]", "[0.0]", "[-0.5]", "[0.5,0.5]", "[]")
        ),
        (
            "individual",
            "blocks=3",
            "method.blocks is 3, but the recipe's model has 2; ask for 1 to 2",
        ),
        ("individual", "blocks=0", "method.options.blocks: expected a number from 1 to 64, got 0"),
        ("small_dense", "same_bytes_as=1.5", SHARES.format("same_bytes_as", "1.5")),
        *(
            (m, f"{field}={v}", SHARES.format(field, v))
            for v in ("1.5", "-0.1")
            for m, field in (
                ("gradual_magnitude", "sparsity"),
                ("csp", "sparsity"),
                ("omni", "sparsest"),
                ("omni_sparsity", "sparsest"),
            )
        ),
        *(
            (
                m,
                "pattern=2:4",
                "method.sparsity is 0.7; with the pattern 2:4 it is one of 0.25, 0.5, 0.75",
            )
            for m in ("gradual_magnitude", "csp")
        ),
        (
            "omni",
            "left_out=1.0",
            "method.options.left_out: expected a number from 0 to 0.95, got 1.0",
        ),
        (
            "dense",
            "sparsity=0.5",
            "method.options: unknown option 'sparsity'; allowed are: layer_dropout",
        ),
        (
            "simple_topk",
            "selection=1.5",
            "method.options.selection: expected a number from 0.01 to 0.99, got 1.5",
        ),
        (
            "iterative_zero_out",
            "rounds=0",
            "method.options.rounds: expected a number from 1 to 1000, got 0",
        ),
    ]
)
OTHERS = [
    ("search.sparsities=[1.5]", "search.sparsities: expected a number from 0 to 0.999, got 1.5"),
    ("search.sparsities=[true]", "search.sparsities: expected list[float]"),
    ("training.chunks_ms=[]", "training.chunks_ms is empty: give at least one"),
    (
        "training.chunks_ms=[50]",
        "training.chunks_ms 50 is not possible with this model; allowed are 0, 40, 80",
    ),
    ("model.heads=3", "model.heads is 3; it must divide model.width, 32"),
    ("seed=-1", "seed: expected a number from 0 to 2147483647, got -1"),
    ("evaluation.lm=x.arpa", "lm = 'x.arpa' cannot be read"),
    ("init_from=nothing", "there is no run called 'nothing'"),
]


@pytest.fixture
def said(monkeypatch, capsys):
    """Trains by the command line what must be refused -> what it said."""
    monkeypatch.setattr(preparing, "prepare", None)  # would be a TypeError

    def train(*settings: str) -> str:
        assert (
            cli.main(["train", "voice_commands", *(w for s in settings for w in ("--set", s))]) == 2
        )
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 1 and not paths.runs().exists()
        return told

    return train


@pytest.mark.parametrize(("method", "setting", "words"), CASES, ids=lambda v: v[:24])
def test_methods(said, method, setting, words):
    assert words in said(f"method={method}", f"method.{setting}", *TINY)


@pytest.mark.parametrize(("setting", "words"), OTHERS, ids=lambda v: v[:24])
def test_what_all_methods_share(said, setting, words):
    assert words in said(*TINY, setting)


def test_every_method_has_a_case():
    assert {m for m, *_ in CASES} == set(plugins.names("methods"))


@pytest.mark.parametrize(
    ("setting", "text", "words"),
    [
        ("evaluation.lm=FILE", "no model", "is not a whole ARPA file: there is no line"),
        (
            "evaluation.grammar=FILE",
            "turn (on",
            "line 1, column 6: pattern 'turn (on': '(' is not closed by ')'",
        ),
        ("evaluation.grammar=nowhere.txt", "", "evaluation.grammar = 'nowhere.txt' cannot be read"),
        ("evaluation.lm=nowhere.arpa", "", "lm = 'nowhere.arpa' cannot be read"),
        (
            "evaluation.decoder=graph evaluation.lm=",
            "",
            "a language needs an n-gram model (lm) or a grammar: both are empty",
        ),
    ],
)
def test_a_language_that_cannot_be_read(said, tmp_path, setting, text, words):
    (tmp_path / "given").write_text(text)
    assert words in said(*TINY, *setting.replace("FILE", str(tmp_path / "given")).split())


def test_a_run_of_another_version_or_model(own_artifacts, monkeypatch):
    run = standin.make_run(paths.runs())
    recipe = Recipe(
        Choice("voice_commands"),
        Choice("conformer_ctc", store.recipe(run).model.options),
        Choice("dense"),
        init_from=run.name,
    )
    monkeypatch.setattr(preparing, "prepare", None)
    wider = dataclasses.replace(
        recipe, model=Choice("conformer_ctc", recipe.model.options | {"width": 64})
    )
    with pytest.raises(
        ValueError,
        match=(
            "init_from: run standin has another model; .* tensors differ, the first is subsampling"
        ),
    ):
        pipelines_train.train(wider, lambda *_: True)
    writing.write_json(run / paths.FINISHED, {"versions": {"models/conformer_ctc": 7}})
    words = (
        "run standin was trained with version 7 of core/models/conformer_ctc.py, and only version 1"
        " is here: use a run of version 1"
    )
    with pytest.raises(ValueError, match="init_from: " + words):
        pipelines_train.train(recipe, lambda *_: True)
    for work in (
        pipelines_search.search,
        lambda *a: pipelines_evaluate.evaluate(a[0], [], [], a[1]),
    ):
        with pytest.raises(ValueError, match="run: " + words):
            work(run.name, lambda *_: True)
    writing.write_json(
        run / paths.FINISHED, {"versions": {"models/conformer_ctc": 1, "methods/omni_sparsity": 5}}
    )
    building.check_version(
        run.name, "run"
    )  # another version of its method: the weights mean what they meant
    (run / paths.RECIPE).write_text(
        json.dumps(json.loads((run / paths.RECIPE).read_text()) | {"from_tomorrow": 1})
    )
    with pytest.raises(ValueError, match="unknown fields \\['from_tomorrow'\\].*allowed are"):
        pipelines_train.train(recipe, lambda *_: True)
    shutil.rmtree(run)
