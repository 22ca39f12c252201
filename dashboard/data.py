"""Cached, bounded reads of runs for the pages: records and numbers in, DataFrames out; torch is
never loaded here.

Every cache is keyed by a run's stamp (times of its folders), so a finished job shows itself at the
next rerun, and bounded by max_entries. What cannot be read becomes a ValueError whose text is meant
for the visitor.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Sized
from pathlib import Path

import numpy as np
import streamlit as st

from core import cost, paths
from core.records import ModelSpec, Report, Subnet
from core.storage import metrics, packing, store
from dashboard.look import once

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)  # what a damaged folder raises


# --- runs


def _folder_times() -> tuple:
    """Name and times of every run's folder and marker: what the list of runs hangs on."""
    times = []
    for parent in (paths.RELEASED, paths.runs()):
        for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
            times.append(
                (
                    str(folder),
                    *(
                        time_of(f"{folder}/{n}")
                        for n in ("", paths.FINISHED, paths.RECIPE, paths.UNITS)
                    ),
                )
            )
    return tuple(times)


def time_of(file: str | Path) -> int:
    with contextlib.suppress(
        FileNotFoundError, NotADirectoryError
    ):  # not there yet, or a page among the runs
        return os.stat(file).st_mtime_ns
    return 0


@functools.lru_cache(
    maxsize=4
)  # not Streamlit's cache: it would read through the whole key, 2 ms, twenty times a page
def _runs_at(key: tuple) -> list[store.RunInfo]:
    return list(store.runs())


def _runs() -> list[store.RunInfo]:
    try:
        return once("runs", lambda: _runs_at(_folder_times()))
    except UNREADABLE as error:
        raise ValueError(f"The list of runs cannot be read: {error}") from error


def run_infos(finished_only: bool = True) -> list[store.RunInfo]:
    """The runs: released ones before own, those measured most (the supernets) first."""

    def rank(info: store.RunInfo) -> tuple:
        sizes, measured = _count(subnets, info.id), _count(reports, info.id)
        return not info.released, -measured, -sizes, info.id

    return once(
        ("infos", finished_only),
        lambda: sorted((i for i in _runs() if i.finished or not finished_only), key=rank),
    )


def run_ids() -> list[str]:
    """Ids of the finished runs, the one to open first at the front."""
    return [info.id for info in run_infos()]


def run_title(run: str) -> str:
    """The run's title for people, with the id's end where several runs share it; the id when there
    is none.
    """
    titles = {info.id: info.title for info in _runs()}
    title = titles.get(run) or run
    shared = title != run and list(titles.values()).count(title) > 1
    return f"{title} ({run.rsplit('-', 1)[-1]})" if shared else title


def problems() -> dict[str, str]:
    """{run id: why it cannot be read} over the runs on disk; empty when all is well."""
    broken = {info.id: info.broken for info in _runs() if info.broken}
    for run in run_ids():
        for read in (spec, subnets, reports):
            try:
                read(run)
            except ValueError as error:
                broken[run] = str(error)
                break
    return broken


def stamp(run: str) -> tuple[int, ...]:
    """Times of the folders of a run that decide what can be read; part of every cache key."""
    return once(("stamp", run), lambda: _stamp(run))


def _stamp(run: str) -> tuple[int, ...]:
    try:
        folder, local = store.run_folder(run), store.own_part(run)
    except UNREADABLE as error:
        raise ValueError(f"There is no run “{run}”: {error}") from error
    names = ("", paths.SUBNETS, paths.REPORTS, paths.RANKS, paths.FINISHED, paths.UNITS)
    return tuple(
        map(
            time_of,
            [*(folder / name for name in names), local / paths.SUBNETS, local / paths.REPORTS],
        )
    )


def guard(run: str, what: str, read, *arguments):
    """What `read` returns; anything a damaged folder raises becomes a ValueError that names run and
    part.
    """
    try:
        return read(*arguments)
    except UNREADABLE as error:
        raise ValueError(
            f"The {what} of run “{run}” cannot be read ({type(error).__name__}: {error})"
        ) from error


@st.cache_data(max_entries=16, show_spinner=False)
def _finished(folder: str, key: tuple) -> dict:
    try:
        return dict(json.loads((Path(folder) / paths.FINISHED).read_text(encoding="utf-8")))
    except UNREADABLE:
        return {}


def finished(run: str) -> dict:
    """What the run's finished.json says; {} when there is none or it is damaged."""
    return _finished(str(store.run_folder(run)), stamp(run))


@st.cache_data(max_entries=16, show_spinner=False)
def _learning(run: str, key: tuple) -> list[dict]:
    return metrics.learning(run)


def learning(run: str) -> list[dict]:
    """WER on held-out speech over training audio, hours, through all stages of the run; [] where
    nothing was noted.
    """
    return guard(run, "curve of training", _learning, run, stamp(run))


def default_split(run: str) -> str:
    """The split to see first: what finished.json or the recipe says, else short strings of words;
    "" without any.
    """
    said = finished(run).get("default_split")
    if not said:
        try:
            said = store.recipe(run).evaluation.get("default_split")
        except UNREADABLE:
            said = ""
    if said:
        return str(said)
    try:
        return next((report.split for report in reports(run) if "strings" in report.split), "")
    except ValueError:
        return ""


def chunks_ms(run: str) -> tuple[int, ...]:
    """The chunks, in ms, that the run's recipe trains it on; () where it does not say."""
    try:
        return tuple(int(ms) for ms in store.recipe(run).training.get("chunks_ms", ()) if ms)
    except UNREADABLE:
        return ()


# --- what a run is made of


@st.cache_resource(max_entries=16, show_spinner=False)
def _anatomy(run: str, key: tuple) -> ModelSpec:
    return store.spec(run)


def spec(run: str) -> ModelSpec:
    """The run's ModelSpec. ValueError when units.json is missing or damaged."""
    return guard(run, "list of layers", _anatomy, run, stamp(run))


@st.cache_resource(max_entries=16, show_spinner=False)
def _subnets(run: str, key: tuple) -> dict[str, Subnet]:
    return {subnet.name: subnet for subnet in store.subnets(run)}


def subnets(run: str) -> dict[str, Subnet]:
    """{name: Subnet} of all stored sizes."""
    return guard(run, "list of sizes", _subnets, run, stamp(run))


def _count(read: Callable[[str], Sized], run: str) -> int:
    """How many of a run's things there are; 0 when they cannot be read."""
    try:
        return len(read(run))
    except ValueError:
        return 0


def subnet_names(run: str) -> list[str]:
    """Names of the stored sizes, densest first; [] when they cannot be read."""
    try:
        return [s.name for s in sorted(subnets(run).values(), key=lambda s: (s.sparsity, s.name))]
    except ValueError:
        return []


def subnet(run: str, name: str) -> Subnet:
    """One stored size. ValueError lists the others."""
    known = subnets(run)
    if name not in known:
        raise ValueError(
            f"Run “{run}” has no size “{name}”; it has {', '.join(sorted(known)[:8])}."
        )
    return known[name]


@st.cache_resource(max_entries=6, show_spinner=False)
def _ranks(run: str, step: int | None, key: tuple) -> dict[str, np.ndarray]:
    return packing.ranks(run) if step is None else store.ranks(run, step)


def ranks(run: str, step: int | None = None) -> dict[str, np.ndarray]:
    """{unit: uint32 [R/b, C]} block ranks, of the finished net or of a training step. Shared: do
    not write to it.
    """
    return guard(run, "masks", _ranks, run, step, stamp(run))


def rank_steps(run: str) -> list[int]:
    """Training steps whose masks were kept; [] when there are none."""
    try:
        return sorted(store.rank_steps(run))
    except UNREADABLE:
        return []


def mask(run: str, chosen: Subnet, unit_name: str, step: int | None = None) -> np.ndarray:
    """bool [R/b, C]: which blocks of one matrix are kept."""
    units = {unit.name: unit for unit in spec(run).units}
    block_ranks = ranks(run, step)
    if unit_name not in block_ranks or unit_name not in units:
        raise ValueError(f"Run “{run}” keeps no mask of “{unit_name}”.")
    return block_ranks[unit_name] < cost.blocks_kept(
        units[unit_name], chosen.keep.get(unit_name, 1.0)
    )


# --- measurements


@st.cache_resource(max_entries=32, show_spinner=False)
def _reports(run: str, key: tuple) -> list[Report]:
    return list(store.reports(run))


def reports(run: str) -> list[Report]:
    """All Reports of the run. ValueError when one of them is damaged."""
    return guard(run, "measurements", _reports, run, stamp(run))


# --- files


def packed(run: str, chosen: Subnet) -> bytes:
    """The very file a user downloads, made now. ValueError when weights or masks cannot be read."""
    return guard(run, "weights", packing.pack, store.run_folder(run), chosen)
