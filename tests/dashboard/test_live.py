"""What the live component is fed: stops, maps whose cells keep the shares, presets, transcripts."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from core import paths
from core.common import writing
from core.storage import spoken, store
from dashboard import data, measurements
from dashboard.live import data as live, report
from dashboard.model import fits
from tests import standin


@pytest.fixture
def run(own_artifacts, monkeypatch, tmp_path):
    standin.make_run(tmp_path / "made", "net")
    standin.only_runs(tmp_path / "made", monkeypatch, tmp_path / "released")
    return "net"


def points(run: str):
    return measurements.same_condition(
        measurements.points((run,)),
        standin.SPLITS[0],
        measurements.conditions(measurements.points((run,)).query("split == @standin.SPLITS[0]"))[
            0
        ],
    )


@pytest.mark.slow
def test_stops_are_the_measured_sizes_with_their_own_numbers(run):
    feed = live.payload(run, points(run), 70.0, [])
    assert [stop["percent"] for stop in feed["stops"]] == sorted(
        stop["percent"] for stop in feed["stops"]
    )
    measured = {r.subnet: r for r in store.reports(run) if r.split == standin.SPLITS[0]}
    for stop in feed["stops"]:
        report = measured[stop["name"]]
        assert (stop["wer"], stop["low"], stop["high"]) == (
            report.wer,
            report.wer_low,
            report.wer_high,
        )
        assert stop["mb"] == pytest.approx(report.zstd_bytes / 1e6, abs=1e-4)
        assert (
            stop["file"] == pytest.approx(report.file_bytes / 1e6, abs=1e-4) and stop["per"] is None
        )
    json.dumps(feed)


@pytest.mark.slow
def test_the_phoneme_error_rate_stands_beside_the_word_error_rate(run):
    feed = live.payload(run, points(run).assign(per=0.125), 70.0, [])
    assert {stop["per"] for stop in feed["stops"]} == {0.125}


def test_a_stop_is_beaten_when_another_is_no_larger_and_better():
    stops = [
        {"name": "a", "file": 4.0, "wer": 0.2},
        {"name": "b", "file": 4.03, "wer": 0.1},
        {"name": "c", "file": 2.0, "wer": 0.3},
    ]
    live.mark_beaten(stops)
    assert [stop["beaten"] for stop in stops] == [True, False, False]


@pytest.mark.parametrize("shape", [(5, 64), (22, 176), (88, 704), (32, 32)])
def test_cells_alive_are_the_share_kept(shape):
    ranks = np.random.default_rng(3).permutation(shape[0] * shape[1]).reshape(shape)
    cells = live.cell_ranks(ranks)
    assert cells.shape == (live.SIDE**2,)
    for keep in (0.0, 0.1, 0.3, 0.5, 0.97, 1.0):
        assert (cells < 256 * keep).mean() == pytest.approx(keep, abs=0.004)


def test_cells_show_where_the_ranks_are_low():
    ranks = np.arange(64 * 64).reshape(64, 64)  # the upper rows go last
    cells = live.cell_ranks(ranks).reshape(live.SIDE, live.SIDE)
    assert (cells[:8] < 128).all()
    assert (cells[-8:] >= 128).all()


@pytest.mark.slow
def test_maps_belong_to_the_matrices_and_keep_follows_the_sizes(run):
    feed = live.payload(run, points(run), 70.0, [])
    maps = base64.b64decode(feed["maps"])
    assert len(maps) == len(feed["matrices"]) * live.SIDE**2
    sizes = [data.subnets(run)[stop["name"]] for stop in feed["stops"]]
    for matrix, unit in zip(feed["matrices"], data.spec(run).units, strict=True):
        assert matrix["keep"] == [live.share(unit, size) for size in sizes]


@pytest.mark.slow
def test_the_box_of_the_chart_begins_with_the_limits_of_the_form(run):
    feed = live.payload(run, points(run), 70.0, [], fits.Limits(5.0, 64.0, 20.0, 33.0))
    assert feed["limits"] == {"mb": 5.0, "wer": 33.0}
    again = live.payload(run, points(run), 70.0, [])
    assert again["limits"] == {"mb": fits.START.mb, "wer": fits.START.wer}
    assert again["key"] == feed["key"], "other limits load nothing anew"


def test_presets_fall_on_measured_stops_each_once():
    stops = [{"name": f"s{p}", "percent": float(p)} for p in (0, 30, 69, 90)]
    presets = live.presets(stops)
    assert [(p["name"], p["percent"]) for p in presets] == [
        ("Dense", 0.0),
        ("Half", 69.0),
        ("Tiny", 90.0),
    ]


@pytest.mark.slow
def test_transcripts_are_those_that_were_kept(run, monkeypatch):
    folder = paths.RELEASED / paths.SAMPLES
    writing.write_bytes(folder / "1_call_ann.txt", b"call ann\n")
    writing.write_bytes(folder / "1_call_ann.opus", b"sound")
    assert live.samples(run) == []
    spoken.keep(
        run, {"sizes": {"dense": {"1_call_ann": "call ann"}, "s90": {}}, "decoder": "graph"}
    )
    live.sound.cache_clear()
    (sample,) = live.samples(run)
    assert sample["title"] == "call ann"
    assert sample["text"] == "call ann"
    assert sample["hypotheses"] == {"dense": "call ann"}
    assert live.samples_note(run) == "with the open-speech language model"
    assert sample["audio"] == "data:audio/ogg;base64," + base64.b64encode(b"sound").decode()
    spoken.file(run).write_text(spoken.file(run).read_text().replace("call ann", "call jan"))
    with pytest.raises(ValueError, match="cannot be read"):
        spoken.read(run)
    assert live.samples(run) == []


def test_everything_fits_the_budget():
    """The largest released run: at most 600 kB for its first test set."""
    run = max(
        (info.id for info in store.runs() if info.released),
        key=lambda name: len(store.subnets(name)),
    )
    rows = measurements.points((run,))
    split = data.default_split(run)
    rows = measurements.same_condition(
        rows, split, measurements.conditions(rows[rows["split"] == split])[0]
    )
    feed = live.payload(run, rows, 70.0, [])
    assert len(json.dumps(feed)) < 600_000


@pytest.mark.slow
def test_a_report_holds_everything_itself_and_words_stay_words(run):
    feed = live.payload(run, points(run), 70.0, [])
    hostile = "</script><img src=x>"
    feed["samples"] = [{"title": hostile, "text": hostile, "audio": "", "hypotheses": {}}]
    page = report.document(feed, hostile, hostile, {hostile: hostile}, [hostile])
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace(
        'http-equiv="Content-Security-Policy"', ""
    )
    stop = min(feed["stops"], key=lambda s: abs(s["percent"] - 70))
    assert f"{100 * stop['wer']:.1f} %" in page
