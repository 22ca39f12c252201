"""Recipe sets: arms of a comparison as changes of one recipe, and what a finished arm leaves
behind. Plain data, no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core import paths, records
from core.common.writing import write_json
from core.records import Recipe
from core.registry import catalog, plugins, recipes as recipe_files

MOST_BYTES = 200_000  # a finished arm, without weights


@dataclass(frozen=True)
class Arm:
    """One way of training, as changes of the set's recipe."""

    name: str
    about: str = ""
    settings: tuple[str, ...] = ()  # as --set takes them
    sizes: tuple[
        tuple[str, str], ...
    ] = ()  # (column of the page, stored size or "<=3.5 MB"); none: the set's uniform sparsities
    # how its sizes are chosen after training, as the recipe's [search] says; one of SEARCHES
    search: str = ""


@dataclass(frozen=True)
class Claim:
    """A sentence that a comparison confirms, refutes or leaves undecided, for each of the sizes or
    for all of them together.
    """

    number: str  # e.g. "1"; of METHODS' claims
    text: str
    kind: str  # one of KINDS, or MOST
    arm: str
    against: str  # another arm; for MOST the kind of branch that is said to be kept most often
    sizes: tuple[str, ...]  # columns of the page that both arms have
    every: bool = False  # one verdict: it must hold at every size


SEARCHES = {"search": "the evolution", "random": "as many drawn at random"}
KINDS = {"better": 0.0, "on par": 0.03}  # {kind: share of errors that the arm may have more}
MOST = "kept most"
AT_MOST = re.compile(
    r"<=\s*(\d+(?:\.\d+)?) MB"
)  # a size by what its file may have: the largest that fits


@dataclass(frozen=True)
class Measure:
    """What is measured on arms that name no sizes of their own: uniform ones; on how much speech of
    which splits.
    """

    sparsities: tuple[float, ...] = (0.0, 0.5, 0.7, 0.9)
    seconds: float = 600.0
    splits: tuple[str, ...] = ("search",)


@dataclass(frozen=True)
class RecipeSet:
    """A comparison; in every column of its page the first arm that has it is the one that the
    others are held against.
    """

    # of its records and its page: another one when settings change more than where it starts
    name: str
    title: str
    recipe: Recipe
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    measure: Measure = field(default_factory=Measure)
    command: str = ""  # what a person types to run it
    claims: tuple[Claim, ...] = ()
    tuning: tuple[
        str, ...
    ] = ()  # the sets of the trainings that chose its options, all listed there
    instead_of: str = (
        ""  # a smaller set whose claims it decides, once its own trainings have begun to finish
    )

    def recipe_of(self, arm: Arm, seed: int) -> Recipe:
        """The checked recipe of one training; ValueError names arm and field."""
        try:
            made = recipe_files.override(self.recipe, list(arm.settings))
        except ValueError as error:
            raise ValueError(f"arm '{arm.name}' of {self.name}: {error}") from None
        return replace(made, seed=seed, title=f"{self.title}: {arm.name}")

    def measured(self, arm: Arm) -> dict[str, Any]:
        """What is measured of an arm, as its records hold it."""
        wanted = (
            {"sizes": dict(arm.sizes)}
            if arm.sizes
            else {"sparsities": list(self.measure.sparsities)}
        )
        elsewhere = (
            {} if self.measure.splits == Measure.splits else {"splits": list(self.measure.splits)}
        )
        return {
            **wanted,
            "seconds": self.measure.seconds,
            **elsewhere,
            **({"search": arm.search} if arm.search else {}),
        }

    def columns(self, arm: Arm) -> list[str]:
        """The columns of the page in which an arm stands."""
        return [column for column, _ in arm.sizes] or [
            f"{100 * s:g} % zeros" for s in self.measure.sparsities
        ]

    def current(self, name: str, seed: int) -> dict[str, Any] | None:
        """The record of a training of the arm `name`, if there is one and it is of this set, and of
        its plug-ins, as they are now.

        Where it started from may differ (--set init_from), and what the method makes of the model
        (fewer blocks, more output layers).
        """
        arm = next(a for a in self.arms if a.name == name)
        found, wanted = record(self.name, name, seed), self.recipe_of(arm, seed)
        if found is None or found.get("measure") != self.measured(arm):
            return None
        was, asked = found["recipe"], json.loads(json.dumps(records.as_dict(wanted)))
        whole = ("corpus", "features", "tokens", "training", *(("search",) if arm.search else ()))
        names = all(was[part]["name"] == asked[part]["name"] for part in ("method", "model"))
        options = all(
            was["method"]["options"].get(n) == v for n, v in asked["method"]["options"].items()
        )
        versions = all(
            catalog.card(*plugin.split("/")).version == v
            for plugin, v in found.get("versions", {}).items()
        )
        return (
            found
            if names and options and versions and all(was[n] == asked[n] for n in whole)
            else None
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
    data = _read(path)
    plugins.check_known(
        data,
        (
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
        ),
        str(path),
    )
    arms, seeds, settings = (
        tuple(_arm(path, a) for a in data.get("arms", ())),
        data.get("seeds", [1]),
        settings or [],
    )
    files = {slug(a.name) for a in arms}
    if len(arms) < 2 or len(files) < len(arms) or "" in files:
        raise ValueError(
            f"{path}: a comparison needs two or more [[arms]], each with a name of its own (letters"
            " and digits count)"
        )
    if (
        not isinstance(seeds, list)
        or not seeds
        or not all(type(s) is int for s in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise ValueError(f"{path}: seeds are a list of whole numbers, each once; {seeds!r} came")
    recipe = recipe_files.override(
        recipe_files.load_recipe(data.get("recipe", "")),
        [*_settings(data.get("common", {})), *settings],
    )
    changes = sorted(s for s in settings if not s.startswith("init_from="))
    name = path.stem + (
        f"-{hashlib.sha256(json.dumps(changes).encode()).hexdigest()[:8]}" if changes else ""
    )
    words = [
        "python",
        "-m",
        "core",
        "compare",
        source,
        *(w for s in settings for w in ("--set", s)),
    ]
    made = RecipeSet(
        name,
        data.get("title", path.stem),
        recipe,
        tuple(seeds),
        arms,
        _measure(path, data.get("measure", {})),
        shlex.join(words),
        tuple(_claim(path, c, {a.name for a in arms}) for c in data.get("claims", ())),
        tuple(data.get("tuning", ())),
        str(data.get("instead_of", "")),
    )
    others = [n for n in names() if n != name]
    for other in made.tuning:
        plugins.check_name(other, others, f"recipe set that may have tuned {path}")
    if made.instead_of:
        plugins.check_name(made.instead_of, others, f"recipe set whose claims {path} may decide")
    for arm in arms:
        made.recipe_of(arm, seeds[0])
    for claim in made.claims:
        for arm in (
            a for a in arms if a.name in (claim.arm, claim.against if claim.kind in KINDS else "")
        ):
            if wrong := [size for size in claim.sizes if size not in made.columns(arm)]:
                raise ValueError(
                    f"{path}: claim '{claim.number}' is about {wrong[0]!r}, but arm '{arm.name}' is"
                    f" measured at {', '.join(made.columns(arm))}"
                )
    return made


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
            f" named in sizes; {search!r} came"
        )
    return Arm(
        data.get("name", ""), data.get("about", ""), _settings(data.get("set", {})), sizes, search
    )


def _claim(path: Path, data: dict[str, Any], arms: set[str]) -> Claim:
    plugins.check_known(
        data, ("number", "text", "kind", "arm", "against", "sizes", "every"), f"{path}: claims"
    )
    made = Claim(
        str(data.get("number", "")),
        data.get("text", ""),
        data.get("kind", ""),
        data.get("arm", ""),
        data.get("against", ""),
        tuple(data.get("sizes", ())),
        data.get("every", False),
    )
    against = records.KINDS if made.kind == MOST else arms - {made.arm}
    if type(made.every) is not bool or (made.every and made.kind == MOST):
        raise ValueError(
            f"{path}: claim '{made.number}': every is true (one verdict for all sizes) or false;"
            f" {made.every!r} came"
            + (f", and '{MOST}' knows no such verdict" if made.kind == MOST else "")
        )
    if (
        made.kind not in (*KINDS, MOST)
        or made.arm not in arms
        or made.against not in against
        or not made.sizes
    ):
        raise ValueError(
            f"{path}: claim '{made.number}' needs a kind ({', '.join((*KINDS, MOST))}), two"
            f" different arms of the set as arm and against (for {MOST} a kind of branch:"
            f" {', '.join(records.KINDS)}), and sizes; {made.kind!r}, {made.arm!r},"
            f" {made.against!r} and {list(made.sizes)} came"
        )
    return made


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
            f" above 0 and measure.splits are names; {sparsities!r}, {seconds!r} and {splits!r}"
            " came"
        )
    return Measure(tuple(sparsities), float(seconds), tuple(splits))


# what finished arms leave behind


def slug(arm: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")


def record_file(name: str, arm: str, seed: int) -> Path:
    """Where one training of a set leaves its record."""
    return paths.COMPARED / name / f"{slug(arm)}-seed{seed}.json"


def record(name: str, arm: str, seed: int) -> dict[str, Any] | None:
    """What a finished training left, or None; a damaged file counts as none: it is made again."""
    try:
        stored: dict[str, Any] = json.loads(record_file(name, arm, seed).read_text())
    except (OSError, ValueError):
        return None
    return stored


def save_record(name: str, made: dict[str, Any]) -> Path:
    path = record_file(name, made["arm"], made["seed"])
    if len(json.dumps(made)) > MOST_BYTES:
        raise ValueError(
            f"the record of arm '{made['arm']}' would be over {MOST_BYTES / 1e3:g} kB: measure"
            " fewer sizes"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, made)
    return path
