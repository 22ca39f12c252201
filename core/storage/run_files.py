"""Files of runs read with errors that say what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.records import from_dict
from core.storage import checksums


def record(kind: type, path: Path) -> Any:
    data = read_json(path)
    try:
        return from_dict(kind, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not hold a {kind.__name__}: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    data = read(path)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(checksums.damaged(path, str(error))) from None
    if not isinstance(record, dict):
        raise ValueError(
            f"{path} is damaged: a JSON object is needed, but it holds a {type(record).__name__}"
        )
    return checksums.opened(record, path)


class FileProblem(ValueError):
    """A file of a run is missing or cannot be opened."""


def read(path: Path) -> bytes:
    """A file of a run; ValueError when it is not the one that its finished.json lists."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from None
    checksums.check(path, data)
    return data
