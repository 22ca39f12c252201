"""SHA-256 of the files of a run, in its finished.json, compared whenever one is read; records
that carry a checksum of their own, and the checksum beside an exported file.

What is written once lies in finished.json under "files". Sizes and reports come later and are
measured anew: their JSON carries its own checksum, compressed rows that of their frame. Runs of
earlier versions carry none of these and are read as before.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import zstandard

from core import paths
from core.common.writing import plain, write_bytes

SHA256SUM = re.compile(rb"([0-9a-fA-F]{64})(?:\s|$)")
FILES, OWN = "files", "checksum"
# The beginnings of names that are not listed; the card is for people, who may write in it.
LEFT_OUT = (paths.CHECKPOINT, paths.TENSORBOARD, paths.FINISHED, paths.CARD)


def of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """Without the whole file in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path) -> dict[str, str]:
    """{name: SHA-256} of the files of a run that are there when it is finished."""
    names = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: of_file(path)
        for name, path in names.items()
        if not name.startswith(LEFT_OUT) and ".tmp-" not in name
    }


# records


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum of everything else in it."""
    bare = {name: value for name, value in record.items() if name != OWN}
    return bare | {OWN: _of_record(bare)}


def opened(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record without its checksum; ValueError when that is another one. A record without one is
    taken as it is.
    """
    digest = record.pop(OWN, None)
    if digest is not None and digest != _of_record(record):
        raise ValueError(damaged(path, "what it holds is not what its own checksum says"))
    return record


def _of_record(record: dict[str, Any]) -> str:
    as_read = json.loads(json.dumps(record, default=plain))  # keys as text, tuples as lists
    return of(json.dumps(as_read, sort_keys=True).encode())


# exported files


def write_beside(path: Path, data: bytes) -> None:
    """The checksum of an exported file, in a file of its own that goes with it."""
    write_bytes(paths.checksum_file(path), f"{of(data)}  {path.name}\n".encode())


def check_beside(path: Path, data: bytes) -> None:
    """ValueError when the checksum file beside an exported file names other content. None is there
    when the file was downloaded, or taken without it.
    """
    beside = paths.checksum_file(path)
    if not beside.is_file():
        return
    line = SHA256SUM.match(beside.read_bytes())
    if line is None:
        raise ValueError(
            f"{beside}: expected '<SHA-256>  {path.name}' as sha256sum writes it, got something"
            f" else: export the subnet again, or remove {beside.name} to do without a check"
        )
    if line[1].decode().lower() != of(data):
        raise ValueError(
            f"{path} is damaged (its SHA-256 begins with {of(data)[:8]}, and {beside.name} says"
            f" {line[1][:8].decode()}): copy it again from where it was exported"
        )


# files of a run


def check(path: Path, data: bytes) -> None:
    """ValueError when a run's finished.json names other content of this file."""
    if listed(path) and not _carries_its_own(path, data):
        check_digest(path, of(data))


def check_digest(path: Path, digest: str) -> None:
    wanted = listed(path)
    if wanted and digest != wanted:
        raise ValueError(
            damaged(
                path,
                f"its SHA-256 begins with {digest[:8]}, and {paths.FINISHED} says {wanted[:8]}",
            )
        )


def listed(path: Path) -> str:
    """The SHA-256 that its run's finished.json names for a file, "" where there is none."""
    for folder in (path.parent, path.parent.parent):
        try:
            status = (folder / paths.FINISHED).stat()
        except OSError:
            continue
        name = path.relative_to(folder).as_posix()
        return (
            ""
            if name == paths.FINISHED
            else _files(folder / paths.FINISHED, status.st_mtime_ns, status.st_size).get(name, "")
        )
    return ""


@functools.lru_cache(maxsize=256)
def _files(marker: Path, *_: int) -> dict[str, str]:
    try:
        files = opened(json.loads(marker.read_bytes()), marker).get(FILES, {})
        return {str(name): str(sha256) for name, sha256 in files.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{marker} is damaged, so the run's other files cannot be checked: {error}"
        ) from None


def _carries_its_own(path: Path, data: bytes) -> bool:
    """A size or a report that was stored anew since the run was finished."""
    if path.parent.name not in (paths.SUBNETS, paths.REPORTS):
        return False
    if path.suffix == ".zst":
        try:
            return zstandard.get_frame_parameters(data).has_checksum
        except zstandard.ZstdError:
            return False
    return f'"{OWN}"'.encode() in data


def damaged(path: Path, why: str) -> str:
    """One sentence for people: what is wrong with a run's file, and what to do."""
    run = (
        path.parent
        if path.parent.name not in (paths.SUBNETS, paths.REPORTS, paths.RANKS)
        else path.parent.parent
    )
    if run.parent == paths.RELEASED:
        return (
            f"{path} is damaged ({why}): put the file back as it was released, e.g. with `git"
            f" checkout -- {path}`"
        )
    return (
        f"{path} is damaged ({why}): put a whole copy of it in its place, e.g. with `python -m core"
        f" fetch {run.name}` where the run is stored, or train it again"
    )
