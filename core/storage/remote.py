"""Finished runs on a shared disk or in object storage, through fsspec: files that never change, and
a list of them last.

Under the storage's URL every run is a folder as it is here, without checkpoints. Each copy ends
with `stored-<digest>.json`, the lengths and SHA-256 of its files; only what such a list names is
there for a reader. Later measurements come as further files and a further list.

A storage is not trusted: whoever may write there must not write elsewhere on this machine, nor fill
it. Only files that a run may have (`paths.RUN_FILE`) are read from it, never through links, never
more than was announced, and nothing is kept that has another SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.registry.plugins import check_name
from core.storage import checksums, remote_files, run_files, store

VARIABLE = "SUPERNET_STORAGE"
RANKS, LEFT_OUT = (file(Path()).as_posix() for file in (paths.ranks_file, paths.left_out_file))


def url(given: str = "") -> str:
    """The storage that was given, or that the environment variable SUPERNET_STORAGE names;
    ValueError without either.
    """
    address = given or os.environ.get(VARIABLE, "")
    if not address:
        raise ValueError(
            "no storage is named: say where, e.g. s3://bucket/runs or file:///shared/runs, or set"
            f" {VARIABLE}"
        )
    return address.rstrip("/")


def runs(where: str = "") -> list[str]:
    """Ids of the runs that are there whole, by name."""
    with remote_files.opened(url(where)) as (system, root):
        listed = remote_files.matching(system, root, f"*/{remote_files.LIST}*.json")
        ids = {name.rsplit("/", 2)[-2] for name in listed}
        return sorted(name for name in ids if store.SAFE.fullmatch(name))


def push(run: str | Path, where: str = "") -> list[str]:
    """Copy a finished run, or what was added to it since -> names of the files copied. What is
    there is never replaced; ValueError for a
    run that is not finished, or when another one of this id is there.
    """
    folder = store.folder_of(run)
    if not (folder / paths.FINISHED).is_file():
        raise ValueError(f"run {folder.name} is not finished: only finished runs are stored")
    with remote_files.opened(url(where)) as (system, root):
        there = remote_files.listed_files(system, f"{root}/{folder.name}")
        local = {
            name: path
            for name, path in _files(folder).items()
            if name not in there or name.split("/")[0] not in (paths.REPORTS, paths.SUBNETS)
        }
        data = {name: [path.stat().st_size, _sha256(path)] for name, path in local.items()}
        other = [
            name
            for name in (paths.FINISHED, paths.WEIGHTS)
            if name in there and there[name] != data.get(name)
        ]
        if paths.FINISHED in other and _same_training(system, f"{root}/{folder.name}", folder):
            other.remove(paths.FINISHED)  # a release lists other files
        if other == [paths.WEIGHTS] and _same_ranks(system, f"{root}/{folder.name}", there, folder):
            # one of the two is a release, which holds the weights of an individually pruned model
            # without their zeros
            other = []
        if other:
            raise ValueError(
                f"another run of the id {folder.name} is in {where or url()}: its {other[0]}"
                " differs, and what is stored never changes; store this one elsewhere"
            )
        new = {name: facts for name, facts in data.items() if name not in there}
        for name in new:
            system.makedirs(f"{root}/{folder.name}/{name}".rsplit("/", 1)[0], exist_ok=True)
            system.put_file(str(local[name]), f"{root}/{folder.name}/{name}")
        if new:
            text = json.dumps(new, indent=1)
            system.pipe_file(
                f"{root}/{folder.name}/{remote_files.LIST}{hashlib.sha256(text.encode()).hexdigest()[:12]}.json",
                text.encode(),
            )
        return sorted(new)


def pull(run_id: str, where: str = "") -> Path:
    """The run among this machine's own: missing files are fetched and checked, the marker comes
    last -> its folder.

    ValueError when it is not there, or damaged: then nothing new stays. What a lost connection left
    is gone on with.
    """
    there = runs(where)
    if not there:
        with remote_files.opened(url(where)) as (system, root):
            if not system.exists(root):
                raise ValueError(
                    f"there is no storage at {url(where)}: no such folder; correct --at or"
                    f" ${VARIABLE}, or store a run there first: python -m core store RUN"
                )
    check_name(run_id, there, f"run in {url(where)}")
    folder = paths.runs() / run_id
    new = not folder.exists()
    with remote_files.opened(url(where)) as (system, root):
        listed = remote_files.listed_files(system, f"{root}/{run_id}")
        _check_links(folder, listed)
        if (folder / paths.FINISHED).is_file() and not _same_training(
            system, f"{root}/{run_id}", folder
        ):
            raise ValueError(
                f"the run {run_id} is on this machine, and it is another one than that in"
                f" {url(where)}: remove one of them"
            )
        missing = [name for name in listed if not _is_here(folder / name, name, listed)]
        _check_room(folder, sum(listed[name][0] for name in missing))
        for name in sorted(
            missing, key=lambda n: (n == paths.FINISHED, not n.endswith(".zst"), n)
        ):  # markers after what they mark
            data = remote_files.content(system, f"{root}/{run_id}/{name}", listed[name][0])
            if [len(data), hashlib.sha256(data).hexdigest()] != listed[name]:
                if new:
                    shutil.rmtree(folder, ignore_errors=True)
                raise ValueError(
                    f"{url(where)}/{run_id}/{name} is damaged: it is not the file that was stored"
                )
            writing.write_bytes(folder / name, data)
    return folder


def _is_here(target: Path, name: str, listed: dict[str, list]) -> bool:
    """Whether this machine needs nothing of that name."""
    if name == LEFT_OUT and RANKS in listed:
        return True  # of another copy of the run, which has less
    return target.is_file() and (
        name.split("/")[0] in (paths.REPORTS, paths.SUBNETS) or _facts(target) == listed[name]
    )


def _check_links(folder: Path, names: Iterable[str]) -> None:
    """ValueError when a file would be written through a link, out of the run's folder."""
    for name in names:
        for part in (folder, folder / name, *(folder / above for above in Path(name).parents)):
            if part.is_symlink():
                raise ValueError(
                    f"{part} is a link, and no file of a run is read or written through one:"
                    " replace it by what it points to"
                )


def _check_room(folder: Path, byte_count: int) -> None:
    """ValueError when `size` bytes more do not fit."""
    place = next(p for p in (folder, *folder.parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if byte_count > free:
        raise ValueError(
            f"the run {folder.name} takes {byte_count / 1e9:.1f} GB, and {free / 1e9:.1f} GB are"
            f" free in {place}: make room first"
        )


def here(run_id: str) -> Path:
    """The folder of a run, fetched first if only the storage has it; ValueError lists what
    exists.
    """
    try:
        return store.run_folder(run_id)
    except ValueError:
        if (
            not os.environ.get(VARIABLE)
            or not store.SAFE.fullmatch(str(run_id))
            or run_id not in runs()
        ):
            raise
        return pull(run_id)


def _files(folder: Path) -> dict[str, Path]:
    """{name: file} of what is copied, with what this machine added to a released run."""
    by_name = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*"))}
    for part in (paths.SUBNETS, paths.REPORTS):
        by_name |= {f"{part}/{p.name}": p for p in (store.own_part(folder) / part).glob("*")}
    files = {
        name: path
        for name, path in by_name.items()
        if paths.RUN_FILE.fullmatch(name) and path.is_file()
    }
    _check_links(folder, files)
    return files


def _same_training(system: Any, stored: str, folder: Path) -> bool:
    """Whether two copies of finished.json tell of the same training, whatever files they list."""
    both = (
        json.loads(
            remote_files.content(system, f"{stored}/{paths.FINISHED}", remote_files.MOST_LIST)
        ),
        run_files.read_json(folder / paths.FINISHED),
    )
    return (
        len(
            {
                json.dumps(
                    {n: v for n, v in side.items() if n not in (checksums.FILES, checksums.OWN)},
                    sort_keys=True,
                )
                for side in both
            }
        )
        == 1
    )


def _same_ranks(system: Any, stored: str, there: dict[str, list], folder: Path) -> bool:
    """Whether one of two copies of a run left its ranks out, and they are those of the other."""
    if LEFT_OUT not in there and not store.ranks_left_out(folder):
        return False
    facts = (
        there[RANKS][1]
        if RANKS in there
        else json.loads(
            remote_files.content(system, f"{stored}/{LEFT_OUT}", remote_files.MOST_BYTES)
        ).get("ranks_sha256")
    )
    return facts == store.ranks_sha256(folder)


def _facts(path: Path) -> list:
    return [path.stat().st_size, _sha256(path)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
