"""This machine as a device: ms per chunk, load time and memory of a few subnets on the engines onnx
and sparse, as a profile that the dashboard reads.

It runs the folder that `core export RUN --format device` makes, so a machine without this project
is measured in the same way. Of every arm it says how well a subnet is predicted from the others.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from core import export, paths
from core.export import _measure
from core.export.device import FOLDER
from core.records import option
from core.storage import devices


@dataclass(frozen=True)
class Options:
    run: str = option("supernet", "a run of conformer_ctc")
    subnets: list[str] = option(
        ["dense", "u50", "u70", "u90"], "its sizes; with four or more, others are predicted"
    )
    out: str = option("", "the profile to write; empty = device.json in artifacts/devices")
    name: str = option("", "what the machine is called on the dashboard; empty = its processor")
    engines: list[str] = option([], "empty = all that this machine has", choices=("onnx", "sparse"))
    threads: list[int] = option([1, 2, 4], "of onnx; sparse has one", low=1, high=64)
    # two are up to 37 % off where others are predicted, ten at most 14 % (bench/README.md)
    rounds: int = option(6, "processes of every arm", low=1, high=64)


def run(options: Options) -> str:
    """Writes the profile; a table in Markdown, a line an arm. ValueError for what cannot be
    measured, run or written, before anything is measured.
    """
    out = _out(options.out)
    try:
        _measure.check_writable(out)
        _measure.runtimes(options.engines)
    except _measure.Wrong as error:
        raise ValueError(str(error)) from None
    with tempfile.TemporaryDirectory() as folder:
        export.write(options.run, options.subnets, folder, lambda *_: True, "device")
        command = [sys.executable, str(Path(folder, FOLDER, "measure.py")), "-o", str(out)]
        command += ["--name", options.name, "--rounds", str(options.rounds)]
        command += ["--threads", *map(str, options.threads)]
        command += ["--engines", *options.engines] if options.engines else []
        print("measuring; this takes some minutes", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    sys.stderr.write("" if done.returncode else done.stderr)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    return _table(devices.load(out), out)


def _out(given: str) -> Path:
    if given:
        return Path(given).absolute()
    paths.devices().mkdir(parents=True, exist_ok=True)
    return paths.devices() / "device.json"


def _table(profile: devices.Profile, out: Path) -> str:
    lines = [
        f"{profile.name}: ms per {profile.chunk_ms:g} ms chunk (95th percentile), MB of memory, ms"
        f" to load; {profile.date}; {out}",
        "",
        "| subnet | arm | ms per chunk | MB | load, ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for t in profile.timings:
        cells = t.subnet, t.arm.text(), f"{t.ms:.2f} ({t.ms_p95:.2f})", t.rss_mb, t.load_ms
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    lines += ["", "Median error of each subnet predicted from the others:"]
    for arm in profile.arms:
        error = profile.held_out(arm)
        lines.append(f"- {arm.text()}: {'too few subnets' if error is None else f'{error:.1%}'}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
