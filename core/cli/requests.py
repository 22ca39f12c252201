"""What was typed, as the options of the work: recipes with their changes, decoders, runners.
ValueError for what contradicts itself.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from core import paths
from core.jobs import queue
from core.records import Recipe
from core.registry import catalog, plugins, recipes
from core.storage import remote, store


def decoding(given: Any) -> dict[str, Any]:
    """The decoder and what its graph understands, as options of evaluation. ValueError for what
    cannot be.
    """
    names = ("decoder", "beam", "lm", "grammar", "scale", "blank_penalty", "precision")
    options = {n: v for n in names for v in [getattr(given, n, None)] if v is not None}
    if getattr(given, "measured_on", None):
        options["engine"] = given.measured_on
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


def recognizer(given: Any) -> dict[str, Any]:
    """The same as the recognizer takes it, read and checked: {} where nothing is asked for."""
    asked = decoding(given)
    if not asked:
        return {}
    from core.decoding.graph_search import Weights
    from core.evaluation import conditions
    from core.lm import languages

    options = conditions.Options(**asked)
    if language := conditions.language(options):
        languages.check(language)
    return {
        "decoder": options.decoder,
        "beam": options.beam,
        "language": language,
        "weights": Weights(options.scale, options.blank_penalty),
    }


def run_id(name: str) -> str:
    """The id of the run that an unambiguous beginning names; other names as they came."""
    if not name or Path(name).exists() or (paths.runs() / name).exists():
        return name
    ids = [run.id for run in store.runs() if run.id.startswith(name)]
    if not ids or (os.environ.get(remote.VARIABLE) and name in remote.runs()):
        return name
    if len(ids) > 1:
        raise ValueError(
            f"expected the name of one run, got {name!r}, with which {len(ids)} begin:"
            f" {', '.join(ids[: plugins.NEAR_NAMES])}; all: python -m core list"
        )
    return ids[0]


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
    if given.recipe is None:
        return store.recipe(str(resume))
    loaded = recipes.load_recipe(given.recipe)
    return recipes.override(loaded, given.settings) if given.settings else loaded


def splits(given: Any) -> list[str]:
    """The splits to measure on; recordings that were named are a test set from now on. ValueError
    where they cannot be used.
    """
    if given.recordings is None:
        return list(given.splits)
    from core.data import test_sets

    name = test_sets.named(given.recordings.resolve().name)
    content = test_sets.add(name, given.recordings)
    print(
        f"{test_sets.split(name)}: {content.utterances} recordings,"
        f" {content.seconds / 60:.1f} minutes",
        *(f"left out: {reason}" for reason in content.dropped),
        sep="\n",
        file=sys.stderr,
    )
    return [*given.splits, test_sets.split(name)]


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


def export(given: Any, run: str) -> dict[str, Any]:
    """The payload of an export; ValueError for what its format cannot do. `run` "" = not known
    yet.
    """
    from core import export as exports

    if run and store.subnets(run):  # they may come while it waits
        exports.check(run, given.subnets, given.format, given.int8)
    else:
        exports.check_format(given.format, given.int8)
    return {
        "run": run,
        "subnets": given.subnets,
        "folder": out_folder(given),
        "format": given.format,
        "int8": given.int8,
    }


def options(settings: list[str], word: str) -> dict[str, Any]:
    """{"workers": 4} of ["workers=4"]."""
    for setting in settings:
        if "=" not in setting:
            raise ValueError(f"{word} {setting}: write it as option=value")
    return {
        s.partition("=")[0].strip(): recipes.setting_value(s.partition("=")[2].strip())
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


def payload(given: Any) -> dict[str, Any]:
    """What a job of this kind needs, checked now rather than when its turn comes."""
    if given.kind in ("prepare", "train"):
        return {"recipe": dataclasses.asdict(recipe(given))}
    run = "" if given.run == "-" and given.after else given.run
    if not run and given.after and queue.get(given.after[0]).kind == "prepare":
        raise ValueError(
            f"job {given.after[0]} prepares speech and makes no run: name a training first in"
            " --after, or say which RUN"
        )
    if run:
        store.run_folder(run)
    if given.kind == "search":
        return {"run": run}
    if run:
        check_subnets(given)
    if given.kind == "export":
        return export(given, run)
    decoder = decoding(given)
    return {
        "run": run,
        "subnets": given.subnets,
        "splits": splits(given),
        "new": None,
        "chunk_ms": given.chunk_ms,
    } | ({"decoding": decoder} if decoder else {})
