"""The small install (dashboard/requirements.txt): every page opens and a shipped size transcribes
without the libraries that it leaves out; what needs them says so.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core import paths
from core.common import libraries
from core.common.writing import in_words
from tests.conftest import ROOT
from tests.test_packaging import pins

pytestmark = pytest.mark.slow

ABSENT = ("torch", "torchaudio", "tensorboard", "espeakng_loader")  # as they are imported
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder
class Small(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {ABSENT!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Small
"""
PAGES = """
from pathlib import Path
from streamlit.testing.v1 import AppTest
for view in sorted(Path("dashboard/views").glob("[!_]*.py")):
    page = AppTest.from_file(str(view.resolve()), default_timeout=300).run()
    assert not page.exception, (view, page.exception)
    print(view.stem, *[error.value for error in page.error])
"""


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=580,
    )


def core(*words: str) -> subprocess.CompletedProcess:
    return python(f"from core.cli import main\nsys.exit(main.main({list(words)!r}))")


def test_it_is_the_whole_one_without_what_training_needs():
    small, whole = pins("dashboard/requirements.txt"), pins("requirements.txt")
    assert small <= whole, "the same versions"
    left_out = {pin.partition("==")[0] for pin in whole - small}
    assert left_out == {"espeakng-loader", "pytest", "tensorboard", "torch", "torchaudio"}


def test_every_page_opens_and_training_says_what_it_lacks():
    done = python(PAGES)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines() if line)
    assert {"explore", "transcribe", "evidence", "layers", "errors", "train"} <= set(said)
    assert "this needs torch, which is not installed" in done.stdout


def test_a_shipped_size_transcribes(open_speech):
    sound = next((paths.RELEASED / "samples").glob("1_*.opus"))
    done = core("transcribe", "supernet", "u70", str(sound))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "half an hour" in done.stdout


@pytest.mark.parametrize(
    "words", [("train", "quick_look"), ("evaluate", "supernet", "--subnets", "u70")]
)
def test_what_needs_torch_says_how_to_install_it(words):
    done = core(*words)
    assert done.returncode in (1, 2), done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "needs torch, which is not installed: pip install torch" in done.stderr


def test_a_defect_is_no_missing_library():
    assert in_words(ModuleNotFoundError(name="core.nothing")) is None
    assert in_words(ModuleNotFoundError()) is None
    assert libraries.lacking("json") == ""
