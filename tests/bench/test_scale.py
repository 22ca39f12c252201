"""The page on scale: arithmetic by known answers, counts by a tiny model, two real processes that
add up, and what the page admits.
"""

from __future__ import annotations

import pytest
import torch

from core.bench import _scale_page, scale
from core.bench._scale_page import Work
from core.common import writing
from core.records import as_dict
from tests.pipelines.test_experiment import recipe as given

WORK = Work(
    batch_seconds=150.0,
    utterance_s=12.5,
    updates=1000,
    macs=1e9,
    operators=0.0,
    values=10**6,
    wer_every=0,
    checkpoint_every=100,
    checkpoint_bytes=0.0,
)
O = scale.Options(
    gpu_tflops=9.0,
    gpu_share=0.1,
    launch_us=0.0,
    latency_us=0.0,
    memory_GBs=100_000.0,
    node_GBs=10_000.0,
    network_GBs=10_000.0,
)


def test_a_process_gets_whole_utterances_and_the_largest_part_decides():
    assert [_scale_page.largest_part(WORK, n) for n in (1, 2, 5, 8, 12, 64)] == [
        150.0,
        75.0,
        37.5,
        25.0,
        12.5,
        12.5,
    ]
    assert _scale_page.step(WORK, 1, O).work == pytest.approx(6 * 1e9 * 150 / 0.9e12)
    assert _scale_page.hours(WORK, 64, O) == pytest.approx(
        _scale_page.hours(WORK, 1, O) / 12, rel=1e-3
    )
    grown = _scale_page.grown(WORK, 64)
    assert (grown.batch_seconds, grown.updates, _scale_page.largest_part(grown, 64)) == (
        9600.0,
        16,
        150.0,
    )
    assert "some processes have no utterance" in _scale_page.why(
        WORK, O, False
    ) and "at 16 GPUs" in _scale_page.why(WORK, O, False)


def test_a_ring_moves_twice_the_gradients_and_is_as_fast_as_its_slowest_link():
    assert [_scale_page.ring_bytes(3, n) for n in (1, 2, 4)] == [0.0, 12.0, 18.0]
    slow = scale.Options(**vars(O) | {"network_GBs": 0.01, "latency_us": 5.0})
    inside, between = (_scale_page.step(WORK, n, slow).reduce for n in (8, 16))
    assert inside == pytest.approx(14 / 8 * 4e6 / 1e13 + 14 * 5e-6) and between == pytest.approx(
        30 / 16 * 4e6 / 1e7 + 30 * 5e-6
    )


def test_what_every_process_repeats_does_not_shrink():
    many = Work(**vars(WORK) | {"values": 10**8, "passes": 3.0})
    slow = scale.Options(**vars(O) | {"memory_GBs": 1000.0})
    assert [_scale_page.step(many, n, slow).repeat for n in (1, 64)] == [
        pytest.approx((17 + 15) * 4e8 / 1e12)
    ] * 2


@pytest.mark.parametrize("noise", [(1.0, 1.0, 1.0, 1.0), (1.02, 0.98, 1.02, 0.98)])
def test_a_line_through_times_finds_the_fixed_part(noise):
    seconds = [12.3, 36.9, 73.8, 147.6]
    fixed, slope, off = scale.line(
        seconds, [(0.2 + 0.07 * s) * n for s, n in zip(seconds, noise)], 0.15
    )
    assert fixed == pytest.approx(
        0.2, abs=1e-6 if set(noise) == {1.0} else 0.08
    ) and slope == pytest.approx(0.07, rel=0.05)
    assert off < 0.05


@pytest.mark.parametrize(
    ("took", "words"),
    [
        (
            [0.93, 2.63, 5.2, 10.4],
            "would not depend on its speech .*but to move the weights alone takes 0.19 s",
        ),
        ([0.8, 2.6, 5.3, 10.9], "but to move the weights alone takes 0.19 s"),  # below nothing
        ([5.0, 4.0, 3.0, 2.0], "lie on no line that rises"),
        ([1.0, 2.8, 9.0, 10.5], "lie on no line .*15% are allowed"),
        ([1.2, 1.05, 5.3, 10.6], "lie on no line that rises"),
    ],
)
def test_times_that_cannot_be_true_are_refused(took, words):
    with pytest.raises(ValueError, match=words):
        scale.line([12.3, 36.9, 73.8, 147.6], took, 0.19)


def test_batches_of_several_sizes_up_to_the_recipes_are_timed():
    assert (
        scale.sizes(12) == [1, 3, 6, 12]
        and scale.sizes(4) == [1, 2, 4]
        and all(len(scale.sizes(n)) >= 3 for n in range(1, 20))
    )


def test_starting_operators_is_a_floor_and_what_stops_scaling_is_named():
    late = Work(**vars(WORK) | {"operators": 100_000.0})
    o = scale.Options(**vars(O) | {"launch_us": 5.0})
    one, two = _scale_page.step(late, 1, o), _scale_page.step(late, 4, o)
    assert one.seconds == pytest.approx(one.work, rel=1e-3) and two.seconds == pytest.approx(
        0.5, rel=1e-2
    )
    floor = Work(**vars(late) | {"operators": 400_000.0})
    assert (
        "up to about 300 s of speech for each" in _scale_page._hint(floor, o)
        and _scale_page._hint(late, o) == ""
    )
    assert "starting 100,000 operators takes the host 500 ms" in _scale_page.why(late, o, False)
    slow = scale.Options(**vars(O) | {"network_GBs": 0.01})
    assert "adding up gradients takes" in _scale_page.why(
        Work(**vars(WORK) | {"values": 10**8}), slow, True
    )
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
    monkeypatch.setattr(scale, "STREAM", 1000)
    monkeypatch.setattr(
        scale, "added_up", lambda values, rounds: {"whole_s": 0.5, "least_s": 0.001}
    )
    told, update = [], scale.Trainer.update
    monkeypatch.setattr(
        scale.Trainer,
        "update",
        lambda self, batch: (told.append((self.step, len(batch.ids))), update(self, batch))[1],
    )
    fitted = []

    def line(*given):
        fitted.append(given)
        return 0.25, 0.001, 0.02

    monkeypatch.setattr(scale, "line", line)  # a busy machine's times may be refused
    writing.write_json(tmp_path / "small.json", as_dict(given("simple_topk", {"sizes": [2, 4]})))
    found = scale.run(
        {
            "recipe": str(tmp_path / "small.json"),
            "out": str(tmp_path / "page.md"),
            "rounds": 2,
            "network_GBs": 5.0,
        }
    )
    page = (tmp_path / "page.md").read_text()
    for words in (
        "No GPU was ever measured by this project",
        "## Measured here",
        "## Counted",
        "## Assumed",
        "`network_GBs` | 5 GB/s",
        "python -m core bench scale --set recipe=",
        "--set network_GBs=5.0",
        "of it adding up",
        "64 GPUs would take",
        found["date"],
        found["hardware"],
        "2% off at most",
        "| 0.25 s |",
        "the least it could be: 13 times 4 bytes",
    ):
        assert words in page, words
    assert (
        page.count("| 512 |") == 2
        and str(tmp_path / "page.md") not in page
        and page.count("an update of ") == 3
    )
    assert (
        found["values"] > found["parameters"] > 0
        and found["operators"] > 100
        and tuple(found["hours"]) == _scale_page.COUNTS
    )
    assert told == [
        (2, 1),
        *((step, n) for step in (2, 3, 4) for n in (1, 2, 4)),
    ], "one step's chunk and subnets for all sizes"
    ((seconds, took, least),) = fitted
    assert len(seconds) == len(took) == 3 and min(took) > 0 and least > 0


def test_nothing_is_written_when_the_times_cannot_be_true(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "_times", lambda trainer, batches, *_: ([2.0, 1.5, 1.0], 1.0, 1e9))
    writing.write_json(tmp_path / "small.json", as_dict(given("dense")))
    with pytest.raises(ValueError, match="lie on no line.*run it again when it is quiet"):
        scale.run(
            {"recipe": str(tmp_path / "small.json"), "out": str(tmp_path / "page.md"), "rounds": 1}
        )
    assert not (tmp_path / "page.md").exists()
