"""What a subnet costs: blocks, parameters, multiply-accumulates and bytes, counted from a
ModelSpec; opens no file.

`keep` is {unit name: share kept, 0..1}; a unit that is missing is kept whole. Sparsity is the share
of zeros.
"""

from __future__ import annotations

import dataclasses
import functools
import math

from core.records import FixedTensor, ModelSpec, PrunableMatrix

VALUE_BYTES = 2  # fp16
TENSOR_HEADER_BYTES = 64  # one safetensors header entry without its name (measured 58-70)
OTHER_BYTES = (
    6_000  # tokens.txt, BPE model, statistics and settings (measured 4-8 kB with 256 pieces)
)
PATTERNS = {
    "8x1": (8, 0),
    "1x1": (1, 0),
    "2:4": (1, 4),
}  # {name: rows of a block, inputs of a group}; 1x1 is unstructured
TOLERANCE = 0.005  # how far outside two subnets `between` may still be asked for


def with_pattern(spec: ModelSpec, pattern: str) -> ModelSpec:
    """The same model with zeros of another pattern. ValueError for an unknown one and for matrices
    it does not fit.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"the pattern is {pattern!r}; there are {', '.join(PATTERNS)}")
    block, group = PATTERNS[pattern]
    wrong = [u.name for u in spec.units if u.rows % block or (group and u.columns % group)]
    if wrong:
        raise ValueError(
            f"the pattern {pattern} does not fit {wrong[0]}: its outputs must be a multiple of"
            f" {block}" + (f" and its inputs of {group}" if group else "")
        )
    return dataclasses.replace(
        spec,
        units=tuple(dataclasses.replace(u, block=block, group=group) for u in spec.units),
    )


def pattern_of(spec: ModelSpec) -> str:
    """The pattern whose blocks the spec has."""
    unit = spec.units[0]
    return next(name for name, shape in PATTERNS.items() if shape == (unit.block, unit.group))


def blocks_kept(unit: PrunableMatrix, keep: float) -> int:
    """Blocks of `unit` left when the share `keep` is kept: rounded half up, clipped to
    0..blocks.
    """
    return min(max(math.floor(keep * unit.blocks + 0.5), 0), unit.blocks)


def counts(spec: ModelSpec, keep: dict[str, float]) -> list[int]:
    """Kept blocks of every unit, in the spec's order. ValueError for a unit that does not
    exist.
    """
    check(spec, keep)
    return [blocks_kept(u, keep.get(u.name, 1.0)) for u in spec.units]


def check(spec: ModelSpec, keep: dict[str, float]) -> None:
    """ValueError for units that do not exist and for shares outside 0..1."""
    unknown = sorted(set(keep) - {u.name for u in spec.units})
    if unknown:
        raise ValueError(
            f"keep names units that this model does not have: {unknown[:5]}; it has "
            f"{len(spec.units)}, e.g. {[u.name for u in spec.units[:3]]}"
        )
    wrong = {n: k for n, k in keep.items() if not 0.0 <= k <= 1.0}
    if wrong:
        raise ValueError(f"expected shares kept in 0..1, got {dict(list(wrong.items())[:5])}")


def branches_off(spec: ModelSpec, keep: dict[str, float]) -> frozenset[str]:
    """Residual branches of which nothing is kept: they are not run, and nothing of them is stored.
    What is on no branch always runs.
    """
    on = {u.branch for u, k in zip(spec.units, counts(spec, keep)) if k} | {""}
    return frozenset(u.branch for u in spec.units) - on


def belongs(name: str, branches: frozenset[str]) -> bool:
    """Whether a tensor or piece of work is part of one of these branches."""
    return any(name.startswith(b + ".") for b in branches)


def _spare(name: str) -> bool:
    """Of several output layers (heads.<k>.) a size has one, and all are alike: the others do not
    count.
    """
    return name.startswith("heads.") and not name.startswith("heads.0.")


def _fixed(spec: ModelSpec, keep: dict[str, float]) -> list[FixedTensor]:
    """What is never pruned, without that of branches that are not run and of other sizes."""
    off = branches_off(spec, keep)
    return [f for f in spec.fixed if not belongs(f.name, off) and not _spare(f.name)]


def _keep(spec: ModelSpec, kept: list[int]) -> dict[str, float]:
    return {u.name: k / u.blocks for u, k in zip(spec.units, kept)}


def prunable_parameters(spec: ModelSpec) -> int:
    return sum(u.parameters for u in spec.units)


def parameters(spec: ModelSpec) -> int:
    """All parameters, prunable or not, with one output layer."""
    return prunable_parameters(spec) + sum(f.parameters for f in _fixed(spec, {}))


def _kept_parameters(spec: ModelSpec, keep: dict[str, float]) -> int:
    return sum(u.block * k for u, k in zip(spec.units, counts(spec, keep)))


def nonzero_parameters(spec: ModelSpec, keep: dict[str, float]) -> int:
    """Parameters in kept blocks plus all that are never pruned, of the branches that are run."""
    return _kept_parameters(spec, keep) + sum(f.parameters for f in _fixed(spec, keep))


def sparsity_reached(spec: ModelSpec, keep: dict[str, float]) -> float:
    """Share of zeros in the prunable weights, 0..1, after rounding to blocks."""
    total = prunable_parameters(spec)
    return 1.0 - _kept_parameters(spec, keep) / total if total else 0.0


def whole_sparsity(spec: ModelSpec, keep: dict[str, float]) -> float:
    """Share of zeros in all weights of the network, 0..1."""
    return 1.0 - nonzero_parameters(spec, keep) / parameters(spec)


def macs_per_second(spec: ModelSpec, keep: dict[str, float] | None = None) -> float:
    """Multiply-accumulates executed per second of audio: zeros are multiplied too, but branches
    without a weight are not run.

    A matrix counts as often as its `rate` says. A transducer's, in models/_transducer.py: encoder
    at 25 Hz (and again for right
    context), joiner once a frame (greedy, one token a frame at most), predictor once a token, of
    which 15 a second are assumed.
    """
    off = branches_off(spec, keep or {})
    units = sum(u.parameters * u.rate for u in spec.units if u.branch not in off)
    return 1000.0 / spec.frame_ms * units + sum(f.macs_per_second for f in _fixed(spec, keep or {}))


def macs_nonzero_per_second(spec: ModelSpec, keep: dict[str, float]) -> float:
    """Multiply-accumulates per second of audio that meet a kept weight, plus all fixed work."""
    frames, kept = 1000.0 / spec.frame_ms, counts(spec, keep)
    units = sum(u.block * k * u.rate for u, k in zip(spec.units, kept))
    return frames * units + sum(f.macs_per_second for f in _fixed(spec, keep))


def mask_bytes(unit: PrunableMatrix) -> int:
    """Bytes of a unit's bit mask, one bit per block."""
    return math.ceil(unit.blocks / 8)


def mask_pays(unit: PrunableMatrix, kept: int) -> bool:
    """True when kept values plus mask are smaller than the raw matrix, header entry of the second
    tensor included.
    """
    raw = unit.parameters * VALUE_BYTES
    return (
        kept * unit.block * VALUE_BYTES + mask_bytes(unit) + TENSOR_HEADER_BYTES + len(unit.name)
        < raw
    )


@functools.lru_cache(maxsize=64)
def _overhead(spec: ModelSpec, off: frozenset[str]) -> int:
    """Bytes beside the units' values and masks: fixed tensors, header entries, metadata, tokens."""
    units = sum(len(u.name) + 24 for u in spec.units)  # sizes and counts in the metadata
    tensors: list[PrunableMatrix | FixedTensor] = [*spec.units, *spec.fixed]
    stored = [x for x in tensors if not belongs(x.name, off) and not _spare(x.name)]
    entries = sum(TENSOR_HEADER_BYTES + len(x.name) + 7 for x in stored)
    return (
        units
        + entries
        + VALUE_BYTES * sum(x.parameters for x in stored if isinstance(x, FixedTensor))
        + OTHER_BYTES
    )


def file_bytes(spec: ModelSpec, keep: dict[str, float]) -> int:
    """Estimated bytes of the packed file (fp16 values and a bit per block, or raw where the mask
    does not pay).

    Exact in the units' tensors; header and tokens are estimated. The file itself is `packing.pack`.
    """
    off = branches_off(spec, keep)
    total = _overhead(spec, off)
    for unit, kept in zip(spec.units, counts(spec, keep)):
        if unit.branch in off:
            continue
        if mask_pays(unit, kept):
            total += (
                kept * unit.block * VALUE_BYTES
                + mask_bytes(unit)
                + TENSOR_HEADER_BYTES
                + len(unit.name)
            )
        else:
            total += unit.parameters * VALUE_BYTES
    return total


def uniform(spec: ModelSpec, sparsity: float) -> dict[str, float]:
    """The same sparsity in every unit."""
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"expected a sparsity in 0..1, got {sparsity}")
    return {u.name: 1.0 - sparsity for u in spec.units}


def between(
    spec: ModelSpec, keep_a: dict[str, float], keep_b: dict[str, float], sparsity: float
) -> dict[str, float]:
    """A subnet between two others that reaches `sparsity` to the block.

    Linear between the two in every unit, then single blocks are moved until the sum is right; when
    one of the two
    holds the other, the result lies between them. ValueError when `sparsity` is outside the two.
    """
    a, b = counts(spec, keep_a), counts(spec, keep_b)
    total = sum(u.blocks for u in spec.units)
    low, high = sorted((1 - sum(a) / total, 1 - sum(b) / total))
    if not max(low - TOLERANCE, 0.0) - 1e-9 <= sparsity <= min(high + TOLERANCE, 1.0) + 1e-9:
        raise ValueError(
            f"sparsity {sparsity:.4f} is not between the two subnets ({low:.4f} and {high:.4f})"
        )
    target = round((1.0 - sparsity) * total)
    share = 0.0 if sum(a) == sum(b) else (target - sum(a)) / (sum(b) - sum(a))
    share = min(max(share, 0.0), 1.0)
    kept = [math.floor(x + share * (y - x) + 0.5) for x, y in zip(a, b)]
    inside = [(min(x, y), max(x, y)) for x, y in zip(a, b)]
    kept = _move(kept, target, inside)
    return _keep(spec, _move(kept, target, [(0, u.blocks) for u in spec.units]))


def _move(kept: list[int], target: int, limits: list[tuple[int, int]]) -> list[int]:
    """`kept` with single blocks added or taken, spread over the units by their room, until the sum
    is `target`.
    """
    kept = list(kept)
    while (missing := target - sum(kept)) != 0:
        room = [(high - k) if missing > 0 else (k - low) for k, (low, high) in zip(kept, limits)]
        if sum(room) <= 0:
            break
        sign = 1 if missing > 0 else -1
        step = min(abs(missing), sum(room))
        share = [step * r // sum(room) for r in room]
        for i in sorted(range(len(kept)), key=lambda i: -room[i])[: step - sum(share)]:
            share[i] += share[i] < room[i]
        kept = [k + sign * s for k, s in zip(kept, share)]
    return kept
