"""Train: cards become widgets and a recipe, mistakes are named by field before anything is queued,
TOML reads back.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib

import pytest

from core.jobs import queue
from core.registry import catalog, recipes
from core.registry.cards import Card, CardOption
from dashboard.components import forms
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

VIEW = str(ROOT / "dashboard" / "views" / "train.py")


def option(kind: str, default, **more) -> CardOption:
    return CardOption("thing", kind, default, "What it does", **more)


@pytest.mark.parametrize(
    "kind, default, more, widget",
    [
        ("int", 3, {}, "whole"),
        ("float", 0.1, {}, "number"),
        ("bool", True, {}, "switch"),
        ("str", "a", {}, "text"),
        ("str", "a", {"choices": ("a", "b")}, "choice"),
        ("dict[str, float]", {}, {}, "structure"),
        ("list[str]", ["a"], {}, "structure"),
        ("tuple[int, ...]", (1, 2), {}, "structure"),
        ("int | None", None, {}, "text"),
        ("list[str]", ["a"], {"choices": ("a", "b")}, "structure"),
    ],
)
def test_every_type_has_its_widget(kind, default, more, widget):
    assert forms.widget_kind(option(kind, default, **more)) == widget


@pytest.mark.parametrize(
    "kind, default, written, value",
    [
        ("dict[str, float]", {}, '{"a": 1.5}', {"a": 1.5}),
        ("dict[str, float]", {}, "a = 1.5\nb = 2", {"a": 1.5, "b": 2.0}),
        ("list[str]", [], "['a', 'b']", ["a", "b"]),
        ("tuple[int, ...]", (), "[1, 2]", (1, 2)),
        ("list[str]", [], " ", []),
        ("int | None", None, "", None),
        ("int | None", None, "7", 7),
        ("str", "", " kept as it is ", " kept as it is "),
    ],
)
def test_written_values_are_read(kind, default, written, value):
    assert forms.parse(option(kind, default), written, "method.options.thing") == value


@pytest.mark.parametrize(
    "kind, default, written, more",
    [
        ("dict[str, float]", {}, "{broken", {}),
        ("dict[str, float]", {}, '{"a": "x"}', {}),
        ("list[str]", [], "[1]", {}),
        ("list[float]", [], "[2.0]", {"low": 0, "high": 1}),
        ("int | None", None, "seven", {}),
        ("list[str]", ["a"], '["c"]', {"choices": ("a", "b")}),
    ],
)
def test_written_mistakes_name_the_field(kind, default, written, more):
    with pytest.raises(ValueError, match="method.options.thing"):
        forms.parse(option(kind, default, **more), written, "method.options.thing")


def test_every_option_of_every_plug_in_has_a_widget_that_keeps_its_default():
    seen = 0
    for room in (*recipes.ROOM_OF.values(), "settings"):
        for card in catalog.cards(room):
            for one in card.options:
                seen += 1
                if forms.widget_kind(one) in ("structure", "text") and one.default is not None:
                    read = forms.parse(one, forms.show(one.default), one.name)
                    assert forms.same(read, one.default), (card.name, one)
    assert seen > 20


def test_toml_reads_back_what_went_in():
    recipe = {
        "title": 'a "quoted" \\ title\nand é',
        "seed": 7,
        "init_from": "",
        "corpus": {
            "name": "mixture",
            "options": {
                "parts": [{"name": "a", "weight": 1e-5}, {"name": "b"}],
                "odd key": True,
                "nothing": None,
                "far": math.inf,
            },
        },
        "training": {"updates": 10, "spread": {"x": 0.5, "deep": {"y": [1, 2]}}},
        "search": {},
    }
    read = tomllib.loads(forms.toml(recipe))
    assert read.pop("title") == recipe["title"] and read.pop("seed") == 7
    assert read["training"] == recipe["training"] and "search" not in read
    del recipe["corpus"]["options"]["nothing"]
    assert read["corpus"] == recipe["corpus"]


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_toml_of_shipped_recipes_is_the_same_recipe(name, tmp_path):
    recipe = recipes.load_recipe(name)
    (tmp_path / "again.toml").write_text(forms.toml(dataclasses.asdict(recipe)), encoding="utf-8")
    assert recipes.load_recipe(tmp_path / "again.toml") == recipe


# the page


@pytest.fixture
def page(own_artifacts, monkeypatch):
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear(), st.cache_resource.clear()
    started = []
    monkeypatch.setattr(queue, "start_worker", lambda: started.append(1))
    test = AppTest.from_file(VIEW, default_timeout=120)
    test.started = started
    return test


def scratch(page):
    page.run()
    page.selectbox(key="start").set_value("An empty form").run()
    assert not page.exception
    return page


def test_page_queues_a_recipe_that_the_worker_accepts(page):
    scratch(page)
    page.selectbox(key="train.scratch..method").set_value("dense").run()
    page.text_input(key="train.scratch..title").set_value("Mine").run()
    updates = page.number_input(key="train.scratch..training.updates")
    updates.set_value(12).run()
    assert 'name = "dense"' in page.code[0].value and "updates = 12" in page.code[0].value
    page.button(key="go").click().run()
    assert not page.exception and page.started == [1]
    (job,) = queue.list_jobs()
    assert job.kind == "train" and job.state == "queued"
    recipe = recipes.recipe_from(job.payload["recipe"])
    assert (recipe.title, recipe.method.name, recipe.training) == ("Mine", "dense", {"updates": 12})
    assert tomllib.loads(page.code[0].value)["training"] == {"updates": 12}


def test_the_form_offers_runners_with_their_options_and_devices(page, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    scratch(page)
    assert (
        page.selectbox(key="runner").value == "local" and page.selectbox(key="device").value == ""
    )
    page.selectbox(key="device").set_value("cpu").run()
    page.button(key="go").click().run()
    page.selectbox(key="runner").set_value("ray").run()
    assert not page.exception and page.button(key="go").disabled
    assert "no cluster is named on this server" in " ".join(e.value for e in page.error)
    (here,) = queue.list_jobs()
    assert (here.runner, here.settings, here.device) == ("local", {}, "cpu")


def test_a_visitor_chooses_among_the_operators_clusters_and_types_no_address(
    page, monkeypatch, tmp_path
):
    lab = {"address": "http://head:8265", "storage": "s3://bucket/runs", "artifacts": "~/.supernet"}
    (tmp_path / "server.toml").write_text(
        '[clusters.lab]\naddress = "http://head:8265"\nstorage = "s3://bucket/runs"\n'
    )
    monkeypatch.setenv("SUPERNET_SERVER", str(tmp_path / "server.toml"))
    scratch(page)
    page.selectbox(key="runner").set_value("ray").run()
    assert page.selectbox(key="runner.ray.cluster").options == ["lab"]
    assert {t.key for t in page.text_input if t.key.startswith("runner.")} == set(), (
        "nobody types an address"
    )
    page.number_input(key="runner.ray.workers").set_value(4).run()
    page.button(key="go").click().run()
    (there,) = queue.list_jobs()
    assert not page.exception and (there.runner, there.settings, there.device) == (
        "ray",
        lab | {"workers": 4},
        "",
    )


SECRETS = (
    "$DB_PASSWORD",
    "${DB_PASSWORD}/x",
    "$HOME",
    "~",
    "/etc",
    "/etc/passwd",
    "../../../../etc",
    "$SPEECH_ROOT/../../etc",
    "$SPEECH_ROOTX",
    "/proc/self/environ",
)


def test_nothing_of_the_servers_environment_or_files_comes_back(page, monkeypatch):
    """Refused before anything is queued, in words that hold what was typed and nothing of what is
    there.
    """
    for name in ("DB_PASSWORD", "SPEECH_ROOTX"):
        monkeypatch.setenv(name, "hunter2")
    scratch(page)
    page.selectbox(key="train.scratch..corpus").set_value("folder").run()
    page.text_input(key="train.scratch..corpus.folder.csv").set_value("passwd").run()
    for path in SECRETS:
        page.text_input(key="train.scratch..corpus.folder.root").set_value(path).run()
        page.button(key="go").click().run()
        shown = " ".join(
            e.value
            for kind in ("error", "markdown", "info", "success", "warning")
            for e in page.get(kind)
        )
        assert not page.exception, path
        assert "Not started" in shown, path
        assert queue.list_jobs() == [], path
        assert "hunter2" not in shown, path
        assert "root:" not in shown, path


def test_a_form_nobody_touched_keeps_all_defaults(page):
    scratch(page)
    read = tomllib.loads(page.code[0].value)
    assert set(read) <= {"title", "seed", "corpus", "model", "method"} and not read["model"].get(
        "options"
    )


def test_mistakes_are_named_and_nothing_is_queued(page, monkeypatch):
    card = Card(
        "methods",
        "odd",
        "A way with a table.",
        1,
        (option("dict[str, float]", {"a": 1.0}),),
        "odd.py",
    )
    plain = catalog.cards
    monkeypatch.setattr(
        catalog, "cards", lambda room: plain(room) + ([card] if room == "methods" else [])
    )
    scratch(page)
    page.selectbox(key="train.scratch..method").set_value("odd").run()
    page.text_area(key="train.scratch..method.odd.thing").set_value("{oh no").run()
    assert not page.exception
    assert "method.options.thing" in page.error[0].value.replace("\\", "")
    assert page.button(key="go").disabled and queue.list_jobs() == []


def test_numbers_outside_their_limits_are_named_and_block_the_start(page):
    """A widget with limits would keep them in the browser, and another number would be trained."""
    scratch(page)
    fields = {
        "training.updates": -1,
        "corpus.voice_commands.hours": -5.0,
        "training.threads": 10**6,
        "seed": -3,
    }
    for name, value in fields.items():
        page.number_input(key=f"train.scratch..{name}").set_value(value).run()
        errors = " ".join(e.value for e in page.error).replace("\\", "")
        assert not page.exception, name
        assert name.split(".")[-1] in errors and str(value) in errors, (name, errors)
        assert page.button(key="go").disabled, name
        page.number_input(key=f"train.scratch..{name}").set_value(1).run()
    assert not page.button(key="go").disabled


def test_broken_plug_ins_are_listed_with_their_reason_and_hide_nothing(page, monkeypatch):
    bad = Card("methods", "half_written", "", 0, (), "half_written.py", "line 3: invalid syntax")
    plain = catalog.cards
    monkeypatch.setattr(
        catalog, "cards", lambda room: plain(room) + ([bad] if room == "methods" else [])
    )
    scratch(page)
    assert any("half" in m.value and "line 3" in m.value for m in page.markdown)
    assert "half_written" not in page.selectbox(key="train.scratch..method").options
    assert "omni_sparsity" in page.selectbox(key="train.scratch..method").options


def test_every_start_renders(page, own_artifacts):
    from tests.standin import make_run

    make_run(own_artifacts / "runs")
    page.run()
    assert any(start.startswith("As run") for start in page.selectbox(key="start").options)
    for start in page.selectbox(key="start").options:
        page.selectbox(key="start").set_value(start).run()
        assert not page.exception and not page.error, start


def test_the_form_starts_with_what_needs_no_recordings_and_marks_the_others(page, monkeypatch):
    monkeypatch.delenv("SPEECH_ROOT", raising=False)
    shown = page.run().selectbox(key="start").options
    assert shown[:2] == ["Recipe: quick_look", "Recipe: overnight"]
    assert "Recipe: voice_commands" in shown
    assert "Recipe: paper_librispeech · downloads first" in shown
    assert any(line == "Recipe: books · its recordings are not here" for line in shown)
    page.selectbox(key="start").set_value("Recipe: books").run()
    said = " ".join(warning.value for warning in page.warning).replace("\\", "")
    assert "environment variable SPEECH_ROOT" in said and "first missing: $SPEECH_ROOT/" in said
