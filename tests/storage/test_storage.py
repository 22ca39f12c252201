"""Finished runs in storages: a file system in memory, a folder, and a real S3-compatible server on
this machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import pytest

from core import paths
from core.cli import listing, main as cli
from core.storage import remote, remote_files, store
from tests import standin


@pytest.fixture(scope="module")
def s3():
    """The address of a bucket of a server that speaks S3."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip(
        "moto.server", reason="moto, flask and flask-cors are not installed"
    )
    thread = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    thread.start()
    host, port = thread.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/runs"
    thread.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def where(request, tmp_path):
    if request.param == "s3":
        yield request.getfixturevalue("s3") + "/" + tmp_path.name
        return
    yield f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/shared"
    fsspec.filesystem("memory").rm("/", recursive=True) if request.param == "memory" else None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), "mine", blocks=1, utterances=2)


@pytest.fixture
def run(made, own_artifacts):
    return Path(shutil.copytree(made, own_artifacts / "runs" / "mine"))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_run_goes_there_and_comes_back_the_same_and_later_reports_too(where, run, tmp_path):
    (run / paths.CHECKPOINT).mkdir()
    (run / paths.CHECKPOINT / "state.json").write_text("{}")
    report = store.reports(run)[-1]
    later = paths.report_file(run, report.subnet, report.split, report.chunk_ms)
    aside = later.rename(tmp_path / "later.json")
    assert remote.runs(where) == []
    assert paths.FINISHED in remote.push(run, where) and remote.runs(where) == ["mine"]
    assert remote.push(run, where) == []  # nothing new
    aside.rename(later)
    assert remote.push(run, where) == [f"reports/{later.name}"]
    before = contents(run)
    shutil.rmtree(run)
    assert remote.pull("mine", where) == run
    assert contents(run) == {n: d for n, d in before.items() if not n.startswith("checkpoint")}
    assert len(store.reports("mine")) == 12 and store.runs()[-1].finished


@pytest.mark.parametrize("where", ["memory"], indirect=True)
def test_the_list_comes_last_and_a_copy_cut_short_is_no_run(where, run, monkeypatch):
    written = []
    system = type(fsspec.core.url_to_fs(where)[0])
    put, pipe = system.put_file, system.pipe_file
    monkeypatch.setattr(
        system, "put_file", lambda self, a, b, **k: (written.append(b), put(self, a, b, **k))[1]
    )

    def cut(self, path, data, **named):
        written.append(path)
        raise OSError("the line is cut")

    monkeypatch.setattr(system, "pipe_file", cut)
    with pytest.raises(ValueError, match="cannot be used now.*the line is cut"):
        remote.push(run, where)
    assert remote_files.LIST in written[-1] and len(written) > 20 and remote.runs(where) == []
    monkeypatch.setattr(system, "pipe_file", pipe)
    tried = len(written) - 1
    assert len(remote.push(run, where)) == tried and remote.runs(where) == ["mine"]


@pytest.mark.slow
def test_what_is_stored_never_changes_and_damage_is_seen(where, run):
    remote.push(run, where)
    (run / paths.FINISHED).write_text('{"seconds": 2}')
    with pytest.raises(ValueError, match="another run of the id mine"):
        remote.push(run, where)
    with pytest.raises(ValueError, match="is another one than that in"):
        remote.pull("mine", where)
    shutil.rmtree(run)
    system, root = fsspec.core.url_to_fs(where)
    system.pipe_file(f"{root}/mine/{paths.WEIGHTS}", b"broken")
    for _ in range(2):
        with pytest.raises(ValueError, match="weights.safetensors is damaged"):
            remote.pull("mine", where)
        assert not run.exists(), "what can never be whole is not kept"
    assert not (run / paths.FINISHED).exists()


@pytest.mark.slow
def test_commands_fetch_a_run_that_only_the_storage_has(run, tmp_path, monkeypatch, capsys):
    where = f"file://{tmp_path}/shared"
    assert (
        cli.main(["store", "mine", "--at", where]) == 0
        and "files of mine were copied" in capsys.readouterr().out
    )
    shutil.rmtree(run)
    assert cli.main(["evaluate", "mine", "--subnets", "s99"]) == 2
    assert "no run called 'mine'" in capsys.readouterr().err
    monkeypatch.setenv(remote.VARIABLE, where)
    assert "mine  " in listing.everything(
        "runs"
    ) and "fetched when it is named" in listing.everything("runs")
    assert (
        cli.main(["evaluate", "mine", "--subnets", "s99"]) == 2
    )  # fetched, and then the size is wrong
    assert "no subnet in run mine" in capsys.readouterr().err and json.loads(
        (run / paths.RECIPE).read_text()
    )
    assert cli.main(["fetch", "theirs"]) == 2 and "there are: mine" in capsys.readouterr().err


def test_wrong_storages_are_said(run, monkeypatch):
    with pytest.raises(ValueError, match="no storage is named.*SUPERNET_STORAGE"):
        remote.runs()
    with pytest.raises(ValueError, match="[Pp]rotocol not known"):
        remote.push(run, "nowhere://x")
    (run / paths.FINISHED).unlink()
    with pytest.raises(ValueError, match="is not finished"):
        remote.push(run, "memory://x")
    monkeypatch.setenv(remote.VARIABLE, "nowhere://x")
    assert "not reached" in listing.everything("runs")


@pytest.mark.slow
def test_a_storage_that_does_not_answer_is_said_in_bounded_time(run, monkeypatch):
    pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(ValueError, match="cannot be used now"):
        remote.push(run, "s3://nobody/runs")


@pytest.mark.slow
def test_fetching_from_a_dead_address_says_so(monkeypatch, capsys, own_artifacts):
    pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    assert cli.main(["fetch", "mine", "--at", "s3://nobody/runs"]) == 2
    told = capsys.readouterr().err
    assert "the storage s3://nobody/runs cannot be used now" in told and "no run" not in told
