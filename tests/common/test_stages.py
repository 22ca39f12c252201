"""Messages that count are read back as they were written."""

from __future__ import annotations

import pytest

from core.common import stages
from core.common.stages import Stage


@pytest.mark.parametrize(
    ("message", "stage"),
    [
        (
            stages.counted(stages.TRAINING, 7, 40, "updates", "loss: a 2.1, b 1.0; 3 h"),
            Stage("training", 7, 40, "updates", "loss: a 2.1, b 1.0; 3 h"),
        ),
        (stages.counted(stages.FEATURES, 2.1449, 3.9, "h"), Stage("features", 2.1, 3.9, "h")),
        ("starting: loading the program", Stage("starting", more="loading the program")),
        ("2 files are in: /somewhere", Stage("", more="2 files are in: /somewhere")),
        ("", Stage("")),
    ],
)
def test_what_was_counted_is_read_back(message, stage):
    assert stages.read(message) == stage


def test_a_stage_knows_its_share_and_count():
    stage = stages.read("speech: 3 of 12 files, making train of voice_commands")
    assert (stage.share, stage.count()) == (0.25, "3 of 12 files")
    assert (Stage("training").share, Stage("training").count()) == (0.0, "")
    assert stages.read(stages.counted("training", 732_000, 1_000_000, "updates")).done == 732_000
