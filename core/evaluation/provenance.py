"""With what machine and what version of the code a number was made."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from pathlib import Path

from core import paths


@functools.cache
def hardware(device: str = "cpu") -> str:
    """Processor and usable cores, e.g. "AMD EPYC (family 26, model 2), 2 cores": virtual machines
    give generations one name. Of "cuda"
    the GPU's name before it.
    """
    if device != "cpu":
        import torch

        return f"{torch.cuda.get_device_name()}; {hardware()}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.is_file() else []
    cpu = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    name = cpu.get("model name", "")
    if name and {"cpu family", "model"} <= cpu.keys():
        name += f" (family {cpu['cpu family']}, model {cpu['model']})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.processor() or platform.machine()}, {cores} cores"


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
