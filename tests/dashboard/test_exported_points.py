"""Sizes measured as exported stand beside our engines' on the chart of Explore."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from core import paths
from core.storage import store
from dashboard.model import exported
from tests import standin
from tests.dashboard.test_dashboard_explore import made, opened, run  # noqa: F401 fixtures

pytestmark = pytest.mark.slow


def test_exported_sizes_have_a_marker_of_their_own_in_the_color_of_their_model(run):  # noqa: F811
    report = next(
        r for r in store.reports(run) if (r.subnet, r.split) == ("s70", standin.SPLITS[0])
    )
    rows = store.hypotheses(run, *paths.report_key(report))
    for precision in ("fp32", "int8"):
        other = replace(report, engine="sherpa", precision=precision, file_bytes=654_321, rtf=None)
        store.save_report(run, other, rows)
    store.save_report(run, replace(report, engine="sparse", precision="int8"), rows)
    at = opened()
    at.session_state["comparison_box"] = True
    at.run()
    assert not at.exception
    chart = json.loads(at.get("plotly_chart")[0].proto.spec)
    traces = {t["name"]: t for t in chart["data"] if t.get("name")}
    ours = traces["Supernet A"]
    looks = {ours["marker"]["symbol"] if isinstance(ours["marker"]["symbol"], str) else ""}
    for precision in ("fp32", "int8"):
        trace = traces[f"Supernet A, exported (sherpa, {precision})"]
        assert trace["x"] == [0.654321]
        assert trace["y"] == [pytest.approx(100 * report.wer)]
        assert trace["marker"]["color"] == ours["marker"]["color"]
        looks.add(trace["marker"]["symbol"])
        series = trace["customdata"][0][0]
        assert exported.run_of(series) == "aa-supernet", "a click chooses the run"
    assert len(looks) == 3, "three markers"
    assert not [name for name in traces if "sparse" in name], "another engine, not a format"
