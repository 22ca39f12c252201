"""What a format cannot do is said before anything is written, with what can."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import export, paths
from core.cli import main as cli
from core.common import writing
from core.jobs import leases, process as child, queue
from core.registry import catalog, plugins
from tests import standin
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(made, own_artifacts, monkeypatch):
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    return Path(shutil.copytree(made, paths.runs() / made.name))


DOORS = [["export"], ["jobs", "add", "export"]]


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--format", "sherp"], "no export format called 'sherp' (did you mean 'sherpa'?)"),
        (
            ["--format", "hub", "--int8"],
            "'hub' has no int8; formats that have: device, onnx, sherpa",
        ),
        (["--int8"], "format 'packed' has no int8"),
    ],
)
def test_an_unknown_format_or_precision_is_named(run, door, given, words, capsys):
    assert cli.main([*door, run.name, "--subnets", "s70", *given]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not paths.exports(run.name).exists() and not queue.list_jobs()


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("form", ["device", "onnx", "sherpa"])
def test_a_subnet_that_a_format_cannot_hold_names_those_that_can(
    own_artifacts, door, form, capsys, tmp_path
):
    transducer = next(p.name for p in paths.RELEASED.glob("omni-*"))
    words = [
        *door,
        transducer,
        "--subnets",
        "dense",
        "--format",
        form,
        "--out",
        str(tmp_path / "a"),
    ]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert f"format '{form}' cannot hold dense of run {transducer}" in error
    assert "got 'emformer_transducer'; formats that can: hub, packed" in error
    assert not (tmp_path / "a").exists() and not queue.list_jobs()


@pytest.mark.slow
def test_a_package_that_is_not_installed_is_named():
    code = (
        "import sys\nfrom core import export\n"
        "for missing in ('kaldi_decoder', 'onnx', 'onnxruntime'):\n"
        "    sys.modules[missing] = None\n"
        "    try:\n        export.check_format('sherpa', True)\n"
        "    except ValueError as error:\n        print(error)\n"
        "    del sys.modules[missing]\n"
        "export.check_format('sherpa', True)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"format 'sherpa' needs {name}, which is not installed: pip install {name}"
        for name in ("kaldi-decoder", "onnx", "onnxruntime")
    ]


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_said(run, tmp_path, monkeypatch):
    def refused(path, _):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(writing, "write_bytes", refused)
    with pytest.raises(ValueError, match="a/s70.onnx cannot be written.*or name another one"):
        export.write(run.name, ["s70"], tmp_path / "a", lambda *_: True, "onnx")


@pytest.mark.slow
def test_a_job_writes_the_format_that_was_asked_for(run, tmp_path):
    folder = tmp_path / "a"
    words = ["--subnets", "s70", "--format", "onnx", "--int8", "--out", str(folder)]
    assert cli.main(["jobs", "add", "export", run.name, *words]) == 0
    job = leases.claim("a")
    assert child.run_job(job.id) == 0
    assert {p.name for p in folder.iterdir()} == {"s70.int8.onnx", "s70.int8.onnx.sha256"}
    leases.finish(job.id)
    before = queue.add("export", {"run": run.name, "subnets": ["s70"], "folder": str(folder)})
    leases.claim("a")
    assert child.run_job(before) == 0 and (folder / "s70.safetensors").is_file()


def test_every_format_has_a_card():
    found = {card.name: card for card in catalog.cards("export")}
    assert (
        set(found) == set(plugins.names("export")) == {"device", "hub", "onnx", "packed", "sherpa"}
    )
    assert not [card.broken for card in found.values() if card.broken]
