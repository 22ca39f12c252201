"""A real Ray cluster of two machines' worth of processes on this one: training that loses a
process, measuring on both, reconnection.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import psutil
import pytest
from safetensors.torch import load_file

from core import cost, paths
from core.bench._jobs_on_ray import PATIENT
from core.jobs import leases, queue, ray_client, worker
from core.jobs.runners import _ray_handle, _ray_words, ray as runner
from core.pipelines import evaluate as pipelines_evaluate, train as pipelines_train
from core.records import Subnet, as_dict
from core.registry import plugins
from core.storage import metrics, remote as storage, run_files, store
from tests import standin
from tests.conftest import ROOT
from tests.pipelines.test_experiment import recipe as given

pytestmark = pytest.mark.slow

LONG_S = 1200.0  # a machine that is slow because others work on it, too, is no failure


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait(condition, what: str, seconds: float = LONG_S):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The dashboard's address of a cluster of two raylets with a processor each."""
    if not os.environ.get("REQUIRE_ALL"):
        pytest.skip(
            "a real Ray cluster takes four minutes on two cores: .ci/run does it, or set"
            " REQUIRE_ALL=1"
        )
    small = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100_000_000}
    port, before = free_port(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PATH", f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        )  # a job's `python`
        for name, value in PATIENT.items():
            patch.setenv(name, value)
        pytest.importorskip(
            "ray", reason="Ray is not installed (tests/requirements.txt)"
        )  # it reads its environment now
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True,
            head_node_args=small
            | {
                "include_dashboard": True,
                "dashboard_host": "127.0.0.1",
                "dashboard_port": port,
                "include_log_monitor": True,
            },
        )
        try:
            made.add_node(**small)
            where = f"http://127.0.0.1:{port}"
            wait(lambda: sum(n.alive for n in ray_client.nodes(where)) == 2, "two machines", 300)
            yield where
        finally:
            made.shutdown()
            signal.signal(
                signal.SIGTERM, before
            )  # Ray's own ends this process, and with it tests of other files


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The submitting machine's folder, the cluster's and the storage, shared by this file's
    tests.
    """
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def settings(address, home, monkeypatch):
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(home / "mine"))
    return {
        "address": address,
        "storage": f"file://{home}/shared",
        "artifacts": str(home / "theirs"),
        "workers": 2,
        "restarts": 2,
    }


class Following:
    """A worker of this process that follows jobs elsewhere."""

    def __enter__(self):
        local = plugins.load("runners", "local")
        self.worker = worker.Worker(local.Runner(local.Options()), slots=("ray", "ray"))
        self.thread = threading.Thread(target=self.worker.work)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.worker.stop = True
        self.thread.join(60)
        assert not self.thread.is_alive()


def ended(number: int) -> queue.Job:
    job = queue.get(number)
    return job if job.state not in ("queued", "running") else None


def training(**changes):
    made = given("omni_sparsity", {"warmup": 0.5, "sparsest": 0.8})
    made = replace(
        made,
        training=made.training
        | {
            "updates": 60,
            "log_every": 2,
            "checkpoint_every": 4,
            "batch_seconds": 6.0,
            "wer_every": 0,
            "precision": "fp32",
        }
        | changes,
    )
    untimed = made.evaluation | {
        "speed_utterances": 0
    }  # timing every size takes minutes; what is timed elsewhere has a test below
    return replace(
        made,
        model=replace(made.model, options=made.model.options | {"dropout": 0.0}),
        evaluation=untimed,
    )


@pytest.mark.cluster
def test_a_training_loses_a_process_and_its_follower_and_comes_to_the_right_end(settings, home):
    recipe = training()
    number = queue.add("train", {"recipe": as_dict(recipe)}, runner="ray", settings=settings)
    with Following():
        job = wait(
            lambda: (
                queue.get(number) if queue.get(number).progress > 0.05 or ended(number) else None
            ),
            "progress",
        )
        assert job.state == "running" and job.remote and job.place.count("cpu") == 2, job
        processes = [
            p
            for p in psutil.Process().children(recursive=True)
            if "TrainWorker" in " ".join(p.cmdline())
        ]
        assert len(processes) == 2, [p.cmdline() for p in psutil.Process().children(recursive=True)]
        processes[1].kill()
    job = queue.get(number)  # nobody follows it now
    assert job.state == "queued" and job.remote
    wait(
        lambda: ray_client.status(settings["address"], job.remote)[0] in ray_client.ENDED,
        "the end on the cluster",
    )
    with Following():
        job = wait(lambda: ended(number), "the end")
    assert job.state == "done", (job.error, queue.log(number))
    folder = store.run_folder(job.run)
    assert (folder / paths.FINISHED).is_file() and [r["step"] for r in metrics.metrics(folder)] == [
        1,
        *range(2, 61, 2),
    ]
    assert storage.runs(settings["storage"]) == [job.run] and len(store.reports(folder)) == len(
        store.subnets(folder)
    )
    alone = pipelines_train.train(recipe, lambda *_: True)
    for mine, other in zip(metrics.metrics(alone), metrics.metrics(folder), strict=True):
        assert (
            other["loss"] == pytest.approx(mine["loss"], rel=0.01)
            and other["audio_hours"] == mine["audio_hours"]
        )
    own, theirs = (load_file(f / paths.WEIGHTS) for f in (alone, folder))
    assert max(float((own[n].float() - theirs[n].float()).abs().max()) for n in own) < 0.01


@pytest.mark.cluster
def test_sizes_are_measured_on_both_machines_and_searched(settings):
    run = storage.runs(settings["storage"])[0]
    spec, sha = store.spec(run), store.ranks_sha256(run)
    names = [f"x{i}" for i in range(6)]
    for i, name in enumerate(names):
        keep = cost.uniform(spec, 0.3 + 0.06 * i)
        store.save_subnet(
            run, Subnet(name, run, keep, cost.sparsity_reached(spec, keep), ranks_sha256=sha)
        )
    number = queue.add(
        "evaluate",
        {"run": run, "subnets": names, "splits": ["test"]},
        runner="ray",
        settings=settings,
    )
    search = queue.add("search", {"run": run}, runner="ray", settings=settings)
    with Following():
        job, other = (
            wait(lambda: ended(number), "the measuring"),
            wait(lambda: ended(search), "the search"),
        )
    assert job.state == other.state == "done", (job.error, other.error, queue.log(number))
    assert job.place.count("(") == 2 and {r.subnet for r in store.reports(run)} >= set(names)
    assert len(store.hypotheses(run, "x3", "voice_commands/test", 320.0)) == 6
    (again,) = pipelines_evaluate.evaluate(run, ["x3"], ["test"], lambda *_: True, chunk_ms=640.0)
    assert again.utterances == 6 and {s.name for s in store.subnets(run)} >= {
        "s50",
        "u50",
        "m50",
        "r50",
        "s80",
    }


@pytest.mark.cluster
def test_what_the_cluster_does_not_have_is_said_at_once_and_a_cancelled_job_stops(settings):
    gpu = queue.add(
        "train",
        {"recipe": as_dict(training())},
        runner="ray",
        settings=settings | {"device": "cuda"},
    )
    slow = queue.add(
        "train", {"recipe": as_dict(training(updates=100_000))}, runner="ray", settings=settings
    )
    with Following():
        job = wait(lambda: ended(gpu), "the refusal")
        assert job.state == "failed" and "the cluster has 0 GPUs" in job.error.splitlines()[0], (
            job.error
        )
        wait(lambda: queue.get(slow).progress > 0, "progress")
        queue.cancel(slow)
        job = wait(lambda: ended(slow), "the end")
    assert (
        job.state == "cancelled"
        and ray_client.status(settings["address"], job.remote)[0] == "STOPPED"
    )


def in_the_foreground(settings: dict, *words: str) -> subprocess.CompletedProcess:
    """A command as a person gives it, with the cluster's settings."""
    there = [w for n, v in settings.items() if n != "address" for w in ("--with", f"{n}={v}")]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "core",
            *words,
            "--runner",
            "ray",
            "--address",
            settings["address"],
            *there,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )


@pytest.mark.cluster
def test_a_command_in_the_foreground_runs_there_and_its_exit_code_tells_how_it_ended(settings):
    run = storage.runs(settings["storage"])[0]
    words = ["evaluate", run, "--subnets", "dense", "--splits", "test", "--chunk-ms", "640"]
    try:
        done = in_the_foreground(settings, *words)
        assert done.returncode == 0, done.stderr
        assert (
            done.stdout.startswith("dense on voice_commands/test, chunk 640 ms: ")
            and done.stdout.count("\n") == 1
        ), done.stdout
        assert "is queued: it goes on if this command dies" in done.stderr and "done" in done.stderr
        job = queue.list_jobs()[0]
        assert (job.state, job.runner, job.run) == ("done", "ray", run)
        assert ray_client.status(settings["address"], job.remote)[0] == "SUCCEEDED"
        assert any(
            r.subnet == "dense" and r.chunk_ms == 640.0 and r.utterances == 6
            for r in store.reports(run)
        )
        done = in_the_foreground(settings | {"device": "cuda"}, *words)
        assert (
            done.returncode == 1 and done.stdout == "" and "the cluster has 0 GPUs" in done.stderr
        ), done.stderr
        assert queue.list_jobs()[0].state == "failed" and queue.list_jobs()[0].id > job.id
    finally:  # the worker that the command began outlives it
        with contextlib.closing(sqlite3.connect(paths.jobs_database())) as db:
            for (name,) in db.execute("select name from worker").fetchall():
                os.kill(int(name.split(":")[1]), signal.SIGTERM)
    wait(lambda: not queue.worker_alive(), "the worker's end", 120)


# without a cluster


class Fake(BaseHTTPRequestHandler):
    """Answers as a cluster of another version."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"ray_version": "1.2.3"}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def old_cluster():
    server = HTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def start(kind: str, payload: dict, **settings):
    number = queue.add(kind, payload, runner="ray", settings=settings)
    job = leases.claim("w", ("ray",))
    try:
        return runner.Runner(plugins.make_options(runner.Options, job.settings, "runner")).start(
            job, paths.job_log(number)
        )
    finally:
        leases.fail(number, "for the next one")


def test_wrong_addresses_versions_kinds_and_runs_are_said(
    old_cluster, own_artifacts, monkeypatch, tmp_path
):
    with pytest.raises(ValueError, match="no Ray cluster answers at http://127.0.0.1:9"):
        start("search", {"run": "r"}, address="http://127.0.0.1:9")
    with pytest.raises(ValueError, match="its dashboard's is needed, e.g. http://head:8265"):
        start("search", {"run": "r"}, address="ray://head:10001")
    monkeypatch.setattr(runner, "_ray", lambda *_: type("Ray", (), {"__version__": "2.60.0"}))
    with pytest.raises(ValueError, match="runs Ray 1.2.3, this machine Ray 2.60.0"):
        start("search", {"run": "r"}, address=old_cluster)
    monkeypatch.setattr(runner, "_ray", lambda *_: type("Ray", (), {"__version__": "1.2.3"}))
    with pytest.raises(ValueError, match="no storage is named"):
        start("search", {"run": "r"}, address=old_cluster)
    there = {"address": old_cluster, "storage": f"file://{tmp_path}/shared"}
    with pytest.raises(ValueError, match="there is no run called 'gone'"):
        start("search", {"run": "gone"}, **there)
    with pytest.raises(ValueError, match="speech is prepared on each machine"):
        start("prepare", {"recipe": as_dict(training())}, **there)
    with pytest.raises(ValueError, match="runner.workers: expected a number from 1"):
        queue.add("search", {"run": "r"}, runner="ray", settings={"workers": 0})
    with pytest.raises(ValueError, match="no runners plug-in called 'rya'.*'ray'"):
        queue.add("search", {"run": "r"}, runner="rya")


def test_without_ray_the_runner_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(
        runner.importlib,
        "import_module",
        lambda name: (_ for _ in ()).throw(ImportError("No module named 'ray'")),
    )
    with pytest.raises(ValueError, match="pip install 'ray"):
        runner._ray()


def test_versions_that_differ_are_named():
    from core.jobs.runners import _ray_words

    pytest.importorskip("ray")
    theirs = _ray_words.versions()
    _ray_words.check_versions(theirs, "the cluster")
    with pytest.raises(
        ValueError, match="python is .* on the cluster and 3.9 on the machine that submitted"
    ):
        _ray_words.check_versions(theirs | {"python": "3.9"}, "the cluster")


def test_only_the_first_part_of_a_split_is_timed_and_that_in_turn_with_dense(monkeypatch):
    pytest.importorskip("ray")
    from core.evaluation.conditions import Options
    from core.evaluation.evaluate import Hypotheses
    from core.evaluation.material import Material
    from core.jobs.runners import _ray_spread

    asked = []

    class Hear:
        """The task, done here and now: it says what it was given."""

        def options(self, **_):
            return self

        def remote(self, data, features, waves, options, dense):
            asked.append((data, len(features), bool(waves), dense))
            return (
                Hypotheses(
                    [f"text {len(features)}"] * len(features),
                    "its speed" if waves else None,
                    "there",
                    [[i] for i in features],
                ),
                "machine",
            )

    monkeypatch.setattr(
        _ray_spread, "ray", SimpleNamespace(put=lambda value: value, get=lambda value: value)
    )
    monkeypatch.setattr(_ray_spread, "hear", Hear())
    monkeypatch.setattr(Material, "waves", lambda self, count: ["sound"] * count)
    sizes = [(Subnet(name, "r", {}, 0.0), name.encode()) for name in ("dense", "s90")]
    material = Material("t", list("abc"), [], [], 3.0, [0, 1, 2], [])
    listen = _ray_spread.Spread({"shards": 2, "cpus": 1}).evaluate(
        sizes, material, Options(speed_utterances=1), b"dense"
    )
    assert asked == [
        (b"dense", 2, True, None),
        (b"dense", 1, False, None),
        (b"s90", 2, True, b"dense"),
        (b"s90", 1, False, None),
    ]
    assert listen(sizes[1][0]) == Hypotheses(
        ["text 2", "text 1", "text 2"], "its speed", "there", [[0], [1], [2]]
    )


def signed(job, word: dict, key: str = "") -> str:
    """A line of a job's log as the job says it."""
    text = json.dumps(word)
    return (
        f"{_ray_words.MARK}{_ray_words.signature(key or _ray_words.job_key(job.remote), text)}"
        f" {text}\n"
    )


@pytest.fixture
def followed(own_artifacts, tmp_path):
    """(job, function that lets it tell lines) of a training on a cluster, which has begun the run
    "far".
    """
    queue.add(
        "train",
        {"recipe": {}},
        runner="ray",
        settings={"address": "http://x", "storage": f"file://{tmp_path}/shared"},
    )
    job = leases.claim("w", ("ray",))
    leases.note(job.id, "w", remote="core-1-abc")
    job = queue.get(job.id)
    handle = _ray_handle.RayHandle(
        job, runner.Options(storage=f"file://{tmp_path}/shared"), tmp_path / "log"
    )
    read(job, handle, signed(job, {"run": "far"}))
    told = [signed(job, {"run": "far"})]

    def tell(line: str) -> None:
        told.append(line)
        read(job, handle, "".join(told))

    return job, tell


def read(job, handle, text: str) -> None:
    """Lines of its log, as a worker takes them."""
    for event in handle.read_log(text):
        worker.record(job.id, "w", event)


def look(number: int, handle) -> int | None:
    """As the worker "w" does at each look."""
    one = worker.Worker(runner=None)
    one.name = "w"
    return one._look(queue.get(number), handle)


def outside(tmp_path, own_artifacts) -> list:
    return [
        p
        for p in tmp_path.rglob("*")
        if own_artifacts not in p.parents and p not in (own_artifacts, tmp_path / "log")
    ]


def test_lines_that_the_job_has_not_signed_are_words_for_people(followed, own_artifacts, tmp_path):
    job, tell = followed
    evil = {
        "run": "far",
        "begun": {"../../OWNED.json": {"x": 1}, "recipe.json": {"x": 1}, "units.json": {}},
        "wrong": "no",
    }
    for line in (
        f"@core {json.dumps(evil)}\n",
        signed(job, evil, "0" * 64),
        signed(job, evil, _ray_words.job_key("core-2-abc")),
        f"@core  {json.dumps(evil)}\n",
        "@core \n",
        "@core é {}\n",
        signed(job, evil).replace("far", "fat"),
        "(pid=7) " + signed(job, evil),
        signed(job, evil).replace("\n", "\x0b" + signed(job, evil)),
    ):
        tell(line)
    assert queue.get(job.id).state == "running" and not (own_artifacts / "runs" / "far").exists()
    assert not outside(tmp_path, own_artifacts)
    assert (tmp_path / "log").read_text().count("OWNED") == 8


@pytest.mark.parametrize(
    "word",
    [
        {"run": "../../evil", "begun": {"recipe.json": {}, "units.json": {}}},
        {"run": "/evil", "row": {"step": 1}},
        {"finished": "../mine"},
        {"finished": "other"},
        {"run": "other"},
        {"subnet": {"run": "../x"}},
        {"report": {"run": "/etc"}, "rows": []},
        {"run": "far", "begun": 7},
        {"run": "far", "begun": {"../../x.json": {}}},
        {"row": {"step": 1}},
        {"progress": "much"},
        {"run": 7},
        {"run": ["far"]},
    ],
)
def test_even_a_signed_line_writes_only_in_the_jobs_own_run(
    followed, own_artifacts, tmp_path, word
):
    job, tell = followed
    with pytest.raises((ValueError, KeyError, TypeError)):
        tell(signed(job, word))
    assert not outside(tmp_path, own_artifacts) and not [
        p for p in (own_artifacts / "runs").glob("*") if p.name != "far"
    ]


def test_the_key_of_a_job_survives_a_restart_and_is_nobody_elses(own_artifacts):
    key = _ray_words.job_key("core-1-abc")
    assert key == _ray_words.job_key("core-1-abc") != _ray_words.job_key("core-1-abd")
    assert (own_artifacts / ".job_secret").stat().st_mode & 0o777 == 0o600


def test_a_job_from_a_page_goes_only_where_the_operator_has_said(
    followed, own_artifacts, monkeypatch, tmp_path
):
    sent = []
    monkeypatch.setattr(ray_client, "ask", lambda *given, **_: sent.append(given))
    asked = {"address": "http://evil:8265", "storage": "file:///x", "artifacts": "~/.supernet"}
    number = queue.add("train", {"recipe": {}, "visitor": "v"}, runner="ray", settings=asked)
    job = queue.get(number)
    with pytest.raises(ValueError, match="does not name.*nothing was sent"):
        runner.Runner(plugins.make_options(runner.Options, job.settings, "runner")).start(
            job, tmp_path / "log"
        )
    assert not sent
    (tmp_path / "server.toml").write_text(
        f'[clusters.lab]\naddress = "{asked["address"]}"\nstorage = "{asked["storage"]}"\n'
    )
    monkeypatch.setenv("SUPERNET_SERVER", str(tmp_path / "server.toml"))
    with pytest.raises(ValueError, match="tell its version"):
        runner.Runner(plugins.make_options(runner.Options, job.settings, "runner")).start(
            job, tmp_path / "log"
        )


def test_what_a_job_tells_becomes_rows_progress_and_reports_once(
    own_artifacts, monkeypatch, tmp_path
):
    run = standin.make_run(tmp_path / "theirs", "far", blocks=1, utterances=2)
    number = queue.add("train", {"recipe": {}}, runner="ray", settings={"address": "http://x"})
    job = leases.claim("w", ("cpu", "ray"))
    assert job.id == number and job.place == "ray" and leases.claim("w", ("cpu", "ray")) is None
    begun = {name: run_files.read_json(run / name) for name in (paths.RECIPE, paths.UNITS)}
    text = [
        {"place": "10.0.0.1 cpu, 10.0.0.2 cpu"},
        {"run": "far", "begun": begun},
        {"run": "far", "row": {"step": 2, "loss": {"dense": 1.0}}},
        {"run": "far", "row": {"step": 4, "loss": {"dense": 0.5}}},
        {"progress": 0.5, "message": "update 4/8", "left": 3.0},
    ]
    lines = "".join(signed(job, word) for word in text) + "for people\n" + "half a li"
    for _ in range(2):  # followed anew: told again, the same
        handle = _ray_handle.RayHandle(job, runner.Options(), tmp_path / "log")
        read(job, handle, lines)
        read(job, handle, lines)
    assert [r["step"] for r in metrics.metrics("far")] == [2, 4] and (
        tmp_path / "log"
    ).read_text() == "for people\n" * 2
    job = queue.get(number)
    assert (job.run, job.place, job.progress, job.message, job.eta_s) == (
        "far",
        "10.0.0.1 cpu, 10.0.0.2 cpu",
        0.5,
        "update 4/8",
        3.0,
    )
    assert store.recipe("far").method.name == "omni_sparsity" and not store.runs()[-1].finished
    read(job, handle, lines + "ne\n" + signed(job, {"wrong": "no GPU"}))
    assert (queue.get(number).state, queue.get(number).error) == ("failed", "no GPU")


def test_a_job_that_goes_on_elsewhere_is_followed_again_and_cancelled_by_a_worker(monkeypatch):
    number = queue.add("search", {"run": "r"}, runner="ray", settings={"address": "http://x"})
    job = leases.claim("w:1:a", ("ray",))
    leases.note(number, job.worker, remote="core-1")
    for _ in range(leases.MAX_ATTEMPTS + 1):  # its followers die
        leases.requeue_stale(0.0)
        assert (
            queue.get(number).state == "queued"
            and leases.claim("w:1:a", ("ray",)).remote == "core-1"
        )
    leases.stopped(number, "w:1:a")
    queue.cancel(number)
    assert (queue.get(number).state, queue.get(number).cancel) == (
        "queued",
        True,
    )  # a worker must tell the cluster
    assert leases.claim("w:1:a", ("ray",)).cancel and not leases.beat(number, "w:1:a")
    leases.stopped(number, "w:1:a")
    assert queue.get(number).state == "cancelled"
    queue.resume(number)
    assert queue.get(number).remote == ""


class Silent:
    """A cluster that answers only when `up`."""

    def __init__(self, monkeypatch):
        self.up, self.stopped, self.state = False, [], "RUNNING"
        monkeypatch.setattr(_ray_handle, "LOOK_S", 0.0)
        monkeypatch.setattr(ray_client, "ask", self.ask)

    def ask(self, address, path, data=None, wait_s=0.0):
        if not self.up:
            raise ray_client.Unreachable(f"no Ray cluster answers at {address}")
        if path.endswith("/stop"):
            self.stopped.append(path)
            self.state = "STOPPED"
        return {"logs": ""} if path.endswith("/logs") else {"status": self.state}


def test_a_submitted_job_whose_cluster_does_not_answer_is_waited_for_and_never_submitted_again(
    monkeypatch, tmp_path
):
    """A laptop that wakes without its network: the training on the cluster goes on, and Ray's word
    counts when it comes.
    """
    there = Silent(monkeypatch)
    monkeypatch.setattr(runner.Runner, "_submit", lambda *_: pytest.fail("submitted again"))
    number = queue.add(
        "train", {"recipe": {}}, runner="ray", settings={"address": "http://head:8265"}
    )
    leases.claim("w", ("ray",))
    leases.note(number, "w", remote="core-1")
    handle = runner.Runner(runner.Options(address="http://head:8265")).start(
        queue.get(number), tmp_path / "log"
    )
    assert (
        look(number, handle) is None
        and "the cluster does not answer for" in queue.get(number).message
    )
    handle.answered -= 100_000  # however long
    assert look(number, handle) is None and queue.get(number).state == "running"
    handle.stop()  # somebody cancels meanwhile
    handle.kill()
    assert (
        "the job core-1 may go on there" in (tmp_path / "log").read_text() and there.stopped == []
    )
    there.up = True
    queue.cancel(number)
    assert look(number, handle) == 75 and there.stopped == ["/api/jobs/core-1/stop"], (
        "the wish to stop is not forgotten"
    )
    there.state = "SUCCEEDED"
    handle = runner.Runner(runner.Options(address="http://head:8265")).start(
        queue.get(number), tmp_path / "log"
    )
    assert look(number, handle) == 0


def test_a_cluster_that_takes_no_job_is_tried_again_and_no_error_ends_the_worker(
    monkeypatch, own_artifacts, tmp_path
):
    local = plugins.load("runners", "local")
    one = worker.Worker(local.Runner(local.Options()), slots=("ray",))
    one.name = "w"

    class Client:
        def __init__(self, address):
            raise RuntimeError("Failed to connect to Ray")

    monkeypatch.setattr(
        runner,
        "_ray",
        lambda *_: type("Ray", (), {"JobSubmissionClient": Client, "__version__": "1"}),
    )
    monkeypatch.setattr(runner, "versions", lambda: {})
    monkeypatch.setattr(ray_client, "version", lambda address: "1")
    there = {"address": "http://head:8265", "storage": f"file://{tmp_path}/shared"}
    number = queue.add("search", {"run": ""}, runner="ray", settings=there, retries=1)
    assert one.start(leases.claim("w", ("ray",))) == []
    job = queue.get(number)
    assert (
        job.state == "queued"
        and job.error
        == "the cluster at http://head:8265 did not take the job: Failed to connect to Ray"
    )
    assert "failed 1 of 2 times" in job.message and job.remote == ""
    monkeypatch.setattr(runner.Runner, "check", lambda *_: {}["bug"])
    number = queue.add("search", {"run": ""}, runner="ray", settings=there)
    assert one.start(leases.claim("w", ("ray",))) == []
    assert (queue.get(number).state, queue.get(number).error) == (
        "failed",
        "the job's process could not be started: 'bug'",
    )


def test_a_long_log_is_asked_for_less_often(monkeypatch, tmp_path):
    there = Silent(monkeypatch)
    there.up = True
    number = queue.add(
        "train", {"recipe": {}}, runner="ray", settings={"address": "http://head:8265"}
    )
    leases.claim("w", ("ray",))
    handle = _ray_handle.RayHandle(
        queue.get(number), runner.Options(address="http://head:8265"), tmp_path / "log"
    )
    handle.read = 50_000_000
    handle.looked = time.monotonic() - 40.0
    there.state = "SUCCEEDED"
    assert look(number, handle) is None
    handle.looked -= 15.0
    assert look(number, handle) == 0
