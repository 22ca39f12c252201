"""The documents' commands are executed as they stand there, in order: only sizes are made small and
placeholders filled in.
"""

from __future__ import annotations

import os
import shlex
import shutil

import pytest

from core import paths
from core.cli import main as cli
from core.storage import store
from tests.test_readme import LANGUAGE, ROOT, core_lines

pytestmark = pytest.mark.slow

PAGES = [
    ROOT / "README.md",
    ROOT / "core/jobs/README.md",
    LANGUAGE,
    ROOT / "core/bench/README.md",
]  # of the results' page they only parse
SMALL = {
    "corpus.hours": 0.01,
    "corpus.test_utterances": 6,
    "corpus.dev_utterances": 2,
    "corpus.search_utterances": 4,
    "corpus.shard_utterances": 8,
    "corpus.processes": 1,
    "model.blocks": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.kernel": 5,
    "features.speed_change": 0.0,
    "method.sparsest": 0.3,
    "training.updates": 4,
    "training.batch_seconds": 20.0,
    "training.threads": 1,
    "search.sparsities": "[0.2]",
    "search.population": 4,
    "search.evaluations": 4,
    "search.best": 1,
    "search.minutes": 0.1,
    "search.seconds": 4.0,
    "search.threads": 1,
    "evaluation.splits": '["test"]',
    "evaluation.speed_utterances": 0,
    "evaluation.threads": 1,
    "evaluation.repetitions": 100,
}
SETS = [w for n, v in SMALL.items() for w in ("--set", f"{n}={v}")]
MORE = {
    "train voice_commands": SETS,  # {begin of a command: words after it}
    "jobs add": ["--no-worker"],
    "jobs clone": ["--no-worker"],
    "bench runtimes": ["--set", "chunks=20", "--set", 'subnets=["u70"]'],
    "export supernet": ["--subnets", "u90"],
    "bench training": ["--set", "recipe={run}/recipe.json", "--set", "rounds=1"],
    "bench corpus": ["--set", "utterances=8", "--set", "processes=1"],
    "bench jobs": [
        "--set",
        "jobs=1",
        "--set",
        "writers=2",
        "--set",
        "each=2",
        "--set",
        "run={name}",
        "--set",
        "recipe={run}/recipe.json",
        "--set",
        "ray_jobs=0",
        "--set",
        "ray_updates=0",
    ],
}
ELSEWHERE = {
    "list": "test_readme.py",
    "import": "imports/test_torchaudio.py",
    "compare --help": "test_readme.py",
    "jobs work --slots": "jobs/test_jobs.py",
    "bench scale": "bench/test_scale.py",
    "bench app": "test_browser.py",
    "bench device": "bench/test_device.py",
    "bench emission": "bench/test_emission.py",
    "train RECIPE --runner ray": "jobs/test_ray.py",
    "train RECIPE --dry-run": "pipelines/test_dry_run.py",
    "train --resume": "cli/test_cli.py",
}
BOOK = "it was the best of times it was the worst of times\n" * 3 + "it was the age of wisdom\n" * 3


def bare(line: str) -> str:
    return " ".join(shlex.split(line, comments=True))


def commands() -> list[str]:
    """What is executed here, in the pages' order, each once."""
    lines = [line for page in PAGES for line in core_lines(page.read_text(encoding="utf-8"))]
    return [
        c
        for c in dict.fromkeys(map(bare, lines))
        if not any(c == e or c.startswith(e + " ") for e in ELSEWHERE)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory, spoken_once):
    """A folder to work in with the tiny run that the README's `train` made, and everything that was
    printed on the way.
    """
    home, before = tmp_path_factory.mktemp("readme"), dict(os.environ)
    here = os.getcwd()
    os.environ["SUPERNET_ARTIFACTS"] = str(home / "artifacts")
    paths.prepared().mkdir(parents=True)
    (paths.prepared() / "corpora").symlink_to(spoken_once)
    os.chdir(home)
    (home / "books.txt").write_text(BOOK, encoding="utf-8")
    small = ["lm", "--text", "books.txt", "--order", "2", "--out", "small.arpa", "--quiet"]
    assert cli.main(small) == 0  # in place of open speech, whose graph takes a minute to build
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
    """The command's words with the tiny run in place of RUN and RECIPE, and a folder in place of
    the bucket.
    """
    name = next((r.id for r in store.runs() if not r.released), "")
    sound = sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))[0]
    recipe = str(paths.runs() / name / paths.RECIPE)
    there = {
        "RUN": name,
        "open": str(home / "small.arpa"),
        "RECIPE": recipe,
        "N": "1",
        "FILES": str(sound),
        "s3://bucket/runs": (home / "bucket").as_uri(),
    }
    more = next((w for start, w in MORE.items() if command.startswith(start)), [])
    words = [there.get(w, w) for w in command.split()]
    return words + [w.format(run=paths.runs() / name, name=name) for w in more]


def test_every_command_is_executed_here_or_by_the_test_that_is_named():
    assert {c.split()[0] for c in commands()} == {
        "train",
        "search",
        "evaluate",
        "transcribe",
        "export",
        "store",
        "fetch",
        "lm",
        "bench",
        "jobs",
    }
    for start, file in ELSEWHERE.items():
        text = (paths.ROOT / "tests" / file).read_text(encoding="utf-8")
        assert start.split()[-1] in text or "looking" in text, f"{file} does not execute `{start}`"


@pytest.mark.parametrize("command", commands())
def test_it_runs(command, run, capfd):
    """In order: a command finds what those before it made, as for a person who reads on."""
    if command.startswith("fetch"):  # as on another machine
        shutil.rmtree(next(r.folder for r in store.runs() if not r.released))
        command = command.replace(
            "RUN", next(p.name for p in (run / "bucket").iterdir() if p.is_dir())
        )
    code = cli.main(filled(command, run))
    said = capfd.readouterr()
    assert code in (0, None), said.err
    assert not any(line.startswith("error") for line in said.err.splitlines()), said.err
    assert said.out.strip(), command


def test_what_they_leave_behind(run):
    made = [r for r in store.runs() if not r.released]
    assert len(made) == 1
    assert made[0].finished
    assert "greedy" in {r.decoder for r in store.reports(made[0].id)}
    assert len(store.subnets(made[0].id)) > 1
    assert (run / "open.arpa.zst").stat().st_size > 0
    assert list((run / "artifacts" / "exports" / made[0].id).glob("*.safetensors"))
    assert list((run / "artifacts" / "graphs").iterdir())
    shutil.rmtree(run / "artifacts")
