"""A folder for the Hugging Face Hub becomes the run that it was, or is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core import export, paths
from core.cli import main as cli
from core.storage import checksums, packing, store
from tests import standin


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = standin.make_run(tmp_path_factory.mktemp("runs"))
    (run / paths.FINISHED).unlink()
    store.finish(run, {"updates": 200, "license": "cc-by-4.0"})
    return run


@pytest.fixture
def folder(made, own_artifacts, tmp_path) -> Path:
    """As it comes from the Hub, under another name; this machine does not have the run."""
    shutil.copytree(made, paths.runs() / made.name)
    export.write(made.name, ["s70"], tmp_path / "out", lambda *_: True, "hub")
    shutil.rmtree(paths.runs() / made.name)
    return (tmp_path / "out" / made.name).rename(tmp_path / "0123abc")


@pytest.mark.slow
def test_it_is_the_run_that_it_was(folder, made, capsys, tmp_path):
    assert cli.main(["import", f"hub:{folder}"]) == 0
    run = paths.runs() / made.name
    assert capsys.readouterr().out == f"{run}\n"
    assert [r.id for r in store.runs() if r.finished and not r.released] == [made.name]
    for subnet in store.subnets(made):
        assert packing.pack(run, subnet) == packing.pack(made, subnet)
    assert store.reports(run) == store.reports(made)
    same = {paths.FINISHED, paths.WEIGHTS, paths.TOKENS, paths.RECIPE}
    assert all((run / n).read_bytes() == (made / n).read_bytes() for n in same)
    assert not (run / "samples").exists() and not (run / "packed").exists()
    card = (run / paths.CARD).read_text()
    assert card == (made / paths.CARD).read_text(), "without the Hub's header and usage"
    export.write(made.name, ["s70"], tmp_path / "again", lambda *_: True, "hub")
    again = (tmp_path / "again" / made.name / paths.CARD).read_text()
    assert again == (folder / paths.CARD).read_text() and 'license: "cc-by-4.0"' in again


def refused(capsys, *words: str) -> str:
    assert cli.main(["import", *words]) == 2
    assert not paths.runs().is_dir() or not list(paths.runs().iterdir())
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_that_is_not_whole_is_refused(folder, tmp_path, capsys):
    assert "expected a folder written by" in refused(capsys, f"hub:{tmp_path / 'nothing'}")
    assert "lacks tokens.txt: copy the whole" in broken(folder, capsys, paths.TOKENS, None)
    assert "lacks weights.safetensors" in broken(folder, capsys, paths.WEIGHTS, None)
    data = (folder / paths.WEIGHTS).read_bytes()
    assert "is damaged" in broken(folder, capsys, paths.WEIGHTS, data[:-1] + b"\x01")
    assert "is damaged" in broken(folder, capsys, paths.FINISHED, b"{")
    file = store.files(folder, paths.REPORTS, "*.json")[0].relative_to(folder).as_posix()
    assert "does not hold a Report" in broken(folder, capsys, file, sealed({"run": "x"}))
    assert "keeps its name" in refused(capsys, f"hub:{folder}", "--name", "other")
    assert "source hub takes no files, got --weights" in refused(
        capsys, f"hub:{folder}", "--weights", str(folder / paths.WEIGHTS)
    )


def sealed(record: dict) -> bytes:
    return json.dumps(checksums.sealed(record)).encode()


def broken(folder: Path, capsys, name: str, data: bytes | None) -> str:
    """What is said while one file is other bytes, or not there."""
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(data) if data is not None else (folder / name).unlink()
    try:
        return refused(capsys, f"hub:{folder}")
    finally:
        (folder / name).write_bytes(before)


@pytest.mark.slow
def test_a_run_that_is_here_is_never_replaced(folder, made, capsys):
    assert cli.main(["import", f"hub:{folder}"]) == 0
    before = (paths.runs() / made.name / paths.WEIGHTS).stat().st_mtime_ns
    assert cli.main(["import", f"hub:{folder}"]) == 2
    assert "there is a run standin already" in capsys.readouterr().err
    assert (paths.runs() / made.name / paths.WEIGHTS).stat().st_mtime_ns == before


def test_a_name_that_leaves_the_runs_is_refused(folder, capsys):
    for file in (folder / paths.SUBNETS).glob("*.json"):
        record = json.loads(file.read_text())
        record.pop(checksums.OWN, None)
        file.write_bytes(sealed(record | {"run": "../../elsewhere"}))
    assert "expected letters, digits" in refused(capsys, f"hub:{folder}")
