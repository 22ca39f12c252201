"""The stages that led to a run, read from the records through init_from, and the commands that
repeat them.
"""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Any

from core import paths
from core.records import Origin, Recipe
from core.registry import catalog, recipes
from core.storage import metrics, run_files, store

LONGEST_COMMAND = 500  # characters; a longer one is less readable than the recipe file itself
# origins of subnets that `core search` makes
SEARCHED = (Origin.SEARCHED, Origin.RANDOM, Origin.MAGNITUDE)


def chain(run: str | Path) -> list[dict[str, Any]]:
    """Facts of every stage, first to last; a stage whose records are not here has only "run" and
    "missing".
    """
    folder = store.folder_of(run)
    if (folder / paths.CHAIN).is_file():
        return run_files.read_json(folder / paths.CHAIN)["stages"]
    earlier = store.recipe(folder).init_from
    return [*(_earlier(earlier, {folder.name}) if earlier else []), stage(folder)]


def _earlier(run_id: str, seen: set[str]) -> list[dict[str, Any]]:
    if run_id in seen:
        raise ValueError(
            f"the runs {sorted(seen)} name each other in init_from: one of the recipes is wrong"
        )
    try:
        folder = store.run_folder(run_id)
    except ValueError:
        return _recorded_stages(run_id)
    if (folder / paths.CHAIN).is_file():
        return run_files.read_json(folder / paths.CHAIN)["stages"]
    before = store.recipe(folder).init_from
    return [*(_earlier(before, seen | {run_id}) if before else []), stage(folder)]


def _recorded_stages(run_id: str) -> list[dict[str, Any]]:
    """The stages up to a run that is not here, as far as another released run tells them."""
    for file in sorted(paths.RELEASED.glob(f"*/{paths.CHAIN}")):
        stages = run_files.read_json(file)["stages"]
        for i, stage in enumerate(stages):
            if run_id in (stage["run"], stage.get("trained_as")):
                return stages[: i + 1]
    return [{"run": run_id, "missing": True}]


def stage(folder: Path) -> dict[str, Any]:
    """What the records say about one training; a value nobody recorded is None."""
    recipe, done = store.recipe(folder), finished(folder)
    training = catalog.defaults(catalog.card("settings", "training")) | recipe.training
    names = (
        "updates",
        "audio_hours",
        "seconds",
        "training_tmacs",
        "hardware",
        "device",
        "precision",
        "threads",
        "code_version",
        "prepared",
        "attributions",
        "versions",
    )
    return {
        "run": folder.name,
        "title": recipe.title,
        "method": recipe.method.name,
        "method_options": recipe.method.options,
        "init_from": recipe.init_from,
        "seed": recipe.seed,
        "peak_lr": training["peak_lr"],
        "batch_seconds": training["batch_seconds"],
        **{n: done.get(n) for n in names},
        "data_hours": data_hours(done.get("prepared")),
        "curve": metrics.curve(folder),
        "command": command(recipe, folder.name),
    }


def finished(folder: Path) -> dict[str, Any]:
    return (
        run_files.read_json(folder / paths.FINISHED) if (folder / paths.FINISHED).is_file() else {}
    )


def data_hours(prepared_hash: str | None) -> dict[str, float] | None:
    """{corpus: hours of training speech} of prepared data that is still here, else None."""
    file = paths.prepared() / str(prepared_hash) / "prepared.json"
    return (
        run_files.read_json(file)["splits"]["train"].get("hours_by_corpus")
        if file.is_file()
        else None
    )


# commands


def command(recipe: Recipe, run_id: str) -> str:
    """The shortest `core train` that computes exactly this; the run's own recipe.json where none is
    short.
    """
    _defaults.cache_clear()  # plug-ins may have changed since
    arguments = []
    for name in recipes.recipe_names():
        try:
            base = recipes.load_recipe(name)
            settings = differences(base, recipe)
            created = recipes.override(base, settings) if settings else base
        except ValueError:  # a broken recipe, or one from which this cannot be reached
            continue
        words = " ".join(
            [f"python -m core train {name}", *(f"--set {shlex.quote(s)}" for s in settings)]
        )
        if len(words) <= LONGEST_COMMAND and spelled_out(created) == spelled_out(recipe):
            arguments.append((len(settings), words))
    return (
        min(arguments)[1]
        if arguments
        else f"python -m core train artifacts/released/{run_id}/{paths.RECIPE}"
    )


def spelled_out(recipe: Recipe) -> dict[str, Any]:
    """What a recipe computes: every option with its value, defaults included, without the title."""
    data: dict[str, Any] = {"seed": recipe.seed, "init_from": recipe.init_from}
    for field in recipes.ROOM_OF:
        choice = getattr(recipe, field)
        data[field] = (choice.name, _defaults(field, choice.name) | choice.options)
    return data | {field: _defaults(field) | getattr(recipe, field) for field in recipes.CARD_OF}


@functools.cache
def _defaults(field: str, name: str = "") -> dict[str, Any]:
    """Default options of the plug-in or settings that a recipe's `field` names."""
    room, card = (
        (recipes.ROOM_OF[field], name)
        if field in recipes.ROOM_OF
        else ("settings", recipes.CARD_OF[field])
    )
    return catalog.defaults(catalog.card(room, card))


def differences(base: Recipe, wanted: Recipe) -> list[str]:
    """Settings for --set that change `base` into what computes the same as `wanted`."""
    settings = []
    for field in recipes.ROOM_OF:
        old, new = getattr(base, field), getattr(wanted, field)
        if old.name != new.name:
            settings.append(f"{field}={new.name}")
        kept = old.options if old.name == new.name else {}
        settings += _changed(field, kept, new.options, _defaults(field, new.name))
    for field in recipes.CARD_OF:
        settings += _changed(field, getattr(base, field), getattr(wanted, field), _defaults(field))
    return settings + [
        f"{n}={setting(getattr(wanted, n))}"
        for n in ("seed", "init_from")
        if getattr(base, n) != getattr(wanted, n)
    ]


def _changed(
    table: str, old: dict[str, Any], new: dict[str, Any], defaults: dict[str, Any]
) -> list[str]:
    """Settings of one table; an option that only `old` has goes back to its default."""
    changed = {k: v for k, v in new.items() if k not in old or old[k] != v}
    changed |= {k: defaults[k] for k in old if k not in new and old[k] != defaults.get(k)}
    return [f"{table}.{key}={setting(value)}" for key, value in changed.items()]


def setting(value: Any) -> str:
    """A value as --set takes it; texts stay bare where that is read back as the same text."""
    bare = isinstance(value, str) and value and value == value.strip()
    return value if bare and recipes.setting_value(value) == value else recipes.setting_text(value)


def commands(folder: Path, stages: list[dict[str, Any]]) -> list[str]:
    """Every command from the first training to the last measurement of a run."""
    created = [s["command"] for s in stages if s.get("command")]
    if any(s.origin in SEARCHED for s in store.subnets(folder, added=False)):
        created.append(f"python -m core search {folder.name}")
    return created + evaluate_commands(folder)


def evaluate_commands(folder: Path) -> list[str]:
    """One `core evaluate` for every set of subnets measured on the same splits."""
    recipe, splits_of = store.recipe(folder), {}
    for report in store.reports(folder, added=False):
        whole = (
            recipe.corpus.name == "mixture"
        )  # a single corpus' splits are listed without its name
        split = report.split if whole else report.split.rpartition("/")[2]
        splits_of.setdefault((report.chunk_ms, report.subnet), []).append(split)
    groups: dict[tuple, list[str]] = {}
    for (chunk, subnet), splits in splits_of.items():
        groups.setdefault((chunk, tuple(sorted(set(splits)))), []).append(subnet)
    usual = (catalog.defaults(catalog.card("settings", "evaluation")) | recipe.evaluation)[
        "chunk_ms"
    ]
    return [
        f"python -m core evaluate {folder.name} --subnets {','.join(names)} --splits"
        f" {','.join(splits)}" + ("" if chunk == usual else f" --chunk-ms {chunk:g}")
        for (chunk, splits), names in groups.items()
    ]
