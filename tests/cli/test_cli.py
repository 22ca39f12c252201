"""The command line: every command is shown, wrong words are refused by name, errors are one line,
torch comes late.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from core import paths, pipelines, runtime
from core.cli import arguments, listing, main as cli, requests
from core.common import writing
from core.data.source import SpeechRecipe
from core.jobs import queue
from core.records import Choice, Recipe, Report, Subnet, as_dict, from_dict
from core.registry import recipes
from core.storage import store
from core.storage.estimates import Estimate

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "prepare",
    "train",
    "search",
    "evaluate",
    "export",
    "transcribe",
    "lm",
    "bench",
    "list",
    "jobs",
)
NEEDED = {
    "prepare": ["r"],
    "train": ["r"],
    "search": ["r"],
    "evaluate": ["r", "--subnets", "a", "--splits", "b"],
    "export": ["r", "--subnets", "a", "--out", "f"],
    "transcribe": ["r", "s", "f.wav"],
    "lm": ["r", "--out", "f"],
    "bench": ["b"],
    "list": [],
    "jobs": [],
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small house of plug-ins and one recipe, `small`."""
    core = tmp_path / "house"
    for place in (
        "corpora/tiny",
        "models/net",
        "methods/dense",
        "jobs/runners/local",
        "export/packed",
        "training/options",
    ):
        path = core / f"{place}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '"""A title."""\nVERSION = 1\nclass Options:\n'
            '    minutes: float = option(5.0, "how long", unit="min", low=0)\n'
        )
    monkeypatch.setattr(paths, "CORE", core)
    monkeypatch.setattr(paths, "RECIPES", core / "recipes")
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")
    (core / "recipes").mkdir()
    (core / "recipes" / "small.toml").write_text(
        'title = "Small"\n[corpus]\nname = "tiny"\n[model]\nname = "net"\n'
        '[method]\nname = "dense"\n[training]\nminutes = 2\n'
    )
    return core


PIPELINES = {"prepare": "speech"}  # the module of a command, where it is called otherwise


@pytest.fixture
def experiment(monkeypatch):
    """Stands in for the pipelines and notes how they are called."""
    calls = []

    def noting(name, result):
        def function(*given, **named):
            report = next(g for g in given if callable(g))
            assert report(0.5, "half", 3.0) is True
            calls.append((name, *[g for g in given if g is not report], *named.values()))
            return result

        return function

    for name in ("prepare", "train", "search", "evaluate"):
        module = types.ModuleType(f"core.pipelines.{PIPELINES.get(name, name)}")
        setattr(module, name, noting(name, Path(f"/made/{name}")))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(pipelines, module.__name__.rpartition(".")[2], module, raising=False)
    return calls


def make_run(name="dense-00000001"):
    recipe = Recipe(Choice("tiny"), Choice("net"), Choice("dense"))
    writing.write_json(paths.runs() / name / paths.RECIPE, as_dict(recipe))
    return name


@pytest.mark.slow
def test_help_shows_every_command():
    done = subprocess.run(
        [sys.executable, "-m", "core", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(f"    {c}" in done.stdout for c in COMMANDS) and "_job" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_unknown_options_by_name(command, capsys):
    for words in ([*NEEDED[command], "--hepl"], ["--hepl", *NEEDED[command]], ["--hepl=3"], ["-x"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([command, *words])
        error = capsys.readouterr().err
        assert stop.value.code == 2
        assert (
            "unknown option --hepl, did you mean --help?"
            if "-x" not in words
            else "unknown option -x"
        ) in error


def test_no_abbreviations_and_helpful_guesses(capsys):
    for words, text in (
        (["train", "r", "--resum", "x"], "unknown option --resum, did you mean --resume?"),
        (["evaluate", "r", "--split", "x"], "did you mean --splits?"),
        (["export", "r", "--runner", "ray"], "unknown option --runner"),
        (["jobs", "add", "export", "r", "--subnet", "x"], "did you mean --subnets?"),
        (["trian"], "unknown command 'trian', did you mean train?"),
        (["jobs", "cancle", "1"], "did you mean cancel?"),
        (["jobs", "add", "train", "r", "--resume", "x"], "unknown option --resume"),
        ([], "COMMAND"),
    ):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "smal"], "did you mean 'small'"),
        (["train"], "say which RECIPE"),
        (["train", "small", "--set", "training.minutse=1"], "did you mean 'minutes'"),
        (["train", "small", "--set", "training.minutes=-1"], "at least 0"),
        (["train", "--resume", "nothing"], "no run called 'nothing'"),
        (["train", "--resume", "dense-00000001", "--set", "seed=4"], "leave out RECIPE and --set"),
        (["train", "small", "--resume", "dense-00000001"], "leave out RECIPE and --set"),
        (["search", "dense-1"], "dense-00000001"),
        (["evaluate", "dense-00000001", "--subnets", "s70", "--splits", "dev"], "no subnet"),
        (["export", "dense-1"], "dense-00000001"),
        (["export", "dense-00000001"], "has no sizes (yet)"),
        (["export", "dense-00000001", "--subnets", "s70"], "no subnet"),
        (["transcribe", "nothing", "dense", "a.wav"], "no run called"),
        (["bench", "nothing"], "no bench plug-in"),
        (["list", "metods"], "did you mean 'methods'"),
        (["jobs", "log", "7"], "no job 7"),
        (["jobs", "add", "train", "smal", "--no-worker"], "did you mean 'small'"),
        (["jobs", "add", "export", "dense-1", "--no-worker"], "dense-00000001"),
        (
            ["jobs", "add", "export", "dense-00000001", "--subnets", "s70", "--no-worker"],
            "no subnet",
        ),
        (["jobs", "add", "export", "dense-00000001", "--runner", "ray"], "files on this machine"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(house, experiment, capsys, words, text):
    make_run()
    assert cli.main(words) == 2
    out, error = capsys.readouterr()
    assert (
        text in error
        and error.count("\n") == 1
        and error.startswith("error: ")
        and out == ""
        and not experiment
    )


@pytest.mark.slow
def test_commands_reach_the_experiment(house, experiment, capsys):
    run = make_run()
    store.save_subnet(paths.runs() / run, Subnet("s70", run, {}, 0.7))
    assert cli.main(["prepare", "small", "--set", "corpus.minutes=3"]) == 0
    assert cli.main(["train", "small", "--set", "seed=4"]) == 0
    assert cli.main(["train", "--resume", run]) == 0
    assert cli.main(["search", run]) == 0
    assert (
        cli.main(
            ["evaluate", run, "--subnets", "dense,s70", "--splits", "dev", "--chunk-ms", "640"]
        )
        == 0
    )
    assert cli.main(["evaluate", run, "--again"]) == 0
    recipe = recipes.load_recipe("small")
    assert experiment == [
        ("prepare", SpeechRecipe.of(recipes.override(recipe, ["corpus.minutes=3"]))),
        ("train", recipes.override(recipe, ["seed=4"]), None, None),
        ("train", store.recipe(run), run, None),
        ("search", run),
        ("evaluate", run, ["dense", "s70"], ["dev"], 640.0),
        ("evaluate", run, [], [], None, True),
    ]
    out, error = capsys.readouterr()
    assert "/made/train\n" in out and "50.0 %  half  (0 min 3 s left)" in error


@pytest.mark.slow
def test_dry_run_shows_every_option_and_trains_nothing(house, experiment, capsys, monkeypatch):
    tried = []
    monkeypatch.setitem(
        sys.modules,
        "core.pipelines.dry_run",
        types.SimpleNamespace(estimate=tried.append, describe=lambda _: "about 3 h"),
    )
    monkeypatch.setattr(pipelines, "dry_run", sys.modules["core.pipelines.dry_run"], raising=False)
    whole = types.SimpleNamespace(keep=lambda *_: Estimate({"training": (600.0, 1200.0)}))
    monkeypatch.setitem(sys.modules, "core.pipelines.trial", whole)
    monkeypatch.setattr(pipelines, "trial", whole, raising=False)
    assert cli.main(["train", "small", "--dry-run"]) == 0
    out, error = capsys.readouterr()
    shown = json.loads(out)
    assert tried == [recipes.load_recipe("small")] and "about 3 h" in error
    assert "as a job: about 10 to 20 minutes on this machine (training 10 to 20 minutes)" in error
    assert shown["model"] == {"name": "net", "options": {"minutes": 5.0}} and shown["training"] == {
        "minutes": 2
    }
    assert not experiment


def test_list_prints_the_cards(house, capsys):
    make_run()
    (house / "methods" / "bad.py").write_text("x = (\n")
    (house / "recipes" / "bad.toml").write_text("[corpus\n")
    assert cli.main(["list", "methods"]) == 0
    out = capsys.readouterr().out
    assert "dense" in out and "A title." in out and "BROKEN" in out
    assert all(
        word in out for word in ("dense.minutes", "float", "5.0", "at least 0", "min", "how long")
    )
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(
        word in out
        for word in ("runs", "dense-00000001", "recipes", "Small", "corpora", "tiny", "settings")
    )


def test_list_shows_the_options_of_one_plug_in(house, capsys):
    assert cli.main(["list", "dense"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("methods", "A title.", "dense.minutes", "at least 0"))
    assert "tiny" not in out
    assert cli.main(["list", "dnse"]) == 2
    assert "no list or plug-in called 'dnse'" in capsys.readouterr().err


def test_a_run_is_named_by_any_beginning_of_its_id_that_no_other_has(house, capsys):
    for name in ("dense-00000001", "dense-01000000", "dense-0"):
        folder = paths.runs() / name
        folder.mkdir(parents=True)
    assert [
        requests.run_id(n) for n in ("dense-00", "dense-0", "dense-01000000", "x", "-", "")
    ] == [
        "dense-00000001",
        "dense-0",
        "dense-01000000",
        "x",
        "-",
        "",
    ]
    assert cli.main(["export", "den"]) == 2
    assert (
        "expected the name of one run, got 'den', with which 3 begin: dense-0, dense-00000001"
        in capsys.readouterr().err
    )


def test_a_beginning_reaches_the_command(house, capsys):
    make_run()
    assert cli.main(["export", "dense-0"]) == 2
    assert "has no sizes (yet)" in capsys.readouterr().err


def test_a_file_that_looks_like_an_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("-dash.wav").write_bytes(b"x")
    with pytest.raises(SystemExit):
        cli.main(["transcribe", "r", "s", "-dash.wav"])
    assert (
        "-dash.wav looks like an option; for the file write ./-dash.wav" in capsys.readouterr().err
    )


def test_bench_options_are_checked(house, monkeypatch, capsys):
    (house / "bench").mkdir()
    (house / "bench" / "speed.py").write_text("")
    module = types.ModuleType("core.bench.speed")
    module.run = lambda options: {"times": 2.5, "options": options}
    monkeypatch.setitem(sys.modules, "core.bench.speed", module)
    assert cli.main(["bench", "speed"]) == 0
    assert json.loads(capsys.readouterr().out) == {"times": 2.5, "options": {}}
    assert cli.main(["bench", "speed", "--set", "hours=1"]) == 2
    assert "unknown option 'hours'" in capsys.readouterr().err


def test_jobs_are_added_listed_cancelled_and_resumed(house, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(queue, "start_worker", lambda: started.append(1))
    run = make_run()
    assert (
        cli.main(["jobs", "add", "train", "small", "--set", "training.minutes=1", "--no-worker"])
        == 0
    )
    assert (
        cli.main(["jobs", "add", "evaluate", run, "--subnets", "dense", "--splits", "dev,test"])
        == 0
    )
    assert started == [1]
    assert recipes.recipe_from(queue.get(1).payload["recipe"]).training == {"minutes": 1}
    assert queue.get(2).payload == {
        "run": run,
        "subnets": ["dense"],
        "splits": ["dev", "test"],
        "new": None,
        "chunk_ms": None,
    }
    assert cli.main(["jobs", "cancel", "1"]) == 0
    capsys.readouterr()
    assert cli.main(["jobs"]) == 0
    out = capsys.readouterr().out
    assert "cancelled" in out and "queued" in out and run in out
    assert cli.main(["jobs", "resume", "1"]) == 0 and queue.get(1).state == "queued"
    assert cli.main(["jobs", "log", "1"]) == 0


def test_audio_errors_do_not_stop_the_other_files(house, monkeypatch, capsys, tmp_path):
    from core.speech import audio

    run = make_run()

    class Stream:
        def accept(self, samples):
            self.n = getattr(self, "n", 0) + len(samples)

        def finish(self):
            return f"{self.n} samples"

    opened = types.SimpleNamespace(stream=Stream)
    monkeypatch.setattr(runtime, "load", lambda *_, **__: opened)

    def read(name, note):
        if "bad" in name:
            raise ValueError(f"{name}: zero length")
        return [0.0] * 40000

    monkeypatch.setattr(audio, "read_once", read)
    assert cli.main(["transcribe", run, "dense", "bad.wav", "good.wav"]) == 2
    out, error = capsys.readouterr()
    assert out == "good.wav\t40000 samples\n" and "bad.wav: zero length" in error


@pytest.mark.slow
def test_looking_loads_no_torch():
    code = (
        "import sys\nfrom core.cli import main as cli\nfor w in (['list'], ['jobs'], ['train',"
        " 'nothing', '--dry-run']):\n    cli.main(w)\nassert 'torch' not in sys.modules, 'torch is"
        " loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_command_has_help():
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            arguments.top_parser().parse_args([command, "--help"])
        assert stop.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "the disk is full while ranks.x was written: make room"),
        (errno.EROFS, "may not be written or read"),
        (errno.EIO, "/somewhere/ranks.x cannot be used (Input/output error): name another"),
        (errno.EBADF, None),
    ],
)
def test_a_full_disk_is_said_in_words(house, experiment, monkeypatch, capsys, number, text):
    def full(*_, **__):
        raise OSError(number, os.strerror(number), *(["/somewhere/ranks.x"] if text else []))

    monkeypatch.setattr(sys.modules["core.pipelines.speech"], "prepare", full)
    if text is None:  # any other error keeps its traceback: it is ours to mend
        with pytest.raises(OSError):
            cli.main(["prepare", "small"])
        return
    assert cli.main(["prepare", "small"]) == 1
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_sizes_and_measurements_are_printed_in_one_line_each():
    assert (
        listing.short(Subnet("s70", "r", {"a": 0.3}, 0.701, origin="searched"))
        == "s70: 70.1% sparsity, searched"
    )
    told = from_dict(
        Report,
        {
            f.name: {"str": "x", "int": 1, "float": 0.5}.get(f.type)
            for f in dataclasses.fields(Report)
        },
    )
    assert listing.short(told) == "x on x, chunk 0.5 ms: WER 50.0% (50.0% to 50.0%), 0.00 MB"
    assert listing.short(Path("/made/train")) == "/made/train"


@pytest.mark.parametrize("background", [[], ["jobs", "add"]])
def test_a_measurement_is_asked_for_an_engine(background):
    words = [*background, "evaluate", "r", "--engine", "sparse", "--precision", "int8"]
    given = arguments.top_parser().parse_args(words)
    assert requests.decoding(given) == {"engine": "sparse", "precision": "int8"}
    given = arguments.top_parser().parse_args([*background, "evaluate", "r", "--engine", "gpu"])
    with pytest.raises(ValueError, match="one of 'torch', 'onnx', 'sparse'"):
        requests.decoding(given)


def test_the_engine_of_a_transcription_is_no_option_of_evaluation():
    words = ["transcribe", "r", "u70", "a.wav", "--engine", "sparse"]
    assert requests.decoding(arguments.top_parser().parse_args(words)) == {}
