"""Layers on a stand-in run: renders, nested sizes are called nested, masks come from the ranks, the
choice travels.
"""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import cost, paths
from core.storage import store
from dashboard import data
from dashboard.charts import tiles
from dashboard.model import ladder, masks
from tests import standin
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

APP = str(ROOT / "dashboard" / "app.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "runs"
    standin.make_run(folder, "aa-supernet", title="Supernet A")
    standin.make_run(folder, "bb-other", title="Other B", seed=3)
    return folder


@pytest.fixture
def run(made, own_artifacts, monkeypatch, tmp_path):
    standin.only_runs(made, monkeypatch, tmp_path / "released")
    return paths.runs() / "aa-supernet"


def opened(**query) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params.update(query)
    at.run()
    at.switch_page("views/layers.py").run()
    assert not at.exception
    return at


def text(at: AppTest) -> str:
    return " ".join(
        e.value for group in (at.markdown, at.caption, at.info, at.error) for e in group
    )


def test_renders_every_chart_with_a_sentence(run):
    at = opened()
    charts, told = len(at.get("plotly_chart")), text(at).count("What to see:")
    assert charts == 7 and told == charts, "one sentence for every chart"


def test_choice_travels_from_explore_and_can_be_changed_here(run):
    at = opened(run="bb-other", subnet="s85-between")
    assert (
        at.query_params["run"] == "bb-other"
        and "Other B" in text(at)
        and "85 % sparsity" in text(at)
    )
    at.select_slider(key="size_menu").set_value("s50").run()
    assert not at.exception and at.query_params["subnet"] == "s50" and "50 % sparsity" in text(at)
    at.switch_page("views/explore.py").run()
    assert at.query_params == {"run": "bb-other", "subnet": "s50"}
    assert json.loads(at.get("bidi_component")[0].proto.json)["percent"] == pytest.approx(50, abs=1)


def test_another_matrix_and_an_earlier_step_can_be_drawn(run):
    at = opened()
    before = text(at)
    at.selectbox(key="unit:layer").set_value(2).run()
    at.selectbox(key="unit:matrix").set_value(1).run()
    assert not at.exception and text(at) != before
    at.select_slider(key="step:aa-supernet").set_value(200).run()
    assert not at.exception


def test_a_matrix_of_which_nothing_is_left_is_called_so(run):
    assert "nothing is left of this matrix" not in text(opened(run=run.name, subnet="s70"))
    size, first = store.subnet(run, "s70"), store.spec(run).units[0].name
    store.save_subnet(run, dataclasses.replace(size, keep={**size.keep, first: 0.0}))
    at = opened(run=run.name, subnet="s70")
    assert text(at).count("What to see:") == len(
        at.get("plotly_chart")
    ) and "nothing is left of this matrix" in text(at)


def test_nested_sizes_are_called_nested_and_others_not(run):
    small, large = data.subnet("aa-supernet", "s70"), data.subnet("aa-supernet", "s30")
    assert all(small.keep[u] <= large.keep[u] for u in small.keep)
    found = masks.compare("aa-supernet", small, "aa-supernet", large)
    assert "Nested" in found.words and found.only_a == 0 and found.only_b > 0
    assert "exactly the same" in masks.compare("aa-supernet", small, "aa-supernet", small).words
    other = data.subnet("bb-other", "s70")
    apart = masks.compare("aa-supernet", small, "bb-other", other)
    assert "Not nested" in apart.words and apart.only_a > 0 and apart.only_b > 0


def test_comparison_counts_every_block(run):
    a, b = data.subnet("aa-supernet", "s70"), data.subnet("aa-supernet", "s50")
    found, spec, ranks = (
        masks.compare("aa-supernet", a, "aa-supernet", b),
        store.spec(run),
        store.ranks(run),
    )
    assert found.both + found.only_a == sum(cost.counts(spec, a.keep))
    assert found.both + found.only_b == sum(cost.counts(spec, b.keep))
    unit = spec.units[3]
    kept = cost.blocks_kept(unit, a.keep[unit.name])
    assert np.array_equal(masks.unit_mask("aa-supernet", a, unit), ranks[unit.name] < kept)


def test_nets_of_another_shape_are_not_compared(run):
    standin.make_run(paths.runs(), "cc-wide", width=64, utterances=2)
    with pytest.raises(ValueError, match="built differently"):
        masks.compare(
            "aa-supernet",
            data.subnet("aa-supernet", "s70"),
            "cc-wide",
            data.subnet("cc-wide", "s70"),
        )


def test_agreement_with_the_end_is_whole_for_dense_and_partial_for_steps(run):
    subnet = data.subnet("aa-supernet", "s70")
    share = masks.agreement("aa-supernet", subnet, standin.STEPS[0])
    assert 0.3 < share < 1.0
    assert (
        masks.agreement("aa-supernet", data.subnet("aa-supernet", "dense"), standin.STEPS[0]) == 1.0
    )


def test_between_reaches_its_percentage_and_lies_between(run):
    middle = ladder.between("aa-supernet", 75)
    assert middle.sparsity == pytest.approx(0.75, abs=1e-3)
    low, high = data.subnet("aa-supernet", "s80"), data.subnet("aa-supernet", "s70")
    assert "Nested" in masks.compare("aa-supernet", middle, "aa-supernet", high).words
    assert "Nested" in masks.compare("aa-supernet", low, "aa-supernet", middle).words
    with pytest.raises(ValueError, match="outside"):
        ladder.between("aa-supernet", 97)


def test_nothing_lies_between_nets_that_were_pruned_one_by_one(run):
    store.save_subnet(
        run, dataclasses.replace(data.subnet("aa-supernet", "s80"), ranks_sha256="other")
    )
    with pytest.raises(ValueError, match="individually pruned"):
        ladder.between("aa-supernet", 75)


def test_run_without_ranks_still_shows_what_it_can(run):
    shutil.rmtree(run / paths.RANKS)
    at = opened()
    assert "cannot be read" in text(at) and at.get("plotly_chart") and at.dataframe


def test_of_uniform_sizes_it_is_said_where_the_kept_weights_lie(run):
    size, names = store.subnet(run, "s70"), [unit.name for unit in store.spec(run).units]
    for name, keep in (("s70", 0.3), ("s50", 0.5)):
        even = dataclasses.replace(size, name=name, keep=dict.fromkeys(names, keep))
        store.save_subnet(run, dataclasses.replace(even, sparsity=1 - keep))
    at = opened(run=run.name, subnet="s70")
    assert "every matrix keeps the same share" in text(at)
    at.selectbox(key=f"other:{run.name}:s70").set_value((run.name, "s50")).run()
    assert "Every matrix keeps the same in s50: +20 points" in text(at)
    assert "blue matrices are fuller" not in text(at), "a picture of one color is not drawn"
    assert text(at).count("What to see:") == len(at.get("plotly_chart"))


def test_crowding_is_a_fifth_where_all_is_alike():
    even, one_row = np.full((tiles.SIDE, tiles.SIDE), 30), np.zeros((tiles.SIDE, tiles.SIDE))
    one_row[3] = 100
    assert tiles.crowding(even) == pytest.approx(0.2)
    assert tiles.crowding(one_row) > 0.9
