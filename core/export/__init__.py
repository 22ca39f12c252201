"""From a run's subnets to files that are taken elsewhere, in the formats of this folder (plug-ins):
those that were measured, whole or not there, with checksums beside them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from core import paths
from core.common import writing
from core.export import base
from core.records import Interrupted, ProgressCallback, Report, Subnet
from core.registry import plugins
from core.storage import checksums, packing, store

USUAL = "packed"
WEIGHTS = (".safetensors", ".onnx")


def write(
    run: str,
    names: Iterable[str],
    folder: str | Path,
    progress: ProgressCallback,
    name: str = USUAL,
    int8: bool = False,
) -> list[str]:
    """Write these subnets of a run (all when none is named) into `folder`, "" = paths.exports, in
    the format called `name` -> "<sha256>  <file>" of each file of weights, as sha256sum says it.
    Raises Interrupted when `progress` says stop: what is there then is whole.

    ValueError, before anything is written, for what check() refuses; and for a subnet that is
    another file than was measured.
    """
    source, subnets, form = _checked(run, names, name, int8)
    reports, precision = store.reports(source), base.PRECISIONS[int8]
    folder = Path(folder or paths.exports(source.name)).absolute()
    lines, files, began = [], 0, time.monotonic()
    for count, subnet in enumerate(subnets):
        total = len(subnets)
        left = (time.monotonic() - began) / count * (total - count) if count else None
        if not progress(count / total, f"{subnet.name} ({count + 1} of {total})", left):
            raise Interrupted(
                f"stopped after {count} of {total} subnets; what is in {folder} is whole"
            )
        data = packing.pack(source, subnet)
        check_measured(source.name, subnet.name, packing.sha256(data), reports)
        contents = dict(form.files(base.PackedSubnet(source, subnet, data), precision))
        files += len(contents)
        lines += _write_all(folder, contents)
    for file, content in form.run_files(source, subnets):
        files += 1
        _write(folder / file, content)
    progress(1.0, f"{files} {'file is' if files == 1 else 'files are'} in {folder}", 0.0)
    return lines


def _write_all(folder: Path, contents: dict[str, bytes]) -> list[str]:
    """All files of a subnet or, where the disk is full, none of them -> "sha256  file" of those
    with weights.
    """
    lines, written = [], list[Path]()
    try:
        for file, content in contents.items():
            _write(folder / file, content)
            written.append(folder / file)
            if Path(file).suffix in WEIGHTS:
                checksums.write_beside(folder / file, content)
                lines.append(f"{checksums.of(content)}  {folder / file}")
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
            paths.checksum_file(path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a folder that holds more
                for parent in list(path.relative_to(folder).parents)[:-1]:
                    (folder / parent).rmdir()
        raise
    return lines


def check(run: str, names: Iterable[str], name: str, int8: bool) -> None:
    """ValueError for a run, subnet or format that does not exist, a format whose packages are not
    installed or that has no int8, and a subnet that the format cannot hold (says which can).
    """
    _checked(run, names, name, int8)


def _checked(
    run: str, names: Iterable[str], name: str, int8: bool
) -> tuple[Path, list[Subnet], base.Format]:
    source, form = store.run_folder(run), check_format(name, int8)
    subnets = _chosen(source, names)
    for subnet in subnets:
        if reason := form.why_not(source, subnet):
            able = ", ".join(_able(source, subnet)) or "none"
            raise ValueError(
                f"format {name!r} cannot hold {subnet.name} of run {source.name}: {reason}; formats"
                f" that can: {able}"
            )
    return source, subnets, form


def check_format(name: str, int8: bool) -> base.Format:
    """The format, once it is known to exist, to be installed and to have this precision."""
    form = _load(name)
    if base.PRECISIONS[int8] not in form.precisions:
        able = [n for n in _installed() if base.PRECISIONS[1] in _load(n).precisions]
        raise ValueError(
            f"format {name!r} has no int8; formats that have: {', '.join(able) or 'none'}; leave"
            " out --int8"
        )
    return form


def _load(name: str) -> base.Format:
    plugins.check_name(name, plugins.names("export"), "export format")
    try:
        return plugins.load("export", name).Format()
    except ValueError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        missing = str(error.__cause__.name).partition(".")[0].replace("_", "-")
        raise ValueError(
            f"format {name!r} needs {missing}, which is not installed: pip install {missing}"
        ) from error


def _installed() -> list[str]:
    found = []
    for name in plugins.names("export"):
        try:
            _load(name)
        except ValueError:
            continue
        found.append(name)
    return found


def _able(source: Path, subnet: Subnet) -> list[str]:
    return [name for name in _installed() if not _load(name).why_not(source, subnet)]


def _chosen(source: Path, names: Iterable[str]) -> list[Subnet]:
    named = [store.subnet(source, name) for name in dict.fromkeys(names)]
    subnets = named or store.some_subnets(source)
    for subnet in subnets:  # names become file names
        if not store.SAFE.fullmatch(subnet.name):
            raise ValueError(
                f"run {source.name!r} has a subnet called {subnet.name!r}, which is no file name"
            )
    return subnets


def check_measured(run: str, name: str, sha256: str, reports: list[Report]) -> None:
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


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step and read it back. ValueError, and no file, when that is not what was
    written.
    """
    try:
        paths.checksum_file(path).unlink(missing_ok=True)  # of a file of this name from before
        writing.write_bytes(path, data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(
            f"{path} cannot be written, {error.filename}: {error.strerror}; name another folder"
        ) from None
    except PermissionError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): change the rights of the folder, or"
            " name another one"
        ) from None
    if path.read_bytes() != data:
        path.unlink()
        raise ValueError(
            f"{path} was read back and is not what was written, so it was removed: try again, or"
            " name a folder elsewhere"
        )
