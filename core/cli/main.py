"""`python -m core
prepare|train|search|evaluate|export|compare|transcribe|lm|bench|import|release|store|fetch|list|
jobs`:
commands.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from core import bench, paths
from core.cli import arguments, job_commands, listing, remote_work, requests
from core.common import groups
from core.common.writing import in_words, sweep
from core.jobs import process
from core.jobs.runners.base import STOPPED
from core.records import Interrupted, Recipe
from core.registry import recipe_sets
from core.reports import claims_page
from core.storage import remote


def main(words: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong input (one line on
    stderr), 75 stopped.
    """
    given = arguments.top_parser().parse_args(words)
    if given.command == "_job":
        return process.run_job(given.id)
    try:
        for named in ("run", "resume"):
            if getattr(given, named, None) and given.command != "fetch":
                setattr(given, named, requests.run_id(getattr(given, named)))
        return COMMANDS[given.command](given) or 0
    except ValueError as error:
        for line in error.lines if isinstance(error, groups.Several) else (str(error),):
            print(f"error: {' '.join(line.split())}", file=sys.stderr)
        return 2
    except Interrupted as reached:
        print(reached, file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, ModuleNotFoundError) as error:
        if not in_words(error):
            raise
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# work


def _dry_run(recipe: Recipe) -> int:
    """All options on standard output; beside it what was tried and how long a job would take."""
    from core.pipelines import dry_run, trial

    print(listing.resolved(recipe))
    found = dry_run.estimate(recipe)
    known = trial.keep(recipe, found)
    print(dry_run.describe(found), file=sys.stderr)
    print(f"as a job: {known.words()} ({known.detail()})", file=sys.stderr)
    return 0


def _work(given: Any) -> int:
    """prepare, train, search, evaluate: here and now, or now on other machines."""
    sweep(paths.artifacts())
    if requests.elsewhere(given):
        return remote_work.run(given)
    stored: Any
    if given.command in ("prepare", "train"):
        recipe = requests.recipe(given)
        if getattr(given, "dry_run", False):
            return _dry_run(recipe)
    else:
        remote.here(given.run)
        requests.check_subnets(given)
        decoding = requests.decoding(given)
    stop = process.Stop()
    report = listing.progress(stop, _quiet(given))
    if given.command == "prepare":
        from core.data.source import SpeechRecipe
        from core.pipelines import speech

        stored = speech.prepare(SpeechRecipe.of(recipe), report)
    elif given.command == "train":
        from core.pipelines import train
        from core.training import distributed

        group = distributed.joined()  # of torchrun or Slurm; None for one process
        try:
            quiet = report if group is None or group.rank == 0 else lambda *_: not stop.requested
            stored = train.train(recipe, quiet, resume=given.resume, group=group)
        finally:
            distributed.leave(group)
    elif given.command == "search":
        from core.pipelines import search

        stored = search.search(given.run, report)
    else:
        changes = {"chunk_ms": given.chunk_ms} | ({"decoding": decoding} if decoding else {})
        work: Callable[..., Any]
        if given.tune:
            from core.pipelines import language

            work = language.tune
        else:
            from core.pipelines import evaluate

            work = evaluate.evaluate
            changes |= {"again": True} if given.again else {}
        stored = work(given.run, given.subnets, requests.splits(given), report, **changes)
    created = stored if isinstance(stored, (list, tuple)) else [] if stored is None else [stored]
    if getattr(given, "json", False):
        print(listing.as_json(created))
    for line in [] if getattr(given, "json", False) else created:
        print(listing.short(line))
    return STOPPED if stop.requested else 0


def _quiet(given: Any) -> bool:
    return getattr(given, "quiet", False)


def _export(given: Any) -> int:
    remote.here(given.run)
    stop = process.Stop()
    from core import export

    progress = listing.progress(stop, _quiet(given))
    folder = requests.out_folder(given)
    for line in export.write(given.run, given.subnets, folder, progress, given.format, given.int8):
        print(line)
    return STOPPED if stop.requested else 0


def _compare(given: Any) -> int:
    if given.pages:
        claims_page.write_all()
        print(paths.COMPARED)
        return 0
    if not given.set:
        raise ValueError(
            "core compare needs a recipe set: a .toml file or one of"
            f" {', '.join(recipe_sets.names())}; or --pages"
        )
    recipe_set = recipe_sets.load(given.set, given.settings)
    stop = process.Stop()
    report = listing.progress(stop, _quiet(given))
    from core.pipelines import compare

    print(compare.run(recipe_set, report))
    return STOPPED if stop.requested else 0


def _lm(given: Any) -> None:
    from core.pipelines import language

    out = Path(given.out) if given.out else None
    print(
        language.write(
            given.source,
            given.text,
            given.order,
            out,
            listing.progress(process.Stop(), _quiet(given)),
            given.marks,
            given.prune,
            given.least,
            given.base,
            given.weight,
        )
    )


def _note(file: str, text: str) -> None:
    print(f"{file}: {text}", file=sys.stderr)


def _transcribe(given: Any) -> None:
    request = requests.recognizer(given)  # a wrong grammar is said before anything is loaded
    if "/" not in given.run and not Path(given.run).is_file():  # a packed file is a run, too
        remote.here(given.run)
    from core import runtime
    from core.lm import languages
    from core.speech import audio, pipes

    opened = runtime.load(given.run, given.subnet, given.chunk_ms, engine=given.engine, **request)
    if request.get("language") and (lost := languages.lost(request["language"], opened.graph)):
        print(lost, file=sys.stderr)
    as_json, transcripts = getattr(given, "json", False), list[dict[str, Any]]()
    for name in given.files:
        shown = pipes.one_line(name)
        try:
            samples = audio.read_once(name, partial(_note, shown))
        except ValueError as error:  # the other files are still transcribed
            transcripts.append({"file": name, "error": str(error)})
            continue
        stream = opened.stream()
        for start in range(0, len(samples), audio.SAMPLE_RATE):
            stream.accept(samples[start : start + audio.SAMPLE_RATE])
        transcripts.append(
            {
                "file": name,
                "text": stream.finish(),
                "seconds": round(len(samples) / audio.SAMPLE_RATE, 3),
            }
        )
        if not transcripts[-1]["text"]:
            print(f"{shown}: no speech found", file=sys.stderr)
        if not as_json:
            print(f"{shown}\t{transcripts[-1]['text']}", flush=True)
    if as_json:
        print(listing.as_json(transcripts))
    if wrong := [(t["file"], t["error"]) for t in transcripts if "error" in t]:
        problems = [(pipes.one_line(file), text.removeprefix(f"{file}: ")) for file, text in wrong]
        raise groups.Several(groups.lines(problems))


def _bench(given: Any) -> None:
    out = {"out": given.out} if given.out else {}
    figures = bench.run(given.name, requests.options(given.settings, "--set") | out)
    if figures is not None:
        print(figures if isinstance(figures, str) else json.dumps(figures, indent=1, default=str))


def _import(given: Any) -> None:
    from core.pipelines import import_run

    files = {"weights": given.weights, "tokens": given.tokens, "statistics": given.statistics}
    print(listing.short(import_run.import_run(given.source, files, given.name)))


def _release(given: Any) -> None:
    from core.reports import publish, results, sample_texts, samples

    if not (given.run or given.results or given.samples):
        raise ValueError(
            "release: say which RUN, --results or --samples; `python -m core list runs` shows the"
            " runs"
        )
    if not given.run and (given.name or given.no_snapshots):
        raise ValueError("release: --name and --no-snapshots belong to a RUN")
    if given.samples:  # first: the card's example names a sample
        print(samples.write())
    if given.run:
        folder = publish.release(
            given.run,
            given.name,
            not given.no_snapshots,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
        print(publish.sizes_text(folder))
        print(
            sample_texts.write(folder.name, lambda text: print(text, file=sys.stderr, flush=True))
        )
        print(paths.RELEASED / paths.RESULTS)
    elif given.results:
        print(results.write())


COMMANDS: dict[str, Callable[[Any], int | None]] = {
    "prepare": _work,
    "train": _work,
    "search": _work,
    "evaluate": _work,
    "export": _export,
    "compare": _compare,
    "transcribe": _transcribe,
    "lm": _lm,
    "bench": _bench,
    "import": _import,
    "release": _release,
    "store": lambda given: print(
        f"{len(remote.push(given.run, given.at))} files of {given.run} were copied to"
        f" {remote.url(given.at)}"
    ),
    "fetch": lambda given: print(remote.pull(given.run, given.at)),
    "list": lambda given: print(
        listing.as_json(listing.data(given.what))
        if getattr(given, "json", False)
        else listing.everything(given.what)
    ),
    "jobs": job_commands.run,
}

if __name__ == "__main__":
    sys.exit(main())
