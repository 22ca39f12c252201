"""Packed files of a run's sizes, written into a folder to be taken elsewhere: the very files that
were measured, or none.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from core import paths
from core.common import writing
from core.records import Interrupted, ProgressCallback, Report, Subnet
from core.storage import packing, store


def write(
    run: str, names: Iterable[str], folder: str | Path, progress: ProgressCallback
) -> list[str]:
    """Write these sizes of a run (all when none is named) into `folder`, "" = paths.exports ->
    "<sha256>  <file>" of each, as sha256sum
    says it. Raises Interrupted when `progress` says stop: what is there then is whole.

    ValueError, before anything is written, for a size that the run does not have; and for one that
    is another file than was measured.
    """
    source = store.run_folder(run)
    subnets, reports = _chosen(source, names), store.reports(source)
    folder = Path(folder or paths.exports(source.name)).absolute()
    done, began = list[str](), time.monotonic()
    for subnet in subnets:
        count, total = len(done), len(subnets)
        left = (time.monotonic() - began) / count * (total - count) if count else None
        if not progress(count / total, f"{subnet.name} ({count + 1} of {total})", left):
            raise Interrupted(
                f"stopped after {count} of {total} files; what is in {folder} is whole"
            )
        data = packing.pack(source, subnet)
        _as_measured(source.name, subnet.name, packing.sha256(data), reports)
        path = _written(paths.export_file(folder, subnet.name), data)
        done.append(f"{packing.sha256(data)}  {path}")
    progress(1.0, f"{len(done)} {'file is' if len(done) == 1 else 'files are'} in {folder}", 0.0)
    return done


def _chosen(source: Path, names: Iterable[str]) -> list[Subnet]:
    subnets = [store.subnet(source, name) for name in dict.fromkeys(names)] or store.subnets(source)
    if not subnets:
        raise ValueError(
            f"run {source.name!r} has no sizes (yet): they are stored when training ends"
        )
    for subnet in subnets:  # names become file names
        if not store.SAFE.fullmatch(subnet.name):
            raise ValueError(
                f"run {source.name!r} has a size called {subnet.name!r}, which is no file name"
            )
    return subnets


def _as_measured(run: str, name: str, sha256: str, reports: list[Report]) -> None:
    """ValueError when a stored report of this size measured another file: its numbers would be
    taken for this one's.
    """
    for report in reports:
        if report.subnet == name and report.file_sha256 != sha256:
            decoder = (
                f" --decoder {report.decoder.replace(' ', ' --beam ')}"
                if report.decoder != "greedy"
                else ""
            )
            model = (
                f" and the language model {report.language_model}"
                if report.language_model != "none"
                else ""
            )
            raise ValueError(
                f"{name} of run {run} is another file now (sha256 {sha256[:12]}...) than the one"
                f" measured on {report.split} ({report.file_sha256[:12]}...), so its numbers are"
                f" not this file's: evaluate it again with python -m core evaluate {run} --subnets"
                f" {name} --splits {report.split} --chunk-ms {report.chunk_ms:g}{decoder}{model}"
            )


def _written(path: Path, data: bytes) -> Path:
    """The file, written in one step, read back and opened; ValueError, and no file, when that is
    not what was written.
    """
    try:
        writing.write_bytes(path, data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(
            f"{path} cannot be written, {error.filename}: {error.strerror}; name another folder"
        ) from None
    found = store.read(path)
    if found != data:
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{path} was read back and is not what was written, so it was removed: try again, or"
            " name a folder elsewhere"
        )
    packing.unpack(found)
    return path
