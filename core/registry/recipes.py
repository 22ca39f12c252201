"""Recipes as text: read from TOML or JSON, checked against the cards of their plug-ins, changed,
named.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from core import paths
from core.common import reading
from core.records import Choice, Recipe, as_dict
from core.registry import catalog, plugins

# a recipe's choices and their rooms
ROOM_OF = {"corpus": "corpora", "model": "models", "method": "methods"}
CARD_OF = {
    "features": "features",
    "tokens": "tokenizer",
    "training": "training",
    "search": "search",
    "evaluation": "evaluation",
}  # a recipe's tables and their settings card
LARGEST = 2**31 - 1  # seed
ENDLESS = re.compile(rb"\d{4301,}")  # Python reads no longer numbers
FOR_PEOPLE = ("preset", "about")  # of the file alone: the button that chooses it, what one gets
PLAIN = {"seed": int, "title": str, "init_from": str}


def recipe_names() -> list[str]:
    return sorted(p.stem for p in paths.RECIPES.glob("*.toml"))


def about(name: str) -> str:
    """What a recipe of core/recipes says of itself in `about`: what one has afterwards; "" else."""
    try:
        said = parsed((paths.RECIPES / f"{name}.toml").read_bytes(), ".toml").get("about")
    except (OSError, ValueError):  # `list recipes` says what is wrong with it
        return ""
    return said if isinstance(said, str) else ""


def presets() -> dict[str, str]:
    """{name of a preset: recipe} of the recipes that say `preset = "NAME"`, those of the least
    training audio first.
    """
    found = []
    for name in recipe_names():
        try:
            preset = parsed((paths.RECIPES / f"{name}.toml").read_bytes(), ".toml").get("preset")
            if not isinstance(preset, str) or not preset:
                continue
            recipe = load_recipe(name)
        except (OSError, ValueError):  # `list recipes` says what is wrong with it
            continue
        training = catalog.defaults(catalog.card("settings", "training")) | recipe.training
        found.append((training["updates"] * training["batch_seconds"], preset, name))
    return {preset: name for _, preset, name in sorted(found)}


def load_recipe(source: str | Path, above: tuple[Path, ...] = ()) -> Recipe:
    """A checked recipe from a .toml or .json file, or from core/recipes by name. ValueError names
    file and field.

    `above`: the files that extend this one.
    """
    path = Path(source)
    if path.parent == Path(".") and not path.suffix and not path.is_file():
        plugins.check_name(str(source), recipe_names(), "recipe in core/recipes")
        path = paths.RECIPES / f"{source}.toml"
    if path.suffix not in (".toml", ".json"):
        raise ValueError(
            f"{source}: a recipe is a .toml file, a run's recipe.json or one of: "
            f"{', '.join(recipe_names())}"
        )
    above = (*above, path.resolve())
    if above[-1] in above[:-1]:
        raise ValueError(
            f"the recipe {path} extends itself: {' extends '.join(p.name for p in above)}; extends"
            " names another recipe"
        )
    try:
        data = parsed(path.read_bytes(), path.suffix)
    except (OSError, ValueError) as error:
        what = (
            f"cannot be read: {error.strerror}"
            if isinstance(error, OSError)
            else f"is damaged: {error}"
        )
        raise ValueError(
            f"the recipe {path} {what}; recipes of the project are: {', '.join(recipe_names())}"
        ) from None
    for key in FOR_PEOPLE:
        if not isinstance(data.pop(key, ""), str):
            raise ValueError(f"{path}: {key}: expected text in quotes")
    if "extends" in data:
        base = data.pop("extends")
        if not isinstance(base, str) or not base:
            raise ValueError(
                f"{path}: extends: expected the name or the file of one recipe, got {base!r}"
            )
        data = merged(as_dict(load_recipe(_extended(base, path), above)), data)
    try:
        return recipe_from(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _extended(base: str, path: Path) -> str | Path:
    """What a recipe names with `extends`: the name of one, or a file beside it or from the folder
    that one works in. ValueError says where it was looked for.
    """
    if base in recipe_names():
        return base
    places = dict.fromkeys(place.absolute() for place in (path.parent / base, Path(base)))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(
            f"{path}: extends = {base!r}: no such file; looked for"
            f" {' and '.join(map(str, places))}; recipes of the project are:"
            f" {', '.join(recipe_names())}{plugins.did_you_mean(base, recipe_names())}"
        )
    return found


def parsed(data: bytes, suffix: str) -> dict[str, Any]:
    """A table from the bytes of a .toml or .json file. ValueError for what is none."""
    try:
        text = reading.text(data)
        table = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except ValueError as error:
        if type(error) is ValueError and (digits := ENDLESS.search(data)):
            line = data.count(b"\n", 0, digits.start()) + 1
            raise ValueError(
                f"line {line}: expected a whole number up to {LARGEST}, got"
                f" {reading.excerpt(digits[0].decode())}"
            ) from error
        raise
    if not isinstance(table, dict):
        raise ValueError(f"expected a table of settings, got {type(table).__name__}")
    return table


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The base with the tables of `changes` laid over it; naming another plug-in drops the base's
    options of the old one.
    """
    table = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        same = (
            isinstance(value, dict)
            and isinstance(old, dict)
            and value.get("name", old.get("name")) == old.get("name")
        )
        table[key] = merged(base[key], value) if same else value
    return table


def recipe_from(data: dict[str, Any] | str | Path | Recipe) -> Recipe:
    """A checked recipe from what a job's payload holds: the tables of a recipe, or the path or name
    of a file.
    """
    if isinstance(data, (str, Path)):
        return load_recipe(data)
    if isinstance(data, Recipe):
        data = as_dict(data)
    plugins.check_known(data, [f.name for f in dataclasses.fields(Recipe)], "recipe")
    values: dict[str, Any] = {}
    for field in ROOM_OF:
        values[field] = _choice(data, field)
    for field, name in CARD_OF.items():
        values[field] = data.get(field, {})
        if values[field] != {}:
            catalog.check(catalog.card("settings", name), values[field], field)
    for field, kind in PLAIN.items():
        if field in data:
            low, high = (0, LARGEST) if field == "seed" else (None, None)
            values[field] = plugins.check_value(field, kind.__name__, data[field], low, high)
    return Recipe(**values)


def _choice(data: dict[str, Any], field: str) -> Choice:
    room = ROOM_OF[field]
    given = data.get(field)
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError(
            f'{field}: expected a table [{field}] with name = "...", got {given!r}; '
            f"names are: {', '.join(plugins.names(room))}"
        )
    plugins.check_known(given, ("name", "options"), field)
    options = given.get("options", {})
    plugins.check_name(given["name"], plugins.names(room), f"{field} ({room} plug-in)")
    catalog.check(catalog.card(room, given["name"]), options, f"{field}.options")
    return Choice(given["name"], options)


def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with settings like "training.minutes=5", "method=dense" or "method.sparsest=0.9"
    changed.

    A value is read as TOML, and as plain text where it is none. Naming a plug-in drops the options
    of the old one.
    """
    data = as_dict(recipe)
    for setting in settings:
        key, equals, text = setting.partition("=")
        place, _, option = key.strip().partition(".")
        if not equals or place not in data:
            raise ValueError(
                f"--set {setting}: write it as table.option=value; tables are: {', '.join(data)}"
            )
        value = setting_value(text.strip())
        option = option.removeprefix("options.")
        if place in PLAIN:
            data[place] = value
        elif place in ROOM_OF and option in ("", "name"):
            data[place] = {"name": value, "options": {}}
        elif not option:
            raise ValueError(
                f"--set {setting}: say which option of {place} is meant, as {place}.option=value"
            )
        else:
            table = data[place]["options"] if place in ROOM_OF else data[place]
            table[option] = value
    return recipe_from(data)


def setting_value(text: str) -> Any:
    """A value given on a command line: TOML where it is some, else the text itself."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):  # of numbers of over 4300 digits, too
        return text


def setting_text(value: Any) -> str:
    """A value as TOML on one line, which `setting_value` reads back. ValueError for what TOML has
    no word for.
    """
    try:
        text = tomli_w.dumps({"x": [[value]]})  # inside lists, so that tables stay on the line
    except TypeError as error:
        raise ValueError(f"{value!r} cannot be written into --set: {error}") from None
    for layout, joined in ((r",\n\s*\]", "]"), (r"\[\n\s*", "["), (r",\n\s*", ", ")):
        text = re.sub(layout, joined, text)  # strings hold no line breaks: they are escaped
    return text.strip().removeprefix("x = [[").removesuffix("]]")


def recipe_id(recipe: Recipe, prepared_hash: str, versions: dict[str, int]) -> str:
    """A run's name: the method, what differs from the defaults, and 8 hex digits over everything
    that decides it.

    `versions` are the plug-ins' VERSIONs, e.g. {"methods/dense": 1}; the title is for people and is
    not hashed.
    """
    data = as_dict(recipe)
    del data["title"]
    everything = json.dumps(
        same_numbers([data, prepared_hash, versions]), sort_keys=True, ensure_ascii=False
    )
    digest = hashlib.sha256(everything.encode()).hexdigest()[:8]
    short = "-".join([recipe.method.name, *_differences(recipe)[:3]])
    return f"{re.sub(r'[^A-Za-z0-9._-]', '', short)[:60].rstrip('-.')}-{digest}"


def same_numbers(value: Any) -> Any:
    """40.0 as 40: it is the same option, whichever way a file or --set writes it."""
    if isinstance(value, dict):
        return {k: same_numbers(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [same_numbers(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _differences(recipe: Recipe) -> list[str]:
    """Short texts like "sparsest0.95" for plain options that are not at their default."""
    differences = []
    for room, name, given in (
        ("methods", recipe.method.name, recipe.method.options),
        ("models", recipe.model.name, recipe.model.options),
        ("settings", "training", recipe.training),
    ):
        default = next((catalog.defaults(c) for c in catalog.cards(room) if c.name == name), {})
        for key, value in sorted(given.items()):
            if isinstance(value, (int, float, str)) and value != default.get(key):
                differences.append(
                    f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}"
                )
    return differences + ([f"seed{recipe.seed}"] if recipe.seed != 1 else [])
