"""What plug-ins and stored records promise the rest, held over all of them at once."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from core import paths
from core.corpora.base import Corpus
from core.methods.base import Method
from core.pipelines.resolved import ResolvedRecipe
from core.records import Choice, Origin, Recipe, Subnet, as_dict, from_dict
from core.registry import catalog, plugins
from core.search import allocation
from core.storage import store

ROOT = Path(__file__).resolve().parents[2]
HOOKS = {"resolve", "blocks_of", "narrow", "pattern", "sparsest", "left_out", "belongs_to"}


@pytest.mark.parametrize("name", plugins.names("methods"))
def test_a_method_says_how_it_is_shown_and_keeps_its_hooks_in_its_class(name):
    shown = catalog.card("methods", name).display
    module = plugins.load("methods", name)
    assert shown.name
    assert shown.color and shown.marker
    assert shown == module.DISPLAY  # what `ast` reads is what Python reads
    assert issubclass(module.Method, Method)
    assert not HOOKS & set(vars(module)), "a function beside the class is never called"


def test_methods_differ_in_color_or_marker_and_one_is_the_main_one():
    shown = [catalog.card("methods", name).display for name in plugins.names("methods")]
    assert len({(d.color, d.marker) for d in shown}) == len(shown)
    assert [d.name for d in shown if d.main] == ["supernet"]


@pytest.mark.parametrize("name", plugins.names("corpora"))
def test_a_corpus_keeps_its_hooks_in_its_class(name):
    module = plugins.load("corpora", name)
    assert issubclass(module.Corpus, Corpus)
    assert not {"narrow", "MEAN_S"} & set(vars(module))


@pytest.mark.slow
def test_no_hook_is_looked_up_by_its_name():
    calls = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for folder in ("core", "dashboard")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "getattr"
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in HOOKS
    ]
    assert calls == []


def test_hooks_answer_from_the_options():
    def resolved(name: str, **options: object) -> ResolvedRecipe:
        return ResolvedRecipe(
            Recipe(Choice("manifest"), Choice("conformer_ctc"), Choice(name, dict(options)))
        )

    omni = resolved("omni", sparsest=0.8, left_out=0.4, pattern="1x1")
    assert omni.sparsest == 0.8
    assert omni.method_class.left_out(omni.method) == 0.4
    assert omni.method_class.pattern(omni.method) == "1x1"
    csp = resolved("csp", pattern="2:4")
    assert csp.method_class.pattern(csp.method) == "2:4"
    dense = resolved("dense")
    assert dense.sparsest == 1.0
    assert dense.method_class.blocks_of(dense.method, 12) is None
    assert dense.built(29) is dense


def test_a_resolved_recipe_names_the_wrong_option():
    recipe = Recipe(Choice("manifest"), Choice("conformer_ctc", {"widht": 8}), Choice("dense"))
    with pytest.raises(ValueError, match="model: unknown option 'widht' .did you mean 'width'"):
        _ = ResolvedRecipe(recipe).model
    with pytest.raises(
        ValueError, match="training.updates: expected a number at least 1|from 1 to"
    ):
        _ = ResolvedRecipe(replace(recipe, training={"updates": 0})).training


@pytest.mark.parametrize(
    "folder", [r.folder for r in store.runs() if r.released], ids=lambda f: f.name[:40]
)
def test_every_released_run_is_understood(folder):
    resolved = ResolvedRecipe(store.recipe(folder))
    for part in ("speech", "model", "method", "training", "search", "evaluation"):
        assert vars(getattr(resolved, part))
    assert all(isinstance(s.origin, Origin) for s in store.subnets(folder, added=False))
    assert paths.RELEASED in folder.parents


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("s70", Origin.SEARCHED),
        ("u72.5", Origin.UNIFORM),
        ("r70", Origin.RANDOM),
        ("m9", Origin.MAGNITUDE),
        ("dense", Origin.UNIFORM),
        ("smallest", Origin.UNIFORM),
    ],
)
def test_only_a_file_without_an_origin_is_read_by_its_name(name, origin):
    old = as_dict(Subnet(name, "run", {}, 0.7))
    assert from_dict(Subnet, old | {"origin": "trained"}).origin is Origin.TRAINED
    del old["origin"]
    assert from_dict(Subnet, old).origin is origin


def test_an_origin_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="origin: expected uniform, searched.*got 'guessed'"):
        Subnet("s70", "run", {}, 0.7, origin="guessed")


def test_counterparts_share_a_budget():
    searched = Subnet(allocation.name_of(Origin.SEARCHED, 0.7), "", {}, 0.7, origin=Origin.SEARCHED)
    assert allocation.counterpart(searched, Origin.RANDOM) == "r70"
    uniform = Subnet("u70", "", {}, 0.7)
    assert allocation.counterpart(uniform, Origin.SEARCHED) == "s70"
