"""Which split a speaker is in: by seeded hash, and in one split only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

ROLES = ("train", "search", "dev")  # every other split name is a test


def stable(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but key and seed (sha256)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:7], "big") / 2**56


def pick(keys: Iterable[str], count: int, seed: int) -> set[str]:
    """`count` of the keys, by seeded hash: stable when other keys come or go."""
    return set(sorted(set(keys), key=lambda key: (stable(key, seed), key))[:count])


def split_of(speaker: str, shares: dict[str, float], seed: int) -> str:
    """The split a speaker falls in by seeded hash; `shares` {split: share of speakers}, the rest is
    "train".
    """
    place = stable(speaker, seed)
    for split, share in shares.items():
        place -= share
        if place < 0:
            return split
    return "train"


def protected(
    split: str, splits: Iterable[str], speakers: Callable[[str], set[str]]
) -> dict[str, str]:
    """{speaker: split} of the splits more protected than `split` (see `level`); among tests sharing
    is allowed.
    """
    return {
        speaker: other
        for other in splits
        if level(other) > level(split)
        for speaker in speakers(other)
    }


def level(split: str) -> int:
    """How protected a split is: train 0, search 1, dev 2, tests 3."""
    return ROLES.index(split) if split in ROLES else len(ROLES)
