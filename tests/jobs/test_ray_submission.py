"""Submitting jobs to a Ray cluster and following them there, without one: what is wrong is said,
and a cluster that does not answer is waited for.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from core import paths
from core.jobs import leases, queue, ray_client, worker
from core.jobs.runners import _ray_handle, ray as runner
from core.records import Subnet, as_dict
from core.registry import plugins
from tests.pipelines.test_experiment import recipe

pytestmark = pytest.mark.slow


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
        start("prepare", {"recipe": as_dict(recipe())}, **there)
    with pytest.raises(ValueError, match="runner.workers: expected a number from 1"):
        queue.add("search", {"run": "r"}, runner="ray", settings={"workers": 0})
    with pytest.raises(ValueError, match="no runners plug-in called 'rya'.*'ray'"):
        queue.add("search", {"run": "r"}, runner="rya")


def test_without_ray_the_runner_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ImportError("No module named 'ray'")

    monkeypatch.setattr(runner.importlib, "import_module", missing)
    with pytest.raises(ValueError, match="pip install 'ray"):
        runner._ray()


def test_a_job_from_a_page_goes_only_where_the_operator_has_said(monkeypatch, tmp_path):
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


def look(number: int, handle) -> int | None:
    """As the worker "w" does at each look."""
    one = worker.Worker(runner=None)
    one.name = "w"
    return one._look(queue.get(number), handle)


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
