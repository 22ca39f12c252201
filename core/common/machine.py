"""What this machine computes with, in words that stay the same from day to day. No torch."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path


@functools.cache
def processor() -> str:
    """Processor and usable cores, e.g. "AMD EPYC (family 26, model 2), 2 cores": virtual machines
    give generations one name.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.is_file() else []
    cpu = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    name = cpu.get("model name", "")
    if name and {"cpu family", "model"} <= cpu.keys():
        name += f" (family {cpu['cpu family']}, model {cpu['model']})"
    return f"{name or platform.processor() or platform.machine()}, {cores()} cores"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cards() -> list[int]:
    """Numbers of the NVIDIA GPUs of this machine, found without any library."""
    return sorted(int(p.name.removeprefix("nvidia")) for p in Path("/dev").glob("nvidia[0-9]*"))
