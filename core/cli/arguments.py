"""The command line's words: every command with its options; refuses unknown ones by name. Runs
nothing.
"""

from __future__ import annotations

from typing import Any

from core import __version__
from core.cli import decoding_arguments, parser, work_arguments
from core.cli.option_types import Named, finite, names, whole
from core.registry import plugins, recipe_sets
from core.storage import remote


def top_parser() -> parser.Parser:
    """All commands of `python -m core`; each sets `command`."""
    top = parser.Parser(
        prog="python -m core",
        description=(
            "Trains, searches and measures one speech recognizer in every "
            "size. `python -m core COMMAND --help` explains a command."
        ),
        epilog=parser.EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"core {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=parser.Parser
    )
    work_arguments.work_commands(commands)
    for add in (_compare, _transcribe, _lm, _bench, _list, _import, _release, _store_and_fetch):
        add(commands)
    work_arguments.jobs_commands(
        commands.add_parser(
            "jobs", help="background work: list, add, clone, cancel, resume, log, work"
        )
    )
    for name, c in commands.choices.items():
        work_arguments.output(c, name in ("transcribe", "evaluate", "list", "jobs"))
    hidden = commands.add_parser("_job")  # what the worker's child runs
    hidden.add_argument("id", type=int)
    return top


def _compare(commands: Any) -> None:
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
    work_arguments.set(c, "change an option of every arm's recipe, e.g. init_from=RUN")


def _transcribe(commands: Any) -> None:
    c = commands.add_parser("transcribe", help="write down what audio files say")
    c.add_argument("run", metavar="RUN", help="a run, or the file of one subnet")
    c.add_argument("subnet", metavar="SUBNET", help="a size of the run, e.g. dense or u70")
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
    c.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto (onnx, else torch), or one of: " + ", ".join(plugins.names("runtime")),
    )
    decoding_arguments.add(c)


def _lm(commands: Any) -> None:
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
    _estimation(c)
    _interpolation(c)
    c.add_argument(
        "--out",
        action=Named,
        metavar="FILE",
        help=(
            "the ARPA file that is written; when not given, one named like its source in "
            "artifacts/lm/, where the Transcribe page finds it"
        ),
    )


def _estimation(c: parser.Parser) -> None:
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


def _interpolation(c: parser.Parser) -> None:
    c.add_argument(
        "--with",
        dest="base",
        action=Named,
        default="",
        metavar="MODEL",
        help="interpolate with this model: base (the one that ships) or an ARPA file",
    )
    c.add_argument(
        "--weight",
        type=finite,
        metavar="X",
        help=(
            "share of the text's own model, 0 to 1; when not given, tuned on a tenth of the"
            " sentences"
        ),
    )


def _bench(commands: Any) -> None:
    c = commands.add_parser("bench", help="measure how fast something is")
    c.add_argument("name", metavar="NAME", help="see `python -m core list bench`")
    work_arguments.set(c, "an option of the bench, e.g. hours=1")
    c.add_argument("-o", "--out", action=Named, default="", metavar="FILE", help="what it writes")


def _list(commands: Any) -> None:
    c = commands.add_parser(
        "list", help="show what there is: runs, recipes, recipe sets, plug-ins and their options"
    )
    c.add_argument(
        "what",
        metavar="WHAT",
        nargs="?",
        default="",
        help=(
            "runs, recipes, sets, corpora, models, methods, runners, export, bench or settings; or"
            " a plug-in, e.g. folder, whose options are shown; without it all, but no options"
        ),
    )


def _import(commands: Any) -> None:
    c = commands.add_parser("import", help="make a run of a model that was trained elsewhere")
    c.add_argument(
        "source",
        metavar="SOURCE:NAME",
        help=(
            "torchaudio:EMFORMER_RNNT_BASE_LIBRISPEECH (downloaded by torchaudio where no file is"
            " given), or hub:FOLDER, which `export --format hub` wrote; sources: "
            + ", ".join(plugins.names("imports"))
        ),
    )
    for name, text in (
        ("weights", "the bundle's weights, a .pt file"),
        ("tokens", "its SentencePiece model"),
        ("statistics", "its global statistics, a JSON file"),
    ):
        c.add_argument(f"--{name}", action=Named, default="", metavar="FILE", help=text)
    c.add_argument(
        "--name", action=Named, default="", help="of the run; as the source calls it if not given"
    )


def _release(commands: Any) -> None:
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


def _store_and_fetch(commands: Any) -> None:
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
            help=f"s3://bucket/runs, file:///shared/runs ...; without it ${remote.VARIABLE}",
        )
