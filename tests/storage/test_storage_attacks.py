"""Storages that somebody else may write: whatever their lists say, nothing is written or read
outside a run's folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from core import paths
from core.cli.main import main as cli
from core.storage import remote, remote_files
from tests import standin


@pytest.fixture
def shared(tmp_path, own_artifacts, monkeypatch):
    """A storage with the whole run "mine", which this machine does not have."""
    run = standin.make_run(own_artifacts / "runs", "mine", blocks=1, utterances=2)
    where = f"file://{tmp_path}/shared"
    remote.push("mine", where)
    shutil.rmtree(run)
    monkeypatch.setenv(remote.VARIABLE, where)
    return tmp_path / "shared"


def put(stored: Path, entries: dict[str, object]) -> None:
    """One list more, as `core store` names them."""
    text = json.dumps(entries)
    (
        stored / f"{remote_files.LIST}{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    ).write_text(text)


def facts(data: bytes) -> list:
    return [len(data), hashlib.sha256(data).hexdigest()]


def everything(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


NAMES = [
    "../../evil.txt",
    "../mine2/recipe.json",
    "{tmp}/evil.txt",
    "/recipe.json",
    "./recipe.json",
    "reports/../../../evil.json",
    "ranks/..",
    "ranks//final.safetensors",
    "subnets/../weights.safetensors",
    "reports/.json",
    "sitecustomize.py",
    "checkpoint/state.json",
    "recipe.json\n",
    "reports/a\\b.json",
    "",
    ".",
    "subnets/x.json/y.json",
    "RECIPE.JSON",
    "reports/..json",
    "subnets/-x.json",
    "reports/x\0.json",
    "README.md/x",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_list_that_names_another_file_writes_nothing(shared, tmp_path, name, capsys):
    evil, name = b"owned", name.replace("{tmp}", str(tmp_path))
    place = Path(f"{shared}/mine/{name}")  # where a file system finds it
    if "\0" not in name and place.parent.is_dir() and not place.is_dir():
        place.write_bytes(evil)
    put(shared / "mine", {name: facts(evil)})
    before = everything(tmp_path)
    for words in (
        ["fetch", "mine"],
        ["evaluate", "mine"],
        ["search", "mine"],
        ["export", "mine"],
        ["transcribe", "mine", "dense", "x.wav"],
    ):
        assert cli(words) == 2, words
        assert "is no file of a run" in capsys.readouterr().err
    assert (
        everything(tmp_path) - before <= {"artifacts/jobs.db"}
        and not paths.runs().joinpath("mine").exists()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("x", "expected [bytes, SHA-256]"),
        ([5], "expected [bytes, SHA-256]"),
        ([True, "0" * 64], "expected [bytes, SHA-256]"),
        ([5, "../x"], "expected [bytes, SHA-256]"),
        ([-1, "0" * 64], "expected at most"),
        ([1 << 40, "0" * 64], "expected at most"),
        ([1e3, "0" * 64], "expected [bytes, SHA-256]"),
        (None, "expected [bytes, SHA-256]"),
    ],
)
def test_a_list_of_wrong_facts_is_refused(shared, entry, words, capsys):
    put(shared / "mine", {"reports/x.json": entry})
    assert cli(["fetch", "mine"]) == 2 and words in capsys.readouterr().err
    assert not paths.runs().joinpath("mine").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[]", "7", "{", "[" * 3000, '"x"', "nan", "\x00"])
def test_a_list_that_is_none_is_refused(shared, text, capsys):
    (shared / "mine" / f"{remote_files.LIST}000000000000.json").write_text(text)
    assert cli(["fetch", "mine"]) == 2 and "no list of stored files" in capsys.readouterr().err


@pytest.mark.slow
def test_more_than_was_announced_is_not_read(shared, monkeypatch):
    (shared / "mine" / paths.CARD).write_bytes(b"x" * 100_000)
    with pytest.raises(ValueError, match=r"expected \d+ bytes at most, got 100000"):
        remote.pull("mine")


def test_a_run_that_does_not_fit_is_refused_before_anything_is_read(shared, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ValueError, match="make room first"):
        remote.pull("mine")
    assert not paths.runs().joinpath("mine").exists()


def test_links_are_not_followed_there(shared, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the key")
    (shared / "mine" / paths.CARD).unlink()
    (shared / "mine" / paths.CARD).symlink_to(secret)
    with pytest.raises(ValueError, match="is a link"):
        remote.pull("mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "reports", "ranks/final.safetensors", "weights.safetensors"])
def test_links_are_not_followed_here(shared, tmp_path, name):
    outside, at = tmp_path / "outside", paths.runs() / "mine" / name
    outside.mkdir()
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(outside if "." not in name else outside / "file")
    with pytest.raises(ValueError, match="is a link"):
        remote.pull("mine")
    assert not everything(outside)


@pytest.mark.slow
def test_a_link_in_a_run_and_what_is_no_file_of_it_are_not_stored(shared, tmp_path):
    run = remote.pull("mine")
    (run / "notes.txt").write_text("password")
    (run / ".netrc").write_text("password")
    remote.push("mine", f"file://{tmp_path}/other")
    assert "notes.txt" not in everything(
        tmp_path / "other" / "mine"
    ) and ".netrc" not in everything(tmp_path / "other" / "mine")
    (tmp_path / "secret").write_text("{}")
    (run / paths.SUBNETS / "x.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="is a link"):
        remote.push("mine", f"file://{tmp_path}/third")


def test_a_folder_of_the_storage_that_is_no_name_of_a_run_is_none(shared):
    for name in (".hidden", "a b", "-x"):
        (shared / name).mkdir()
        put(shared / name, {})
    assert remote.runs() == ["mine"]


def test_every_file_of_a_released_run_may_be_stored():
    for folder in (p for p in paths.RELEASED.iterdir() if (p / paths.RECIPE).is_file()):
        wrong = [
            n
            for n in (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            if not paths.RUN_FILE.fullmatch(n)
        ]
        assert not wrong, folder
