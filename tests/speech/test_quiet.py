"""What libmpg123 writes to standard error is kept off it; everything else arrives."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from core import paths
from tests import sounds

DECODE = """
import sys, threading, os
from core.speech import audio
ended = threading.Event()
def talk():
    while not ended.is_set():
        os.write(2, b"a line of another thread\\n")
        ended.wait(0.001)
thread = threading.Thread(target=talk)
thread.start()
for name in sys.argv[1:]:
    try:
        audio.read(name)
    except audio.AudioError as error:
        print(error)
ended.set()
thread.join()
print("the end", file=sys.stderr)
"""
RAW = """
import contextlib, sys, soundfile
for name in sys.argv[1:]:
    with contextlib.suppress(Exception):
        soundfile.read(name)
"""


def damaged(folder) -> list[str]:
    """MP3 files with a header that tells their length, and bytes changed behind it."""
    good, names = sounds.encoded(sounds.voice(2.0), "MP3"), []
    for seed in range(12):
        rng, data = np.random.default_rng(seed), bytearray(good)
        for at in rng.integers(200, len(good), 60):
            data[at] = rng.integers(256)
        (folder / f"{seed}.mp3").write_bytes(data)
        names.append(str(folder / f"{seed}.mp3"))
    (folder / "none.mp3").write_bytes(b"\x01\x02" * 4000)
    return [*names, str(folder / "none.mp3")]


def standard_error(program: str, names: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=paths.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_damaged_mp3_says_nothing_itself_and_other_lines_arrive(tmp_path):
    names = damaged(tmp_path)
    raw = standard_error(RAW, names)
    assert "libmpg123" in raw and "Note: Illegal Audio-MPEG-Header" in raw, (
        "else this tests nothing"
    )
    lines = standard_error(DECODE, names).splitlines()
    assert set(lines) == {"a line of another thread", "the end"} and lines[-1] == "the end"
