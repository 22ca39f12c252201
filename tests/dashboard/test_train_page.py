"""Train and jobs on one page: presets with an estimate, stages of a running job, fix and retry, the
log in its order, the front while sizes are measured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from core import paths
from core.common import stages
from core.jobs import leases, queue
from core.jobs.visitors import Visitor
from core.records import as_dict
from core.registry import recipes
from core.storage import estimates, speeds
from dashboard.components import job_details, job_words, trials
from tests.conftest import ROOT
from tests.dashboard.test_dashboard_jobs import claimed, text
from tests.jobs.test_jobs import dead, wait
from tests.standin import make_run

pytestmark = pytest.mark.slow

VIEW = str(ROOT / "dashboard" / "views" / "train.py")


@pytest.fixture
def page(own_artifacts, monkeypatch):
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear(), st.cache_resource.clear()
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    return AppTest.from_file(VIEW, default_timeout=300)


def quick_look():
    return recipes.load_recipe("quick_look")


def test_presets_choose_their_recipe_and_say_how_long_it_takes(page):
    speeds.note(estimates.training_work(quick_look(), "cpu"), 1.0, 0.05)
    page.run()
    assert not page.exception
    assert (page.pills(key="preset").value, page.selectbox(key="start").value) == (
        "Quick look",
        "Recipe: quick_look",
    )
    assert "Takes about 2.5 to 5 minutes on this machine" in text(page)
    page.pills(key="preset").set_value("Paper").run()
    assert page.selectbox(key="start").value == "Recipe: paper_librispeech"
    assert "downloaded first" in text(page) and "Takes about" not in text(page)
    assert page.button(key="go").disabled, "tens of gigabytes begin with more than one click"
    page.checkbox(key="download").check().run()
    assert not page.button(key="go").disabled
    page.selectbox(key="start").set_value("Recipe: voice_commands").run()
    assert page.pills(key="preset").value is None and not page.exception


def test_start_takes_the_first_preset_and_the_page_turns_into_its_card(page):
    page.run().button(key="go").click().run()
    (job,) = queue.list_jobs()
    assert not page.exception and recipes.recipe_from(job.payload["recipe"]) == quick_look()
    assert f"Job {job.id} is in the queue" in " ".join(s.value for s in page.success)
    assert page.button(key=f"cancel.{job.id}") and "Start another training" in [
        s.value for s in page.subheader
    ]


def test_a_running_job_shows_its_stage_with_count_and_what_is_left_from_the_first_second(page):
    recipe = quick_look()
    speeds.note(estimates.training_work(recipe, "cpu"), 1.0, 0.05)
    speeds.note(estimates.measuring_work(recipe), 1.0, 80.0)
    number = claimed("train", {"recipe": as_dict(recipe)})
    page.run()
    assert "about 3.5 to 7 minutes left" in text(page), "before anything was said"
    message = stages.counted(stages.SPEECH, 3, 12, "files", "making train")
    leases.beat(number, "worker", 0.0, message, 10.0)
    page.run()
    assert ":material/pending: **speech** 3 of 12 files" in text(page)
    assert ":material/circle: training" in text(page)
    assert page.get("progress")[0].proto.value == 25
    leases.beat(number, "worker", 0.1, stages.counted(stages.TRAINING, 10, 100, "updates"), 200.0)
    page.run()
    shown = text(page)
    assert ":material/check_circle: features" in shown and "10 of 100 updates" in shown
    assert "about 4.5 to 5.5 minutes left" in shown, "200 s, and 60 to 120 s of measuring"


def test_what_is_left_adds_the_stages_to_come():
    recipe = quick_look()
    speeds.note(estimates.training_work(recipe, "cpu"), 1.0, 0.05)
    speeds.note(estimates.measuring_work(recipe), 1.0, 600.0)
    number = claimed("train", {"recipe": as_dict(recipe)})
    leases.beat(number, "worker", 1.0, stages.counted(stages.TRAINING, 99, 100, "updates"), 0.0)
    assert job_words.left(queue.get(number), time.time()) == ", about 7.5 to 15 minutes left"


def test_fix_and_retry_opens_the_form_with_the_jobs_settings_and_the_error_at_its_field(page):
    recipe = as_dict(quick_look())
    recipe["training"] |= {"chunks_ms": [50], "updates": 77}
    number = claimed("train", {"recipe": recipe, "visitor": "local"})
    leases.fail(number, "ValueError: training.chunks_ms: 50 ms is no multiple of 40", again=False)
    page.run().button(key=f"fix.{number}").click().run()
    assert not page.exception
    assert page.selectbox(key="start").value == f"Job {number}, which failed"
    assert page.number_input(key=f"train.job.{number}.training.updates").value == 77
    beside = [m.value.replace("\\", "") for m in page.markdown if ":red[" in m.value]
    assert len(beside) == 1 and "training.chunks_ms: 50 ms" in beside[0]
    assert any("It failed" in error.value for error in page.error)
    page.button(key="go").click().run()
    newest = queue.list_jobs()[0]
    assert newest.id != number and newest.payload["recipe"]["training"]["updates"] == 77


def test_a_log_is_shown_as_it_was_written(page):
    number = claimed("train", {"recipe": {"title": "A small one"}})
    paths.job_log(number).parent.mkdir(parents=True, exist_ok=True)
    paths.job_log(number).write_text("first\nWarning: a message\n  of two lines\nlast\n")
    page.run()
    (shown,) = [c.value for c in page.code if "first" in c.value]
    assert shown == "first\nWarning: a message\n  of two lines\nlast"


def test_the_log_of_a_job_that_printed_nothing_says_so(page):
    number = claimed("evaluate", {"run": "r", "subnets": [], "splits": []}, "r")
    assert "It has printed nothing yet." in text(page.run())
    leases.finish(number, "worker")
    assert "This job printed nothing." in text(page.run())


def test_the_front_grows_while_sizes_are_measured(page, own_artifacts):
    run = make_run(own_artifacts / "runs")
    number = claimed("evaluate", {"run": run.name, "subnets": [], "splits": []}, run.name)
    page.run()
    assert not page.exception and len(page.get("plotly_chart")) >= 1
    assert "measured" in text(page) and "over their files" in text(page)
    reports = sorted((run / paths.REPORTS).glob("*.json"))
    assert len(reports) > 1
    said = [c.value for c in page.caption if "over their files" in c.value]
    for report in reports[1:]:
        report.unlink()
    page.run()
    assert [c.value for c in page.caption if "over their files" in c.value] != said
    assert queue.get(number).state == "running" and job_details.SIZE.unit == "MB"


def test_no_trial_runs_where_the_operator_lets_pages_compute_nothing_ahead(page, monkeypatch):
    monkeypatch.setattr(trials, "_begun", lambda recipe: pytest.fail("a trial was begun"))
    page.run()
    assert not page.exception and "nothing of this kind has run on this machine" in text(page)


def test_no_trial_runs_beside_a_job(page, monkeypatch):
    """One that has begun ends when a job begins."""
    ahead = SimpleNamespace(settings=SimpleNamespace(build_ahead=True))
    monkeypatch.setattr(trials.policy, "load", lambda: ahead)
    monkeypatch.setattr(trials.visit, "visitor", lambda: Visitor("local", "full", True))
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    begun = []
    monkeypatch.setattr(
        trials, "_begun", lambda _: begun.append(subprocess.Popen(sleeping)) or begun[-1]
    )
    one = trials.Trials()
    monkeypatch.setattr(trials, "trials", lambda: one)
    page.run()
    assert len(begun) == 1 and begun[0].poll() is None and "a short trial" in text(page)
    queue.add("train", {"recipe": as_dict(quick_look())})
    leases.claim("w")
    page.run()
    assert begun[0].wait(10) < 0 and "No estimate of its time while a job runs" in text(page)
    assert len(begun) == 1


TRIAL = """
import os, sys, time
from pathlib import Path
from core.pipelines import trial
def endless(_):
    Path(sys.argv[3]).touch()
    time.sleep(600)
trial.in_short = endless
trial.alone(sys.argv[1], int(sys.argv[2]))
"""
DASHBOARD = """
import os, subprocess, sys, time
recipe, begun, code = sys.argv[1:]
words = [sys.executable, "-c", code, recipe, str(os.getpid()), begun]
child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
while not os.path.exists(begun) and child.poll() is None:
    time.sleep(0.05)
print(child.pid, child.poll(), flush=True)
"""


def test_a_trial_ends_with_the_process_that_began_it(tmp_path):
    recipe, begun = tmp_path / "recipe.json", tmp_path / "begun"
    recipe.write_text("{}")
    words = [sys.executable, "-c", DASHBOARD, str(recipe), str(begun), TRIAL]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    number, ended = done.stdout.split()
    assert begun.exists() and ended == "None" and not recipe.exists()
    wait(lambda: dead(int(number)), 30)


def test_a_trial_that_fails_says_why_once(monkeypatch):
    class Ended:
        returncode = 1

        def poll(self):
            return 1

        def communicate(self):
            return "", "Traceback\nValueError: no memory for that\n"

    begun = []
    monkeypatch.setattr(trials, "_begun", lambda recipe: begun.append(recipe) or Ended())
    several = trials.Trials()
    assert several.look(quick_look(), "cpu") == ""
    assert several.look(quick_look(), "cpu") == "ValueError: no memory for that"
    assert several.look(quick_look(), "cpu") and len(begun) == 1
