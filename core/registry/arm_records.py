"""What finished arms of a comparison leave behind: one JSON file a training. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from core import paths
from core.common.writing import write_json

MOST_BYTES = 200_000  # a finished arm, without weights


def slug(arm: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", arm.lower()).strip("-")


def file(name: str, arm: str, seed: int) -> Path:
    """Where one training of a set leaves its record."""
    return paths.COMPARED / name / f"{slug(arm)}-seed{seed}.json"


def load(name: str, arm: str, seed: int) -> dict[str, Any] | None:
    """What a finished training left, or None; a damaged file counts as none: it is made again."""
    try:
        stored: dict[str, Any] = json.loads(file(name, arm, seed).read_text())
    except (OSError, ValueError):
        return None
    return stored


def save(name: str, record: dict[str, Any]) -> Path:
    path = file(name, record["arm"], record["seed"])
    if len(json.dumps(record)) > MOST_BYTES:
        raise ValueError(
            f"the record of arm '{record['arm']}' would be over {MOST_BYTES / 1e3:g} kB: measure"
            " fewer sizes"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    return path
