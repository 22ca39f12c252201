"""Work on other machines followed from the command line: its progress, its end, its exit code,
Ctrl-C, and the same command again.

The other machines are a stand-in here: jobs of the runner ray that a worker of this process starts
as child processes.
"""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from core import paths
from core.cli import main as cli
from core.common import writing
from core.jobs import leases, process, queue, worker
from core.jobs.runners import ray as runner
from core.records import Choice, Recipe, Subnet, as_dict
from core.registry import plugins, recipes
from core.storage import store
from tests.jobs.test_jobs import STUB, wait

pytestmark = pytest.mark.slow

AWAY = ["--runner", "ray", "--address", "http://head:8265", "--with", "workers=3"]


@pytest.fixture
def away(tmp_path, monkeypatch):
    """A worker for jobs of the runner ray, which run here; the words of a command that trains
    there, and what its job's function notes.
    """
    (tmp_path / "stub_jobs.py").write_text(
        STUB.replace('payload["note"]', 'os.environ["NOTE"]')
        .replace('payload.get("slow")', 'os.environ.get("SLOW")')
        .replace('"fail" in payload', 'os.environ.get("FAIL")')
        .replace('payload["fail"]', 'os.environ["FAIL"]')
        .replace('print("hello', 'report.belongs_to("far-1"); print("hello')
        + "search_job = train_job\n"
    )
    for name, value in {
        "SUPERNET_JOB_MODULE": "stub_jobs",
        "PYTHONPATH": str(tmp_path),
        "NOTE": str(tmp_path / "note"),
        "SUPERNET_STORAGE": f"file://{tmp_path}/shared",
    }.items():
        monkeypatch.setenv(name, value)
    local = plugins.load("runners", "local")
    monkeypatch.setattr(
        runner.Runner, "start", lambda self, job, log: local.Runner(local.Options()).start(job, log)
    )
    monkeypatch.setattr(runner.Runner, "check", lambda self, job: None)
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    monkeypatch.setattr(worker, "_say", lambda text: None)
    writing.write_json(
        tmp_path / "recipe.json",
        as_dict(Recipe(Choice("voice_commands"), Choice("conformer_ctc"), Choice("dense"))),
    )
    one = worker.Worker(local.Runner(local.Options()), slots=("ray",))
    thread = threading.Thread(target=one.work)
    thread.start()
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    yield ["train", str(tmp_path / "recipe.json"), *AWAY], tmp_path / "note"
    for number, handler in before:
        signal.signal(number, handler)
    one.stop = True
    thread.join(30)
    assert not thread.is_alive()


def test_the_same_command_runs_elsewhere_and_says_what_it_made(away, capsys):
    words, note = away
    assert cli.main(words) == 0
    out, error = capsys.readouterr()
    (job,) = queue.list_jobs()
    assert (job.state, job.kind, job.runner, job.place) == ("done", "train", "ray", "ray") and len(
        note.read_text().split()
    ) == 1
    assert job.settings["workers"] == 3 and job.settings["address"] == "http://head:8265"
    assert job.settings["storage"] == os.environ["SUPERNET_STORAGE"], (
        "the worker's environment may be another"
    )
    assert (
        f"job {job.id} is queued" in error
        and "100.0 %  done" in error
        and out == f"{paths.runs() / job.run}\n"
    )


def test_a_failure_is_said_and_code_1(away, capsys, monkeypatch):
    monkeypatch.setenv("FAIL", "value")
    assert cli.main(away[0]) == 1
    error = capsys.readouterr().err
    assert "no such thing" in error and "core jobs log 1" in error


def test_the_log_of_a_job_that_printed_nothing_says_so(own_artifacts, capsys):
    number = queue.add("evaluate", {"run": "r", "subnets": [], "splits": []}, run="r")
    assert cli.main(["jobs", "log", str(number)]) == 0
    assert capsys.readouterr().out == "this job printed nothing yet\n"
    leases.claim("w")
    leases.finish(number, "w")
    assert cli.main(["jobs", "log", str(number)]) == 0
    assert capsys.readouterr().out == "this job printed nothing\n"
    assert cli.main(["jobs", "log", str(number), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log"] == ""


def test_ctrl_c_stops_it_after_its_checkpoint_and_the_same_command_begins_again(
    away, capsys, monkeypatch
):
    words, note = away
    monkeypatch.setenv("SLOW", "1")

    def interrupt():
        wait(lambda: queue.list_jobs() and queue.get(1).message.startswith("step"))
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    code = cli.main(words)
    other.join()
    assert code == 75
    error = capsys.readouterr().err
    assert queue.get(1).state == "cancelled" and note.with_suffix(".checkpoint").exists()
    assert "job 1 was stopped; the same command goes on" in error
    assert (
        cli.main(words) == 0 and queue.get(2).state == "done" and len(note.read_text().split()) == 2
    )


def test_a_command_that_died_is_followed_again_by_the_same_one(away, capsys):
    words, note = away
    settings = json.loads(
        json.dumps(runner.Runner(runner.Options(address="http://head:8265", workers=3)).settings())
    )
    recipe = as_dict(recipes.load_recipe(words[1]))
    other = queue.add("train", {"recipe": recipe | {"seed": 9}}, runner="ray", settings=settings)
    number = queue.add("train", {"recipe": recipe}, runner="ray", settings=settings)
    assert cli.main(words) == 0
    assert len(queue.list_jobs()) == 2 and queue.get(number).state == "done" and number > other
    assert f"job {number} is this already, and is followed" in capsys.readouterr().err


def test_sizes_that_a_search_elsewhere_finds_are_printed(away, capsys, monkeypatch):
    run, begin = paths.runs() / "far-1", runner.Runner.start
    writing.write_json(
        run / paths.RECIPE, as_dict(Recipe(Choice("tiny"), Choice("net"), Choice("dense")))
    )
    store.save_subnet(run, Subnet("u50", "far-1", {}, 0.5))

    def start(self, job, log):
        store.save_subnet(run, Subnet("s70", "far-1", {}, 0.7, origin="searched"))
        return begin(self, job, log)

    monkeypatch.setattr(runner.Runner, "start", start)
    assert cli.main(["search", "far-1", *AWAY]) == 0
    assert capsys.readouterr().out == "s70: 70.0% sparsity, searched\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["train", "voice_commands", "--address", "http://head:8265"],
            "name it, too, e.g. --runner ray",
        ),
        (["evaluate", "r", "--with", "workers=2"], "name it, too, e.g. --runner ray"),
        (["train", "voice_commands", "--runner", "rya"], "no runners plug-in called 'rya'"),
        (
            ["train", "voice_commands", "--runner", "ray", "--with", "wrokers=2"],
            "did you mean 'workers'",
        ),
        (["train", "voice_commands", "--runner", "ray", "--dry-run"], "leave out --runner"),
        (["evaluate", "r", "--runner", "ray", "--tune"], "leave out --runner"),
        (["evaluate", "r", "--runner", "ray", "--again"], "leave out --runner"),
        (["train", "voice_commands", "--runner", "ray"], "no storage is named"),
        (
            ["train", "voice_commands", "--runner", "ray", "--with", "storage=file:///nowhere"],
            "its dashboard's is needed",
        ),
        (
            [
                "train",
                "voice_commands",
                "--runner",
                "ray",
                "--with",
                "storage=file:///nowhere",
                "--address",
                "http://127.0.0.1:9",
            ],
            "no Ray cluster answers at http://127.0.0.1:9",
        ),
        (["search", "gone", *AWAY], "no run called 'gone'"),
    ],
)
def test_what_cannot_run_there_is_one_line_code_2_and_no_job(words, text, capsys, monkeypatch):
    for name in ("SUPERNET_STORAGE", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(queue, "start_worker", lambda: pytest.fail("no worker is needed"))
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and not queue.list_jobs()


def test_a_job_whose_run_was_deleted_since_is_said_in_one_sentence_and_not_tried_again():
    number = queue.add("evaluate", {"run": "gone-1", "subnets": ["dense"], "splits": []}, retries=3)
    assert leases.claim("a").id == number
    handlers = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    assert process.run_job(number) == 1
    for signal_number, handler in handlers:
        signal.signal(signal_number, handler)
    job = queue.get(number)
    assert job.state == "failed" and job.error.splitlines()[0].startswith(
        "there is no run called 'gone-1'"
    ), job.error


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"device": "cuda", "workers": 2, "cpus": 1.0},
            "2 processes with a GPU each are asked for, and the cluster has 1 GPUs",
        ),
        (
            {"device": "auto", "workers": 9, "cpus": 1.0},
            "9 processes with 1 processors each are asked for, and the cluster has room for 8",
        ),
        (
            {"device": "cpu", "workers": 1, "cpus": 5.0},
            "the cluster has room for 0 .processors of its machines: 4, 4.: add machines",
        ),
    ],
)
def test_what_the_cluster_does_not_have_is_said(settings, text, monkeypatch):
    ray = pytest.importorskip("ray")
    from core.jobs.runners import _ray_work

    machines = [
        ({"CPU": 4.0, "GPU": 1.0}, True),
        ({"CPU": 4.0}, True),
        ({"CPU": 64.0, "GPU": 8.0}, False),
    ]
    monkeypatch.setattr(
        ray, "nodes", lambda: [{"Resources": have, "Alive": alive} for have, alive in machines]
    )
    job = _ray_work.ClusterJob(
        {"kind": "train", "payload": {}, "settings": settings, "name": "core-1"}
    )
    with pytest.raises(ValueError, match=text):
        job.device()
    job.o["cpus"] = 1.0
    assert job.device(1) == ("cpu" if settings["device"] == "cpu" else "cuda")


def test_on_a_cluster_a_named_module_is_asked_first(monkeypatch):
    pytest.importorskip("ray")
    from core.jobs.runners import _ray_work

    told = []
    monkeypatch.setattr(_ray_work, "say", lambda **word: told.append(word))
    monkeypatch.setenv("SUPERNET_JOB_MODULE", "core.bench._jobs_that_do_nothing")
    _ray_work.work(
        _ray_work.ClusterJob(
            {"kind": "search", "payload": {"run": ""}, "settings": {}, "name": "core-1"}
        )
    )
    assert told == [{"progress": 1.0, "message": "done", "left": None}]
