"""The command line's words: every command with its options; refuses unknown ones by name. Runs
nothing.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from core import __version__
from core.cli.option_types import Named, finite, names, numbers, whole
from core.jobs import queue as jobs, worker
from core.records import Recipe
from core.registry import catalog, recipe_sets, recipes as recipe_files
from core.storage import remote as storage, store

EXIT_CODES = (
    "exit codes: 0 done; 1 failed, e.g. a full disk or a failed job; 2 wrong input or a damaged"
    " file, said in one line on standard error; 75 stopped, and the same command goes on; 130"
    " stopped at once by a second Ctrl-C"
)


class Parser(argparse.ArgumentParser):
    """An argparse parser that names an unknown option, says which was meant, and never guesses
    abbreviations.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"allow_abbrev": False})

    def parse_known_args(self, args=None, namespace=None):
        args = list(sys.argv[1:] if args is None else args)
        commands = next(
            (a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)), None
        )
        for word in args:
            if word == "--" or (commands is not None and not word.startswith("-")):
                if commands is not None and word not in commands and word != "--":
                    self.error(
                        f"unknown command {word!r}{_meant(word, commands)}; commands are:"
                        f" {_public(commands)}"
                    )
                break
            name = word.split("=")[0]
            if (
                word.startswith("-")
                and len(word) > 1
                and not word[1].isdigit()
                and name not in self._option_string_actions
            ):
                known = [o for o in self._option_string_actions if o.startswith("--")]
                self.error(
                    f"unknown option {name}{_meant(name, known)}; options are: {', '.join(known)}"
                )
        return super().parse_known_args(args, namespace)


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(
        word, [k for k in known if not k.startswith("_")], n=1, cutoff=0.5
    )
    return f", did you mean {close[0]}?" if close else ""


def _public(commands: Any) -> str:
    return ", ".join(c for c in commands if not c.startswith("_"))


def parser() -> Parser:
    """All commands of `python -m core`; each sets `command`."""
    top = Parser(
        prog="python -m core",
        description=(
            "Trains, searches and measures one speech recogniser in every "
            "size. `python -m core COMMAND --help` explains a command."
        ),
        epilog=EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"core {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    _work_commands(commands)
    c = commands.add_parser(
        "compare", help="train and measure every arm of a recipe set, or reuse what has not changed"
    )
    c.add_argument(
        "set",
        metavar="SET",
        nargs="?",
        default="",
        help="a .toml file or one of: " + ", ".join(recipe_sets.names()),
    )
    c.add_argument(
        "--pages",
        action="store_true",
        help="train nothing: write all pages and the claims anew from what was recorded",
    )
    _set(c, "change an option of every arm's recipe, e.g. init_from=RUN")
    c = commands.add_parser("transcribe", help="write down what audio files say")
    c.add_argument("run", metavar="RUN", help="a run, or the file of one subnet")
    c.add_argument("subnet", metavar="SUBNET", help="a size of the run, e.g. dense or s70")
    c.add_argument(
        "files",
        metavar="FILES",
        nargs="+",
        help="WAV, FLAC, OGG/Opus, MP3, M4A, WebM ...; - reads one from standard input",
    )
    c.add_argument(
        "--chunk-ms",
        type=finite,
        metavar="MS",
        help="latency of one step in ms (what the model prefers, mostly 320)",
    )
    _decoding(c)
    c = commands.add_parser(
        "lm", help="make an n-gram language model of training transcripts, or of text"
    )
    c.add_argument(
        "source",
        metavar="RECIPE",
        nargs="?",
        default="",
        help="a recipe or a run whose training transcripts are read",
    )
    c.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="FILE",
        help="text, a sentence a line; more than once for more files",
    )
    c.add_argument(
        "--marks",
        type=names,
        default=[],
        metavar="A,B",
        help=(
            "what stands in the text and is no word, beside <unk>, [noise], "
            "(cough) and the other marks of core/speech/marks.py"
        ),
    )
    c.add_argument(
        "--order",
        type=whole(1, 6),
        default=3,
        metavar="N",
        help="the longest n-grams, 1 to 6 (%(default)s)",
    )
    c.add_argument(
        "--prune",
        type=finite,
        default=0.0,
        metavar="X",
        help=(
            "drop n-grams whose loss costs less than so many nats a word, "
            "e.g. 5e-7 (%(default)g: keep all)"
        ),
    )
    c.add_argument(
        "--least",
        type=whole(1, 1000),
        default=1,
        metavar="N",
        help="words that come less often are unknown (%(default)s)",
    )
    c.add_argument(
        "--out",
        action=Named,
        metavar="FILE",
        help=(
            "the ARPA file that is written; when not given, one named like its source in "
            "artifacts/lm/, where the Transcribe page finds it"
        ),
    )
    c = commands.add_parser("bench", help="measure how fast something is")
    c.add_argument("name", metavar="NAME", help="see `python -m core list bench`")
    _set(c, "an option of the bench, e.g. hours=1")
    c = commands.add_parser(
        "list", help="show what there is: runs, recipes, recipe sets and the plug-ins of every room"
    )
    c.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        default="",
        help=(
            "runs, recipes, sets, corpora, models, methods, runners, export, bench or settings; all"
            " without it"
        ),
    )
    c = commands.add_parser(
        "release", help="copy a finished run into artifacts/released/ with its model card"
    )
    c.add_argument("run", metavar="RUN", nargs="?", default="")
    c.add_argument("--name", action=Named, default="", help="another name for the released run")
    c.add_argument(
        "--no-snapshots", action="store_true", help="leave out the block ranks along the training"
    )
    c.add_argument(
        "--results", action="store_true", help="write RESULTS.md anew (a release does that, too)"
    )
    c.add_argument(
        "--samples", action="store_true", help="speak the samples of the Transcribe page anew"
    )
    for name, text in (
        ("store", "copy a finished run to a shared disk or object storage"),
        ("fetch", "bring a run from there here"),
    ):
        c = commands.add_parser(name, help=text)
        c.add_argument("run", metavar="RUN")
        c.add_argument(
            "--at",
            action=Named,
            default="",
            metavar="URL",
            help=f"s3://bucket/runs, file:///shared/runs ...; without it ${storage.VARIABLE}",
        )
    _jobs_commands(
        commands.add_parser(
            "jobs", help="background work: list, add, clone, cancel, resume, log, work"
        )
    )
    for name, c in commands.choices.items():
        _output(c, name in ("transcribe", "evaluate", "list", "jobs"))
    hidden = commands.add_parser("_job")  # what the worker's child runs
    hidden.add_argument("id", type=int)
    return top


def _output(c: argparse.ArgumentParser, data: bool) -> None:
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


def _work_commands(commands: Any, background: bool = False) -> None:
    """What background jobs do, too: in the foreground, or (`jobs add`) for the queue."""
    recipe_help = "a .toml file, a run's recipe.json, or one of: " + ", ".join(
        recipe_files.recipe_names()
    )
    c = commands.add_parser(
        "prepare", help="read a recipe's speech once: features, tokens, what was dropped and why"
    )
    c.add_argument("recipe", metavar="RECIPE", help=recipe_help)
    _set(c, "change an option of the recipe, e.g. corpus.hours=2")
    c = commands.add_parser("train", help="train a recipe into a run")
    c.add_argument(
        "recipe", metavar="RECIPE", nargs="?" if not background else None, help=recipe_help
    )
    _set(c, "change an option of the recipe, e.g. training.minutes=5")
    if not background:
        c.add_argument(
            "--resume", action=Named, metavar="RUN", help="go on with this run from its checkpoint"
        )
        c.add_argument(
            "--dry-run",
            action="store_true",
            help=(
                "show all options, build everything, try two updates on stand-in "
                "speech, say what the training would take; store nothing"
            ),
        )
    c = commands.add_parser("search", help="find better subnets of a trained run")
    c.add_argument("run", metavar="RUN")
    c = commands.add_parser("evaluate", help="measure subnets of a run on splits")
    c.add_argument("run", metavar="RUN")
    c.add_argument(
        "--subnets",
        type=names,
        default=[],
        metavar="A,B",
        help="e.g. dense,s70; all when not given",
    )
    c.add_argument(
        "--splits",
        type=names,
        default=[],
        metavar="X,Y",
        help="e.g. dev,test; as in the recipe when not given",
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
    _decoding(c)
    if not background:
        one = c.add_mutually_exclusive_group()
        one.add_argument(
            "--tune",
            action="store_true",
            help="try weights of the language model on dev, store nothing",
        )
        one.add_argument(
            "--again",
            action="store_true",
            help="measure anew what is stored already, its speed, too",
        )
        for name in ("train", "search", "evaluate"):
            _runner_options(commands.choices[name])
    c = commands.add_parser(
        "export",
        help=(
            "write subnets of a run as files to take elsewhere, each the very file that was"
            " measured"
        ),
    )
    c.add_argument("run", metavar="RUN")
    c.add_argument(
        "--subnets",
        type=names,
        default=[],
        metavar="A,B",
        help="e.g. dense,s70; all when not given",
    )
    c.add_argument(
        "--out",
        action=Named,
        default="",
        metavar="FOLDER",
        help=(
            "where SUBNET.safetensors is written, in place of files of that name; when "
            "not given, artifacts/exports/RUN/"
        ),
    )
    for c in commands.choices.values() if background else ():
        c.add_argument("--no-worker", action="store_true", help="only queue it, start no worker")
        _queue_options(c)


def _decoding(c: argparse.ArgumentParser) -> None:
    """How tokens are found; options of evaluation, whose ranges are checked there."""
    c.add_argument(
        "--decoder",
        action=Named,
        metavar="NAME",
        help="greedy, graph (words over a decoding graph), or modified_beam_search (transducers)",
    )
    c.add_argument(
        "--beam", type=whole(0, 1000), metavar="N", help="hypotheses of a transducer's beam search"
    )
    c.add_argument(
        "--lm",
        action=Named,
        metavar="FILE",
        help="language model of the decoding graph: open (the shipped one) or an ARPA file",
    )
    c.add_argument(
        "--grammar",
        action=Named,
        metavar="FILE",
        help=(
            "understand only this: commands (the built-in ones) or a file of sentence "
            "patterns; with --lm both"
        ),
    )
    c.add_argument(
        "--scale",
        type=finite,
        metavar="X",
        help="how much the sound counts beside the graph's words, 0.01 to 10",
    )
    c.add_argument(
        "--blank-penalty",
        type=finite,
        metavar="X",
        help="taken off the blank's log-probability, -10 to 20",
    )


def decoding(given: Any) -> dict[str, Any]:
    """The decoder and what its graph understands, as options of evaluation. ValueError for what
    cannot be.
    """
    names = ("decoder", "beam", "lm", "grammar", "scale", "blank_penalty")
    options = {n: v for n in names for v in [getattr(given, n, None)] if v is not None}
    if options:
        catalog.check(catalog.card("settings", "evaluation"), options, "evaluation")
    graph = sorted({"lm", "grammar", "scale", "blank_penalty"} & set(options))
    if graph and options.setdefault("decoder", "graph") != "graph":
        raise ValueError(
            f"--{graph[0].replace('_', '-')} belongs to a decoding graph, but --decoder is"
            f" {options['decoder']!r}: leave one out"
        )
    for name, word, advice in (
        ("lm", "open", "`python -m core lm RECIPE --out FILE` makes one"),
        ("grammar", "commands", "write sentence patterns into it, one a line"),
    ):
        if options.get(name) not in (None, "", word):
            options[name] = str(Path(options[name]).absolute())  # a job may run elsewhere
            if not Path(options[name]).is_file():
                raise ValueError(
                    f"--{name} {options[name]}: there is no such file; {advice}, or give {word!r}"
                )
    if options.get("grammar") and "lm" not in options:
        options["lm"] = ""
    return options


def recipe(given: Any) -> Recipe:
    """The recipe that was named, with its changes. ValueError for what contradicts itself."""
    resume = getattr(given, "resume", None)
    if given.recipe is None and resume is None:
        raise ValueError(
            "train: say which RECIPE, or --resume RUN; `python -m core list recipes` shows the"
            " recipes"
        )
    if resume is not None and (given.settings or given.recipe is not None):
        raise ValueError(
            "train: --resume RUN goes on with that run's own recipe; leave out RECIPE and --set, or"
            " leave out --resume to train another run"
        )
    if resume is not None:
        return store.recipe(resume)
    named = recipe_files.load_recipe(given.recipe)
    return recipe_files.override(named, given.settings) if given.settings else named


def check_subnets(given: Any) -> None:
    """Names of subnets are wrong more often than anything: said before torch is loaded. Any run has
    dense.
    """
    for name in getattr(given, "subnets", ()):
        if name != "dense":
            store.subnet(given.run, name)


def out_folder(given: Any) -> str:
    """The folder of --out as a job finds it, which has another working folder; "" without one.
    ValueError where a file has its place.
    """
    folder = Path(given.out).absolute() if given.out else None
    if folder and folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {given.out}: this is a file; name a folder")
    return str(folder or "")


def options(settings: list[str], word: str) -> dict[str, Any]:
    """{"workers": 4} of ["workers=4"]."""
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"{word} {setting}: write it as option=value")
    return {
        s.partition("=")[0].strip(): recipe_files.setting_value(s.partition("=")[2].strip())
        for s in settings
    }


def runner_settings(given: Any) -> dict[str, Any]:
    """The options of the runner that was named."""
    return options(given.with_, "--with") | ({"address": given.address} if given.address else {})


def elsewhere(given: Any) -> bool:
    """Whether this is to run on other machines. ValueError for such a runner's options without
    it.
    """
    runner = getattr(given, "runner", "local")
    if runner == "local" and (getattr(given, "address", "") or getattr(given, "with_", [])):
        raise ValueError(
            "--address and --with are for a runner on other machines: name it, too, e.g."
            " --runner ray"
        )
    return runner != "local"


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


def _set(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=VALUE", help=text
    )


def _jobs_commands(top: argparse.ArgumentParser) -> None:
    todo = top.add_subparsers(dest="todo", metavar="TODO", parser_class=Parser)
    c = todo.add_parser("list", help="the newest jobs (also without TODO)")
    c.add_argument("--limit", type=whole(1), default=20)
    c = todo.add_parser("add", help="queue a job and start a worker")
    kinds = c.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=Parser)
    _work_commands(kinds, background=True)
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
    _set(c, "change an option of a recipe to prepare or train, e.g. seed=2")
    c.add_argument("--no-worker", action="store_true", help="only queue it, start no worker")
    _queue_options(c)
    c.set_defaults(
        priority=None, after=None, retries=None, device=None, runner=None
    )  # as the job that is cloned
    c = todo.add_parser("work", help="work on the queue here, in the foreground")
    c.add_argument("--idle-minutes", type=finite, default=worker.IDLE_MINUTES)
    c.add_argument("--grace-s", type=finite, default=worker.GRACE_S)
    c.add_argument("--stale-s", type=finite, default=jobs.STALE_S)
    c.add_argument(
        "--slots",
        action=Named,
        default="",
        help="devices and how many jobs at once, e.g. cuda:0=2,cpu=1",
    )
    for name, c in (todo.choices | kinds.choices).items():
        _output(c, name not in ("add", "work"))
