"""Explore on a stand-in run: renders, the slider changes numbers, the choice lives in the URL, bad
runs do no harm.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from core import paths
from core.cli import arguments
from core.common import writing
from core.evaluation import conditions
from core.jobs import queue
from core.records import as_dict
from core.storage import device_cost, metrics, store
from dashboard import data, measurements
from dashboard.charts import explore as charts
from dashboard.components import choice, measure, takeaway, times
from dashboard.live import component
from dashboard.model import ladder
from tests import profiles, standin
from tests.conftest import ROOT

APP = str(ROOT / "dashboard" / "app.py")
VIEW = str(ROOT / "dashboard" / "views" / "explore.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two stand-in runs, made once: one supernet, one baseline."""
    folder = tmp_path_factory.mktemp("shared") / "runs"
    standin.make_run(folder, "aa-supernet", title="Supernet A")
    standin.make_run(folder, "bb-dense", method="small_dense", title="Small B", seed=3)
    return folder


@pytest.fixture
def run(made, own_artifacts, monkeypatch, tmp_path):
    """The stand-ins as the only runs there are."""
    standin.only_runs(made, monkeypatch, tmp_path / "released")
    return paths.runs() / "aa-supernet"


def shown(at: AppTest) -> str:
    """Everything the page says."""
    return " ".join(
        e.value if hasattr(e, "value") else e.proto.body
        for group in (
            at.title,
            at.markdown,
            at.caption,
            at.info,
            at.error,
            at.warning,
            at.success,
            at.get("html"),
        )
        for e in group
    )


def fed(at: AppTest) -> dict:
    """What the live component of the page was given."""
    return json.loads(at.get("bidi_component")[0].proto.json)


def _view() -> dict:
    """The page's functions, without running it."""
    code = Path(VIEW).read_text(encoding="utf-8").rsplit("main()", 1)[0]
    space: dict = {"__name__": "view", "__file__": VIEW}
    exec(compile(code, VIEW, "exec"), space)
    return space


def opened(**query) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params.update(query)
    at.run()
    assert not at.exception
    return at


@pytest.mark.slow
def test_renders_the_live_component_first(run):
    at = opened()
    assert at.title[0].value == "One model, every size"
    assert len(at.get("bidi_component")) == 1
    assert at.query_params == {"run": "aa-supernet", "subnet": "s70"}
    assert fed(at)["percent"] == pytest.approx(70, abs=1)


@pytest.mark.slow
def test_a_released_thumb_chooses_the_size_and_the_address(run, monkeypatch):
    at = opened()
    chosen = {}
    monkeypatch.setattr(choice, "choose", lambda **named: chosen.update(named))
    space = _view()
    monkeypatch.setattr(space["component"], "chosen_size", lambda key: (80.0, "s80"))
    space["released"]("aa-supernet", "live")
    assert chosen == {"run": "aa-supernet", "subnet": "s80"}
    monkeypatch.setattr(space["component"], "chosen_size", lambda key: (85.0, ""))
    space["released"]("aa-supernet", "live")
    assert chosen == {"run": "aa-supernet", "subnet": "s85-between"}
    assert not at.exception


@pytest.mark.slow
def test_another_size_does_no_heavy_work_again(run, monkeypatch):
    at = opened()
    calls = []
    for name in ("reports", "spec", "subnets", "ranks"):
        monkeypatch.setattr(store, name, lambda *a, name=name, **k: calls.append(name))
    at.query_params["subnet"] = "s61-between"
    at.run()
    assert not at.exception
    assert calls == []


@pytest.mark.slow
def test_choice_in_the_address_survives_and_wins(run):
    at = opened(run="aa-supernet", subnet="s42-between")
    assert fed(at)["percent"] == pytest.approx(42, abs=0.5)
    other = opened(run="bb-dense", subnet="s50")
    assert (
        other.selectbox(key="run_menu").value == "bb-dense"
        and other.query_params["subnet"] == "s50"
    )
    lost = opened(run="no-such-run", subnet="s50")
    assert lost.query_params["run"] == "aa-supernet"
    wrong = opened(run="aa-supernet", subnet="nonsense")
    assert wrong.query_params["subnet"] == "s70"


@pytest.mark.slow
def test_test_set_and_axis_menus_change_what_is_compared(run):
    at = opened()
    before = fed(at)["stops"]
    menu = at.selectbox(key="split:aa-supernet")
    assert menu.value == standin.SPLITS[0], "strings of words come first"
    menu.set_value(standin.SPLITS[1]).run()
    assert not at.exception
    assert fed(at)["stops"] != before
    at.session_state["comparison_box"] = True  # the box is opened
    at.run()
    for axis in (
        "MB to download",
        "Parameters",
        "Arithmetic needed",
        "Arithmetic done",
        "ms per chunk",
    ):
        at.button_group(key="axis").set_value(axis).run()
        assert not at.exception
        assert len(at.get("plotly_chart")) == 1


@pytest.mark.slow
def test_default_split_is_the_makers(run):
    writing.write_json(run / paths.FINISHED, {"default_split": standin.SPLITS[1]})
    assert opened().selectbox(key="split:aa-supernet").value == standin.SPLITS[1]


@pytest.mark.slow
def test_measure_queues_one_job_and_shows_it(run, monkeypatch):
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    at = opened(run="aa-supernet", subnet="s85-between")
    at.button(key="measure").click().run()
    queued = queue.list_jobs(10)
    assert [job.kind for job in queued] == ["evaluate"] and queued[0].payload["new"][
        "name"
    ] == "s85-between"
    assert queued[0].payload["splits"] == [standin.SPLITS[0]] and queued[0].payload["subnets"] == []
    assert queued[0].payload["chunk_ms"] == 320
    assert queued[0].payload["decoding"] == {
        "decoder": "greedy",
        "beam": 0,
        "lm": "",
        "precision": "fp32",
        "engine": "torch",
    }
    assert "waits for its turn" in shown(at) and not [b for b in at.button if b.key == "measure"]


@pytest.mark.slow
def test_without_the_test_sets_recordings_a_size_is_not_measured_to_fail(run, monkeypatch):
    monkeypatch.setattr(measure, "lacks_recordings", lambda run, split: True)
    at = opened(run="aa-supernet", subnet="s85-between")
    assert not [b for b in at.button if b.key == "measure"]
    said = shown(at).replace("\\", "")  # Markdown signs are escaped
    assert "SPEECH_ROOT" in said and "recordings of your own" in said


def test_which_test_sets_lack_their_recordings(monkeypatch, tmp_path):
    monkeypatch.delenv("SPEECH_ROOT", raising=False)
    shipped = "supernet"
    assert measure.lacks_recordings(shipped, "librispeech/test-clean")
    assert measure.lacks_recordings(shipped, "librispeech-noisy/test-clean-noisy")
    assert not measure.lacks_recordings(shipped, "voice_commands/test"), "it is spoken here"
    assert not measure.lacks_recordings(shipped, "yours/mine")
    (tmp_path / "LibriSpeech").mkdir()
    monkeypatch.setenv("SPEECH_ROOT", str(tmp_path))
    assert not measure.lacks_recordings(shipped, "librispeech/test-clean")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("decoder", "chunk_ms", "precision"),
    [
        ("greedy", 0.0, "fp32"),
        ("modified_beam_search", 160.0, "bf16"),
        ("modified_beam_search 8", 160.0, "fp32"),
    ],
)
def test_a_size_is_measured_under_the_conditions_of_the_chart(
    run, monkeypatch, decoder, chunk_ms, precision
):
    from core.decoding import ctc as decoding
    from core.pipelines import evaluate as pipelines_evaluate  # torch: not for the others
    from core.pipelines.resolved import ResolvedRecipe

    old = next(r for r in store.reports(run) if r.subnet == "s90" and r.split == standin.SPLITS[0])
    row = as_dict(dataclasses.replace(old, decoder=decoder, chunk_ms=chunk_ms, precision=precision))
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    subnet, asked = ladder.between("aa-supernet", 85), measure.conditions(row)
    payload = queue.get(measure.queue("aa-supernet", subnet, asked)).payload
    assert measure.measuring("aa-supernet", subnet.name, asked) and not measure.measuring(
        "aa-supernet", subnet.name, measure.conditions(row | {"decoder": "modified_beam_search 9"})
    )
    given = pipelines_evaluate.changed(
        ResolvedRecipe(store.recipe(run)).evaluation,
        payload["splits"],
        payload["chunk_ms"],
        payload["decoding"],
    )
    assert (given.splits, given.chunk_ms, given.precision) == ([row["split"]], chunk_ms, precision)
    assert decoding.labeled(given.decoder, given.beam) == decoder and not given.lm
    assert (
        measure.conditions(
            row | {"language_model": "my.arpa 01234567, scale 0.8, blank penalty 3, beam 14"}
        )
        is None
    )


def test_a_size_can_be_measured_beside_the_language_model_that_ships():
    """That is what the released supernet opens with."""
    shipped = store.reports("supernet", added=False)[0]
    asked = measure.conditions(as_dict(shipped))
    assert asked["decoding"]["lm"] == "open" and asked["decoding"]["decoder"] == "graph"
    assert asked["decoding"]["engine"] == shipped.engine
    assert conditions.decoding_labels(conditions.Options(**asked["decoding"]))[:2] == (
        "graph",
        shipped.language_model,
    )


@pytest.mark.slow
def test_errors_over_hours_heard_are_drawn_where_they_were_noted(run):
    assert len(opened().get("plotly_chart")) == 0
    for hours in (1.0, 2.0):
        rates = {"dense": {"people": 0.9 / hours}, "sparsest": {"people": 1.0}}
        metrics.append_metrics(run, {"step": 300, "audio_hours": hours, "wer": rates})
    store.finish(run, {})
    at = opened()
    assert len(at.get("plotly_chart")) == 0
    assert "How its errors fell while it was trained" in [e.label for e in at.expander]
    at.session_state["learning_box"] = True  # the box is opened
    assert len(at.run().get("plotly_chart")) == 1 and not at.exception


@pytest.mark.slow
def test_measured_point_replaces_the_estimate(run):
    at = opened(run="aa-supernet", subnet="s85-between")
    assert "s85-between" not in [stop["name"] for stop in fed(at)["stops"]]
    subnet = ladder.between("aa-supernet", 85)
    old = next(r for r in store.reports(run) if r.subnet == "s90" and r.split == standin.SPLITS[0])
    store.save_subnet(run, subnet)
    store.save_report(
        run, dataclasses.replace(old, subnet=subnet.name, sparsity=subnet.sparsity, wer=0.321), []
    )
    at.run()
    assert {stop["name"]: stop["wer"] for stop in fed(at)["stops"]}["s85-between"] == 0.321


@pytest.mark.slow
def test_a_measured_size_is_a_stop_of_its_own_where_no_other_has_its_percentage(run):
    old = next(r for r in store.reports(run) if r.subnet == "s80" and r.split == standin.SPLITS[0])

    def add(name: str, sparsity: float, measured: bool) -> None:
        store.save_subnet(
            run,
            dataclasses.replace(
                store.subnet(run, "s80"), name=name, sparsity=sparsity, origin="uniform"
            ),
        )
        if measured:
            store.save_report(
                run, dataclasses.replace(old, subnet=name, sparsity=sparsity, wer=0.321), []
            )

    add("u81", 0.808, True)  # 0.8 points from s80, and nothing else stops at 81 %
    add("u80", 0.802, True)  # the searched s80 stops at 80 % already
    add("u79", 0.792, False)  # nobody has measured it
    stops = {rung.percent: rung.name for rung in ladder.rungs("aa-supernet")}
    assert stops == {
        round(100 * size): f"s{100 * size:.0f}" if size else "dense" for size in standin.SIZES
    } | {81: "u81"}
    at = opened(run="aa-supernet", subnet="u81")
    assert at.query_params["subnet"] == "u81"
    assert {stop["name"]: stop["wer"] for stop in fed(at)["stops"]}["u81"] == 0.321


@pytest.mark.slow
def test_the_name_of_the_front_page_is_an_address(run):
    at = AppTest.from_file(APP, default_timeout=300)
    at._page_hash = calc_hash("explore")  # as the browser asks for /explore
    at.query_params["run"] = "bb-baseline"
    at.run()
    assert not at.exception and at.title[0].value == "One model, every size"


@pytest.mark.slow
def test_fits_my_device_chooses(run):
    at = opened()
    at.number_input(key="limit_wer").set_value(100.0).run()
    at.button(key="choose_fit").click().run()
    assert not at.exception and "fits best" in shown(at)
    at.button_group(key="preset").set_value("wearable").run()
    assert at.number_input(key="limit_mb").value == 3.0
    at.number_input(key="limit_ms").set_value(0.1).run()
    assert "None fits. The nearest is" in shown(at) and "12.0 ms per chunk (limit 0.1)" in shown(at)


@pytest.mark.slow
def test_the_short_list_is_held_against_the_slider_and_exported_with_its_command(run):
    at = opened(run="aa-supernet", subnet="s90")
    at.number_input(key="limit_wer").set_value(0.1).run()
    assert at.button(key="choose_fit").label == "Choose it anyway"
    at.number_input(key="limit_wer").set_value(100.0).run()
    names = at.radio[0].options
    assert [name.split(",")[0] for name in names] == ["s30", "dense", "s50", "s70"]
    at.radio[0].set_value("s50").run()
    assert "more per 100 words" not in shown(at)
    at.session_state["against_box"] = True
    at.run()
    said = shown(at).replace("\\", "")  # without its escapes
    assert "From s90 (90\u00a0% sparsity) to s50 (50\u00a0% sparsity), there are" in said
    command = at.code[0].value
    assert command == "python -m core transcribe aa-supernet-s90.safetensors s90 FILES"
    assert arguments.top_parser().parse_args(command.split()[3:]).subnet == "s90"
    at.button(key="choose_fit").click().run()
    assert at.query_params["subnet"] == "s50"
    assert not at.exception


@pytest.mark.slow
def test_the_box_of_the_chart_and_the_form_have_one_set_of_limits(run, monkeypatch):
    fed, dragged = [], []

    def live(payload, key, on_size, on_limits):
        fed.append(payload["limits"])
        if dragged:
            on_limits()

    monkeypatch.setattr(component, "live", live)
    monkeypatch.setattr(component, "chosen_limits", lambda key: dragged.pop())
    at = opened()
    assert fed[-1] == {"mb": 8.0, "wer": 35.0} and at.number_input(key="limit_mb").value == 8.0
    assert at.number_input(key="limit_mb").label == "MB of the file"
    at.number_input(key="limit_mb").set_value(3.0).run()
    assert fed[-1] == {"mb": 3.0, "wer": 35.0}, "the box follows the form"
    dragged.append({"mb": 0.02, "wer": 41.0})
    at.run()
    assert not at.exception and at.number_input(key="limit_mb").value == 0.1, "the form's least"
    assert at.number_input(key="limit_wer").value == 41.0


@pytest.mark.slow
def test_the_fitting_size_is_exported_exactly(run):
    report = next(r for r in store.reports(run) if r.subnet == "s70")
    content = takeaway.exported("aa-supernet", store.subnet(run, "s70"))
    assert hashlib.sha256(content).hexdigest() == report.file_sha256
    store.save_report(run, dataclasses.replace(report, file_sha256="0" * 64), [])
    with pytest.raises(ValueError, match="is another file now"):
        takeaway.exported("aa-supernet", store.subnet(run, "s70"))


def device(run, **changed):
    """A profile of the stand-in supernet in the artifacts."""
    return profiles.write(paths.devices() / "board.json", profiles.made(run, **changed))


@pytest.mark.slow
def test_a_size_alone_in_the_address_is_one_of_the_first_run(run):
    at = opened(subnet="s90")
    assert at.query_params["subnet"] == "s90" and at.query_params["run"] == "aa-supernet"
    assert not at.info
    at = opened(run="aa-supernet", subnet="<b>none")
    assert "This run has no size called “\\<b\\>none”" in at.info[0].value


def test_the_run_that_is_measured_most_opens_first(monkeypatch):
    counts = {"many-sizes": (23, 8), "most-measured": (14, 16), "once": (1, 3)}
    infos = [SimpleNamespace(id=id, released=True, finished=True) for id in counts]
    monkeypatch.setattr(data, "_runs", lambda: infos)
    monkeypatch.setattr(data, "subnets", lambda run: range(counts[run][0]))
    monkeypatch.setattr(data, "reports", lambda run: range(counts[run][1]))
    assert data.run_ids() == ["most-measured", "many-sizes", "once"]


@pytest.mark.slow
def test_times_of_a_device_take_the_place_of_the_reports(run):
    assert not [box for box in opened().selectbox if box.key == "times_of"], "no device, no menu"
    device(run)
    at = opened()
    menu = at.selectbox(key="times_of")
    assert menu.options[1:] == [
        "Times of onnx fp32, 1 thread, Board 4",
        "Times of onnx fp32, 2 threads, Board 4",
        "Times of sparse fp32, 1 thread, Board 4",
    ]
    assert {stop["ms"] for stop in fed(at)["stops"]} == {12.0}
    menu.set_value("Times of sparse fp32, 1 thread, Board 4").run()
    assert not at.exception and fed(at)["msNote"] == "sparse fp32, 1 thread, Board 4"
    stops = {stop["name"]: stop for stop in fed(at)["stops"]}
    assert {n for n, stop in stops.items() if stop["predicted"]} == {"s30", "s80"}
    spec = store.spec(run)
    for name, stop in stops.items():
        work = device_cost.work(spec, store.subnet(run, name).keep)
        assert stop["ms"] == pytest.approx(profiles.times("sparse", work), rel=0.01), name
    assert "Core X, 4 cores, gcc" in shown(at)
    at.number_input(key="limit_wer").set_value(200.0).run()
    assert "MB of RAM" in shown(at) and "400 MB" not in shown(at)
    at.session_state["comparison_box"] = True  # the box is opened
    at.run()
    for axis in ("ms per chunk", "Real-time factor", "RAM"):
        at.button_group(key="axis").set_value(axis).run()
        assert not at.exception and "Timed on Board 4, 1 thread(s), gcc" in shown(at)


@pytest.mark.slow
def test_explore_begins_with_the_times_of_a_released_profile_of_the_sparse_engine(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "released_devices", lambda: tmp_path / "shipped")
    profiles.write(tmp_path / "shipped" / "laptop.json", profiles.made(run))
    at = opened()
    assert at.selectbox(key="times_of").value == "Times of sparse fp32, 1 thread, Board 4"
    assert fed(at)["msNote"] == "sparse fp32, 1 thread, Board 4"
    at.selectbox(key="times_of").set_value(times.REPORTS).run()
    assert fed(at)["msNote"] != "sparse fp32, 1 thread, Board 4"
    # of other files: offered, and not shown first
    shapes = [s | {"packed_sha256": "0" * 64} for s in profiles.made(run)["shapes"]]
    profiles.write(tmp_path / "shipped" / "laptop.json", profiles.made(run, shapes=shapes))
    assert opened().selectbox(key="times_of").value == times.REPORTS
    (tmp_path / "shipped" / "laptop.json").unlink()
    device(run)  # a visitor's own
    assert opened().selectbox(key="times_of").value == times.REPORTS


@pytest.mark.slow
def test_times_without_the_search_for_words_say_so(run):
    for report in store.reports(run):
        where = report.subnet, report.split, report.chunk_ms
        store.save_report(run, dataclasses.replace(report, decoder="graph"), [])
        paths.report_file(run, *where).unlink()
    device(run)
    at = opened()
    at.selectbox(key="times_of").set_value("Times of sparse fp32, 1 thread, Board 4").run()
    text = "sparse fp32, 1 thread, Board 4, without the search for words"
    assert not at.exception and fed(at)["msNote"] == text
    said = shown(at).replace("\\", "")  # names are escaped
    assert "Times and RAM, without the search for words." in said
    assert f"RAM and ms: {text}." in said


@pytest.mark.slow
def test_a_device_is_offered_only_for_what_was_measured_there(run):
    shapes = [s | {"chunk_ms": 160.0} for s in profiles.made(run)["shapes"]]
    device(run, shapes=shapes)
    at = opened()
    assert not [box for box in at.selectbox if box.key == "times_of"]
    assert "No device was measured at 320 ms chunks in fp32" in shown(at)


@pytest.mark.slow
def test_a_profile_that_cannot_be_read_is_said_and_hides_no_other(run):
    device(run)
    profiles.write(paths.devices() / "old.json", profiles.made(run, version=0))
    (paths.devices() / "torn.json").write_text("{")
    at = opened()
    said = shown(at).replace("\\", "")  # file names are escaped
    assert "Device profile old.json: expected version 1 of profiles, got 0" in said
    assert "torn.json is cut off or damaged" in said
    assert len(at.selectbox(key="times_of").options) == 4


@pytest.mark.slow
def test_csv_holds_measured_points_only_and_the_file_is_the_packed_one(run):
    points = measurements.points(("aa-supernet",))
    text = takeaway.front_csv(charts.front(points, charts.AXES["MB on disk"])).decode()
    assert (
        len(text.splitlines()) == len(points) + 1
        and "between" not in text
        and "file_sha256" in text
    )
    report = next(r for r in store.reports(run) if r.subnet == "s70")
    packed = data.packed("aa-supernet", data.subnet("aa-supernet", "s70"))
    assert hashlib.sha256(packed).hexdigest() == report.file_sha256


@pytest.mark.slow
def test_without_any_run_the_page_says_what_to_do(own_artifacts, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    st.cache_data.clear()
    st.cache_resource.clear()
    at = opened()
    assert "Nothing to show yet" in at.subheader[0].value and "Train" in shown(at)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["units.json", "recipe.json", "subnets/s70.json", "reports", "ranks", "finished.json"]
)
@pytest.mark.parametrize("page", ["explore", "layers"])
def test_a_damaged_run_is_told_and_breaks_nothing(run, part, page):
    target = run / part
    if target.is_dir():
        for file in target.glob("*.*"):
            file.write_bytes(b"{ torn")
    else:
        target.write_text("{ torn")
    os.utime(target.parent)
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params.update(run="aa-supernet", subnet="s50")
    at.run()
    assert not at.exception
    if page == "layers":
        at.switch_page("views/layers.py").run()
        assert not at.exception
    assert len(shown(at)) > 100


@pytest.mark.slow
def test_pages_are_found_by_scanning_and_a_broken_one_hides_nothing(tmp_path):
    source = ROOT / "dashboard" / "app.py"
    code = source.read_text(encoding="utf-8").rsplit("main()", 1)[0]
    space: dict = {"__file__": str(source), "__name__": "router"}
    exec(compile(code, str(source), "exec"), space)
    (tmp_path / "good.py").write_text('"""A page."""\nTITLE = "Good"\nORDER = 1\n')
    (tmp_path / "torn.py").write_text("def (")
    assert space["page_facts"](tmp_path / "good.py")["TITLE"] == "Good"
    assert "broken" in space["page_facts"](tmp_path / "torn.py")["TITLE"]
    assert space["page_facts"](ROOT / "dashboard" / "views" / "explore.py")["ORDER"] == 1


@pytest.mark.slow
def test_torch_is_not_loaded_by_explore_and_layers(run):
    code = (
        "import sys, json\nfrom streamlit.testing.v1 import AppTest\n"
        f"at = AppTest.from_file({APP!r}, default_timeout=300).run()\n"
        "at.switch_page('views/layers.py').run()\n"
        "assert not at.exception, at.exception\n"
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in ('torch', 'torchaudio')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == []
