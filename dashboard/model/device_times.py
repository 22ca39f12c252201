"""A device's times in place of those in the reports: profiles, and points with their times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from core import paths
from core.storage import devices
from core.storage.device_cost import Estimate
from core.storage.devices import Arm, Profile
from dashboard import data


@dataclass(frozen=True)
class Source:
    """One way to run subnets on one device."""

    file: str
    profile: Profile
    arm: Arm

    def text(self) -> str:
        return f"{self.arm.text()}, {self.profile.name}"  # the engine first: a tile cuts the end

    def note(self) -> str:
        """The machine, and how well sizes that were not measured are predicted."""
        error = self.profile.held_out(self.arm)
        machine, runtime = self.profile.machine, self.profile.runtimes[self.arm.engine]
        facts = f"{machine.processor}, {machine.cores} cores, {runtime}, {self.profile.date}. "
        if error is None:
            return facts + "Times with ≈ are predicted; too few sizes were timed to check that."
        return (
            facts + f"Times with ≈ are predicted; tried on timed sizes, {error:.1%} off (median)."
        )


def profiles() -> tuple[dict[str, Profile], list[str]]:
    """({file: profile}, what is wrong with the others)."""
    found = {str(file): _profile(str(file), data.time_of(file)) for file in devices.files()}
    wrong = [text for text in found.values() if isinstance(text, str)]
    return {n: p for n, p in found.items() if isinstance(p, Profile)}, wrong


@st.cache_resource(max_entries=64, show_spinner=False)
def _profile(file: str, changed: int) -> Profile | str:
    try:
        return devices.load(Path(file))
    except ValueError as error:
        return str(error)


def sources(found: dict[str, Profile], points: pd.DataFrame) -> list[Source]:
    """What was measured as the points were: at their chunk and precision."""
    row = points.iloc[0]
    return [
        Source(file, profile, arm)
        for file, profile in found.items()
        for arm in profile.arms
        if (profile.chunk_ms, arm.precision) == (row["chunk_ms"], row["precision"])
    ]


def start(found: list[Source], points: pd.DataFrame) -> Source | None:
    """What zeros save in time, where a released profile timed these very files on the engine that
    leaves zeros out; else None.
    """
    files = set(points["file_sha256"])
    for source in found:
        shipped = Path(source.file).parent == paths.released_devices()
        these = files & {shape.packed_sha256 for shape in source.profile.shapes}
        if shipped and these and source.arm.engine == "sparse":
            return source
    return None


def timed(points: pd.DataFrame, source: Source | None) -> pd.DataFrame:
    """The points with the source's times, `predicted` where they are; without one as they came."""
    if source is None:
        return points
    result = points.copy()
    given = [
        _estimates(source, run).get(sha) for run, sha in zip(points["run"], points["file_sha256"])
    ]
    missing = Estimate(float("nan"), float("nan"), measured=True)
    rows = [one or missing for one in given]
    chunk_ms = source.profile.chunk_ms
    result["chunk_median_ms"] = [one.ms for one in rows]
    result["chunk_p95_ms"] = pd.Series([one.ms_p95 for one in rows], result.index, float)
    result["load_ms"] = pd.Series([one.load_ms for one in rows], result.index, float)
    result["rtf"] = [one.ms / chunk_ms for one in rows]
    result["peak_rss_mb"] = [one.rss_mb for one in rows]
    result["predicted"] = [not one.measured for one in rows]
    result["threads"] = source.arm.threads
    result["hardware"] = source.profile.name
    result["runtime"] = source.profile.runtimes[source.arm.engine]
    result["times_of"] = [f"{source.text()}{lack(decoder)}" for decoder in points["decoder"]]
    for name in ("bytes_read", "speed_ratio", "speed_ratio_low", "speed_ratio_high"):
        result[name] = float("nan")  # nobody measured it there
    return result


def lack(decoder: str) -> str:
    """What a device's times, of greedy decoding, lack of this decoder's; "" = nothing."""
    return "" if decoder == "greedy" else ", without the search for words"


def _estimates(source: Source, run: str) -> dict[str, Estimate | None]:
    key = source.file, data.time_of(source.file), tuple(source.arm)
    try:
        return _estimates_at(source, key, run, data.stamp(run))
    except ValueError:  # a damaged run, which its page says
        return {}


@st.cache_resource(max_entries=64, show_spinner=False)
def _estimates_at(
    _source: Source, key: tuple, run: str, stamp: tuple
) -> dict[str, Estimate | None]:
    """{SHA-256 of the packed file: its times} of every measured size of a run."""
    spec, known = data.spec(run), data.subnets(run)
    return {
        report.file_sha256: _source.profile.estimate(
            _source.arm, report.file_sha256, spec, known[report.subnet].keep
        )
        for report in data.reports(run)
        if report.subnet in known
    }
