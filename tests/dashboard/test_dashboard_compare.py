"""Compare on stand-in runs: one set of conditions at a time, what is left out is said, cost and
kept parts are told.
"""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from core import cost, paths
from core.common import writing
from core.records import Origin
from core.storage import store
from dashboard.charts import arms as arm_charts, compare as compare_charts, looks
from dashboard.model import comparisons
from tests import standin
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

APP = str(ROOT / "dashboard" / "app.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "runs"
    standin.make_run(folder, "aa-supernet", title="Supernet A")
    standin.make_run(folder, "bb-other", title="Other B", method="gradual_magnitude", seed=3)
    return folder


@pytest.fixture
def run(made, own_artifacts, monkeypatch, tmp_path):
    standin.only_runs(made, monkeypatch, tmp_path / "released")
    monkeypatch.setattr(paths, "COMPARED", tmp_path / "released" / "comparison")
    return paths.runs() / "aa-supernet"


def opened() -> AppTest:
    at = AppTest.from_file(APP, default_timeout=300)
    at.run()
    at.switch_page("views/compare.py").run()
    assert not at.exception
    return at


def text(at: AppTest) -> str:
    return " ".join(
        e.value
        for group in (at.markdown, at.caption, at.info, at.error, at.warning, at.subheader)
        for e in group
    )


def test_renders_chart_cost_and_parts_with_a_sentence_each(run):
    at = opened()
    assert len(at.get("plotly_chart")) == 2 and text(at).count("What to see:") == 3
    rows = at.dataframe[0].value
    assert list(rows["network"]) == ["Supernet A", "Other B"] and list(rows["sizes"]) == [6, 6]
    assert "Left out" not in text(at) and "Every comparison, one by one" not in text(at)


def test_a_network_measured_otherwise_is_left_out_with_the_reason(run):
    for report in store.reports(paths.runs() / "bb-other"):
        if report.split == standin.SPLITS[0]:
            path = paths.report_file(paths.runs() / "bb-other", report.subnet, report.split, 320.0)
            writing.write_json(
                path, dataclasses.asdict(dataclasses.replace(report, precision="bf16"))
            )
    at = opened()
    at.selectbox(key="compared_split").set_value(standin.SPLITS[0]).run()
    words = text(at)
    assert (
        not at.exception
        and "Left out" in words
        and "core evaluate RUN --splits" in words
        and len(at.get("plotly_chart")) == 2
    )


def test_no_network_and_pages_of_comparisons(run):
    paths.COMPARED.mkdir(parents=True)
    (paths.COMPARED / "one.md").write_text("# Does it help?\n\nYes, by 3 points.\n")
    at = opened()
    assert "Does it help?" in [e.label for e in at.expander] and "by 3 points" not in text(at)
    at.session_state["page:one"] = True
    assert "by 3 points" in text(at.run())
    at.multiselect(key="compared").set_value([]).run()
    assert not at.exception and "Choose at least one" in text(at) and len(at.expander) == 1


def test_cost_sums_stages_and_says_what_is_unknown():
    stages = [
        {
            "method": "dense",
            "updates": 10,
            "audio_hours": 2.0,
            "seconds": 120.0,
            "training_tmacs": 3.2,
            "hardware": "X",
        },
        {
            "method": "omni_sparsity",
            "updates": 5,
            "audio_hours": 1.0,
            "seconds": None,
            "training_tmacs": 1.9,
            "hardware": "X",
        },
    ]
    row = compare_charts.cost_row("A", stages, {})
    assert row == {
        "network": "A",
        "trainings": "dense → omni_sparsity",
        "sizes": 0,
        "updates": "15",
        "training audio, hours": "3",
        "minutes": "-",
        "10^12 MACs": "5",
        "on": "X",
    }


def test_kept_parts_leave_out_uniform_sizes(run):
    spec, sizes = store.spec(run), store.subnets(run)
    uniform = dataclasses.replace(
        sizes[-1],
        name="u50",
        keep=cost.uniform(spec, 0.5),
        sparsity=0.5,
        origin=Origin.UNIFORM,
    )
    table = compare_charts.kept_table(spec, [*sizes, uniform])
    assert not any(c.startswith(("u50", "dense")) for c in table.columns) and (
        (table >= 0) & (table <= 1)
    ).all(axis=None)
    figure = compare_charts.kept_figure(table)
    assert list(figure.data[0].y) == list(table.index)
    assert "all kinds" in compare_charts.kept_sentence(
        pd.DataFrame({"s90": [0.1, 0.1]}, index=["a", "b"])
    )
    assert "b keeps most" in compare_charts.kept_sentence(
        pd.DataFrame({"s90": [0.1, 0.2]}, index=["a", "b"])
    )


def test_which_parts_depth_sizes_keep(run):
    spec, dense = store.spec(run), store.subnets(run)[0]

    def size(name, off, share=1.0):
        keep = {u.name: 0.0 if u.branch in off else share for u in spec.units}
        origin = Origin.RANDOM if name[0] == "r" else Origin.TRAINED
        sparsity = cost.sparsity_reached(spec, keep)
        return dataclasses.replace(dense, name=name, keep=keep, sparsity=sparsity, origin=origin)

    off = ["blocks.0.attention", "blocks.1.attention", "blocks.1.convolution"]
    sizes = [
        dense,
        size("d15", off[:1]),
        size("d13", off, 0.5),
        size("r13", off),
        size("s50", [], 0.5),
    ]
    assert compare_charts.parts_table(spec, [dense, sizes[-1]]).empty, (
        "zeros alone leave nothing out"
    )
    table = compare_charts.parts_table(spec, sizes)
    kinds = ["feed forward 1", "convolution", "attention", "feed forward 2"]
    assert list(table.columns) == [(n, k) for n in ("d15", "d13") for k in kinds] and list(
        table.index
    ) == [1, 2, 3, 4]
    assert list(table["d15", "attention"]) == [0, 1, 1, 1] and list(
        table["d13", "convolution"]
    ) == [0.5, 0, 0.5, 0.5]
    words = compare_charts.parts_sentence(table)
    assert (
        "d13 keeps 4 of 4 feed forward 1, 4 of 4 feed forward 2, 3 of 4 convolution, 2 of 4"
        " attention." in words
    )
    figure = compare_charts.parts_figure(table)
    assert (
        sum(row.count("×") for row in figure.data[0].text) == 4
        and list(figure.data[0].x[0]) == ["d15"] * 4 + ["d13"] * 4
    )


def test_claims_and_learning_curves_of_comparisons(run):
    writing.write_bytes(paths.COMPARED / "CLAIMS.md", b"# Claims")
    rows = [
        {
            "number": "1",
            "text": "A is as good",
            "arm": "a",
            "against": "b",
            "size": "70 % sparsity",
            "verdict": "confirmed",
            "relative": 0.01,
            "low": -0.02,
            "high": 0.025,
            "seeds": [[0.5, 0.5]],
            "split": "test-clean",
            "minutes": [4.2, 1.34],
            "selection_minutes": [2.5, 0.0],
            "tmacs": [4.61, 1.138],
            "selection_tmacs": [1.38, 0.0],
            "smaller": False,
        },
        {
            "number": "2",
            "text": "C is better",
            "arm": "c",
            "against": "b",
            "size": "dense",
            "verdict": "not run yet",
            "relative": None,
            "low": None,
            "high": None,
            "seeds": [],
            "split": "",
            "minutes": [],
            "selection_minutes": [],
            "tmacs": [],
            "selection_tmacs": [],
            "smaller": False,
        },
    ]
    writing.write_json(paths.COMPARED / paths.CLAIMS, rows)
    (paths.COMPARED / "small").mkdir()
    for seed in (1, 2):
        curve = [
            {"audio_hours": h, "loss": {"dense": 1.0 - h, "sparsest": 2.0 - h}} for h in (0.1, 0.2)
        ]
        sizes = {
            "all": {"branches": {"convolution": [4, 4], "attention": [4, 4]}},
            "half": {"branches": {"convolution": [4, 4], "attention": [seed - 1, 4]}},
        }
        writing.write_json(
            paths.COMPARED / "small" / f"a-seed{seed}.json",
            {"arm": "a", "seed": seed, "curve": curve, "sizes": sizes},
        )
    writing.write_bytes(paths.COMPARED / "small.md", b"# A small one\n\nIts words.")
    at = opened()
    table = at.dataframe[1].value
    assert list(table["verdict"]) == ["confirmed", "not run yet"] and list(
        table["more errors"]
    ) == ["+1.0 % (-2.0 to +2.5)", "-"]
    assert "What has been claimed" in text(at) and len(at.expander) == 1
    at.session_state["page:small"] = True
    assert r"a\: half keeps 100 % of convolution, 13 % of attention." in text(at.run())
    kept = arm_charts.arms_kept_table(comparisons.arms("small"))
    assert list(kept.columns) == ["a: half"] and list(kept["a: half"]) == [1.0, 0.125]
    figure = arm_charts.learning_figure(comparisons.arms("small")["a"])
    assert [(t.name, t.showlegend, list(t.y)) for t in figure.data] == [
        ("dense", True, [0.9, 0.8]),
        ("sparsest", True, [1.9, 1.8]),
        ("dense", False, [0.9, 0.8]),
        ("sparsest", False, [1.9, 1.8]),
    ]
    styles = [
        [t.line.color for t in arm_charts.learning_figure(comparisons.arms("small")["a"], on).data]
        for on in (False, True)
    ]
    assert styles == [[looks.BLUE, looks.VERMILLION] * 2, [looks.SKY, looks.VERMILLION] * 2]
    writing.write_json(paths.COMPARED / paths.CLAIMS, [rows[1], rows[0] | {"smaller": True}])
    at = opened()
    assert "smaller trainings" in at.expander[0].label, "in a table of its own, below"
    assert [list(at.dataframe[i].value["verdict"]) for i in (1, 2)] == [
        ["not run yet"],
        ["confirmed"],
    ]
    (paths.COMPARED / paths.CLAIMS).write_text("{")
    assert "The claims of run “comparison” cannot be read" in text(opened())


def test_arms_of_a_comparison_on_one_chart():
    def of(wrong, size=1e6):
        return {"file_bytes": size, "speakers": {"a": [0, 1, wrong, 10], "b": [0, 1, 1, 10]}}

    arms = {
        "one": [
            {"seed": 1, "sizes": {"half": of(3), "all": of(1, 2e6)}},
            {"seed": 2, "sizes": {"half": of(5), "all": of(1, 2e6)}},
        ],
        "other": [{"seed": 1, "sizes": {"half": of(9)}}, {"seed": 2, "sizes": {"tiny": of(9)}}],
    }
    points = arm_charts.arms_points(arms)
    assert points.to_dict("records") == [
        {"arm": "one", "size": "half", "megabytes": 1.0, "wer": 25.0, "low": 20.0, "high": 30.0},
        {"arm": "one", "size": "all", "megabytes": 2.0, "wer": 10.0, "low": 10.0, "high": 10.0},
    ], "only what every seed has"
    figure = arm_charts.arms_figure(points)
    assert [(t.name, list(t.x), list(t.y), list(t.error_y.array)) for t in figure.data] == [
        ("one", [1.0, 2.0], [25.0, 10.0], [5.0, 0.0])
    ]


def test_claims_stand_beside_what_they_cost():
    row = {
        "number": "2",
        "verdict": "undecided",
        "arm": "all",
        "against": "alone",
        "text": "as good",
        "size": "half",
        "relative": None,
        "low": None,
        "high": None,
        "seeds": [],
        "split": "",
        "minutes": [4.2, 1.34],
        "selection_minutes": [2.5, 0.0],
        "tmacs": [4.61, 1.138],
        "selection_tmacs": [1.38, 0.0],
    }
    unknown = dict.fromkeys(("minutes", "selection_minutes", "tmacs", "selection_tmacs"), [])
    first, second = compare_charts.claims_table([row, row | unknown]).to_dict("records")
    names = (
        "minutes a training",
        "minutes of choosing sizes",
        "10^12 MACs a training",
        "10^12 MACs of choosing sizes",
    )
    assert [first[n] for n in names] == ["4.2 / 1.3", "2.5 / 0.0", "4.61 / 1.14", "1.38 / 0.00"]
    assert [second[n] for n in names] == ["-"] * 4
