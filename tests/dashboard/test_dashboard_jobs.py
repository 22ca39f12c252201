"""Jobs: states, progress, curves, errors, cancel, resume and the worker's sign of life, all from
the real queue.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time

import numpy as np
import pytest

from core import paths
from core.cli import main as cli
from core.jobs import (
    database,
    leases,
    queue,
    ray_client,
    seat,
)
from core.jobs.job import JOB_KINDS
from dashboard.charts import curves, looks
from dashboard.components import job_words
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

VIEW = str(ROOT / "dashboard" / "views" / "jobs.py")
RECIPE = {"method": {"name": "omni_sparsity", "options": {}}, "title": "A small one"}


@pytest.fixture
def page(own_artifacts, monkeypatch):
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear()
    started = []
    monkeypatch.setattr(queue, "start_worker", lambda: started.append(1))
    test = AppTest.from_file(VIEW, default_timeout=120)
    test.started = started
    return test


def text(page) -> str:
    return " ".join(
        e.value
        for kind in ("markdown", "caption", "info", "warning", "error")
        for e in page.get(kind)
    )


def claimed(kind: str, payload: dict, run: str = "") -> int:
    number = queue.add(kind, payload, run)
    assert leases.claim("worker").id == number
    return number


def test_empty_queue_says_what_to_do(page):
    page.run()
    assert not page.exception and "No job has been started" in text(page)


def test_a_job_whose_worker_has_gone_says_so_and_a_worker_can_be_started(page, capsys):
    number = claimed("train", {"recipe": RECIPE})
    leases.beat(number, "worker", 0.02, "update 20/1000", 100.0)
    with contextlib.closing(sqlite3.connect(paths.jobs_database())) as db, db:
        db.execute("update jobs set heartbeat = ?", (time.time() - 4 * 3600 - 660,))
    page.run()
    assert not page.exception
    assert "its worker has been silent for 4 h 11 min" in text(page)
    assert "no worker]" in text(page) and "left" not in text(page).partition("silent")[2][:80]
    page.button(key="worker").click().run()
    assert page.started == [1]
    assert cli.main(["jobs", "list"]) in (0, None)
    said = capsys.readouterr().out
    assert " lost " in said and "no worker for 4 h 11 min" in said, said


def test_running_job_shows_progress_eta_curves_and_log(page, own_artifacts):
    number = claimed("train", {"recipe": RECIPE})
    run = own_artifacts / "runs" / "r1"
    run.mkdir(parents=True)
    (run / paths.RECIPE).write_text("{}")
    rows = [
        {"step": s, "loss": {"dense": 5 / s, "s90": 8 / s}, "wer": {"dense": 0.5}}
        for s in (1, 2, 3)
    ]
    (run / paths.METRICS).write_text(
        "".join(json.dumps(r) + "\n" for r in rows) + '{"step": 4, "lo'
    )  # torn last line
    leases.note(number, "worker", run="r1")
    leases.beat(number, "worker", 0.25, "update 3/12", 3700.0)
    paths.job_log(number).write_text("hello from the child\n")
    page.run()
    assert not page.exception
    assert (
        "running" in text(page)
        and "about 62 min left" in text(page)
        and "A small one" in text(page)
    )
    assert "hello from the child" in page.code[0].value
    assert len(page.get("plotly_chart")) == 2
    bar = page.get("progress")[0].proto
    assert bar.value == 25 and "update 3/12" in bar.text.replace("\\", "")


def test_cancel_and_resume(page):
    number = queue.add("search", {"run": "r"}, "r")
    page.run()
    page.button(key=f"cancel.{number}").click().run()
    assert queue.get(number).state == "cancelled"
    page.button(key=f"resume.{number}").click().run()
    assert not page.exception and queue.get(number).state == "queued" and page.started == [1]


def test_a_cancel_reaches_the_cluster_though_no_worker_was_alive(page):
    number = queue.add("search", {"run": "r"}, "r", runner="ray", settings={"address": "ray"})
    assert leases.claim("worker", ("ray",)).id == number
    leases.note(number, "worker", remote="core-1")
    leases.stopped(number, "worker")  # its worker left, and the job goes on there
    page.run()
    page.button(key=f"cancel.{number}").click().run()
    assert not page.exception and queue.get(number).cancel and page.started == [1]


def test_a_click_that_comes_too_late_is_explained(page):
    number = claimed("evaluate", {"run": "r", "subnets": ["s70"], "splits": ["x"]})
    page.run()
    leases.finish(number)
    page.button(key=f"cancel.{number}").click().run()
    assert not page.exception and "only queued and running jobs" in text(page)


def test_a_failure_is_shown_with_its_traceback(page):
    number = claimed("train", {"recipe": RECIPE})
    leases.fail(
        number, "Traceback (most recent call last):\n  ...\nValueError: corpus: <b>7 %</b> bad"
    )
    page.run()
    assert not page.exception and "failed" in text(page)
    assert "Traceback" in page.code[0].value and "7 %" in page.code[0].value
    assert page.expander[0].label == "Why it failed"


def test_an_export_tells_where_its_files_are(page):
    number = claimed("export", {"run": "r1", "subnets": ["dense", "s70"], "folder": ""})
    leases.beat(number, "worker", 0.5, "s70 (2 of 2)")
    page.run()
    assert (
        "Write files to take away" in text(page)
        and "r1: dense, s70" in text(page).replace("\\", "")
        and "folder:" not in text(page)
    )
    leases.beat(number, "worker", 1.0, "2 files are in /somewhere/exports/r1")
    leases.finish(number)
    queue.add("export", {"run": "r2", "subnets": [], "folder": ""})
    page.run()
    shown = text(page).replace("\\", "")
    assert (
        not page.exception
        and ":material/folder: 2 files are in /somewhere/exports/r1" in shown
        and "r2: all sizes" in shown
    )


def test_every_kind_of_job_has_a_title():
    assert set(job_words.WORDS) == set(JOB_KINDS)


def test_worker_sign_of_life_and_start(page):
    queue.add("train", {"recipe": RECIPE})
    page.run()
    assert "nothing in the queue runs" in text(page)
    page.button(key="worker").click().run()
    assert page.started == [1]
    seat.take("a-worker")
    page.run()
    assert "A worker is alive" in text(page)


def test_a_damaged_queue_is_kept_aside_and_said_until_it_is_deleted(page, own_artifacts):
    own_artifacts.mkdir(parents=True, exist_ok=True)
    paths.jobs_database().write_bytes(b"this is no database, but it must not be lost" * 50)
    page.run()
    (kept,) = database.damaged()
    shown = text(page).replace("\\", "")
    assert (
        not page.exception and kept.name in shown and "Runs and checkpoints are untouched" in shown
    )
    assert "core train --resume RUN" in shown and "No job has been started" in shown
    assert kept.read_bytes().startswith(b"this is no database, but")
    number = queue.add("search", {"run": "r"}, "r")
    page.run()
    assert kept.name in text(page).replace("\\", "") and page.button(key=f"cancel.{number}")
    kept.unlink()
    page.run()
    assert "damaged" not in text(page)


def test_a_queue_that_cannot_be_opened_is_said_and_left(page, own_artifacts):
    paths.jobs_database().mkdir(parents=True)
    page.run()
    assert (
        not page.exception
        and "cannot be used now" in text(page)
        and paths.jobs_database().is_dir()
        and not database.damaged()
    )


def test_many_jobs_stay_on_one_page(page):
    for i in range(40):
        queue.add("search", {"run": f"r{i}"}, f"r{i}")
    page.run()
    assert not page.exception and len([b for b in page.button if b.key.startswith("cancel.")]) == 30


def test_curves_of_nested_and_flat_metrics():
    rows = [
        {
            "step": s,
            "loss": 9.0,
            "loss_s90": float(s),
            "wer": {"dense": 0.1},
            "glossy": 3,
            "bad_loss": float("nan"),
        }
        for s in range(1, 1001)
    ]
    lines = curves.series(rows, "loss")
    assert set(lines) == {"all passes together", "s90"}
    x, y = lines["s90"]
    assert len(x) == curves.POINTS and np.all(np.diff(x) > 0) and y[0] < 5 and y[-1] > 995
    assert len(curves.figure(rows, "loss").to_json()) < 30_000
    assert curves.figure(rows, "wer").data[0].y[0] == pytest.approx(10.0)
    assert curves.figure([], "loss") is None
    many = [{"step": s, "loss": {f"s{n}": 1.0 for n in range(len(curves.LINES))}} for s in range(3)]
    light, dark = (
        [line.line for line in curves.figure(many, "loss", dark=on).data] for on in (False, True)
    )
    assert (light[0].color, dark[0].color) == (looks.BLUE, looks.SKY) and looks.BLUE not in {
        line.color for line in dark
    }
    for drawn in (light, dark):
        assert (
            len({line.color for line in drawn})
            == len(curves.LINES)
            == len({(line.color, line.dash) for line in drawn})
        )
    assert set(curves.series([{"step": 1, "subnet": "s70", "wer": 0.2}], "wer")) == {"s70"}


@pytest.mark.parametrize(
    "seconds, words",
    [
        (-3, "0 s"),
        (45, "45 s"),
        (600, "10 min"),
        (3 * 3600 + 300, "3 h 05 min"),
        (86400 * 3, "3 days"),
    ],
)
def test_times_are_said_for_people(seconds, words):
    assert job_words.span(seconds) == words


def test_a_cluster_shows_its_machines_and_where_each_job_is(page, monkeypatch):
    nodes = [
        ray_client.Node(
            "10.0.0.1",
            True,
            True,
            8.0,
            ("NVIDIA H100", "NVIDIA H100"),
            64e9,
            {"CPU": "2 of 8"},
            ("ray::RayTrainWorker",),
        ),
        ray_client.Node("10.0.0.2", False, False, 4.0, (), 32e9, {}, ()),
    ]
    asked = []
    monkeypatch.setattr(
        ray_client, "nodes", lambda address, wait_s: asked.append((address, wait_s)) or nodes
    )
    number = queue.add(
        "train", {"recipe": RECIPE}, runner="ray", settings={"address": "http://head:8265"}
    )
    queue.add("train", {"recipe": RECIPE}, runner="ray", settings={"address": "http://head:8265"})
    assert leases.claim("worker", ("cpu", "ray")).id == number
    leases.note(number, "worker", place="10.0.0.1 GPU 0, 10.0.0.1 GPU 1")
    page.run()
    assert not page.exception and asked == [("http://head:8265", 2.0)]
    shown = page.dataframe[0].value
    assert list(shown["machine"]) == ["10.0.0.1 (head)", "10.0.0.2"] and list(shown["state"]) == [
        "alive",
        "gone",
    ]
    assert (
        list(shown["runs"]) == ["RayTrainWorker", "nothing"]
        and shown["devices"][0] == "NVIDIA H100, NVIDIA H100, 8 processors"
    )
    assert f"Job {number} is on 10.0.0.1 GPU 0" in text(
        page
    ) and "1 machine, 2 GPUs, 8 processors" in text(page)


def test_a_cluster_that_does_not_answer_is_said_and_hides_nothing(page, monkeypatch):
    def nobody(address, wait_s):
        raise ray_client.Unreachable("no Ray cluster answers at http://head:8265")

    monkeypatch.setattr(ray_client, "nodes", nobody)
    queue.add("search", {"run": "r1"}, runner="ray", settings={"address": "http://head:8265"})
    page.run()
    assert (
        not page.exception
        and "no Ray cluster answers" in text(page)
        and "Search for good sizes" in text(page)
    )
