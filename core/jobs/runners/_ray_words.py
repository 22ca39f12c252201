"""What the machine that submits a job and the job on the cluster say to each other: marked lines of JSON, and their versions."""
from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from typing import Any

from core import paths

MARK = "@core "


def say(**told: Any) -> None:
    """One marked line on standard output."""
    from core.common.writing import plain
    print(MARK + json.dumps(told, default=plain), flush=True)


def versions() -> dict[str, str]:
    """What both sides must have alike: Python to its second number, Ray, torch, and the text of core."""
    digest = hashlib.sha256()
    for file in sorted(paths.CORE.rglob("*.py")):
        digest.update(str(file.relative_to(paths.CORE)).encode() + file.read_bytes())
    found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "core": digest.hexdigest()[:12]}
    return found | {name: importlib.metadata.version(name).split("+")[0] for name in ("ray", "torch")}


def check_versions(theirs: dict[str, str], where: str) -> None:
    """ValueError that names what differs."""
    ours = versions()
    wrong = [f"{name} is {ours[name]} on {where} and {theirs[name]} on the machine that submitted the job"
             for name in ours if ours[name] != theirs.get(name)]
    if wrong:
        raise ValueError("; ".join(wrong) + ": install the same versions on all machines")
