"""Where to put zeros without searching: uniform, one threshold for the whole network, or by
measured harm, at given file sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core import cost
from core.records import ModelSpec, Origin, Subnet
from core.storage import block_arrays

Keep = dict[str, float]
MIN_KEPT = 0.01  # kept of any matrix, so that no branch vanishes


def block_norms(weights: dict[str, np.ndarray], spec: ModelSpec) -> dict[str, np.ndarray]:
    """L2 norms [R/b, C] of every unit's blocks, from weights {parameter name: [R, C]}."""
    return {
        u.name: block_arrays.block_norms(
            weights[f"{u.name}.weight"].reshape(u.rows, u.columns), u.block
        )
        for u in spec.units
    }


def uniform_at(spec: ModelSpec, file_bytes: int) -> dict[str, float]:
    """The densest uniform allocation whose file (estimated) has at most `size` bytes; ValueError if
    none has.
    """
    return _densest(spec, file_bytes, lambda kept: cost.uniform(spec, 1.0 - kept))


def global_magnitude(
    norms: dict[str, np.ndarray], spec: ModelSpec, file_bytes: int
) -> dict[str, float]:
    """One threshold on the norms of all blocks of the network, at most `size` bytes (estimated); a
    common baseline.
    """
    ordered = np.sort(np.concatenate([norms[u.name].reshape(-1) for u in spec.units]))[::-1]

    def at(kept: float) -> dict[str, float]:
        count = min(round(kept * len(ordered)), len(ordered))
        if count == 0:
            return {u.name: 0.0 for u in spec.units}
        threshold = ordered[count - 1]
        return {
            u.name: float(np.count_nonzero(norms[u.name] >= threshold) / u.blocks)
            for u in spec.units
        }

    return _densest(spec, file_bytes, at)


def by_harm(harm: dict[str, float], spec: ModelSpec, file_bytes: int, steepness: float) -> Keep:
    """Matrices whose pruning hurts more per weight keep more, at most `size` bytes (estimated);
    ours.

    `harm`: how much the loss rose when the matrix alone was pruned further. The share kept is a
    common level plus
    ln(harm per weight) / steepness: the optimum if the loss falls as exp(-steepness * share) in
    every matrix.
    """
    least = 0.03 * max(
        max(harm.values()), 1e-9
    )  # a matrix that seemed to matter not at all was measured with noise
    scores = {
        u.name: np.log(max(harm[u.name], least) / u.parameters) / steepness for u in spec.units
    }
    middle = float(np.mean(list(scores.values())))
    reach = max(abs(s - middle) for s in scores.values())

    def at(kept: float) -> Keep:
        level = (1 + 2 * reach) * kept - reach
        return {
            n: float(np.clip(level + s - middle, MIN_KEPT if kept else 0.0, 1.0))
            for n, s in scores.items()
        }

    return _densest(spec, file_bytes, at)


def _densest(spec: ModelSpec, file_bytes: int, keep_at) -> dict[str, float]:
    """The largest share kept whose file fits, by bisection to 1e-6."""
    smallest = cost.file_bytes(spec, keep_at(0.0))
    if smallest > file_bytes:
        raise ValueError(
            f"{file_bytes} bytes are too few: with every block pruned the file still has {smallest}"
        )
    if cost.file_bytes(spec, keep_at(1.0)) <= file_bytes:
        return keep_at(1.0)
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if cost.file_bytes(spec, keep_at(middle)) <= file_bytes
            else (low, middle)
        )
    return keep_at(low)


# ladders


def budgets_of(spec: ModelSpec, sparsities: Sequence[float]) -> list[int]:
    """Bytes of the uniform subnets with these sparsities, densest first."""
    return [cost.file_bytes(spec, cost.uniform(spec, s)) for s in sorted(sparsities)]


# of names of subnets of one byte budget, which share a number
PREFIXES = {Origin.SEARCHED: "s", Origin.RANDOM: "r", Origin.UNIFORM: "u", Origin.MAGNITUDE: "m"}


def name_of(origin: Origin, sparsity: float) -> str:
    """ "s70" of a searched size at a budget of 0.7, "r70" of random search, ..."""
    return f"{PREFIXES[origin]}{round(100 * sparsity, 1):g}"


def counterpart(subnet: Subnet, origin: Origin) -> str:
    """The name of the subnet of the same budget and another origin."""
    return PREFIXES[origin] + subnet.name.removeprefix(PREFIXES[subnet.origin])


def subnet_of(
    spec: ModelSpec,
    keep: Keep,
    budget_sparsity: float,
    run: str,
    ranks_sha256: str,
    origin: Origin,
) -> Subnet:
    """A Subnet named after the budget, e.g. "s70": subnets of one budget differ in the letter and
    share the number.
    """
    return Subnet(
        name=name_of(origin, budget_sparsity),
        run=run,
        keep=keep,
        sparsity=cost.sparsity_reached(spec, keep),
        pattern=cost.pattern_of(spec),
        ranks_sha256=ranks_sha256,
        origin=origin,
    )


def baselines(
    spec: ModelSpec,
    sparsities: Sequence[float],
    norms: dict[str, np.ndarray],
    run: str = "",
    ranks_sha256: str = "",
) -> list[Subnet]:
    """Uniform ("u70") and global-magnitude ("m70") subnets of the same bytes as a ladder's."""
    created = []
    for sparsity, file_bytes in zip(sorted(sparsities), budgets_of(spec, sparsities)):
        for keep, origin in (
            (cost.uniform(spec, sparsity), Origin.UNIFORM),
            (global_magnitude(norms, spec, file_bytes), Origin.MAGNITUDE),
        ):
            created.append(subnet_of(spec, keep, sparsity, run, ranks_sha256, origin))
    return created
