"""Copies a finished run into artifacts/released/, with its chain, comparisons, model card and the
results page.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core import cost, paths
from core.common import writing
from core.records import Subnet, as_dict
from core.reports import card, chain, comparisons, results
from core.storage import packing, run_files, store

MOST_MB = 60.0  # of everything under artifacts/released/, compressed by zlib as git keeps it
FILES = (
    paths.RECIPE,
    paths.UNITS,
    paths.WEIGHTS,
    paths.METRICS,
    paths.TOKENS,
    paths.BPE,
    paths.FEATURE_STATISTICS,
)
Say = Callable[[str], None]


def release(run_id: str, name: str = "", snapshots: bool = True, say: Say = lambda _: None) -> Path:
    """Release a finished and measured run, under another name if one is given -> its folder.

    The copy is made aside and renamed, so a reader sees the old release or the new one. `snapshots`
    keeps the block
    ranks along the training. ValueError for unfinished and unmeasured runs, for weights that are
    not those measured,
    and when everything released would be larger than MOST_MB.
    """
    source, name = _source(run_id), name or run_id
    if not store.SAFE.fullmatch(name) or name == paths.SAMPLES:
        raise ValueError(
            f"--name {name}: letters, digits and . _ + - only, not beginning with a sign, not "
            f"'{paths.SAMPLES}'"
        )
    aside = writing.beside(
        paths.RELEASED / ".release"
    )  # the run's folder in it has its final name: files tell it
    try:
        _fill(source, aside / name, snapshots, say)
        _check_size(aside / name)
        _move(aside, name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _forget_shipped(paths.RELEASED / name)
    results.write()
    return paths.RELEASED / name


def _source(run_id: str) -> Path:
    """The run to release: the released one with what was measured since, unless this machine
    trained other weights.
    """
    local, released = paths.runs() / run_id, paths.RELEASED / run_id
    folder = local if (local / paths.RECIPE).is_file() else store.run_folder(run_id)
    if (released / paths.RECIPE).is_file() and (
        folder == released or store.ranks_sha256(folder) == store.ranks_sha256(released)
    ):
        folder = released
    if not (folder / paths.FINISHED).is_file():
        raise ValueError(
            f"the run {run_id} is not finished: `python -m core train --resume {run_id}` first"
        )
    if not store.reports(folder):
        raise ValueError(
            f"the run {run_id} was never measured: `python -m core evaluate {run_id} ...` first"
        )
    return folder


def _fill(source: Path, target: Path, snapshots: bool, say: Say) -> None:
    say(f"copying {source.name}")
    target.mkdir(parents=True)
    for file in FILES:
        if (source / file).is_file():
            (target / file).write_bytes(run_files.read(source / file))
    for folder, ending in (
        (paths.RANKS, "*.safetensors"),
        (paths.SUBNETS, "*.json"),
        (paths.REPORTS, "*.json"),
        (paths.REPORTS, "*.jsonl.zst"),
    ):
        for file in store.files(source, folder, ending):
            if snapshots or not file.name.startswith("step-"):
                (target / folder).mkdir(exist_ok=True)
                (target / folder / file.name).write_bytes(run_files.read(file))
    if store.ranks_left_out(source):
        paths.left_out_file(target).parent.mkdir(exist_ok=True)
        shutil.copyfile(paths.left_out_file(source), paths.left_out_file(target))
    say("checking that the weights are those that were measured")
    for subnet in store.subnets(source):
        _check_subnet(source, target, subnet)
    _lighten(target)
    stages = chain.chain(source)
    if source.name != target.name:
        stages = [*stages[:-1], {**stages[-1], "run": target.name, "trained_as": source.name}]
    writing.write_json(target / paths.CHAIN, {"stages": stages})
    say("comparing searched subnets with others of the same bytes")
    writing.write_json(target / paths.COMPARISONS, _comparisons(source, target))
    done = chain.finished(source)
    writing.write_bytes(target / paths.CARD, card.text(target, stages).encode())
    store.finish(
        target, {**done, "released_from": source.name} if source.name != target.name else done
    )


def _comparisons(source: Path, target: Path) -> dict[str, Any]:
    """Made anew; those of an earlier release stay when the speakers' names are no longer at
    hand.
    """
    # the marker, which names the prepared data, is still only in the source
    created = comparisons.compare(source)
    old = paths.RELEASED / target.name / paths.COMPARISONS
    if old.is_file():
        before = run_files.read_json(old)
        same = [
            (r["searched"], r["other"], r["split"], r["wer"], r["wer_other"])
            for r in created["rows"]
        ] == [
            (r["searched"], r["other"], r["split"], r["wer"], r["wer_other"])
            for r in before["rows"]
        ]
        if same and any(r["resampled"] == comparisons.UTTERANCES for r in created["rows"]):
            return before
    return created


def _check_subnet(source: Path, target: Path, subnet: Subnet) -> None:
    """The file of a subnet must be the one its reports measured; under a new name the same tensors
    in a new file.
    """
    reports = [r for r in store.reports(source) if r.subnet == subnet.name]
    if not reports:
        return
    data = packing.pack(source, subnet)
    sha = packing.sha256(data)
    stale = [r.split for r in reports if r.file_sha256 != sha]
    if stale:
        raise ValueError(
            f"subnet {subnet.name} of run {source.name} is not the file that was measured on "
            f"{', '.join(stale)}: evaluate it again"
        )
    if source.name == target.name:
        return
    renamed = replace(subnet, run=target.name)
    writing.write_json(paths.subnet_file(target, renamed.name), as_dict(renamed))
    new = packing.pack(target, renamed)
    _check_equal(data, new, subnet.name)
    sizes = {
        "file_bytes": len(new),
        "zstd_bytes": packing.zstd_bytes(new),
        "file_sha256": packing.sha256(new),
    }
    for report in reports:
        facts = replace(report, run=target.name, **sizes)
        writing.write_json(paths.report_file(target, *paths.report_key(facts)), as_dict(facts))


def _check_equal(old: bytes, new: bytes, name: str) -> None:
    if not _equal(packing.unpack(old)[0], packing.unpack(new)[0]):
        raise ValueError(
            f"subnet {name} would have other weights under the new name: release it under its own"
        )


def _equal(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(
        np.array_equal(some[name], others[name]) for name in some
    )


def _lighten(target: Path) -> None:
    """Leave out of a copy what its sizes do without, when every file packed from it stays the same:
    where no matrix is cut at more than one place (sizes of whole parts, an individually pruned
    model), the ranks, for the weights tell them, zeros coming last; and of an individually pruned
    model its zeros.
    """
    spec, sizes, ranks = store.spec(target), store.subnets(target), paths.ranks_file(target)
    cuts = [
        set(kept) - {0, unit.blocks}
        for unit, *kept in zip(spec.units, *(cost.counts(spec, size.keep) for size in sizes))
    ]
    if (
        not (ranks.is_file() and sizes)
        or any(len(places) > 1 for places in cuts)
        or any(unit.group for unit in spec.units)
    ):
        return
    stored = ranks.read_bytes()
    try:
        before = [packing.pack(target, size) for size in sizes]
    except (
        ValueError
    ):  # a size that nobody measured, made for other ranks: it is said where somebody asks for it
        return
    writing.write_json(paths.left_out_file(target), {"ranks_sha256": store.ranks_sha256(target)})
    ranks.unlink()
    if [packing.pack(target, size) for size in sizes] != before:
        writing.write_bytes(ranks, stored)
        paths.left_out_file(target).unlink()
    elif (
        len(sizes) == 1
        and any(cuts)
        and _equal(packing.weights(target), packing.unpack(before[0])[0])
    ):
        writing.write_bytes(target / paths.WEIGHTS, before[0])


def _check_size(fresh: Path) -> None:
    """ValueError, naming what is big, when all that is released would need more than MOST_MB in
    git.
    """
    # what this release replaces does not count, nor what other releases have aside
    files = [f for f in fresh.rglob("*") if f.is_file()]
    for kept in sorted(paths.RELEASED.iterdir()):
        if kept.name != fresh.name and not kept.name.startswith("."):
            files += [kept] if kept.is_file() else [f for f in kept.rglob("*") if f.is_file()]
    sizes = sorted(
        ((len(zlib.compress(f.read_bytes())) / 1e6, "/".join(f.parts[-3:])) for f in files),
        reverse=True,
    )
    total = sum(size for size, _ in sizes)
    if total > MOST_MB:
        big = ", ".join(f"{name} {size:.1f} MB" for size, name in sizes[:6])
        raise ValueError(
            f"artifacts/released/ would need {total:.1f} MB in git; {MOST_MB:g} are allowed. The"
            f" largest: {big}. Release fewer runs, or leave out ranks along the training:"
            " --no-snapshots"
        )


def _move(aside: Path, name: str) -> None:
    """The finished copy takes its place; a failure puts the old one back."""
    target, old = paths.RELEASED / name, aside / "old"
    if target.exists():
        target.rename(old)
    try:
        (aside / name).rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def sizes_text(folder: Path) -> str:
    """What was written, for the command line."""
    files = [f for f in folder.rglob("*") if f.is_file()]
    stages = json.loads((folder / paths.CHAIN).read_text())["stages"]
    return (
        f"{folder}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB, "
        f"{len(stages)} stage{'s' if len(stages) > 1 else ''}, {len(store.reports(folder))} reports"
    )


def _forget_shipped(folder: Path) -> None:
    """Of what was added to a released run, remove the files that ship with it by now."""
    added = store.own_part(folder)
    for part in (paths.SUBNETS, paths.REPORTS):
        for file in (added / part).glob("*"):
            shipped = folder / part / file.name
            if shipped.is_file() and shipped.read_bytes() == file.read_bytes():
                file.unlink()
