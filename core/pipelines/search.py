"""Sizes of a finished run chosen by search, and stored beside those that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.evaluation.fitness import Fitness
from core.pipelines import build as building
from core.pipelines.resolved import ResolvedRecipe
from core.pipelines.speech import prepared_of
from core.records import Origin, ProgressCallback, Subnet
from core.search import allocation, evolution, ladders
from core.storage import store

# how sizes are searched: a recipe set's name for it, and the origin of what it yields
ORIGINS = {"search": Origin.SEARCHED, "random": Origin.RANDOM}
Many = Callable[[list[allocation.Keep]], list[float]]  # losses of several candidates at once


def search_options(resolved: ResolvedRecipe) -> evolution.Options:
    """How its sizes are searched. ValueError where there is nothing to search, and for sizes that
    it would not train.
    """
    if not resolved.method_class.nested:
        raise ValueError(
            f"the method {resolved.recipe.method.name} trains for the sizes that it stores; there"
            " is nothing to search"
        )
    options = resolved.search
    if not options.sparsities:
        raise ValueError(
            "search.sparsities is empty: give at least one share of zeros from 0 to 0.999, e.g."
            " [0.7]"
        )
    if max(options.sparsities) > resolved.sparsest:
        raise ValueError(
            f"search.sparsities goes to {max(options.sparsities):g}; the run was trained to"
            f" {resolved.sparsest:g} (method.sparsest): a sparser size would be a guess"
        )
    return options


def search(
    run_id: str,
    progress: ProgressCallback,
    spread: Callable[[Fitness], Many] | None = None,
    methods: Sequence[str] = ("search", "random"),
) -> list[Subnet]:
    """Search the run's ladder of sizes and store it beside uniform, global-magnitude and
    random-search ones of the same bytes.

    A ladder that shipped with a released run is not searched again. `spread` of the fitness
    measures several candidates at once, elsewhere; `methods`: keys of ORIGINS.
    """
    folder = store.run_folder(run_id)
    resolved = ResolvedRecipe(store.recipe(folder))
    spec, sha = store.spec(folder), store.ranks_sha256(folder)
    options = search_options(resolved)
    building.check_version(run_id, "run")
    fitness = Fitness(
        folder,
        prepared_of(folder, resolved.speech, progress),
        options.seconds,
        resolved.evaluation.chunk_ms,
        options.threads,
        options.seed,
    )
    weights = {n: t.cpu().numpy() for n, t in fitness.weights.items()}
    norms = allocation.block_norms(weights, spec)
    many = spread(fitness) if spread else None
    subnets = allocation.baselines(spec, options.sparsities, norms, folder.name, sha)
    for method in methods:
        # searched again they would differ in a block and hide what was measured
        subnets += _shipped(run_id, method, options) or ladders.run_ladder(
            spec,
            options,
            fitness.loss,
            rerank=fitness.wer,
            norms=norms,
            progress=progress,
            run=folder.name,
            ranks_sha256=sha,
            method=method,
            left_out=resolved.method_class.left_out(resolved.method),
            many=many,
            state_path=store.own_part(folder) / f"{method}.json",
        )
    for subnet in subnets:
        store.save_subnet(folder, subnet)
    return subnets


def _shipped(run_id: str, method: str, options: evolution.Options) -> list[Subnet]:
    """The whole ladder as a released run ships it, else nothing."""
    folder = store.run_folder(run_id)
    if store.own_part(folder) == folder:
        return []
    names = [allocation.name_of(ORIGINS[method], s) for s in sorted(options.sparsities)]
    shipped = {s.name: s for s in store.subnets(folder, added=False)}
    return [shipped[n] for n in names] if all(n in shipped for n in names) else []
