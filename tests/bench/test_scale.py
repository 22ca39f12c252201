"""The page on scale: the formula by known answers, and what the page says."""

from __future__ import annotations

import pytest

from core.bench import scale
from core.common import writing
from core.records import as_dict
from tests.pipelines.test_experiment import recipe as small_recipe

FACTS = {"utterances": 12, "work_s": 1.2, "floor_s": 0.0, "ring_s": 0.0, "updates": 3600}


def test_a_gpu_gets_whole_utterances_and_the_largest_share_decides():
    hours = scale.hours(FACTS, grows=False)
    assert hours[1] == pytest.approx(1.2)
    assert hours[4] == pytest.approx(0.3)
    assert hours[8] == pytest.approx(0.2)  # two of twelve
    assert hours[16] == hours[512] == pytest.approx(0.1)
    assert scale.stops(hours) == 16


def test_a_batch_that_grows_needs_fewer_updates_until_the_ring_takes_longest():
    grown = scale.hours(FACTS | {"ring_s": 1.2}, grows=True)
    assert grown[1] == pytest.approx(1.2)
    assert grown[2] == pytest.approx(0.9)
    assert grown[4] == pytest.approx(1.2 * 1.75 / 4)
    assert scale.stops(grown) == 512


def test_starting_operators_is_a_floor():
    hours = scale.hours(FACTS | {"floor_s": 0.9}, grows=False)
    assert hours[2] == hours[64] == pytest.approx(0.9)
    assert scale.stops(hours) == 2


@pytest.mark.slow
def test_the_page_has_its_inputs_and_the_answers(tmp_path):
    writing.write_json(tmp_path / "small.json", as_dict(small_recipe("dense")))
    out = tmp_path / "page.md"
    facts = scale.run(
        scale.Options(recipe=str(tmp_path / "small.json"), out=str(out), network_GBs=5.0)
    )
    page = out.read_text()
    assert facts["page"] == str(out)
    assert facts["ring_s"] == pytest.approx(8 * facts["parameters"] / 5e9)
    assert facts["work"] > 0
    assert facts["passes"] == 1.0
    for words in ("64 GPUs, 960 hours", "stops scaling", "| 5 GB/s |", "| 512 |", "assumed:"):
        assert words in page
    assert facts["hardware"] in page
