"""Runs on disk: written aside and renamed, marker last; read as records, with errors that say what
is broken.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from core import paths
from core.common import reading
from core.common.writing import write_json, write_lines
from core.records import ModelSpec, Recipe, Report, Subnet, as_dict
from core.registry.plugins import check_name
from core.storage import checksums, run_files

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # run ids and subnet names become file names


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """One line of the list of runs. A damaged run is listed, not finished, with the reason in
    `broken`.
    """

    id: str
    folder: Path
    released: bool
    finished: bool
    title: str
    method: str
    recipe: Recipe | None
    broken: str = ""


def finish(run: str | Path, data: dict[str, Any]) -> None:
    """Write the marker that makes a run count as finished; nothing is written after it but reports
    and subnets.
    """
    folder = folder_of(run)
    write_json(
        folder / paths.FINISHED,
        checksums.sealed(data | {checksums.FILES: checksums.of_folder(folder)}),
    )


def save_subnet(run: str | Path, subnet: Subnet) -> None:
    """Store a size. Reports of another one of the same name no longer count: they measured another
    file.
    """
    _check_safe(subnet.name, "subnet name")
    known = {p.stem: p for p in files(run, paths.SUBNETS, "*.json")}
    if subnet.name in known and run_files.record(Subnet, known[subnet.name]) == subnet:
        return
    local, shipped = own_part(run), paths.subnet_file(folder_of(run), subnet.name)
    for path in [
        p
        for p in (local / paths.REPORTS).glob("*.json")
        if run_files.record(Report, p).subnet == subnet.name
    ]:
        path.unlink(missing_ok=True)
        path.with_suffix(".jsonl.zst").unlink(missing_ok=True)
    if (
        local != folder_of(run)
        and shipped.is_file()
        and run_files.record(Subnet, shipped) == subnet
    ):  # as it shipped, again
        paths.subnet_file(local, subnet.name).unlink()
    else:
        write_json(paths.subnet_file(local, subnet.name), checksums.sealed(as_dict(subnet)))


def save_report(run: str | Path, report: Report, rows: list[dict[str, Any]]) -> None:
    """A report and its hypotheses, one row per utterance; the report is the marker and comes
    last.
    """
    folder = own_part(run)
    _check_safe(report.subnet, "subnet name")
    where = (folder, *paths.report_key(report))
    if not paths.RUN_FILE.fullmatch(
        name := paths.report_file(*where).relative_to(folder).as_posix()
    ):
        raise ValueError(
            f"a report of the split {report.split!r} by the decoder {report.decoder!r} would be"
            f" called {name!r}: use other names, without / and \\"
        )
    write_lines(paths.hypotheses_file(*where), rows)
    write_json(paths.report_file(*where), checksums.sealed(as_dict(report)))


def runs() -> list[RunInfo]:
    """The released runs, then the runs of this machine, each by name."""
    released = [p for p in _folders(paths.RELEASED) if (p / paths.RECIPE).is_file()]
    known = {p.name for p in released}
    local = [p for p in _folders(paths.runs()) if p.name not in known]
    return [_info(p, True) for p in released] + [_info(p, False) for p in local]


def run_folder(run_id: str) -> Path:
    """The folder of a run; ValueError names runs of near names."""
    if SAFE.fullmatch(str(run_id)):
        for path in (paths.RELEASED / run_id, paths.runs() / run_id):
            if path.is_dir() and (path.parent != paths.RELEASED or (path / paths.RECIPE).is_file()):
                return path
    check_name(run_id, [r.id for r in runs()], "run", "python -m core list")
    raise ValueError(f"the run {run_id!r} went away while it was looked up")


def folder_of(run: str | Path) -> Path:
    """Functions here take a run's id or its folder as a Path."""
    return run if isinstance(run, Path) else run_folder(run)


def own_part(run: str | Path) -> Path:
    """Where sizes and reports are added: the run's folder; of a released run, which stays as it
    shipped, a folder of this
    machine for exactly its weights. Readers see both; a size changed here hides what shipped under
    its name.
    """
    folder = folder_of(run)
    if folder.parent != paths.RELEASED:
        return folder
    try:
        weights = ranks_sha256(folder)[:8]
    except ValueError:
        weights = "damaged"
    return paths.added() / f"{folder.name}-{weights}"


@functools.lru_cache(maxsize=64)
def _sha256_of(path: Path, *_: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(run: str | Path, part: str, pattern: str, local: bool = True) -> list[Path]:
    """Files of a run's subnets/ or reports/ by name, shipped ones hidden by own ones."""
    folder, added = folder_of(run), own_part(run)
    files_by_name = {p.name: p for p in (folder / part).glob(pattern)}
    if local and added != folder:
        changed = (
            {p.stem for p in (added / paths.SUBNETS).glob("*.json")}
            if part == paths.REPORTS
            else set()
        )
        changed = {n for n in changed if paths.subnet_file(folder, n).is_file()}
        for report in (folder / paths.REPORTS).glob("*.json") if changed else ():
            if run_files.record(Report, report).subnet in changed:
                files_by_name.pop(pattern.replace("*.json", report.stem + ".json"), None)
        files_by_name |= {p.name: p for p in (added / part).glob(pattern)}
    return [files_by_name[name] for name in sorted(files_by_name)]


def _folders(parent: Path) -> list[Path]:
    return (
        sorted(p for p in parent.iterdir() if p.is_dir() and SAFE.fullmatch(p.name))
        if parent.is_dir()
        else []
    )


def _info(folder: Path, released: bool) -> RunInfo:
    try:
        stored = recipe(folder)
    except ValueError as error:
        return RunInfo(folder.name, folder, released, False, "", "", None, str(error))
    broken, finished = "", (folder / paths.FINISHED).exists()
    if finished:
        try:
            run_files.read_json(folder / paths.FINISHED)
            spec(folder)
        except ValueError as error:
            broken, finished = str(error), False
    title = stored.title or folder.name
    return RunInfo(
        folder.name, folder, released, finished, title, stored.method.name, stored, broken
    )


def recipe(run: str | Path) -> Recipe:
    return run_files.record(Recipe, folder_of(run) / paths.RECIPE)


def spec(run: str | Path) -> ModelSpec:
    return run_files.record(ModelSpec, folder_of(run) / paths.UNITS)


def subnets(run: str | Path, added: bool = True) -> list[Subnet]:
    """Every stored size of the run, dense first; `added` False: of a released run what ships."""
    subnets_read = [run_files.record(Subnet, p) for p in files(run, paths.SUBNETS, "*.json", added)]
    return sorted(subnets_read, key=lambda s: (s.sparsity, s.name))


def some_subnets(run: str | Path) -> list[Subnet]:
    """The same; ValueError where there are none, as of a stage before other trainings."""
    if known := subnets(run):
        return known
    raise ValueError(f"run {folder_of(run).name!r} has no sizes (yet): they come when it ends")


def subnet(run: str | Path, name: str) -> Subnet:
    """One size by name; ValueError lists the stored ones."""
    known = {p.stem: p for p in files(run, paths.SUBNETS, "*.json")}
    check_name(name, sorted(known), f"subnet in run {folder_of(run).name}")
    return run_files.record(Subnet, known[name])


def reports(run: str | Path, added: bool = True) -> list[Report]:
    """Every measurement of the run; `added` False: of a released run only those that ship."""
    reports_read = [run_files.record(Report, p) for p in files(run, paths.REPORTS, "*.json", added)]
    return sorted(reports_read, key=lambda r: (r.split, r.chunk_ms, r.sparsity, r.subnet))


def hypotheses(
    run: str | Path,
    subnet: str,
    split: str,
    chunk_ms: float,
    decoder: str = "greedy",
    language_model: str = "none",
    engine: str = "",
) -> list[dict[str, Any]]:
    """Rows {"id", "hypothesis", "insertions", "deletions", "substitutions", "words"} of one
    report.
    """
    where = (subnet, split, chunk_ms, decoder, language_model, engine)
    path = paths.hypotheses_file(own_part(run), *where)
    path = next((p for p in files(run, paths.REPORTS, "*.jsonl.zst") if p.name == path.name), path)
    try:
        stream = zstandard.ZstdDecompressor().decompressobj()
        text = stream.decompress(run_files.read(path)).decode()
        if not stream.eof:
            raise ValueError("it is cut off")
        return [json.loads(line) for line in reading.lines(text)]
    except run_files.FileProblem:
        raise
    except (zstandard.ZstdError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; evaluate this subnet again") from None


def rank_steps(run: str | Path) -> list[int]:
    """Training steps whose ranks were kept, ascending; the final ranks are not among them."""
    names = (
        p.stem.removeprefix("step-")
        for p in (folder_of(run) / paths.RANKS).glob("step-*.safetensors")
    )
    return sorted(int(n) for n in names if n.isdigit())


def ranks(run: str | Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Block ranks {unit: uint32 [R / b, C]}; a block is kept when its rank < cost.blocks_kept(unit,
    keep).
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = paths.ranks_file(folder_of(run), step)
    try:
        return load(run_files.read(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def ranks_sha256(run: str | Path) -> str:
    """Of the file of final ranks, also where a release leaves it out."""
    folder = folder_of(run)
    if ranks_left_out(folder):
        digest = run_files.read_json(path := paths.left_out_file(folder)).get("ranks_sha256")
        if not re.fullmatch("[0-9a-f]{64}", str(digest)):
            raise ValueError(
                f"{path} is damaged: expected 64 hexadecimal digits as ranks_sha256, got {digest!r}"
            )
        return str(digest)
    path = paths.ranks_file(folder)
    try:
        status = path.stat()
        sha256 = _sha256_of(path, status.st_mtime_ns, status.st_size)
        checksums.check_digest(path, sha256)
        return sha256
    except OSError as error:
        raise run_files.FileProblem(f"{path} cannot be read: {error.strerror}") from None


def ranks_left_out(run: str | Path) -> bool:
    """Whether the weights tell the final ranks, which a release left out."""
    folder = folder_of(run)
    return not paths.ranks_file(folder).is_file() and paths.left_out_file(folder).is_file()


def _check_safe(name: str, what: str) -> None:
    if not SAFE.fullmatch(name):
        rule = "letters, digits and . _ + - only, and not begin with a sign"
        raise ValueError(f"the {what} {name!r} must be {rule}")
