"""What the machine that submits a job and the job on the cluster say to each other: signed lines of
JSON, and their versions.

A job's log holds whatever its libraries and its speech print, so a line counts only with a
signature (HMAC-SHA256) by the job's key.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import json
import os
import secrets
import sys
from typing import Any

from core import paths
from core.common.writing import plain

MARK = "@core "
KEY = "SUPERNET_JOB_KEY"  # environment variable of the job on the cluster


def say(**facts: Any) -> None:
    """One signed line on standard output."""
    text = json.dumps(facts, default=plain)
    print(f"{MARK}{signature(os.environ.get(KEY, ''), text)} {text}", flush=True)


def signature(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def parse(line: str, key: str) -> dict[str, Any] | None:
    """What a line of the log tells; None for one that the job with this key has not signed."""
    signed, _, text = line.removeprefix(MARK).partition(" ")
    if not line.startswith(MARK) or not hmac.compare_digest(
        signed.encode(), signature(key, text).encode()
    ):
        return None
    return json.loads(text)


def job_key(name: str) -> str:
    """The key of a submitted job, the same after a restart: made of its name and a secret of this
    machine's artifacts.
    """
    file = paths.artifacts() / ".job_secret"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(secrets.token_hex(32))
        except FileExistsError:
            pass  # another worker was faster
    return signature(file.read_text(), name)


def versions() -> dict[str, str]:
    """What both sides must have alike: Python to its second number, Ray, torch, and the text of
    core.
    """
    digest = hashlib.sha256()
    for file in sorted(paths.CORE.rglob("*.py")):
        digest.update(str(file.relative_to(paths.CORE)).encode() + file.read_bytes())
    numbers = {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "core": digest.hexdigest()[:12],
    }
    return numbers | {
        name: importlib.metadata.version(name).split("+")[0] for name in ("ray", "torch")
    }


def check_versions(theirs: dict[str, str], where: str) -> None:
    """ValueError that names what differs."""
    ours = versions()
    wrong = [
        f"{name} is {ours[name]} on {where} and {theirs[name]} on the machine that submitted"
        " the job"
        for name in ours
        if ours[name] != theirs.get(name)
    ]
    if wrong:
        raise ValueError("; ".join(wrong) + ": install the same versions on all machines")
