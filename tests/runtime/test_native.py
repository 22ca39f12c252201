"""The C program of core/runtime/native: built with gcc, and for another processor, it hears what
the reference hears.
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from core import paths, runtime
from core.runtime import _native
from core.speech import audio
from tests import standin
from tests.runtime.test_engines import OMNI

CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


def build(folder, compiler="gcc", *flags):
    program = folder / "transcribe"
    sources = [str(p) for p in sorted(_native.SOURCES.glob("*.c"))]
    command = [compiler, "-O3", "-Wall", "-Wextra", "-Werror", *flags, "-o", str(program)]
    done = subprocess.run([*command, *sources, "-lm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def sample():
    """(16-bit PCM, the same as floats) of a shipped recording."""
    wave = audio.read(sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[0])
    pcm = (np.clip(wave, -1, 1) * 32767).astype("<i2")
    return pcm.tobytes(), pcm.astype(np.float32) / 32768


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("native"), "gcc", "-march=native")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("flat") / "s70.snet"
    path.write_bytes(runtime.flat(OMNI, "u70"))
    return path


def text_of(sample, chunk_ms):
    stream = standin.reference(OMNI, "u70", chunk_ms, decoder="greedy").stream()
    stream.accept(sample[1])
    return stream.finish()


def lines_of(*command, given):
    done = subprocess.run([str(c) for c in command], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("chunk_ms", [320, 160])
def test_it_prints_what_the_reference_hears_while_it_is_said(program, file, sample, chunk_ms):
    lines = lines_of(program, file, chunk_ms, given=sample[0])
    assert lines[-1] == text_of(sample, chunk_ms) != "" and len(lines) > 4
    assert all(later.startswith(line) for line, later in zip(lines, lines[1:]))


@pytest.mark.slow
def test_it_times_every_chunk(program, file, sample):
    load_ms, *ms, peak_mb, text = lines_of(program, file, 160, "time", given=sample[0])
    assert text == text_of(sample, 160)
    assert len(ms) == -(-len(sample[1]) // 2560) and all(float(x) > 0 for x in (load_ms, *ms))
    assert 1 < float(peak_mb) < 200


@pytest.mark.slow
def test_it_runs_on_another_processor(tmp_path, file, sample):
    if not (shutil.which(CROSS) and shutil.which(EMULATOR)):
        pytest.skip(
            f"needs {CROSS} and {EMULATOR}: apt-get install gcc-aarch64-linux-gnu qemu-user"
        )
    other = build(tmp_path, CROSS, "-static")
    lines = lines_of(EMULATOR, other, file, given=sample[0])
    assert lines[-1] == text_of(sample, 320)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-O2",), ("-fsanitize=address,undefined",)])
def test_it_needs_no_vectors_and_stays_within_its_memory(tmp_path, sample, flags):
    """Plain code widens halves and quantizes in loops: other paths than AVX2's."""
    plain, small = build(tmp_path, "gcc", *flags), tmp_path / "s90.int8.snet"
    small.write_bytes(runtime.flat(OMNI, "u90", "int8"))
    assert lines_of(plain, small, given=sample[0])[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        ((), b"", "usage"),
        (("nowhere.snet",), b"", "cannot be read"),
        (("FILE", "300"), b"", "expected a chunk of 40, 80"),
        (("FILE", "320", "times"), b"", "usage"),
        (("FILE",), b"", "got nothing"),
        (("FILE",), b"RIFF" + bytes(100), "got a WAV file"),
        (("CUT",), bytes(100), "cut off"),
        (("WAV",), bytes(100), "no flat file"),
    ],
)
def test_bad_input_is_named(program, file, tmp_path, words, given, message):
    (tmp_path / "CUT").write_bytes(file.read_bytes()[:5000])
    (tmp_path / "WAV").write_bytes(b"RIFF" + bytes(100))
    (tmp_path / "FILE").write_bytes(file.read_bytes())
    done = subprocess.run([program, *words], input=given, capture_output=True, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr.decode()
