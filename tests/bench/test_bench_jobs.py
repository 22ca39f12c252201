"""`bench jobs`: figures that are numbers, what came before a failure is kept, and no cluster is
left behind.
"""

from __future__ import annotations

import os
import sys
import types

import pytest

from core.bench import _jobs_on_ray, jobs as bench
from core.common import writing
from core.records import as_dict
from tests.pipelines.test_experiment import recipe as given


def test_every_figure_is_a_number_and_has_a_line(tmp_path):
    writing.write_json(tmp_path / "small.json", as_dict(given()))
    found = bench._checkpoint(str(tmp_path / "small.json"))
    assert set(found) == {"checkpoint_over_update", "checkpoint_share"} and all(
        isinstance(v, float) and v > 0 for v in found.values()
    )
    lines = bench.table(found | {"ray_failed": "no cluster"})
    assert len(lines) == 2 and all(
        text in "".join(lines) for name, text in bench.MEANING.items() if name in found
    )


def test_what_was_measured_before_ray_failed_is_kept_and_the_reason_is_said(monkeypatch, capsys):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: object())

    def measure(folder, count, updates, environment, found):
        assert (
            (count, updates) == (3, 300)
            and environment == bench.MODULE
            and os.environ["SUPERNET_ARTIFACTS"] == str(folder)
        )
        found["update_ms"] = 20.0
        raise RuntimeError("Ray's dashboard did not come up within 900 s")

    monkeypatch.setattr(_jobs_on_ray, "measure", measure)
    before = dict(os.environ)
    found = bench._on_ray(3, 300)
    assert found == {
        "update_ms": 20.0,
        "ray_failed": "RuntimeError: Ray's dashboard did not come up within 900 s",
    }
    assert (
        "was not measured whole: RuntimeError" in capsys.readouterr().err
        and dict(os.environ) == before
    )
    assert bench._on_ray(0, 0) == {}


@pytest.mark.parametrize("fails", ["at once", "later", "never"])
def test_no_cluster_and_no_setting_is_left_whatever_happens(fails, monkeypatch, tmp_path):
    told = []

    class Head:
        def get_session_dir_path(self):
            (tmp_path / "session").mkdir(exist_ok=True)
            return str(tmp_path / "session")

    class Cluster:
        def add_node(self, **given):
            told.append((given, os.environ["RAY_USAGE_STATS_ENABLED"], os.environ["X"]))
            if fails == "at once":
                raise TimeoutError("no node")
            return Head()

        def shutdown(self):
            told.append("shut down")

    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.cluster_utils", types.SimpleNamespace(Cluster=Cluster))
    monkeypatch.setattr(_jobs_on_ray, "_ready", lambda address: True)
    before = dict(os.environ)
    try:
        with _jobs_on_ray._cluster({"X": "y"}) as address:
            told.append(address)
            assert (tmp_path / "session").is_dir()
            if fails == "later":
                raise KeyError("inside")
    except (TimeoutError, KeyError) as error:
        assert {"at once": TimeoutError, "later": KeyError}[fails] is type(error)
    node, usage, x = told[0]
    assert (usage, x, node["dashboard_host"]) == ("0", "y", "127.0.0.1") and node[
        "dashboard_port"
    ] != node["dashboard_agent_listen_port"]
    assert (
        told[-1] == "shut down"
        and dict(os.environ) == before
        and not (tmp_path / "session").exists()
    )
    assert fails == "at once" or told[1] == f"http://127.0.0.1:{node['dashboard_port']}"
