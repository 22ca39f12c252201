"""The README's commands are executed as they stand there, in its order: only sizes are made small and placeholders filled in."""
from __future__ import annotations

import os
import shlex
import shutil

import pytest

from core import paths
from core.cli import main as cli
from core.storage import store
from tests.test_readme import core_lines

SMALL = {"corpus.hours": 0.01, "corpus.test_utterances": 6, "corpus.dev_utterances": 2, "corpus.search_utterances": 4,
         "corpus.shard_utterances": 8, "corpus.processes": 1, "model.blocks": 2, "model.width": 32, "model.heads": 2, "model.kernel": 5,
         "features.speed_change": 0.0, "method.sparsest": 0.3, "training.updates": 4, "training.batch_seconds": 20.0, "training.threads": 1,
         "evaluation.splits": '["test"]', "evaluation.speed_utterances": 0, "evaluation.threads": 1,
         "evaluation.repetitions": 100, "evaluation.beam": 4}
SETS = [w for n, v in SMALL.items() for w in ("--set", f"{n}={v}")]
MORE = {"prepare voice_commands": SETS, "train voice_commands": SETS,  # {command of the README: words after it}
        "bench training": ["--set", "recipe={run}/recipe.json", "--set", "rounds=1"],
        "bench jobs": ["--set", "jobs=1", "--set", "writers=2", "--set", "each=2", "--set", "run={name}", "--set",
                       "recipe={run}/recipe.json", "--set", "ray_jobs=0", "--set", "ray_updates=0"]}
ELSEWHERE = {"list": "test_readme.py", "jobs": "test_readme.py", "evaluate --help": "test_readme.py", "compare --help": "test_readme.py",
             "compare --pages": "pipelines/test_compare.py", "bench scale": "bench/test_scale.py", "bench app": "test_browser.py",
             "train RECIPE --runner ray": "jobs/test_ray.py"}


def bare(line: str) -> str:
    return " ".join(shlex.split(line, comments=True))


def commands() -> list[str]:
    """What is executed here, in the README's order, each once."""
    return [c for c in dict.fromkeys(map(bare, core_lines())) if not any(c == e or c.startswith(e + " ") for e in ELSEWHERE)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder to work in with the tiny run that the README's `train` made, and everything that was printed on the way."""
    home, before = tmp_path_factory.mktemp("readme"), dict(os.environ)
    here = os.getcwd()
    os.environ["SUPERNET_ARTIFACTS"] = str(home / "artifacts")
    os.chdir(home)
    try:
        yield home
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def same_home(own_artifacts, run, monkeypatch):
    monkeypatch.setenv("SUPERNET_ARTIFACTS", str(run / "artifacts"))


def filled(command: str, home) -> list[str]:
    """The command's words with the tiny run in place of RUN and RECIPE, and a folder in place of the bucket."""
    runs = store.runs()
    name = next((r.id for r in runs if not r.released), "")
    sound = sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[0]
    there = {"RUN": name, "RECIPE": name, "SUBNET": "dense", "FILES": str(sound), "s3://bucket/runs": (home / "bucket").as_uri()}
    more = next((w for start, w in MORE.items() if command.startswith(start)), [])
    words = [there.get(w, w) for w in command.split()]
    return words + [w.format(run=paths.runs() / name, name=name) for w in more]


def test_every_command_is_executed_here_or_by_the_test_that_is_named():
    assert {c.split()[0] for c in commands()} == {"prepare", "train", "evaluate", "export", "store", "lm", "transcribe", "bench"}
    for start, file in ELSEWHERE.items():
        text = (paths.ROOT / "tests" / file).read_text()
        assert start.split()[-1] in text or "looking" in text, f"{file} does not execute `{start}`"


@pytest.mark.parametrize("command", commands())
def test_it_runs(command, run, capfd):
    """In order: a command finds what those before it made, as for a person who reads on."""
    code = cli.main(filled(command, run))
    said = capfd.readouterr()
    assert code in (0, None), said.err
    assert "error" not in said.err and (said.out.strip() or "prepare" in command), command


def test_what_they_leave_behind(run):
    made = [r for r in store.runs() if not r.released]
    assert len(made) == 1 and made[0].finished
    assert {r.decoder for r in store.reports(made[0].id)} and (run / "my.arpa").is_file() and any((run / "bucket").rglob("*"))
    assert list((run / "artifacts" / "lm").glob("*.arpa"))
    shutil.rmtree(run / "artifacts")
