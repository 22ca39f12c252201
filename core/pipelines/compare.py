"""Runs a recipe set: every arm trained and measured, or reused where it is unchanged. Resumable."""

from __future__ import annotations

import datetime
import itertools
import json
import math
from pathlib import Path
from typing import Any

from core import cost, paths
from core.common import writing
from core.data.prepared import Prepared
from core.evaluation import provenance
from core.evaluation.fitness import Fitness, some_of_each
from core.lm.languages import Language
from core.pipelines import build as building, search, sizes, train
from core.pipelines.resolved import ResolvedRecipe
from core.records import ModelSpec, Origin, ProgressCallback, Recipe, Subnet, as_dict
from core.registry import arm_records, comparison
from core.registry.comparison import Arm, RecipeSet
from core.reports import arms_page, claims_page
from core.search import allocation
from core.storage import metrics as history, run_files, store

CURVE_ROWS = 40  # of the loss, kept with an arm


def run(recipe_set: RecipeSet, progress: ProgressCallback) -> Path:
    """Train and measure what is missing, in the order of the set, and write its page -> the page.

    Interrupted when `progress` says stop: the training under way has a checkpoint, and the same
    command goes on there.
    """
    todo = list(itertools.product(recipe_set.arms, recipe_set.seeds))
    page = paths.COMPARED / f"{recipe_set.name}.md"
    if _start_is_elsewhere(recipe_set) and all(
        _recorded(recipe_set, arm, seed) for arm, seed in todo
    ):
        return _write(recipe_set, page)  # finished where the start was, which need not ship
    speech = _check(recipe_set, progress)
    try:
        for done, (arm, seed) in enumerate(todo):

            def tell(
                share: float,
                text: str,
                left: float | None,
                done: int = done,
                arm: Arm = arm,
                seed: int = seed,
            ) -> bool:
                return progress(
                    (done + share) / len(todo),
                    f"{done + 1} of {len(todo)}, {arm.name}, seed {seed}: {text}",
                    left,
                )

            built, prepared, _ = train.identify(
                ResolvedRecipe(recipe_set.recipe_of(arm, seed)), tell, speech
            )
            before = arm_records.load(recipe_set.name, arm.name, seed)
            if before is None or not _same(
                before, built.recipe, prepared, recipe_set.measured(arm)
            ):
                folder = train.train(built.recipe, tell)
                selection = _search(arm, folder, built, prepared, tell) if arm.search else {}
                arm_records.save(
                    recipe_set.name, _record(recipe_set, arm, built, folder, prepared) | selection
                )
    finally:  # stopped in the midst: the page has what is finished and says what is not
        _write(recipe_set, page)
    return page


def _write(recipe_set: RecipeSet, page: Path) -> Path:
    writing.write_bytes(page, arms_page.text(recipe_set).encode())
    claims_page.write()
    return page


def _start_is_elsewhere(recipe_set: RecipeSet) -> bool:
    """Whether the run that all arms begin from is not on this machine: neither they nor what they
    heard can be made anew.
    """
    return bool(recipe_set.recipe.init_from) and recipe_set.recipe.init_from not in {
        r.id for r in store.runs()
    }


def _recorded(recipe_set: RecipeSet, arm: Arm, seed: int) -> bool:
    record = recipe_set.current(arm.name, seed)
    return record is not None and record["recipe"]["init_from"] == recipe_set.recipe.init_from


def _same(
    before: dict[str, Any], recipe: Recipe, prepared: Prepared, measured: dict[str, Any]
) -> bool:
    """Whether a record is of this very training: every field of its recipe, the plug-ins' versions,
    what was heard, what was measured.

    Not the id of its run, which knows when the files of speech were written: they are the same on
    another machine.
    """
    wanted = json.loads(json.dumps(as_dict(recipe))) | {
        "title": before["recipe"]["title"]
    }  # for people
    return (before["recipe"], before.get("versions"), before.get("speech"), before["measure"]) == (
        wanted,
        building.versions(recipe),
        prepared.content,
        measured,
    )


def _check(recipe_set: RecipeSet, progress: ProgressCallback) -> Prepared:
    """The speech that all arms hear. ValueError, before anything is trained: arms that hear
    different things, splits and sizes that
    will not be there, chunks that an arm's model cannot do.
    """
    speech: dict[
        str, Prepared
    ] = {}  # looking through the corpora takes seconds: once for all arms that ask for the same
    for arm in recipe_set.arms:
        recipe = recipe_set.recipe_of(arm, recipe_set.seeds[0])
        key = repr((recipe.corpus, recipe.features, recipe.tokens, recipe.init_from))
        resolved = ResolvedRecipe(recipe)
        built, prepared, _ = train.identify(resolved, progress, speech.get(key))
        speech[key] = prepared
        if len({p.hash for p in speech.values()}) > 1:
            raise ValueError(
                f"arm '{arm.name}' of {recipe_set.name} hears other features or tokens than the"
                " arms before: a fair comparison has one corpus, features and tokens table for all"
            )
        for split in recipe_set.measure.splits:
            prepared.rows(split)
        building.check(built, prepared.tokenizer.size)
        known = building.size_names(built, prepared.tokenizer.size) if arm.sizes else []
        if arm.search:
            known += [
                allocation.name_of(search.ORIGINS[arm.search], s)
                for s in search.search_options(built).sparsities
            ]
        named = [name for _, name in arm.sizes if not comparison.AT_MOST.fullmatch(name)]
        sizes.check(named, known, f"arm '{arm.name}' of {recipe_set.name}")
    return prepared


def _sizes(recipe_set: RecipeSet, arm: Arm, folder: Path) -> dict[str, Subnet]:
    """{column of the page: size}: the arm's own, or uniform ones. A budget that no size fits into
    has none.
    """
    spec = store.spec(folder)
    if arm.sizes:
        candidates = [
            s
            for s in store.subnets(folder)
            if s.origin == search.ORIGINS.get(arm.search, Origin.TRAINED)
        ]
        chosen = {}
        for column, name in arm.sizes:
            if most := comparison.AT_MOST.fullmatch(name):
                fits = [
                    s for s in candidates if cost.file_bytes(spec, s.keep) <= 1e6 * float(most[1])
                ]
                if fits:
                    chosen[column] = max(fits, key=lambda s: cost.file_bytes(spec, s.keep))
            else:
                chosen[column] = store.subnet(folder, name)
        return chosen
    keeps = {
        c: cost.uniform(spec, s)
        for c, s in zip(recipe_set.columns(arm), recipe_set.measure.sparsities)
    }
    return {
        c: Subnet("uniform", folder.name, k, cost.sparsity_reached(spec, k))
        for c, k in keeps.items()
    }


def _search(
    arm: Arm, folder: Path, built: ResolvedRecipe, prepared: Prepared, progress: ProgressCallback
) -> dict[str, Any]:
    """Sizes searched as the arm says, or those that were -> what choosing them took."""
    if search.ORIGINS[arm.search] not in {s.origin for s in store.subnets(folder)}:
        search.search(folder.name, progress, methods=[arm.search])
    state, options = (
        run_files.read_json(store.own_part(folder) / f"{arm.search}.json"),
        search.search_options(built),
    )
    seconds = sum(
        row.seconds for row in some_of_each(prepared.rows("search"), options.seconds, options.seed)
    )
    tmacs = (
        state.get("macs_per_second", math.nan) * seconds / 1e12
    )  # a search of an earlier version did not count them
    return {
        "selection_seconds": state["seconds"],
        "selection_evaluations": state["told"],
        "selection_tmacs": round(tmacs, 6) if math.isfinite(tmacs) else None,
    }


def _branches(spec: ModelSpec, subnet: Subnet) -> dict[str, list[int]]:
    """{kind: [branches that the size runs, branches of the network]}."""
    kinds, off = (
        {u.branch: u.kind for u in spec.units if u.branch},
        cost.branches_off(spec, subnet.keep),
    )
    return {
        kind: [
            sum(k == kind and b not in off for b, k in kinds.items()),
            sum(k == kind for k in kinds.values()),
        ]
        for kind in dict.fromkeys(kinds.values())
    }


def _sums(errors: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, list[float]]]:
    """What a size did, by speaker over all splits and by corpus, as Fitness.by_speaker sums it."""
    sums: dict[str, dict[str, list[float]]] = {"speakers": {}, "corpora": {}}
    for key, figures in errors.items():
        for part, name in zip(("corpora", "speakers"), key):
            before = sums[part].get(name, [0.0] * len(figures))
            sums[part][name] = [round(a + b, 2) for a, b in zip(before, figures)]
    return sums


def _record(
    recipe_set: RecipeSet, arm: Arm, built: ResolvedRecipe, folder: Path, prepared: Prepared
) -> dict[str, Any]:
    finished = run_files.read_json(folder / paths.FINISHED)
    rows, spec = history.metrics(folder), store.spec(folder)
    chunk_ms = built.evaluation.chunk_ms
    fitness = Fitness(
        folder,
        prepared,
        recipe_set.measure.seconds,
        chunk_ms,
        built.training.threads,
        seed=1,
        splits=recipe_set.measure.splits,
    )
    graph = fitness.graph()
    by_column = {
        column: {
            "sparsity": subnet.sparsity,
            "parameters": cost.nonzero_parameters(spec, subnet.keep),
            "file_bytes": cost.file_bytes(spec, subnet.keep),
            "mmacs_per_second": cost.macs_per_second(spec, subnet.keep) / 1e6,
            "branches": _branches(spec, subnet),
            "left_out": sorted(cost.branches_off(spec, subnet.keep)),
            **_sums(fitness.by_speaker(subnet.keep, subnet.head, graph)),
        }
        for column, subnet in _sizes(recipe_set, arm, folder).items()
    }
    return {
        "set": recipe_set.name,
        "arm": arm.name,
        "seed": built.recipe.seed,
        "run": folder.name,
        "recipe": as_dict(built.recipe),
        "measure": recipe_set.measured(arm),
        "split": ", ".join(recipe_set.measure.splits),
        "chunk_ms": chunk_ms,
        "language_model": Language().name() if graph else "",
        "sizes": by_column,
        "speech": prepared.content,
        "curve": rows[:: -(-len(rows) // CURVE_ROWS)] if rows else [],
        "date": datetime.date.today().isoformat(),
        "measured_with": provenance.code_version(),
        **{
            n: finished.get(n)
            for n in (
                "seconds",
                "audio_hours",
                "updates",
                "training_tmacs",
                "threads",
                "device",
                "precision",
                "hardware",
                "versions",
                "prepared",
                "code_version",
            )
        },
    }
