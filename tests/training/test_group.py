"""Processes that train together: what they make is what one makes of the whole batches, all stay
equal, stop and go on together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from core import paths
from core.common import writing
from core.data.source import SpeechRecipe
from core.pipelines import speech, train as pipelines_train
from core.records import as_dict
from core.storage import metrics as history, run_files
from core.training import distributed as group
from tests import together
from tests.conftest import ROOT
from tests.pipelines.test_experiment import recipe as given

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("spoken")]

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--master-addr",
    "127.0.0.1",
    "--master-port",
]


def torchrun(port: int, *words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, str(port), *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def together_at(port: int, *words: str) -> list[str]:
    """What both of two processes print: as torchrun starts them, without itself, which takes as
    long as they do. Both must end well.
    """
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    place |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | place | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    with ThreadPoolExecutor(2) as readers:
        said = list(readers.map(lambda process: process.communicate(timeout=900)[0], started))
    assert [process.returncode for process in started] == [0, 0], said
    return said


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes made of every case."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(folder / "artifacts"))
        together_at(free_port(), "-m", "tests.together", str(folder))
    return folder, json.loads((folder / "facts.json").read_text())


@pytest.mark.parametrize("case", together.CASES)
def test_two_processes_make_what_one_makes_of_the_whole_batches(case, two, tmp_path):
    folder, facts = two
    assert len(set(facts[case])) == 1, (
        "after the same updates both have the same bits, ranks included"
    )
    alone = together.made(tmp_path / case, case)
    before = {n: p.detach().clone() for n, p in alone.averaged.items()}
    alone.run(lambda *_: True)
    other = load_file(folder / f"{case}.safetensors")
    far = max(float((alone.averaged[n] - before[n]).abs().max()) for n in before)
    apart = max(float((alone.averaged[n] - other[n]).abs().max()) for n in before)
    assert apart < 0.01 * far, (apart, far)
    own, theirs = (history.metrics(f) for f in (tmp_path / case, folder / case))
    for one, two_ in zip(own, theirs, strict=True):
        assert one["step"] == two_["step"] and one["audio_hours"] == two_["audio_hours"]
        assert two_["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_two_processes_that_split_their_batches_stay_equal(two, tmp_path):
    folder, facts = two
    assert len(set(facts["split"])) == 1
    alone = together.made(tmp_path / "split", "split")
    alone.run(lambda *_: True)
    own, theirs = (history.metrics(f)[0]["loss"] for f in (tmp_path / "split", folder / "split"))
    assert theirs["dense"] == pytest.approx(own["dense"], rel=1e-4), "dense updates are the same"
    assert history.metrics(folder / "split")[-1]["loss"].keys() <= {"dense", "sparsest", "random"}
    losses = [v for row in history.metrics(folder / "split") for v in row["loss"].values()]
    assert all(0.2 < v / own["dense"] < 2 for v in losses), "per frame, whatever the part"


def test_one_of_them_writes_and_all_stop_and_go_on_together(two):
    folder, facts = two
    assert facts["keeps"] == [True, False] and not list((folder / "artifacts").iterdir())
    assert facts["stopped"] == [5, 5] and facts["resumed"] == facts["sandwich"]
    assert [r["step"] for r in history.metrics(folder / "stopped")][-1] == together.UPDATES
    own, other = facts["wrong"][1], facts["wrong"][0]
    assert own.startswith("ZeroDivisionError") and other.startswith(
        "ValueError: process 1 of 2: integer division"
    )


def test_one_process_alone_has_no_group_and_wrong_variables_are_said(monkeypatch):
    for name in group.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert group.joined() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert group.joined() is None
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE: expected an integer, got 'two'"):
        group.joined()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK is '2'.*MASTER_ADDR, MASTER_PORT missing"):
        group.joined()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setattr(group, "JOIN_S", 1.0)
    with pytest.raises(ValueError, match="process 1 found no group of 2 at 127.0.0.1"):
        group.joined()


def test_the_group_takes_the_newest_checkpoint(monkeypatch):
    class Third(group.Group):
        def __init__(self):
            self.rank, self.size = 2, 3

    one = Third()
    monkeypatch.setattr(one, "gather", lambda step: [4, 8, step])
    monkeypatch.setattr(one, "broadcast", lambda value, rank: (value, rank))
    assert one.newest(8, lambda: "own") == (None, 1) and one.newest(12, lambda: "own") == ("own", 2)
    monkeypatch.setattr(one, "gather", lambda step: [-1, -1, step])
    assert one.newest(-1, lambda: torch.empty(0)) is None


def test_machines_with_a_disk_each_train_together_and_one_that_is_replaced_takes_up_the_run(
    tmp_path,
):
    """Speech made on two machines has other paths and times there, which is no other speech."""
    recipe = given(
        "gradual_magnitude",
        {"refresh": 1},
        training={**given().training, "wer_every": 0, "checkpoint_every": 4, "updates": 10},
    )
    writing.write_json(tmp_path / "recipe.json", as_dict(recipe))
    speech.prepare(SpeechRecipe.of(recipe), lambda *_: True)

    def disk(number: int) -> None:
        corpora = tmp_path / f"disk{number}" / "prepared" / "corpora"
        shutil.copytree(paths.prepared() / "corpora", corpora, copy_function=shutil.copy)

    disk(0), disk(1)
    words = ["-m", "tests.apart", str(tmp_path), str(tmp_path / "recipe.json")]
    assert all("stopped at update" in said for said in together_at(free_port(), *words, "4"))
    begun = [p for p in tmp_path.glob("disk*/runs/*") if (p / paths.RECIPE).is_file()]
    assert len(begun) == 2 and len({p.name for p in begun}) == 1
    assert (
        len({p.name for p in tmp_path.glob("disk*/prepared/*") if (p / "prepared.json").is_file()})
        == 2
    ), "or nothing is tested"
    assert len({(p / paths.TOGETHER).read_text() for p in begun}) == 1
    shutil.rmtree(tmp_path / "disk0")  # this machine went away, and another one comes in its place
    disk(0)
    together_at(free_port(), *words)
    ended = sorted(tmp_path.glob(f"disk*/runs/*/{paths.FINISHED}"))
    assert [p.parent.name for p in ended] == [begun[0].name] * 2
    told = (tmp_path / "disk1" / "runs" / begun[0].name / paths.LOG).read_text().splitlines()
    assert [int(line.split("/")[0].removeprefix("update ")) for line in told] == [
        1,
        2,
        4,
        6,
        8,
        10,
    ], "begun anew"
    assert (ended[0].parent / paths.WEIGHTS).read_bytes() == (
        ended[1].parent / paths.WEIGHTS
    ).read_bytes()
    told = [{n: v for n, v in run_files.read_json(file).items() if n != "files"} for file in ended]
    assert told[0] == told[1]  # the storage takes them for one run


def test_an_id_under_which_one_has_begun_goes_before_the_first_ones(monkeypatch, own_artifacts):
    class Second(group.Group):
        def __init__(self):
            self.rank, self.size = 1, 2

    one, others = Second(), [["theirs"]]
    monkeypatch.setattr(one, "broadcast", lambda value, rank=0: "first")
    monkeypatch.setattr(
        one, "gather", lambda value: [value if isinstance(value, str) else others[0], value]
    )
    assert [one.agree_on_name("own", "common") for others[0] in ([], ["first", "x"], ["x"])] == [
        "first",
        "first",
        "x",
    ]
    (paths.runs() / "mine").mkdir(parents=True)
    (paths.runs() / "mine" / paths.TOGETHER).write_text("common")
    others[0] = []
    assert (
        one.agree_on_name("own", "common") == "mine"
        and one.agree_on_name("own", "another") == "first"
    )
    monkeypatch.setattr(one, "gather", lambda value: ["this", "that"])
    with pytest.raises(ValueError, match="disagree on the run.*0: this, 1: that"):
        one.agree_on_name("own", "that")


def test_torchrun_core_train_makes_the_run_that_one_process_makes(tmp_path):
    recipe = given("omni_sparsity", {"warmup": 0.5, "sparsest": 0.8})
    recipe = replace(
        recipe, model=replace(recipe.model, options=recipe.model.options | {"dropout": 0.0})
    )
    alone = pipelines_train.train(recipe, lambda *_: True)
    one = alone.rename(tmp_path / "alone")
    writing.write_json(tmp_path / "recipe.json", as_dict(recipe))
    done = torchrun(free_port(), "-m", "core", "train", str(tmp_path / "recipe.json"))
    assert done.returncode == 0 and str(alone) in done.stdout, done.stderr[-3000:]
    assert (alone / paths.FINISHED).is_file() and not (alone / paths.CHECKPOINT).exists()
    own, theirs = (load_file(folder / paths.WEIGHTS) for folder in (one, alone))
    assert max(float((own[n].float() - theirs[n].float()).abs().max()) for n in own) < 2e-3
    for mine, other in zip(history.metrics(one), history.metrics(alone), strict=True):
        assert mine["audio_hours"] == other["audio_hours"] and ("wer" in mine) == ("wer" in other)
        assert other["loss"] == pytest.approx(mine["loss"], rel=1e-3)
