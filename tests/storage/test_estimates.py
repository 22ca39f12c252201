"""Estimates of time: from what work has cost on this machine, as a range, and None where nothing is
known.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import paths
from core.common import machine
from core.records import Choice, Recipe
from core.storage import estimates, speeds
from core.storage.estimates import Estimate

RECIPE = Recipe(
    Choice("voice_commands", {"hours": 0.5}),
    Choice("conformer_ctc", {}),
    Choice("omni_sparsity", {}),
    training={"updates": 100, "batch_seconds": 20.0},
)


def known(**costs: float) -> None:
    """Costs of the recipe's work, by stage."""
    works = {
        "training": estimates.training_work(RECIPE, "cpu"),
        "speech": "speech voice_commands",
        "features": "features",
        "measuring": estimates.measuring_work(RECIPE),
    }
    for stage, cost in costs.items():
        speeds.note(works[stage], 1.0, cost)


def test_nothing_is_estimated_before_anything_is_known():
    assert estimates.of(RECIPE, "cpu") is None
    known(speech=0.1, features=0.1, measuring=60.0)
    assert estimates.of(RECIPE, "cpu") is None, "its training decides"


def test_a_training_costs_its_audio_and_one_measurement_is_a_wide_range():
    known(training=0.1)
    found = estimates.of(RECIPE, "cpu")
    assert found is not None and list(found.stages) == ["training"]
    assert (found.low, found.high) == pytest.approx((0.75 * 200, 1.5 * 200))
    twice = replace(RECIPE, training={"updates": 200, "batch_seconds": 20.0, "peak_lr": 1e-4})
    assert estimates.of(twice, "cpu").high == pytest.approx(2 * found.high), "no cost of its own"
    assert estimates.of(RECIPE, "cuda") is None, "another device, another cost"


def test_several_measurements_span_the_range_and_old_ones_are_forgotten():
    known(training=99.0)
    for cost in (0.1, 0.12, 0.14, 0.16, 0.2):
        known(training=cost)
    found = estimates.of(RECIPE, "cpu")
    assert (found.low, found.high) == pytest.approx((0.85 * 0.1 * 2000, 1.2 * 0.2 * 2000))


def test_all_stages_count_until_the_speech_is_there():
    known(training=0.1, speech=0.5, features=0.01, measuring=60.0)
    key = estimates.speech_key(RECIPE)
    speeds.note_amounts(key, {"made_seconds": 400.0, "feature_seconds": 1000.0})
    found = estimates.of(RECIPE, "cpu")
    assert list(found.stages) == ["speech", "features", "training", "measuring"]
    assert found.stages["speech"][0] == pytest.approx(0.75 * 0.5 * 400 / machine.cores())
    assert found.after("training") == pytest.approx((45.0, 90.0))
    assert found.after("starting") == pytest.approx((found.low, found.high))
    speeds.note_amounts(key, {"folder": "abc"})
    (paths.prepared() / "abc").mkdir(parents=True)
    assert list(estimates.of(RECIPE, "cpu").stages) == ["training", "measuring"]


def test_an_option_written_out_as_its_default_is_the_same_work():
    written = replace(RECIPE, model=Choice("conformer_ctc", {"blocks": 8}))
    assert estimates.training_work(written, "cpu") == estimates.training_work(RECIPE, "cpu")
    wider = replace(RECIPE, model=Choice("conformer_ctc", {"width": 256}))
    assert estimates.training_work(wider, "cpu") != estimates.training_work(RECIPE, "cpu")


def test_another_machine_or_a_damaged_file_knows_nothing(monkeypatch):
    known(training=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "processor", lambda: "another one, 64 cores")
        assert estimates.of(RECIPE, "cpu") is None
    assert estimates.of(RECIPE, "cpu") is not None
    paths.speeds().write_text('{"costs": [')
    assert estimates.of(RECIPE, "cpu") is None
    known(training=0.1)
    assert estimates.of(RECIPE, "cpu") is not None


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (20.0, 45.0, "20 to 45 seconds"),
        (230.0, 470.0, "4 to 8 minutes"),
        (60.0, 100.0, "1 to 1.5 minutes"),
        (5 * 3600.0, 11 * 3600.0, "5 to 11 hours"),
        (86400.0 * 150, 86400.0 * 304, "150 to 300 days"),
        (61.0 * 60, 62.0 * 60, "61 to 62 minutes"),
        (7210.0, 7230.0, "2 hours"),
    ],
)
def test_ranges_are_said_for_people(low, high, words):
    assert estimates.between(low, high) == words


def test_an_estimate_says_its_parts():
    found = Estimate({"speech": (0.2, 0.4), "training": (100.0, 200.0), "measuring": (20.0, 40.0)})
    assert found.words() == "about 2 to 4 minutes on this machine"
    assert found.detail() == "training 1.5 to 3.5 minutes, measuring 20 to 40 seconds"
