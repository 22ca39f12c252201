"""Where to put zeros without searching: uniform, or one threshold for the whole network, at a given file size."""
from __future__ import annotations

import numpy as np

from core import cost
from core.records import BLOCK, Anatomy


def block_norms(weights: dict[str, np.ndarray], anatomy: Anatomy) -> dict[str, np.ndarray]:
    """L2 norms [R/8, C] of every unit's blocks, from weights {parameter name: [R, C]}."""
    norms = {}
    for unit in anatomy.units:
        weight = np.asarray(weights[f"{unit.name}.weight"], np.float32).reshape(-1, BLOCK, unit.columns)
        norms[unit.name] = np.linalg.norm(weight, axis=1)
    return norms


def uniform_at(anatomy: Anatomy, size: int) -> dict[str, float]:
    """The densest uniform allocation whose file (estimated) has at most `size` bytes; ValueError if none has."""
    return _densest(anatomy, size, lambda kept: cost.uniform(anatomy, 1.0 - kept))


def global_magnitude(norms: dict[str, np.ndarray], anatomy: Anatomy, size: int) -> dict[str, float]:
    """One threshold on the norms of all blocks of the network, at most `size` bytes (estimated); a common baseline."""
    ordered = np.sort(np.concatenate([norms[u.name].reshape(-1) for u in anatomy.units]))[::-1]

    def at(kept: float) -> dict[str, float]:
        count = min(round(kept * len(ordered)), len(ordered))
        if count == 0:
            return {u.name: 0.0 for u in anatomy.units}
        threshold = ordered[count - 1]
        return {u.name: float(np.count_nonzero(norms[u.name] >= threshold) / u.blocks) for u in anatomy.units}

    return _densest(anatomy, size, at)


def _densest(anatomy: Anatomy, size: int, keep_at) -> dict[str, float]:
    """The largest share kept whose file fits, by bisection to 1e-6."""
    smallest = cost.file_bytes(anatomy, keep_at(0.0))
    if smallest > size:
        raise ValueError(f"{size} bytes are too few: with every block pruned the file still has {smallest}")
    if cost.file_bytes(anatomy, keep_at(1.0)) <= size:
        return keep_at(1.0)
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if cost.file_bytes(anatomy, keep_at(middle)) <= size else (low, middle)
    return keep_at(low)
