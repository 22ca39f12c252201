"""The arguments of work that is done in the foreground or queued, and of `jobs`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.cli import decoding_arguments, parser
from core.cli.option_types import Named, finite, names, numbers, whole
from core.jobs import queue, worker
from core.registry import plugins, recipes


def output(c: argparse.ArgumentParser, data: bool) -> None:
    """What a command says. No defaults, so that `jobs --json` and `jobs list --json` mean the
    same.
    """
    if data:
        c.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="one JSON value on standard output",
        )
    c.add_argument(
        "--quiet",
        action="store_true",
        default=argparse.SUPPRESS,
        help="no progress on standard error, only errors",
    )


def work_commands(commands: Any, background: bool = False) -> None:
    """What background jobs do, too: in the foreground, or (`jobs add`) for the queue."""
    _prepare(commands)
    _train(commands, background)
    commands.add_parser("search", help="find better subnets of a trained run").add_argument(
        "run", metavar="RUN"
    )
    _evaluate(commands, background)
    if not background:
        for name in ("train", "search", "evaluate"):
            _runner_options(commands.choices[name])
    _export(commands)
    for c in commands.choices.values() if background else ():
        c.add_argument("--no-worker", action="store_true", help="only queue it, start no worker")
        _queue_options(c)


def _recipe_help() -> str:
    return "a .toml file, a run's recipe.json, or one of: " + ", ".join(recipes.recipe_names())


def _prepare(commands: Any) -> None:
    c = commands.add_parser(
        "prepare", help="read a recipe's speech once: features, tokens, what was dropped and why"
    )
    c.add_argument("recipe", metavar="RECIPE", help=_recipe_help())
    set(c, "change an option of the recipe, e.g. corpus.hours=2")


def _train(commands: Any, background: bool) -> None:
    c = commands.add_parser("train", help="train a recipe into a run")
    c.add_argument(
        "recipe", metavar="RECIPE", nargs="?" if not background else None, help=_recipe_help()
    )
    set(c, "change an option of the recipe, e.g. training.minutes=5")
    if not background:
        c.add_argument(
            "--resume", action=Named, metavar="RUN", help="go on with this run from its checkpoint"
        )
        c.add_argument(
            "--dry-run",
            action="store_true",
            help=(
                "show all options, build everything, try two updates on synthetic "
                "features, say what the training would take; store nothing but the speed"
            ),
        )


def _evaluate(commands: Any, background: bool) -> None:
    c = commands.add_parser("evaluate", help="measure subnets of a run on splits")
    c.add_argument("run", metavar="RUN")
    _subnets(c)
    c.add_argument(
        "--splits",
        type=names,
        default=[],
        metavar="X,Y",
        help="e.g. dev,test; as in the recipe when not given",
    )
    c.add_argument(
        "--recordings",
        type=Path,
        metavar="FOLDER",
        help="sound files with .txt files of the same names, or a CSV: the split yours/FOLDER",
    )
    c.add_argument(
        "--chunk-ms",
        type=finite,
        metavar="MS",
        help=(
            "latency of one step in ms, 0 = whole recordings at once; "
            "as in the recipe when not given"
        ),
    )
    decoding_arguments.add(c)
    decoding_arguments.engine(c)
    if not background:
        either = c.add_mutually_exclusive_group()
        either.add_argument(
            "--tune",
            action="store_true",
            help="try weights of the language model on dev, store nothing",
        )
        either.add_argument(
            "--again",
            action="store_true",
            help="measure anew what is stored already, its speed, too",
        )


def _export(commands: Any) -> None:
    c = commands.add_parser(
        "export",
        help=(
            "write subnets of a run as files to take elsewhere, each the very file that was"
            " measured"
        ),
    )
    c.add_argument("run", metavar="RUN")
    _subnets(c)
    c.add_argument(
        "--out",
        action=Named,
        default="",
        metavar="FOLDER",
        help=(
            "where the files are written, in place of files of their names; when "
            "not given, artifacts/exports/RUN/"
        ),
    )
    c.add_argument(
        "--format",
        action=Named,
        default="packed",
        metavar="NAME",
        help=f"{', '.join(plugins.names('export'))}; packed when not given",
    )
    c.add_argument(
        "--int8", action="store_true", help="matrices in 8 bits, where the format has that"
    )


def _subnets(c: argparse.ArgumentParser) -> None:
    c.add_argument(
        "--subnets",
        type=names,
        default=[],
        metavar="A,B",
        help="e.g. dense,u70; all when not given",
    )


def _runner_options(c: argparse.ArgumentParser) -> None:
    c.add_argument(
        "--runner",
        default="local",
        help="what runs it; `python -m core list runners` shows them (%(default)s)",
    )
    c.add_argument(
        "--address",
        action=Named,
        default="",
        help="where the runner's machines are, e.g. http://head:8265 of a Ray cluster",
    )
    c.add_argument(
        "--with",
        dest="with_",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a runner's option, e.g. workers=4",
    )


def _queue_options(c: argparse.ArgumentParser) -> None:
    c.add_argument(
        "--priority",
        type=whole(-(10**6), 10**6),
        default=0,
        help="higher ones go first (%(default)s)",
    )
    c.add_argument(
        "--after",
        type=numbers,
        default=[],
        metavar="N,M",
        help="jobs that must be done before; RUN may then be -, the run of the first of them",
    )
    c.add_argument(
        "--device",
        action=Named,
        default="",
        help="cpu, cuda or cuda:N; when not given, training takes a GPU where there is one",
    )
    _runner_options(c)
    c.add_argument(
        "--retries",
        type=whole(0, 1000),
        default=0,
        help="how often to try again after a failure, with growing pauses (%(default)s)",
    )


def set(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=VALUE", help=text
    )


def jobs_commands(top: argparse.ArgumentParser) -> None:
    todo = top.add_subparsers(dest="todo", metavar="TODO", parser_class=parser.Parser)
    c = todo.add_parser("list", help="the newest jobs (also without TODO)")
    c.add_argument("--limit", type=whole(1), default=20)
    c = todo.add_parser("add", help="queue a job and start a worker")
    kinds = c.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=parser.Parser)
    work_commands(kinds, background=True)
    for name, text in (
        ("cancel", "stop a job; a training keeps its checkpoint"),
        ("resume", "queue a failed or cancelled job again"),
        ("log", "what a job printed"),
    ):
        c = todo.add_parser(name, help=text)
        c.add_argument("id", metavar="N", type=whole(1))
        if name == "log":
            c.add_argument("--lines", type=whole(1, 10**6), default=200)
    c = todo.add_parser("clone", help="queue a job again as a new one, with changes")
    c.add_argument("id", metavar="N", type=whole(1))
    set(c, "change an option of a recipe to prepare or train, e.g. seed=2")
    c.add_argument("--no-worker", action="store_true", help="only queue it, start no worker")
    _queue_options(c)
    c.set_defaults(
        priority=None, after=None, retries=None, device=None, runner=None
    )  # as the job that is cloned
    c = todo.add_parser("work", help="work on the queue here, in the foreground")
    c.add_argument("--idle-minutes", type=finite, default=worker.IDLE_MINUTES)
    c.add_argument("--grace-s", type=finite, default=worker.GRACE_S)
    c.add_argument("--stale-s", type=finite, default=queue.STALE_S)
    c.add_argument(
        "--slots",
        action=Named,
        default="",
        help="devices and how many jobs at once, e.g. cuda:0=2,cpu=1",
    )
    for name, c in (todo.choices | kinds.choices).items():
        output(c, name not in ("add", "work"))
