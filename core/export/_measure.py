"""Measures this machine: milliseconds per chunk, load time and memory of the subnets beside it.

Stands alone: it is copied as measure.py into a folder (format `device`) and needs Python, and there
NumPy with ONNX Runtime or a C compiler; nothing of the project that made the folder. Every arm (a
subnet, an engine, a precision, a number of threads) runs in a process of its own, all in turn, once
a round; the quickest counts. A time is one chunk's, from its samples to its text, by the clock.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMAT, VERSION = "supernet-device", 1  # of the profile, as core/storage/devices.py reads it
ENGINES = ("onnx", "sparse")
PRECISIONS = ("fp32", "int8")
COMPILERS = ("gcc", "clang", "cc")
SOUND, FACTS, SHAPE = "sound.pcm", "bundle.json", ".shape.json"
AGAIN = "copy the folder again, or export it again"
WARM = 3  # chunks of a process before its times count
SAME = {"fp32": 0.98, "int8": 0.7}  # share of the expected text below which an arm does not count


class Wrong(Exception):
    """What is wrong, and what to do."""


@dataclass
class Arm:
    """One way to run one subnet; `runs`: what _run() gave, once a round."""

    shape: dict[str, Any]
    engine: str
    precision: str
    threads: int
    file: Path
    runs: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.shape['subnet']} {self.engine} {self.precision}, {threads}"


def main(words: list[str] | None = None) -> int:
    """0 done, 2 wrong input (one line on stderr)."""
    given = _parser().parse_args(words)
    try:
        measure(given)
        return 0
    except Wrong as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure this machine on the subnets beside me.")
    parser.add_argument("-o", "--out", default="device.json", help="the profile to write")
    parser.add_argument("--name", default="", help="what the machine is called on the dashboard")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, help="all that this machine has")
    count: dict[str, Any] = {"type": int, "choices": range(1, 65), "metavar": "N"}
    parser.add_argument("--threads", nargs="+", default=[1, 2, 4], help="of onnx", **count)
    parser.add_argument("--rounds", default=6, help="processes of every arm", **count)
    return parser


def measure(given: argparse.Namespace) -> None:
    """All arms, and the profile that they make. Wrong before anything is measured where that is
    possible.
    """
    out = Path(given.out).absolute()
    check_writable(out)
    shapes = [_read(file) for file in sorted(HERE.glob(f"*{SHAPE}"))]
    missing = [n for n in (SOUND, FACTS) if not (HERE / n).is_file()]
    if missing or not shapes:
        raise Wrong(f"{(missing or ['*' + SHAPE])[0]} is missing beside measure.py: {AGAIN}")
    found = runtimes(given.engines)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "transcribe")
        if "sparse" in found:
            _compile(program)
        arms = [arm for shape in shapes for arm in _arms(shape, found, given.threads)]
        for i in range(given.rounds):
            for k, arm in enumerate(arms):
                _say(f"round {i + 1} of {given.rounds}, {k + 1} of {len(arms)}: {arm.text()}")
                arm.runs.append(_run(arm, program))
    _say("")
    kept = [arm for arm in arms if _counts(arm)]
    if not kept:
        raise Wrong("no engine gives the expected text here: nothing was written")
    _write(out, _profile(given.name, shapes, found, kept))
    print("\n".join([f"{out}:", *map(_line, kept)]))


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Wrong(f"{file.name} is missing or damaged ({error}): {AGAIN}") from None


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)


def check_writable(out: Path) -> None:
    """Wrong for a file that cannot be written."""
    try:
        if out.is_dir():
            raise Wrong(f"expected a file to write, got the folder {out}: name a file in it")
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise Wrong(
            f"{out} cannot be written ({error.strerror}): name a file in a folder that exists and"
            " may be written, e.g. -o ~/device.json"
        ) from None


def runtimes(wanted: list[str] | None) -> dict[str, str]:
    """{engine: what runs it}. Wrong for an engine that was asked for and is missing, and where
    there is none.
    """
    found, missing = {}, []
    for engine in wanted or ENGINES:
        version, why = _onnxruntime() if engine == "onnx" else _compiler()
        if why:
            missing.append(f"engine {engine!r} cannot run here: {why}")
        else:
            found[engine] = version
    if missing and (wanted or not found):
        raise Wrong("; ".join(missing))
    print("".join(f"left out: {line}\n" for line in missing), end="", file=sys.stderr)
    return found


def _onnxruntime() -> tuple[str, str]:
    """(version, why it cannot be used)."""
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        name = error.name or "onnxruntime"
        return "", f"{name} is not installed: pip install numpy onnxruntime"
    return f"onnxruntime {onnxruntime.__version__}", ""


def _compiler() -> tuple[str, str]:
    found = next(filter(shutil.which, COMPILERS), "")
    names = ", ".join(COMPILERS)
    why = f"no C compiler was found ({names}): install one, e.g. apt-get install gcc"
    return found, "" if found else why


def _compile(program: Path) -> None:
    native = "-mcpu=native" if platform.machine() == "aarch64" else "-march=native"
    sources = [str(p) for p in sorted((HERE / "native").glob("*.c"))]
    compiler = _compiler()[0]
    command = [compiler, *_read(HERE / FACTS)["flags"], native, "-o", str(program), *sources, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    why = done.stderr.strip()[-500:]
    if done.returncode:
        raise Wrong(f"{compiler} could not build the C program ({why}): try --engines onnx")


def _arms(shape: dict[str, Any], runtimes: dict[str, str], threads: list[int]) -> list[Arm]:
    """Of one subnet; the C program has one thread."""
    found = []
    for engine in runtimes:
        for precision in PRECISIONS:
            name = shape["subnet"] + ("" if precision == "fp32" else f".{precision}")
            file = HERE / (name + (".onnx" if engine == "onnx" else ".snet"))
            if file.is_file():
                counts = dict.fromkeys(threads) if engine == "onnx" else (1,)
                found += [Arm(shape, engine, precision, count, file) for count in counts]
    return found


def _run(arm: Arm, program: Path) -> dict[str, Any]:
    """{load_ms, ms of every chunk, rss_mb, text} of a new process."""
    command = [str(program), str(arm.file), f"{arm.shape['chunk_ms']:g}", "time"]
    if arm.engine == "onnx":
        script = str(HERE / "recognize.py")
        command = [sys.executable, script, str(arm.file), str(arm.threads), "time"]
    with (HERE / SOUND).open("rb") as sound:
        done = subprocess.run(command, stdin=sound, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise Wrong(
            f"{arm.text()} failed: {done.stderr.strip()[-500:] or done.returncode}; {AGAIN}, or"
            " leave this engine out with --engines"
        )
    load_ms, *ms, rss_mb, text = done.stdout[:-1].split("\n")
    return {
        "load_ms": float(load_ms),
        "ms": [float(value) for value in ms[:-1]],  # the last chunk may not be whole
        "rss_mb": float(rss_mb),
        "text": text,
    }


def _counts(arm: Arm) -> bool:
    """Whether an arm gives the text that was expected: the time of something else says nothing."""
    share = _agreement(arm)
    if share < SAME[arm.precision]:
        print(f"left out: {arm.text()}: {share:.0%} of its text is as expected", file=sys.stderr)
    return share >= SAME[arm.precision]


def _agreement(arm: Arm) -> float:
    return min(
        difflib.SequenceMatcher(None, run["text"], arm.shape["text"], autojunk=False).ratio()
        for run in arm.runs
    )


def _line(arm: Arm) -> str:
    row = _timing(arm)
    return f"{arm.text():<32} {row['ms']:8.2f} ms per chunk {row['rss_mb']:6.1f} MB"


def _timing(arm: Arm) -> dict[str, Any]:
    # the quickest round: what else a machine does only slows it down
    ms = min((sorted(run["ms"][WARM:]) for run in arm.runs), key=statistics.median)
    return {
        "subnet": arm.shape["subnet"],
        "engine": arm.engine,
        "precision": arm.precision,
        "threads": arm.threads,
        "ms": round(statistics.median(ms), 4),
        "ms_p95": round(ms[round(0.95 * (len(ms) - 1))], 4),
        "load_ms": round(statistics.median(run["load_ms"] for run in arm.runs), 3),
        "rss_mb": round(max(run["rss_mb"] for run in arm.runs), 3),
        "chunks": len(ms),
        "agreement": round(_agreement(arm), 4),
    }


def _profile(
    name: str, shapes: list[dict[str, Any]], runtimes: dict[str, str], arms: list[Arm]
) -> dict[str, Any]:
    machine: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": (" ".join(name.split()) or _processor())[:80],
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "runtimes": runtimes,
        "shapes": [{n: v for n, v in shape.items() if n != "text"} for shape in shapes],
        "timings": [_timing(arm) for arm in arms],
    }


def _processor() -> str:
    """A board's name where there is one (Raspberry Pi), else the processor's."""
    for file, pattern in (
        ("/proc/device-tree/model", r"\A([^\0\n]+)"),
        ("/proc/cpuinfo", r"(?m)^model name\s*:\s*(.+)$"),
    ):
        try:
            found = re.search(pattern, Path(file).read_text(errors="replace"))
        except OSError:
            continue
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _write(out: Path, profile: dict[str, Any]) -> None:
    aside = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    try:
        aside.write_text(json.dumps(profile, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(aside, out)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise Wrong(f"{out} cannot be written ({error.strerror}): name another file") from None


if __name__ == "__main__":
    sys.exit(main())
