"""The command line for programs: JSON, quiet, a version, exit codes; and words that are refused
before anything is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from core import __version__, paths, runtime
from core.cli import arguments, listing
from core.cli.main import main as cli
from core.jobs import queue, worker
from core.speech import pipes
from core.storage import store
from dashboard.model import transcription
from tests import standin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), "mine", blocks=1, utterances=2)


def said(capsys, *words, code=0):
    capsys.readouterr()
    assert cli(list(words)) == code
    return json.loads(capsys.readouterr().out)


def test_json_of_lists_and_jobs(capsys, own_artifacts, monkeypatch):
    monkeypatch.setattr(queue, "start_worker", lambda: None)
    runs = said(capsys, "list", "runs", "--json")
    assert {r["run"] for r in runs} == {r.id for r in store.runs()} and runs[0][
        "state"
    ] == "finished"
    everything = said(capsys, "list", "--json")
    assert {"runs", "recipes", "sets", "methods", "settings"} <= set(everything)
    option = {o["name"]: o for card in everything["settings"] for o in card["options"]}[
        "training.updates"
    ]
    assert option["type"] == "int" and option["meaning"]
    job = said(capsys, "jobs", "add", "prepare", "voice_commands", "--priority", "7", "--json")
    assert job["id"] == 1 and job["state"] == "queued" and job["priority"] == 7
    assert (
        said(capsys, "jobs", "--json")
        == said(capsys, "jobs", "list", "--json")
        == said(capsys, "jobs", "--json", "list")
        == [job]
    )
    assert said(capsys, "jobs", "cancel", "1", "--json")["state"] == "cancelled"
    assert said(capsys, "jobs", "log", "1", "--json") == {
        "id": 1,
        "state": "cancelled",
        "log": "",
        "error": "",
    }
    assert (
        cli(["jobs", "add", "prepare", "voice_commands"]) == 0
        and capsys.readouterr().out == "job 2 is queued\n"
    )


def test_json_of_transcripts_and_measurements(capsys, made, own_artifacts, tmp_path, monkeypatch):
    paths.runs().mkdir(parents=True)
    made_here = paths.runs() / "mine"
    made_here.symlink_to(made)
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    (tmp_path / "b.wav").write_bytes(b"none")
    files = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    first, second = said(capsys, "transcribe", "mine", "dense", *files, "--json", code=2)
    assert first["file"] == files[0] and isinstance(first["text"], str) and first["seconds"] == 1.0
    assert second["file"] == files[1] and second["error"] and "text" not in second
    from core.pipelines import evaluate as pipelines_evaluate

    report = store.reports(made)[0]
    monkeypatch.setattr(
        pipelines_evaluate,
        "evaluate",
        lambda run, subnets, splits, tell, **_: (tell(1.0, "x"), [report])[1],
    )
    (measured,) = said(capsys, "evaluate", "mine", "--json")
    assert measured["wer"] == report.wer and measured["subnet"] == report.subnet
    assert cli(["evaluate", "mine", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith(f"{report.subnet} on ")
    assert cli(["evaluate", "mine"]) == 0 and "100.0 %" in capsys.readouterr().err


def test_a_name_that_is_no_utf_8_is_escaped_in_json_as_in_plain_output():
    shown = listing.as_json({"file": "a\udcff.wav", "text": "\ud800 ü"})
    assert shown.encode("utf-8") and json.loads(shown) == {
        "file": pipes.one_line("a\udcff.wav"),
        "text": "\\ud800 ü",
    }


def test_a_wrong_grammar_is_said_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "load", lambda *_, **__: pytest.fail("it was loaded"))
    grammar = tmp_path / "g.txt"
    grammar.write_text("go\nturn (on")
    words = ["transcribe", "nowhere", "dense", "a.wav", "--grammar", str(grammar)]
    assert cli(words) == 2 and "line 2, column 6: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="line 2, column 6: "):
        transcription.recognizer(b"", 320, transcription.Way(lm="", grammar="go\nturn (on"))


def test_version_and_exit_codes_are_told():
    done = subprocess.run(
        [sys.executable, "-m", "core", "--version"], capture_output=True, text=True, cwd=paths.ROOT
    )
    assert (done.returncode, done.stdout) == (0, f"core {__version__}\n")
    help = " ".join(arguments.top_parser().format_help().split())
    assert (
        "exit codes: 0 done; 1 failed" in help
        and "2 wrong input" in help
        and "75 stopped" in help
        and "130" in help
    )


HUGE = "1" + "0" * 23


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["jobs", "log", HUGE], "expected an integer from 1 to 9223372036854775807, got '1000"),
        (["jobs", "cancel", "0"], "expected an integer from 1"),
        (["jobs", "log", "9" * 6000], "expected an integer"),
        (["jobs", "list", "--limit", HUGE], "--limit: expected an integer"),
        (["jobs", "list", "--limit", "-1"], "--limit: expected"),
        (
            ["jobs", "log", "1", "--lines", "-5"],
            "--lines: expected an integer from 1 to 1000000, got '-5'",
        ),
        (
            ["jobs", "add", "prepare", "voice_commands", "--priority", HUGE],
            "--priority: expected an integer from -1000000 to 1000000",
        ),
        (
            ["jobs", "add", "prepare", "voice_commands", "--after", "1,x"],
            "--after: expected an integer",
        ),
        (["jobs", "add", "prepare", "voice_commands", "--after", ""], "--after: expected"),
        (
            ["evaluate", "r", "--subnets", ""],
            (
                "--subnets: expected names separated by commas, got ''; leave the option out to"
                " mean all"
            ),
        ),
        (["evaluate", "r", "--subnets", "a,"], "--subnets: expected names"),
        (["evaluate", "r", "--splits", " "], "--splits: expected names"),
        (["export", "r", "--subnets", ""], "--subnets: expected names"),
        (["export", "r", "--out", ""], "--out: expected a name, got ''"),
        (["jobs", "add", "evaluate", "r", "--subnets", ""], "--subnets: expected names"),
        (["transcribe", "r", "s", "f", "--decoder", "beam", "--lm", ""], "--lm: expected a name"),
        (
            ["transcribe", "r", "s", "f", "--chunk-ms", "nan"],
            "--chunk-ms: expected a finite number, got 'nan'",
        ),
        (["fetch", "r", "--at", ""], "--at: expected a name"),
        (["lm", "--text", "x", "--order", HUGE], "--order: expected an integer from 1 to 6"),
        (["train", "--resume", ""], "--resume: expected a name"),
        (["jobs", "work", "--idle-minutes", "inf"], "--idle-minutes: expected a finite"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(words, told, capsys, own_artifacts):
    with pytest.raises(SystemExit) as code:
        cli(words)
    shown = capsys.readouterr().err
    assert code.value.code == 2 and told in shown and len(shown) < 2000


def test_numbers_that_no_queue_holds_are_said_wherever_they_come_from(own_artifacts):
    for work in (
        lambda: queue.get(10**23),
        lambda: queue.add("prepare", {}, priority=10**23),
        lambda: queue.list_jobs(10**23),
    ):
        with pytest.raises(
            ValueError, match="too large for the job queue: it keeps whole numbers below"
        ):
            work()


@pytest.mark.parametrize(
    "text", ["cpu=999999999", "cpu=0", "cpu=257", "cuda:0=1,cpu=" + "9" * 5000]
)
def test_slots_are_counted_within_reason(text):
    with pytest.raises(ValueError, match="slots: expected 1 to 256 jobs at once on cpu, got "):
        worker.read_slots(text)
    assert worker.main(["--slots", text]) == 2


@pytest.mark.parametrize("out", ["/proc/nobody/x", "/sys/x", "/dev/null/x"])
def test_a_folder_where_nothing_can_be_written_is_said(out, made, own_artifacts, capsys):
    paths.runs().mkdir(parents=True)
    (paths.runs() / "mine").symlink_to(made)
    assert cli(["export", "mine", "--subnets", "dense", "--out", out, "--quiet"]) in (1, 2)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and out.split("/")[1] in told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_folder_of_artifacts_that_may_only_be_read_is_no_damaged_queue(own_artifacts):
    queue.add("prepare", {"recipe": "voice_commands"})
    for place in (own_artifacts, *own_artifacts.parents):
        if place.name.startswith("pytest-of"):
            break
        place.chmod(0o755)
    place.chmod(0o755)
    code = (
        "import os, encodings.utf_8_sig\nfrom core.cli import main as cli\nos.setuid(65534)\nraise"
        " SystemExit(cli.main({}))"
    )
    for words in (["jobs", "cancel", "1"], ["jobs", "add", "prepare", "voice_commands"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words)],
            capture_output=True,
            text=True,
            cwd=paths.ROOT,
        )
        assert "Traceback" not in done.stderr and "damaged" not in done.stderr, done.stderr
        assert (
            done.returncode in (1, 2)
            and "may not be written" in done.stderr
            and str(own_artifacts) in done.stderr
        ), done.stderr
    done = subprocess.run(
        [sys.executable, "-c", code.format(["jobs", "list"])],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
    )
    assert done.returncode == 0 and "prepare  queued" in done.stdout, "reading works"
    assert [job.state for job in queue.list_jobs()] == ["queued"]
    for file in own_artifacts.iterdir():
        file.unlink()  # none yet: nor can one be begun
    done = subprocess.run(
        [sys.executable, "-c", code.format(["jobs"])],
        capture_output=True,
        text=True,
        cwd=paths.ROOT,
    )
    assert (
        done.returncode == 2
        and f"error: {own_artifacts} may not be written" in done.stderr
        and not list(own_artifacts.iterdir())
    )
