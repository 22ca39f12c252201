"""The time that is left: a median of the last updates, by what those to come cost."""

from __future__ import annotations

import numpy as np
import pytest

from core.methods import omni_sparsity
from core.training.pace import PHASES, Pace, macs, profile
from tests.methods.test_methods import trainer


def test_it_is_there_before_the_first_update_where_the_machine_is_known():
    assert Pace(100).left(0) is None
    assert Pace(100, expected_s=2.0).left(0) == pytest.approx(200.0)
    assert Pace(100, expected_s=2.0).left(25) == pytest.approx(150.0)


def test_a_slow_start_does_not_count_for_long():
    pace = Pace(1000, expected_s=2.0)
    pace.note(0, 600.0)
    assert pace.left(1) == pytest.approx(999 * 2.0), "one slow update is no pace"
    for step in range(1, 15):
        pace.note(step, 2.0)
    assert pace.left(15) == pytest.approx(985 * 2.0)
    blind = Pace(1000)
    blind.note(0, 600.0)
    for step in range(1, 15):
        blind.note(step, 2.0)
    assert blind.left(15) == pytest.approx(985 * 2.0)


def test_updates_to_come_cost_what_their_passes_cost():
    work = np.repeat([1.0, 3.0], 100)  # a warm-up of one pass, then three
    pace = Pace(200, work)
    for step in range(10):
        pace.note(step, 1.0)
    assert pace.left(10) == pytest.approx(90 * 1.0 + 100 * 3.0)
    for step in range(100, 130):
        pace.note(step, 3.3)
    assert pace.left(130) == pytest.approx(70 * 3.3) and pace.left(200) == 0.0


def test_only_the_last_updates_count():
    pace = Pace(1000)
    for step in range(100):
        pace.note(step, 10.0)
    for step in range(100, 120):
        pace.note(step, 1.0)
    assert pace.left(120) == pytest.approx(880.0)


def test_the_profile_of_a_training_is_what_its_updates_multiply(tmp_path):
    """A warm-up of one pass for a quarter of the updates, then three passes."""
    made = trainer(
        tmp_path,
        omni_sparsity.Method,
        omni_sparsity.Options(warmup=0.25, sparsest=0.5),
        updates=100,
    )
    work = profile(made.method, 100)
    assert work.shape == (PHASES,)
    assert work[0] == macs(made.method, 0) and work[-1] == macs(made.method, 96)
    assert work[-1] > 1.5 * work[0], "the subnets' passes come on top"


@pytest.mark.slow
def test_a_training_says_what_is_left_by_its_own_updates(tmp_path):
    made = trainer(tmp_path, omni_sparsity.Method, omni_sparsity.Options(), updates=6)
    assert made.pace.left(0) is None
    made.run(lambda *_: True)
    assert len(made.pace.recent) == 6 and made.pace.left(5) > 0
