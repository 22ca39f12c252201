"""Device profiles: how long a machine took for the subnets it was measured on, and from that how
long it takes for others.

A profile is written by core/export/_measure.py, on that machine. An arm is an engine, a precision
and a number of threads.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from core import cost, paths
from core.common.writing import in_words
from core.records import ModelSpec, option
from core.registry import plugins
from core.storage.device_cost import MOST, CostModel, Estimate, Work, work

FORMAT, VERSION = "supernet-device", 1
AGAIN = "measure again with `python -m core bench device`, or copy the file again"
FEWEST = 3  # measured subnets of an arm without which others are not predicted
PATTERN = "8x1"  # the blocks that the engine "sparse" leaves out


class Arm(NamedTuple):
    """One way to run subnets."""

    engine: str
    precision: str
    threads: int

    def text(self) -> str:
        return f"{self.engine} {self.precision}, {self.threads} thread" + "s" * (self.threads > 1)


@dataclass(frozen=True)
class Shape(Work):
    """A subnet that was measured."""

    run: str = option("", "its run")
    subnet: str = option("", "its name")
    model: str = option("", "the run's model")
    packed_sha256: str = option("", "SHA-256 of its packed file")
    file_bytes: int = option(0, "of its packed file", low=1, high=1e12)
    chunk_ms: float = option(0.0, "length of a chunk", unit="ms", low=1.0, high=1e5)


@dataclass(frozen=True)
class Timing:
    """One subnet on one arm."""

    subnet: str = option("", "its name")
    engine: str = option("", "onnx or sparse", choices=("onnx", "sparse"))
    precision: str = option("", "fp32 or int8", choices=("fp32", "int8"))
    threads: int = option(0, "of the engine", low=1, high=1000)
    ms: float = option(0.0, "per chunk, median", unit="ms", low=1e-6, high=MOST)
    ms_p95: float = option(0.0, "per chunk, 95th percentile", unit="ms", low=1e-6, high=MOST)
    load_ms: float = option(0.0, "to load the file, median", unit="ms", low=0.0, high=MOST)
    rss_mb: float = option(0.0, "highest resident memory", unit="MB", low=0.0, high=MOST)
    chunks: int = option(0, "chunks that were timed", low=1, high=MOST)
    agreement: float = option(0.0, "share of the expected text", low=0.0, high=1.0)

    @property
    def arm(self) -> Arm:
        return Arm(self.engine, self.precision, self.threads)


@dataclass(frozen=True)
class Machine:
    """What was measured."""

    processor: str = option("", "the board's or the processor's name")
    cores: int = option(0, "that the system sees", low=1, high=1e6)
    memory_mb: float = option(0.0, "of main memory", unit="MB", low=1.0, high=MOST)
    system: str = option("", "operating system and architecture")
    python: str = option("", "version")


@dataclass(frozen=True)
class Profile:
    """One machine's measurements of one run's subnets."""

    name: str
    date: str
    machine: Machine
    runtimes: dict[str, str]  # {engine: what runs it}
    shapes: tuple[Shape, ...]
    timings: tuple[Timing, ...]

    @property
    def arms(self) -> list[Arm]:
        return list(dict.fromkeys(t.arm for t in self.timings))

    @property
    def chunk_ms(self) -> float:
        return self.shapes[0].chunk_ms

    def shape(self, subnet: str) -> Shape:
        return next(s for s in self.shapes if s.subnet == subnet)

    def of(self, arm: Arm) -> list[Timing]:
        """The arm's timings."""
        return [t for t in self.timings if t.arm == arm]

    def estimate(
        self, arm: Arm, sha256: str, spec: ModelSpec, keep: dict[str, float]
    ) -> Estimate | None:
        """A subnet, whose packed file has this SHA-256: measured, or predicted from those that
        were; None where neither is possible.
        """
        for t in self.of(arm):
            if self.shape(t.subnet).packed_sha256 == sha256:
                return Estimate(t.ms, t.rss_mb, True, t.ms_p95, t.load_ms)
        blocks = arm.engine != "sparse" or cost.pattern_of(spec) == PATTERN
        if spec.model != self.shapes[0].model or not blocks or len(self.of(arm)) < FEWEST:
            return None
        return self._model(arm).estimate(work(spec, keep))

    def held_out(self, arm: Arm) -> float | None:
        """Median relative error of ms, each measured subnet predicted from the others; None where
        too few were measured.
        """
        timings = self.of(arm)
        if len(timings) <= FEWEST:
            return None
        return statistics.median(
            abs(self._model(arm, left_out.subnet).ms(self.shape(left_out.subnet)) / left_out.ms - 1)
            for left_out in timings
        )

    def _model(self, arm: Arm, without: str = "") -> CostModel:
        timings = [t for t in self.of(arm) if t.subnet != without]
        works = [self.shape(t.subnet) for t in timings]
        return CostModel.fit(
            arm.engine, works, [t.ms for t in timings], [t.rss_mb for t in timings]
        )


def files() -> list[Path]:
    """The profiles of this machine's artifacts, then the released ones, each by name."""
    return sorted(paths.devices().glob("*.json")) + sorted(paths.released_devices().glob("*.json"))


def load(file: Path) -> Profile:
    """A profile. ValueError names file and part, what came, what is allowed and what to do."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise ValueError(in_words(error) or f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file.name} is cut off or damaged: expected a device profile in JSON, got {error};"
            f" {AGAIN}"
        ) from None
    try:
        return _checked(data)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{file.name}: {error}; {AGAIN}") from None


def _no_number(text: str) -> float:
    raise ValueError(f"the number {text}")


def _checked(data: Any) -> Profile:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        came = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"expected a device profile (format {FORMAT!r}), got {came!r}")
    if data.get("version") != VERSION:
        raise ValueError(f"expected version {VERSION} of profiles, got {data.get('version')!r}")
    data = {n: v for n, v in data.items() if n not in ("format", "version")}
    _same_names(data, [f.name for f in dataclasses.fields(Profile)], "the profile")
    profile = Profile(
        name=_text(data["name"], "name", r"\S[^\n]{0,79}"),
        date=_text(data["date"], "date", r"\d{4}-\d\d-\d\d"),
        machine=_record(Machine, data["machine"], "machine"),
        runtimes=plugins.check_value("runtimes", "dict[str, str]", data["runtimes"]),
        shapes=_records(Shape, data["shapes"], "shapes"),
        timings=_records(Timing, data["timings"], "timings"),
    )
    _check_whole(profile)
    return profile


def _check_whole(profile: Profile) -> None:
    """Its parts fit each other."""
    names = [s.subnet for s in profile.shapes]
    keys = [(t.subnet, *t.arm) for t in profile.timings]
    wrong = [
        (len(set(names)) < len(names), "a subnet stands twice in shapes"),
        (len(set(keys)) < len(keys), "an arm of a subnet stands twice in timings"),
        ({t.subnet for t in profile.timings} - {*names}, "a timing's subnet is not in shapes"),
        ({t.engine for t in profile.timings} - {*profile.runtimes}, "an engine has no runtime"),
        (any(t.ms_p95 < t.ms for t in profile.timings), "a 95th percentile is below its median"),
        (any(s.mmacs_nonzero > s.mmacs for s in profile.shapes), "mmacs_nonzero is above mmacs"),
        (len({(s.run, s.model, s.chunk_ms) for s in profile.shapes}) > 1, "shapes of several runs"),
    ]
    for is_so, text in wrong:
        if is_so:
            raise ValueError(f"its parts do not fit each other: {text}")


def _same_names(data: Any, wanted: list[str], where: str) -> None:
    plugins.check_known(data, wanted, where)
    if missing := [n for n in wanted if n not in data]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")


def _record(kind: type, data: Any, where: str) -> Any:
    _same_names(data, [f.name for f in dataclasses.fields(kind)], where)
    return plugins.make_options(kind, data, where)


def _records(kind: type, data: Any, where: str) -> tuple:
    if not isinstance(data, list) or not data:
        raise ValueError(f"{where}: expected a list with an entry or more, got {data!r:.40}")
    return tuple(_record(kind, one, f"{where}[{i}]") for i, one in enumerate(data))


def _text(value: Any, where: str, pattern: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{where}: expected text like {pattern}, got {value!r:.90}")
    return value
