"""With what machine and what version of the code a number was made."""

from __future__ import annotations

import functools
import hashlib
import subprocess

from core import paths
from core.common import machine


@functools.cache
def hardware(device: str = "cpu") -> str:
    """Processor and usable cores; of "cuda" the GPU's name before it."""
    if device != "cpu":
        import torch

        return f"{torch.cuda.get_device_name()}; {machine.processor()}"
    return machine.processor()


@functools.cache
def code_version() -> str:
    """The git commit ("-dirty" when files of core differ from it), or a hash over core's sources
    where there is no git.
    """
    if (paths.ROOT / ".git").exists():
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, check=False
            )
            for words in (
                ("describe", "--always", "--abbrev=12"),
                ("status", "--porcelain", "--", "core"),
            )
        )
        if commit.returncode == 0 and commit.stdout.strip():
            return commit.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
    digest = hashlib.sha256()
    for file in sorted(paths.CORE.rglob("*.py")):
        digest.update(str(file.relative_to(paths.CORE)).encode() + file.read_bytes())
    return f"files-{digest.hexdigest()[:12]}"
