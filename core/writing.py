"""Files written in one step, so that a reader never sees half of one; JSON of records and numbers."""
from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from core.records import as_dict


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one, never a half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """JSON of plain data, records, numpy numbers and arrays, written in one step."""
    write_bytes(path, (json.dumps(data, indent=1, ensure_ascii=False, default=plain) + "\n").encode())


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """JSON lines, one row each, written in one step; compressed when the name ends with .zst."""
    data = "".join(json.dumps(r, ensure_ascii=False, default=plain) + "\n" for r in rows).encode()
    write_bytes(path, zstandard.ZstdCompressor(level=19).compress(data) if str(path).endswith(".zst") else data)


def plain(value: Any) -> Any:
    """What json.dumps does not know by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not fit into JSON")
