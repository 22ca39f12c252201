"""Files to take away: the very ones that were measured, whole or not there, by the command and as a
job of the queue.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core import export, paths, runtime
from core.cli import arguments, main as cli
from core.common import writing
from core.jobs import leases, process, queue
from core.jobs.job import JOB_KINDS
from core.pipelines import handlers as job_kinds
from core.records import Interrupted
from core.storage import checksums, packing, store
from tests import standin
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(made, own_artifacts):
    return Path(shutil.copytree(made, paths.runs() / made.name))


@pytest.fixture(autouse=True)
def own_signals():
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def there(folder: Path) -> list[str]:
    """The packed files in a folder, each with its checksum beside it."""
    names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    packed = [name for name in names if not name.endswith(".sha256")]
    assert names == sorted([*packed, *(f"{name}.sha256" for name in packed)])
    return packed


def other_weights(run: Path) -> None:
    values = load_file(run / paths.WEIGHTS)
    values["heads.0.bias"] = values["heads.0.bias"] + np.float16(1)
    save_file(values, run / paths.WEIGHTS)


@pytest.mark.slow
def test_every_size_is_the_file_that_is_packed_and_was_measured(run, capsys):
    assert cli.main(["export", run.name]) == 0
    out, error = capsys.readouterr()
    folder, sizes = paths.exports(run.name), store.subnets(run)
    assert there(folder) == sorted(f"{s.name}.safetensors" for s in sizes) and len(sizes) == 6
    told = dict(line.split("  ")[::-1] for line in out.splitlines())
    for subnet in sizes:
        data = paths.export_file(folder, subnet.name).read_bytes()
        assert data == packing.pack(run, subnet)
        measured = {r.file_sha256 for r in store.reports(run) if r.subnet == subnet.name}
        assert measured == {packing.sha256(data), told[str(paths.export_file(folder, subnet.name))]}
    assert f"100.0 %  6 files are in {folder}" in error


@pytest.mark.slow
def test_sizes_and_folder_of_ones_own_each_once_and_in_place_of_an_old_file(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "s70.safetensors").write_bytes(b"old")
    (tmp_path / "mine" / "s70.safetensors.sha256").write_text("0" * 64)
    assert cli.main(["export", run.name, "--subnets", "s70,s70", "--out", "mine"]) == 0
    assert there(tmp_path / "mine") == ["s70.safetensors"] and not paths.exports(run.name).exists()
    assert packing.unpack(tmp_path / "mine" / "s70.safetensors")[1]["subnet"]["name"] == "s70"
    out, error = capsys.readouterr()
    assert out.count("\n") == 1 and "1 file is in" in error


def test_the_checksum_goes_with_the_file_and_every_door_compares_it(run, tmp_path, capsys):
    export.write(run.name, ["s70", "dense"], tmp_path / "a", lambda *_: True)
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "s70.safetensors.sha256", "dense.safetensors.sha256"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0 and checked.stdout.count(": OK") == 2, checked.stderr
    file = tmp_path / "elsewhere" / "s70.safetensors"
    whole = file.read_bytes()
    assert runtime.packed(file) == runtime.packed(str(file)) == whole
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # nothing else would notice
    packing.unpack(file.read_bytes())
    for door in (packing.unpack, runtime.packed, lambda path: runtime.packed(str(path))):
        with pytest.raises(ValueError, match="s70.safetensors is damaged.*copy it again"):
            door(file)
    assert cli.main(["transcribe", str(file), "dense", "no.wav"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    paths.checksum_file(file).write_text("no checksum\n")
    with pytest.raises(ValueError, match="s70.safetensors.sha256: expected.*got something else"):
        packing.read(file)
    paths.checksum_file(file).write_text(checksums.of(whole).upper())
    file.write_bytes(whole)
    assert packing.read(file) == whole
    paths.checksum_file(file).unlink()
    assert packing.read(file) == whole, "without one there is nothing to compare"


def test_a_checksum_from_before_never_lies_beside_a_new_file(run, tmp_path, monkeypatch):
    (tmp_path / "s70.safetensors.sha256").write_text("0" * 64)

    def stopped(*_):
        raise Interrupted("killed between the two")

    monkeypatch.setattr(checksums, "write_beside", stopped)
    with pytest.raises(Interrupted):
        export.write(run.name, ["s70"], tmp_path, lambda *_: True)
    assert packing.unpack(tmp_path / "s70.safetensors")


def test_what_is_not_the_measured_file_is_refused_until_it_is_measured_again(run, capsys):
    other_weights(run)
    assert cli.main(["export", run.name, "--subnets", "s70"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    split = store.reports(run)[0].split
    assert error.startswith("error: s70 of run standin is another file now") and not there(
        paths.exports(run.name)
    )
    assert error.endswith(
        f"python -m core evaluate standin --subnets s70 --splits {split} --chunk-ms 320"
    )
    for file in (run / paths.REPORTS).glob("s70.*"):
        file.unlink()
    assert cli.main(["export", run.name, "--subnets", "s70"]) == 0, (
        "no report contradicts it any more"
    )
    assert there(paths.exports(run.name)) == ["s70.safetensors"]


@pytest.mark.parametrize("words", [["export"], ["jobs", "add", "export"]])
def test_an_unknown_size_or_a_file_for_a_folder_is_refused_before_anything_is_written(
    run, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(queue, "start_worker", lambda: pytest.fail("no worker is needed"))
    assert cli.main([*words, run.name, "--subnets", "dense,s77"]) == 2
    (tmp_path / "taken").write_text("")
    assert cli.main([*words, run.name, "--out", str(tmp_path / "taken")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert (
        "no subnet in run standin called 's77'" in first
        and "this is a file; name a folder" in second
    )
    assert not paths.exports(run.name).exists() and not queue.list_jobs()


def test_a_file_in_the_folders_way_is_said(run, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="cannot be written.*name another folder"):
        export.write(run.name, ["s70"], tmp_path / "taken" / "deeper", lambda *_: True)


def test_a_stop_between_two_files_leaves_whole_ones(run):
    with pytest.raises(Interrupted, match="stopped after 1 of 6 subnets"):
        export.write(run.name, [], "", lambda share, *_: share == 0)
    assert there(paths.exports(run.name)) == ["dense.safetensors"]
    assert paths.export_file(paths.exports(run.name), "dense").read_bytes() == packing.pack(
        run, store.subnet(run, "dense")
    )


def test_a_disk_that_gets_full_keeps_no_part_of_a_folder(run, tmp_path, monkeypatch):
    """Weights without their tokens or their graph would look like an export."""
    write, written = writing.write_bytes, []

    def full(path, data):
        if path.name == "README.md":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(writing, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        export.write(run.name, ["dense"], tmp_path, lambda *_: True, "sherpa")
    assert "model.onnx" in written and "tokens.txt" in written
    assert not [path for path in tmp_path.rglob("*") if "sherpa" in str(path)]


def test_a_full_disk_is_said_in_the_usual_words_and_leaves_no_half_file(run, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.os, "fsync", full)
    assert cli.main(["export", run.name, "--subnets", "s70"]) == 1
    assert (
        "error: the disk is full" in capsys.readouterr().err
        and there(paths.exports(run.name)) == []
    )
    number = queue.add("export", {"run": run.name, "subnets": ["s70"], "folder": ""})
    leases.claim("a")
    assert process.run_job(number) == 1
    assert (
        queue.get(number).error.splitlines()[-1].startswith("the disk is full")
        and there(paths.exports(run.name)) == []
    )


def test_what_cannot_be_read_back_is_removed(run, monkeypatch):
    write = writing.write_bytes
    monkeypatch.setattr(writing, "write_bytes", lambda path, data: write(path, data[:-1]))
    with pytest.raises(ValueError, match="read back and is not what was written"):
        export.write(run.name, ["s70"], "", lambda *_: True)
    assert there(paths.exports(run.name)) == []


# as a job


@pytest.mark.slow
def test_it_goes_through_the_queue_after_the_job_it_waits_for(run, tmp_path, capsys):
    first = queue.add("evaluate", {"run": run.name}, run.name)
    words = ["--subnets", "dense,s70", "--priority", "2", "--after", str(first), "--no-worker"]
    assert cli.main(["jobs", "add", "export", "-", *words]) == 0
    job = queue.list_jobs()[0]
    assert (job.kind, job.priority, job.after) == ("export", 2, (first,))
    assert job.payload == {
        "run": "",
        "subnets": ["dense", "s70"],
        "folder": "",
        "format": "packed",
        "int8": False,
    }
    assert leases.claim("a").id == first and leases.claim("a", ("cpu", "cpu")) is None
    leases.finish(first)
    subprocess.run(
        [sys.executable, "-m", "core.jobs.worker", "--idle-minutes", "0"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    job, folder = queue.get(job.id), paths.exports(run.name)
    assert (job.state, job.run, job.message) == (
        "done",
        run.name,
        f"2 files are in {folder}",
    ), job.error
    assert there(folder) == ["dense.safetensors", "s70.safetensors"]
    log = queue.log(job.id)
    assert (
        f"{packing.sha256(packing.pack(run, store.subnet(run, 's70')))}  {folder}/s70.safetensors"
        in log
    )
    capsys.readouterr()
    assert cli.main(["jobs"]) == 0 and job.message in capsys.readouterr().out, (
        "the folder is told whole"
    )


@pytest.mark.slow
def test_a_job_finds_the_folder_whatever_its_own_is(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["jobs", "add", "export", run.name, "--out", "mine", "--no-worker"]) == 0
    assert queue.get(1).payload["folder"] == str(tmp_path / "mine")


def test_a_cancelled_job_stops_at_the_next_file(run, monkeypatch):
    number = queue.add("export", {"run": run.name, "subnets": []})
    leases.claim("a")
    queue.cancel(number)
    assert process.run_job(number) == process.STOPPED and not there(paths.exports(run.name))


def test_files_are_written_on_this_machine(run, capsys):
    from core.jobs.runners import ray

    assert cli.main(["jobs", "add", "export", run.name, "--no-worker"]) == 0
    assert cli.main(["jobs", "clone", "1", "--runner", "ray", "--no-worker"]) == 2
    assert (
        "an export writes files on this machine" in capsys.readouterr().err
        and len(queue.list_jobs()) == 1
    )
    with pytest.raises(ValueError, match="an export writes files on this machine"):
        ray.Runner(ray.Options(address="http://head:8265", storage="file:///nowhere")).check(
            queue.get(1)
        )


def test_every_kind_has_its_function_and_its_words_on_the_command_line():
    for kind in JOB_KINDS:
        assert callable(getattr(job_kinds, f"{kind}_job"))
        assert arguments.top_parser().parse_args(["jobs", "add", kind, "x"]).kind == kind
        assert (
            arguments.top_parser().parse_args([kind, "x"]).command == kind and kind in cli.COMMANDS
        )
