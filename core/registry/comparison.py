"""A comparison: arms as changes of one recipe, what is measured of them and what is claimed. Plain
data, no torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from core import records
from core.records import Recipe
from core.registry import arm_records, catalog, recipes as recipe_files


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
    kind: str  # one of MARGINS, or KEPT_MOST
    arm: str
    against: str  # another arm; for KEPT_MOST the kind of branch that is said to be kept most often
    sizes: tuple[str, ...]  # columns of the page that both arms have
    every: bool = False  # one verdict: it must hold at every size


SEARCHES = {"search": "the evolution", "random": "as many drawn at random"}
MARGINS = {"better": 0.0, "on par": 0.03}  # {kind: share of errors that the arm may have more}
KEPT_MOST = "kept most"
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
            recipe = recipe_files.override(self.recipe, list(arm.settings))
        except ValueError as error:
            raise ValueError(f"arm '{arm.name}' of {self.name}: {error}") from None
        return replace(recipe, seed=seed, title=f"{self.title}: {arm.name}")

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
        stored = arm_records.load(self.name, name, seed)
        if stored is None or stored.get("measure") != self.measured(arm):
            return None
        was = stored["recipe"]
        now = json.loads(json.dumps(records.as_dict(self.recipe_of(arm, seed))))
        whole = ("corpus", "features", "tokens", "training", *(("search",) if arm.search else ()))
        names = all(was[part]["name"] == now[part]["name"] for part in ("method", "model"))
        options = all(
            was["method"]["options"].get(n) == v for n, v in now["method"]["options"].items()
        )
        versions = all(
            catalog.card(*plugin.split("/")).version == v
            for plugin, v in stored.get("versions", {}).items()
        )
        return (
            stored
            if names and options and versions and all(was[n] == now[n] for n in whole)
            else None
        )
