"""The spoken samples that ship, and what every size of a run makes of them: the live page shows it
while the slider moves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core import paths
from core.common.writing import write_json
from core.storage import checksums


def folder() -> Path:
    return paths.RELEASED / paths.SAMPLES


def texts() -> dict[str, str]:
    """{name of a sample: what is said}, in their order."""
    return {f.stem: f.read_text(encoding="utf-8").strip() for f in sorted(folder().glob("*.txt"))}


def sound_file(name: str) -> Path:
    return folder() / f"{name}.opus"


def file(run: str) -> Path:
    return folder() / "hypotheses" / f"{run}.json"


def stamp(run: str) -> int:
    """Changes when other hypotheses are kept; 0 where there are none."""
    try:
        return file(run).stat().st_mtime_ns
    except OSError:
        return 0


def read(run: str) -> tuple[dict[str, dict[str, str]], str]:
    """({size: {sample: hypothesis}}, decoder). ValueError where the file is missing or damaged."""
    try:
        record = json.loads(file(run).read_text(encoding="utf-8"))
        record = checksums.opened(record, file(run))
        return dict(record["sizes"]), str(record["decoder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file(run)} cannot be read ({error}): write it with `core release`"
        ) from error


def keep(run: str, record: dict[str, Any]) -> Path:
    """Store {"sizes": {size: {sample: hypothesis}}, "decoder": ..., ...} with a checksum."""
    write_json(file(run), checksums.sealed(record))
    return file(run)
