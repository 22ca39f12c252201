"""Chunk lengths of streaming models, from milliseconds to encoder frames."""

from __future__ import annotations

from collections.abc import Sequence


def frames(
    chunk_ms: float, frame_ms: float, allowed: Sequence[int], field: str = "chunk_ms"
) -> int:
    """Encoder frames of a chunk, 0 = full context; ValueError names the field and lists what is
    possible.
    """
    count = round(chunk_ms / frame_ms)
    if count * frame_ms != chunk_ms or count not in allowed:
        possible = ", ".join(f"{frame_ms * n:g}" for n in allowed)
        raise ValueError(
            f"{field} {chunk_ms:g} is not possible with this model; allowed are {possible} "
            f"({'0 = full context' if 0 in allowed else 'fixed when the model is built'})"
        )
    return count
