"""What a job on a Ray cluster says in its log: only signed lines count, and only for its own
run.
"""

from __future__ import annotations

import json

import pytest

from core import paths
from core.jobs import leases, queue, worker
from core.jobs.runners import _ray_handle, _ray_words, ray as runner
from core.storage import metrics, run_files, store
from tests import standin

pytestmark = pytest.mark.slow


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


def test_versions_that_differ_are_named():
    pytest.importorskip("ray")
    theirs = _ray_words.versions()
    _ray_words.check_versions(theirs, "the cluster")
    with pytest.raises(
        ValueError, match="python is .* on the cluster and 3.9 on the machine that submitted"
    ):
        _ray_words.check_versions(theirs | {"python": "3.9"}, "the cluster")
