"""What a job does on a Ray cluster, in this process: Ray's actors and tasks are called here and
now.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
from types import SimpleNamespace

import pytest

from core import cost, paths
from core.jobs import leases, queue, worker
from core.jobs.runners import _ray_handle, _ray_words, ray as runner
from core.pipelines import train as pipelines_train
from core.records import Recipe, Subnet, as_dict
from core.storage import remote, store
from core.training import checkpoints
from tests.pipelines.test_experiment import recipe

pytestmark = pytest.mark.slow

NAME, KEY = "core-1", "0" * 64


class Called:
    """A function or an object with methods of Ray: what is asked of it remotely is done now."""

    def __init__(self, what):
        self.what = what

    def options(self, **_):
        return self

    def remote(self, *given, **named):
        return self.what(*given, **named)

    def __getattr__(self, name):
        return Called(getattr(self.what, name))


class Trainer:
    """TorchTrainer with one process, which is this one."""

    def __init__(self, process, train_loop_config, **_):
        self.process, self.config = process, train_loop_config

    def fit(self):
        self.process(self.config)


@pytest.fixture
def ray(monkeypatch):
    """Two machines with a processor each, and no GPU."""
    real = pytest.importorskip("ray")
    import ray.train.torch

    from core.jobs.runners import _ray_spread, _ray_train, _ray_work

    machine = {"Alive": True, "Resources": {"CPU": 1.0}}
    post = _ray_train.Post.__ray_metadata__.modified_class()
    fake = SimpleNamespace(
        init=lambda **_: None,
        nodes=lambda: [machine, machine],
        get=lambda value: value,
        put=lambda value: value,
        get_actor=lambda *_, **__: Called(post),
        get_gpu_ids=lambda: [],
        exceptions=real.exceptions,
        post=post,
    )
    for module in (_ray_spread, _ray_train, _ray_work):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(_ray_train, "POLL_S", 0.05)
    monkeypatch.setattr(_ray_train, "Post", Called(lambda: Called(post)))
    monkeypatch.setattr(_ray_spread, "hear", Called(_ray_spread.hear._function))
    for module in (_ray_spread, _ray_train):
        monkeypatch.setattr(module, "node", lambda: "10.0.0.1 (abc)")
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", Trainer)
    return fake


@pytest.fixture
def theirs(tmp_path, spoken_once):
    """The cluster's artifacts."""
    (tmp_path / "theirs" / "prepared").mkdir(parents=True)
    (tmp_path / "theirs" / "prepared" / "corpora").symlink_to(spoken_once)
    return tmp_path / "theirs"


@pytest.fixture
def run_job(ray, theirs, tmp_path, monkeypatch, capsys):
    """Function: a job of a kind as Ray starts it -> (exit code, what it told, its log)."""
    from core.jobs.runners import _ray_work

    before = signal.getsignal(signal.SIGTERM)

    def run(kind: str, payload: dict, **settings) -> tuple[int, list[dict], str]:
        options = runner.Options(storage=f"file://{tmp_path}/shared", artifacts=str(theirs))
        request = {
            "kind": kind,
            "payload": payload,
            "settings": vars(options) | {"workers": 1} | settings,
            "versions": _ray_words.versions(),
            "name": NAME,
        }
        words = base64.urlsafe_b64encode(json.dumps(request).encode()).decode()
        with monkeypatch.context() as patch:
            patch.setenv("SUPERNET_ARTIFACTS", "set by the job")
            patch.setenv(remote.VARIABLE, "set by the job")
            patch.setenv(_ray_words.KEY, KEY)
            code = _ray_work.main(words)
        log = capsys.readouterr().out
        facts = [_ray_words.parse(line, KEY) for line in log.splitlines()]
        return code, [word for word in facts if word], log

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cuda", "workers": 2}, "2 processes with a GPU each.* the cluster has 0 GPUs"),
        ({"workers": 3}, "3 processes with 1 processors each.* has room for 2"),
        ({"cpus": 2.0}, r"has room for 0 \(processors of its machines: 1, 1\)"),
    ],
)
def test_what_the_cluster_does_not_have_is_said_at_once(run_job, settings, said):
    code, words, _ = run_job("train", {"recipe": as_dict(recipe())}, **settings)
    assert code == 2
    (word,) = words
    assert re.search(said, word["wrong"]), word


def test_a_training_that_is_asked_to_stop_writes_its_checkpoint(run_job, ray, theirs, monkeypatch):
    long = recipe("dense")
    long = Recipe(**{**vars(long), "training": long.training | {"updates": 200}})
    tell, fit = ray.post.tell, Trainer.fit

    def fit_and_ask(self):
        asked = signal.getsignal(signal.SIGTERM)  # of the job; the training has its own

        def told(word):
            tell(word)
            if "row" in word:
                asked(signal.SIGTERM, None)

        monkeypatch.setattr(ray.post, "tell", told)
        fit(self)

    monkeypatch.setattr(Trainer, "fit", fit_and_ask)
    code, words, log = run_job("train", {"recipe": as_dict(long)})
    assert code == 75
    assert ray.post.ended[0] == "stopped"
    assert "the checkpoint is written" in log
    (run,) = {word["run"] for word in words if "run" in word}
    step = checkpoints.load(theirs / "runs" / run)[1]["step"]
    assert f"stopped at update {step} of 200" in log
    steps = [word["row"]["step"] for word in words if "row" in word]
    assert 0 < max(steps) <= step
    assert set(next(w["begun"] for w in words if "begun" in w)) == {paths.RECIPE, paths.UNITS}
    monkeypatch.setattr(pipelines_train, "train", lambda *_, **__: pytest.fail("begun again"))
    code, *_ = run_job("train", {"recipe": as_dict(long)})
    assert code == 75, "what has ended is not begun again when Ray starts the process again"


@pytest.fixture
def trained(own_artifacts, theirs, spoken, tmp_path):
    """A run that both sides have, and a size of it that only this side has."""
    folder = pipelines_train.train(recipe("dense"), lambda *_: True)
    shutil.copytree(folder, theirs / "runs" / folder.name)
    keep = cost.uniform(store.spec(folder), 0.5)
    reached = cost.sparsity_reached(store.spec(folder), keep)
    sha = store.ranks_sha256(folder)
    store.save_subnet(folder, Subnet("x50", folder.name, keep, reached, ranks_sha256=sha))
    remote.push(folder, f"file://{tmp_path}/shared")
    return folder


def test_a_size_that_is_new_here_is_measured_there_and_comes_home(trained, run_job, tmp_path):
    asked = {"run": trained.name, "subnets": ["dense", "x50"], "splits": ["test"]}
    code, words, log = run_job("evaluate", asked | {"chunk_ms": 640.0})
    assert code == 0, log
    places = [word["place"] for word in words if "place" in word]
    assert places == ["10.0.0.1 (abc)"], "said once"
    assert store.reports(trained) == []
    number = queue.add("evaluate", asked, runner="ray", settings={"address": "http://x"})
    job = leases.claim("w", ("ray",))
    handle = _ray_handle.RayHandle(job, runner.Options(), tmp_path / "log")
    handle.key = KEY
    for event in handle.read_log(log):
        worker.record(number, "w", event)
    reports = store.reports(trained)
    assert {(r.subnet, r.chunk_ms, r.utterances) for r in reports} == {
        ("dense", 640.0, 6),
        ("x50", 640.0, 6),
    }
    assert len(store.hypotheses(trained, "x50", "voice_commands/test", 640.0)) == 6
    assert queue.get(number).place == "10.0.0.1 (abc)"
