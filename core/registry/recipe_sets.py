"""Recipe sets: comparisons read from TOML, checked before anything is trained."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from core import paths, records
from core.registry import plugins, recipes as recipe_files
from core.registry.arm_records import slug
from core.registry.comparison import KEPT_MOST, MARGINS, SEARCHES, Arm, Claim, Measure, RecipeSet

FIELDS = (
    "extends",
    "without",
    "instead_of",
    "title",
    "recipe",
    "seeds",
    "tuning",
    "common",
    "measure",
    "arms",
    "claims",
)


def names() -> list[str]:
    return sorted(p.stem for p in paths.COMPARISONS_FOLDER.glob("*.toml"))


def load(source: str, settings: list[str] | None = None) -> RecipeSet:
    """A checked set from core/comparisons by name or from a .toml file, with `settings` over every
    arm's recipe.

    Every arm's recipe is made once, so that a wrong field is said before anything is trained.
    """
    path = Path(source)
    if path.suffix != ".toml":
        plugins.check_name(source, names(), "recipe set in core/comparisons")
        path = paths.COMPARISONS_FOLDER / f"{source}.toml"
    data, settings = _read(path), settings or []
    plugins.check_known(data, FIELDS, str(path))
    arms = _arms(path, data)
    recipe_set = RecipeSet(
        path.stem + _suffix(settings),
        data.get("title", path.stem),
        recipe_files.override(
            recipe_files.load_recipe(data.get("recipe", "")),
            [*_settings(data.get("common", {})), *settings],
        ),
        _seeds(path, data),
        arms,
        _measure(path, data.get("measure", {})),
        _command(source, settings),
        tuple(_claim(path, c, {a.name for a in arms}) for c in data.get("claims", ())),
        tuple(data.get("tuning", ())),
        str(data.get("instead_of", "")),
    )
    _check_others(path, recipe_set)
    for arm in arms:
        recipe_set.recipe_of(arm, recipe_set.seeds[0])
    for claim in recipe_set.claims:
        _check_sizes(path, recipe_set, claim)
    return recipe_set


def _arms(path: Path, data: dict[str, Any]) -> tuple[Arm, ...]:
    arms = tuple(_arm(path, a) for a in data.get("arms", ()))
    files = {slug(a.name) for a in arms}
    if len(arms) < 2 or len(files) < len(arms) or "" in files:
        raise ValueError(
            f"{path}: expected two or more [[arms]], each with its own name (letters and digits"
            f" count), got {[a.name for a in arms]}"
        )
    return arms


def _seeds(path: Path, data: dict[str, Any]) -> tuple[int, ...]:
    seeds = data.get("seeds", [1])
    integers = isinstance(seeds, list) and seeds and all(type(s) is int for s in seeds)
    if not integers or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds: expected a list of integers, each once, got {seeds!r}")
    return tuple(seeds)


def _suffix(settings: list[str]) -> str:
    """Of the set's name, where settings change more than the run it begins from."""
    changes = sorted(s for s in settings if not s.startswith("init_from="))
    if not changes:
        return ""
    return f"-{hashlib.sha256(json.dumps(changes).encode()).hexdigest()[:8]}"


def _command(source: str, settings: list[str]) -> str:
    options = [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["python", "-m", "core", "compare", source, *options])


def _check_others(path: Path, recipe_set: RecipeSet) -> None:
    """ValueError unless the sets that it names exist."""
    others = [n for n in names() if n != recipe_set.name]
    for other in recipe_set.tuning:
        plugins.check_name(other, others, f"recipe set that may have tuned {path}")
    if recipe_set.instead_of:
        plugins.check_name(
            recipe_set.instead_of, others, f"recipe set whose claims {path} may decide"
        )


def _check_sizes(path: Path, recipe_set: RecipeSet, claim: Claim) -> None:
    """ValueError unless the arms of a claim are measured at its sizes."""
    named = (claim.arm, claim.against if claim.kind in MARGINS else "")
    for arm in (a for a in recipe_set.arms if a.name in named):
        columns = recipe_set.columns(arm)
        if wrong := [size for size in claim.sizes if size not in columns]:
            raise ValueError(
                f"{path}: claim '{claim.number}' is about {wrong[0]!r}, but arm '{arm.name}' is"
                f" measured at {', '.join(columns)}"
            )


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A set's fields; with `extends` those of the named set, but for what this one says, in
    [common] and [measure] field by field, for
    its arms that are named in `without`, and for whose claims it decides.
    """
    try:
        data = recipe_files.parsed(path.read_bytes(), ".toml")
    except OSError as error:
        raise ValueError(f"the recipe set {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"the recipe set {path} is damaged: {error}") from None
    if "extends" not in data:
        if "without" in data:
            raise ValueError(
                f"{path}: without names arms of another set that are left out; extends, which names"
                " that set, is missing"
            )
        return data
    above = (*above, path)  # no set extends itself
    others = [name for name in names() if paths.COMPARISONS_FOLDER / f"{name}.toml" not in above]
    plugins.check_name(data["extends"], others, f"recipe set that {path} may extend")
    base = _read(paths.COMPARISONS_FOLDER / f"{data['extends']}.toml", above)
    base.pop("instead_of", None)
    arms = {arm.get("name", ""): arm for arm in base.get("arms", ())}
    for name in data.get("without", ()):
        plugins.check_name(name, list(arms), f"arm of {data['extends']} that {path} may leave out")
        del arms[name]
    base["arms"] = list(arms.values())
    return (
        base
        | data
        | {part: base.get(part, {}) | data.get(part, {}) for part in ("common", "measure")}
    )


def _arm(path: Path, data: dict[str, Any]) -> Arm:
    plugins.check_known(data, ("name", "about", "set", "sizes", "search"), f"{path}: arms")
    sizes, search = tuple(data.get("sizes", {}).items()), data.get("search", "")
    if search not in ("", *SEARCHES) or (search and not sizes):
        raise ValueError(
            f"{path}: arm '{data.get('name', '')}': search is"
            f" {' or '.join(f'{n!r} ({v})' for n, v in SEARCHES.items())}, and what is searched is"
            f" named in sizes; got {search!r}"
        )
    return Arm(
        data.get("name", ""), data.get("about", ""), _settings(data.get("set", {})), sizes, search
    )


def _claim(path: Path, data: dict[str, Any], arms: set[str]) -> Claim:
    plugins.check_known(
        data, ("number", "text", "kind", "arm", "against", "sizes", "every"), f"{path}: claims"
    )
    claim = Claim(
        str(data.get("number", "")),
        data.get("text", ""),
        data.get("kind", ""),
        data.get("arm", ""),
        data.get("against", ""),
        tuple(data.get("sizes", ())),
        data.get("every", False),
    )
    against = records.BRANCH_KINDS if claim.kind == KEPT_MOST else arms - {claim.arm}
    if type(claim.every) is not bool or (claim.every and claim.kind == KEPT_MOST):
        raise ValueError(
            f"{path}: claim '{claim.number}': every: expected true (one verdict for all sizes) or"
            f" false, got {claim.every!r}"
            + (f", and '{KEPT_MOST}' knows no such verdict" if claim.kind == KEPT_MOST else "")
        )
    if (
        claim.kind not in (*MARGINS, KEPT_MOST)
        or claim.arm not in arms
        or claim.against not in against
        or not claim.sizes
    ):
        raise ValueError(
            f"{path}: claim '{claim.number}' needs a kind ({', '.join((*MARGINS, KEPT_MOST))}), two"
            f" different arms of the set as arm and against (for {KEPT_MOST} a kind of branch:"
            f" {', '.join(records.BRANCH_KINDS)}), and sizes; got {claim.kind!r}, {claim.arm!r},"
            f" {claim.against!r} and {list(claim.sizes)}"
        )
    return claim


def _settings(table: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={recipe_files.setting_text(value)}" for name, value in table.items())


def _measure(path: Path, data: dict[str, Any]) -> Measure:
    plugins.check_known(data, ("sparsities", "seconds", "splits"), f"{path}: measure")
    splits = data.get("splits", list(Measure.splits))
    sparsities, seconds = (
        data.get("sparsities", list(Measure.sparsities)),
        data.get("seconds", Measure.seconds),
    )
    numbers = (int, float)
    fits = (
        isinstance(sparsities, list)
        and sparsities
        and all(isinstance(s, numbers) and 0 <= s < 1 for s in sparsities)
    )
    named = isinstance(splits, list) and splits and all(isinstance(s, str) for s in splits)
    if not fits or not isinstance(seconds, numbers) or seconds <= 0 or not named:
        raise ValueError(
            f"{path}: measure.sparsities are shares of zeros from 0 to below 1, measure.seconds is"
            f" above 0 and measure.splits are names; got {sparsities!r}, {seconds!r} and"
            f" {splits!r}"
        )
    return Measure(tuple(sparsities), float(seconds), tuple(splits))
