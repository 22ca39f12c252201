"""The folder for a device runs by itself: without this project, torch or the packages that made it,
and says what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from core import bench, export, paths
from core.cli import main as cli
from core.export import _recognize
from core.speech import phones, tokenizer
from core.storage import devices, packing, store
from tests import standin
from tests.runtime.test_engines import OMNI

SIZES = ("u90",)
OURS = ("core", "dashboard", "torch", "onnx", "kaldi_native_fbank", "scipy", "safetensors")
BLOCK = """import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder for a device, of the released supernet."""
    folder = tmp_path_factory.mktemp("out")
    export.write(OMNI, SIZES, folder, lambda *_: True, "device")
    return folder / "device"


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "device")


def alone(folder, script, *words, blocked=OURS, given=b"", **environment):
    """A script of the folder in a process, and its children, that cannot import `blocked`."""
    place = folder.parent / "site"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(BLOCK.format(names=blocked))
    command = [sys.executable, str(folder / script), *map(str, words)]
    return subprocess.run(
        command,
        input=given,
        capture_output=True,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(place), **environment},
        timeout=600,
    )


@pytest.mark.slow
@needs_gcc
def test_the_folder_alone_measures_every_arm(folder, tmp_path):
    out = tmp_path / "pi.json"
    words = ("-o", out, "--name", "Board", "--rounds", 1, "--threads", 1, 2)
    done = alone(folder, "measure.py", *words)
    assert done.returncode == 0, done.stderr.decode()
    profile = devices.load(out)
    assert (profile.name, profile.chunk_ms) == ("Board", 320)
    arms = {("onnx", p, n) for p in ("fp32", "int8") for n in (1, 2)}
    arms |= {("sparse", p, 1) for p in ("fp32", "int8")}
    assert {(t.subnet, *t.arm) for t in profile.timings} == {(n, *a) for n in SIZES for a in arms}
    assert all(t.agreement == 1.0 for t in profile.timings if t.precision == "fp32")
    assert all(t.chunks > 20 and t.rss_mb > 1 for t in profile.timings)
    run = store.run_folder(OMNI)
    for shape in profile.shapes:
        packed = packing.pack(run, store.subnet(run, shape.subnet))
        assert (shape.packed_sha256, shape.file_bytes) == (packing.sha256(packed), len(packed))
    assert {p.name for p in tmp_path.iterdir()} == {"pi.json", "device", "site"}


@pytest.mark.slow
def test_the_recognizer_alone_gives_the_engine_s_text(folder):
    shape = json.loads((folder / "u90.shape.json").read_text())
    sound = (folder / "sound.pcm").read_bytes()
    done = alone(folder, "recognize.py", folder / "u90.onnx", given=sound)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == shape["text"] + "\n" and len(shape["text"].split()) > 10
    assert set(shape["text"].split()) <= set(phones.PHONES)
    assert "prints phonemes, see README.md for words" in done.stderr.decode()
    said = (folder / "README.md").read_text()
    assert "Both print phonemes" in said and "--subnets u90 --format sherpa" in said


def test_the_recognizer_joins_tokens_as_the_c_program_does():
    symbols = ["<blk>", "\u2581tu", "rn", "\u2581", "o"]
    assert _recognize.joinable(symbols, "words") == symbols
    assert _recognize.spelled(symbols[1:]) == "turn o"
    known = tokenizer.Phonemes(["<blk>", "HH", "AY", "AY_E"])
    joined = _recognize.joinable(known.symbols, known.unit)
    assert joined == known.joinable() and _recognize.spelled(joined[1:]) == "HH AY AY"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        ((), b"", "usage"),
        (("u90.onnx", "two"), b"", "usage"),
        (("nowhere.onnx",), b"", "nowhere.onnx"),
        (("u90.onnx",), b"", "expected raw 16 kHz mono 16-bit PCM, got nothing"),
        (("u90.onnx",), b"RIFF" + bytes(100), "got a WAV file with a header"),
    ],
)
def test_the_recognizer_says_what_is_wrong(folder, words, given, message):
    words = [folder / w if w.startswith("u90") else w for w in words]
    done = alone(folder, "recognize.py", *words, given=given)
    assert done.returncode == 2 and message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def wrong(done) -> str:
    """The one line on stderr of a script that refused."""
    text = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in text, text
    return text.splitlines()[-1]


@pytest.mark.slow
def test_an_engine_that_is_not_installed_is_named_with_what_to_install(folder, tmp_path):
    no_onnx = (*OURS, "onnxruntime")
    asked = alone(folder, "measure.py", "--engines", "onnx", blocked=no_onnx)
    assert "onnxruntime is not installed: pip install numpy onnxruntime" in wrong(asked)
    bare = tmp_path / "bin"
    bare.mkdir()
    asked = alone(folder, "measure.py", "--engines", "sparse", PATH=str(bare))
    assert "no C compiler was found (gcc, clang, cc): install one" in wrong(asked)
    none = wrong(alone(folder, "measure.py", blocked=no_onnx, PATH=str(bare)))
    assert "'onnx' cannot run here" in none and "'sparse' cannot run here" in none
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
@needs_gcc
def test_what_is_missing_is_left_out_and_said(folder, tmp_path):
    words = ("-o", tmp_path / "pi.json", "--rounds", 1)
    done = alone(folder, "measure.py", *words, blocked=(*OURS, "onnxruntime"))
    assert done.returncode == 0 and "left out: engine 'onnx' cannot run" in done.stderr.decode()
    assert {arm.engine for arm in devices.load(tmp_path / "pi.json").arms} == {"sparse"}


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_said_before_anything_is_measured(folder, tmp_path):
    for out, words in (
        (tmp_path / "no" / "pi.json", "cannot be written (No such file or directory)"),
        (tmp_path, "expected a file to write, got the folder"),
        ("/proc/pi.json", "cannot be written"),
    ):
        assert words in wrong(alone(folder, "measure.py", "-o", out))


@pytest.mark.slow
@needs_gcc
def test_an_engine_that_gives_another_text_is_not_timed(folder, tmp_path):
    for file in folder.glob("*.shape.json"):
        facts = json.loads(file.read_text())
        file.write_text(json.dumps(facts | {"text": "something else entirely 12345"}))
    words = ("-o", tmp_path / "pi.json", "--engines", "sparse", "--rounds", 1)
    done = alone(folder, "measure.py", *words)
    assert "no engine gives the expected text here: nothing was written" in wrong(done)
    assert "left out: u90 sparse fp32" in done.stderr.decode()
    assert not (tmp_path / "pi.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["u90.shape.json", "bundle.json", "sound.pcm", "u90.snet"])
def test_a_damaged_folder_is_said(folder, tmp_path, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    if name == "sound.pcm":
        (folder / name).unlink()
    words = ("-o", tmp_path / "pi.json", "--engines", "sparse", "--rounds", 1)
    assert name.partition(".")[0] in wrong(alone(folder, "measure.py", *words))
    assert not (tmp_path / "pi.json").exists()


@pytest.mark.slow
@needs_gcc
def test_the_bench_writes_a_profile_and_says_how_well_it_predicts(tmp_path, capsys):
    standin.make_run(paths.runs(), "net")
    sizes = '["dense", "s50", "s70", "s90"]'
    words = ["bench", "device", "--set", "run=net", "--set", f"subnets={sizes}"]
    words += ["--set", 'engines=["sparse"]', "--set", "rounds=1", "--set", "name=Here"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "| s70 | sparse fp32, 1 thread |" in text and "- sparse int8, 1 thread: " in text
    assert devices.load(paths.devices() / "device.json").name == "Here"
    out = tmp_path / "missing" / "pi.json"
    assert cli.main([*words, "-o", str(out)]) == 2
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err


@pytest.mark.slow
def test_options_of_the_bench_are_checked(capsys):
    with pytest.raises(
        ValueError, match="bench device.threads: expected a number from 1 to 64, got 0"
    ):
        bench.run("device", {"threads": [0]})
    with pytest.raises(ValueError, match="no_such"):
        bench.run("device", {"run": "no_such"})
    assert cli.main(["bench", "emission", "-o", "a.json"]) == 2  # writes no file
    assert "unknown option 'out'" in capsys.readouterr().err
