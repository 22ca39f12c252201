"""The page on scale: arithmetic by known answers, counts by a tiny model, two real processes that add up, and what the page admits."""
from __future__ import annotations

import pytest
import torch

from core import store
from core.bench import _scale_page, scale
from core.bench._scale_page import Work
from core.records import as_dict
from tests.test_experiment import recipe as given

WORK = Work(batch_seconds=150.0, utterance_s=12.5, updates=1000, macs=1e9, operators=0.0, values=10 ** 6, wer_every=0, checkpoint_every=100,
            checkpoint_bytes=0.0)
O = scale.Options(gpu_tflops=9.0, gpu_share=0.1, launch_us=0.0, latency_us=0.0, memory_GBs=100_000.0, node_GBs=10_000.0,
                  network_GBs=10_000.0)


def test_a_process_gets_whole_utterances_and_the_largest_part_decides():
    assert [_scale_page.largest_part(WORK, n) for n in (1, 2, 5, 8, 12, 64)] == [150.0, 75.0, 37.5, 25.0, 12.5, 12.5]
    assert _scale_page.step(WORK, 1, O).work == pytest.approx(6 * 1e9 * 150 / 0.9e12)
    assert _scale_page.hours(WORK, 64, O) == pytest.approx(_scale_page.hours(WORK, 1, O) / 12, rel=1e-3)
    grown = _scale_page.grown(WORK, 64)
    assert (grown.batch_seconds, grown.updates, _scale_page.largest_part(grown, 64)) == (9600.0, 16, 150.0)
    assert "some processes have no utterance" in _scale_page.why(WORK, O, False) and "at 16 GPUs" in _scale_page.why(WORK, O, False)


def test_a_ring_moves_twice_the_gradients_and_is_as_fast_as_its_slowest_link():
    assert [_scale_page.ring_bytes(3, n) for n in (1, 2, 4)] == [0.0, 12.0, 18.0]
    slow = scale.Options(**vars(O) | {"network_GBs": 0.01, "latency_us": 5.0})
    inside, between = (_scale_page.step(WORK, n, slow).reduce for n in (8, 16))
    assert inside == pytest.approx(14 / 8 * 4e6 / 1e13 + 14 * 5e-6) and between == pytest.approx(30 / 16 * 4e6 / 1e7 + 30 * 5e-6)


def test_starting_operators_is_a_floor_and_what_stops_scaling_is_named():
    late = Work(**vars(WORK) | {"operators": 100_000.0})
    o = scale.Options(**vars(O) | {"launch_us": 5.0})
    one, two = _scale_page.step(late, 1, o), _scale_page.step(late, 4, o)
    assert one.seconds == pytest.approx(one.work, rel=1e-3) and two.seconds == pytest.approx(0.5, rel=1e-2)
    floor = Work(**vars(late) | {"operators": 400_000.0})
    assert "up to about 300 s of speech for each" in _scale_page._hint(floor, o) and _scale_page._hint(late, o) == ""
    assert "starting 100,000 operators takes the host 500 ms" in _scale_page.why(late, o, False)
    slow = scale.Options(**vars(O) | {"network_GBs": 0.01})
    assert "adding up gradients takes" in _scale_page.why(Work(**vars(WORK) | {"values": 10 ** 8}), slow, True)
    assert "every doubling up to 512" in _scale_page.why(WORK, O, True)
    assert _scale_page.stops([8.0, 4.0, 3.9]) == 1 and _scale_page.stops([8.0, 4.0, 2.0]) is None


def test_operators_are_counted_without_views_and_backwards_too():
    x = torch.ones(3, 4, requires_grad=True)
    with scale.Counting() as views:
        x.t()[0].view(3, 1).expand(3, 5)
        torch.empty(3)
    with scale.Counting() as forward:
        y = (x * 2).sum()
    with scale.Counting() as backward:
        y.backward()
    assert views.count == 0 and forward.count == 2 and backward.count >= 2


def test_two_processes_of_this_machine_add_up(monkeypatch):
    told = scale.added_up(3000, 2)
    assert told["sum"] == [8.0, 8.0], "three times two processes: every sum is the next one's part"
    assert told["whole_s"] > 0 and told["least_s"] > 0


def test_the_page_says_what_is_measured_and_what_is_assumed(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SIDE", 64)
    monkeypatch.setattr(scale, "added_up", lambda values, rounds: {"whole_s": 0.5, "least_s": 0.001})
    store.write_json(tmp_path / "small.json", as_dict(given("simple_topk", {"sizes": [2, 4]})))
    found = scale.run({"recipe": str(tmp_path / "small.json"), "out": str(tmp_path / "page.md"), "rounds": 1, "network_GBs": 5.0})
    page = (tmp_path / "page.md").read_text()
    for words in ("No GPU was ever measured by this project", "## Measured here", "## Counted", "## Assumed", "`network_GBs` | 5 GB/s",
                  "python -m core bench scale --set recipe=", "--set network_GBs=5.0", "of it adding up", "64 GPUs would take",
                  found["date"], found["hardware"]):
        assert words in page, words
    assert page.count("| 512 |") == 2 and str(tmp_path / "page.md") not in page
    assert found["values"] > found["parameters"] > 0 and found["operators"] > 100 and tuple(found["hours"]) == _scale_page.COUNTS
