"""From a source of models to a run like any other: written aside, checked, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import safetensors.numpy
import safetensors.torch
import torch

from core import paths
from core.common import writing
from core.evaluation import provenance
from core.imports import base
from core.pipelines import build as building, finish as finishing
from core.pipelines.resolved import ResolvedRecipe
from core.records import as_dict
from core.registry import plugins
from core.sparsity import blocks
from core.storage import packing, store

ROOM = "imports"


def import_run(source: str, given: Mapping[str, str], name: str = "") -> Path:
    """The run that `source` ("torchaudio:NAME", "hub:FOLDER") becomes; `given` {one of base.FILES:
    local file}, `name`: another one than the source's.

    ValueError for an unknown source or name, files that are missing, damaged or do not fit, and a
    run of this name that is there; then nothing is stored.
    """
    kind, _, what = source.partition(":")
    known = plugins.names(ROOM)
    if not what:
        raise ValueError(f"expected SOURCE:NAME with a source of {', '.join(known)}, got {source}")
    plugins.check_name(kind, known, "import source")
    origin: base.Source = plugins.load(ROOM, kind).Source()
    files = _given(kind, origin, given)
    folder = _place(origin, origin.name(what), name)
    aside = writing.beside(folder)
    try:
        _write(aside, folder.name, origin.read(what, files))
        _check(aside)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _given(kind: str, origin: base.Source, given: Mapping[str, str]) -> dict[str, Path]:
    files = {n: Path(value) for n, value in given.items() if value}
    for name, file in files.items():
        if name not in origin.takes:
            allowed = ", ".join(f"--{n}" for n in origin.takes) or "no files"
            raise ValueError(f"source {kind} takes {allowed}, got --{name}")
        if not file.is_file():
            raise ValueError(f"--{name}: expected a file, got {file}, which is not there")
    return files


def _place(origin: base.Source, usual: str, name: str) -> Path:
    """Where the run will lie."""
    if name and name != usual and not origin.renames:
        raise ValueError(f"--name: this run is called {usual} and keeps its name, got {name}")
    chosen = name or usual
    if not store.SAFE.fullmatch(chosen):
        raise ValueError(
            f"--name: expected letters, digits and . _ + -, beginning with one of the first two,"
            f" got {chosen!r}"
        )
    for folder in (paths.RELEASED / chosen, paths.runs() / chosen):
        if folder.exists():
            other = " or give another --name" if origin.renames else ""
            raise ValueError(f"there is a run {chosen} already, {folder}: remove it{other}")
    return paths.runs() / chosen


def _write(folder: Path, run: str, imported: base.Imported) -> None:
    for name, data in imported.files.items():
        if not paths.RUN_FILE.fullmatch(name):
            raise ValueError(f"expected files of a run, got {name!r}")
        writing.write_bytes(folder / name, data)
    if imported.model:
        _write_model(folder, run, imported.model)


def _write_model(folder: Path, run: str, new: base.NewModel) -> None:
    """What a training leaves behind: weights, their ranks, sizes, the marker last."""
    resolved = ResolvedRecipe(new.recipe)
    _, method = building.build(resolved, new.vocabulary, 1)
    half = {n: torch.from_numpy(w).half() for n, w in new.weights.items()}
    results = method.results({n: w.float() for n, w in half.items()})  # ranks of what ships
    ranks = safetensors.numpy.save(blocks.to_numpy(results.ranks))
    writing.write_json(folder / paths.RECIPE, as_dict(new.recipe))
    writing.write_json(folder / paths.UNITS, as_dict(method.spec))
    writing.write_bytes(paths.ranks_file(folder), ranks)
    writing.write_bytes(folder / paths.WEIGHTS, safetensors.torch.save(half))
    finishing.store_sizes(folder, run, method, results.subnets, resolved.sparsest)
    facts = {
        "seconds": 0.0,
        "audio_hours": 0.0,  # none of it here
        "updates": 0,
        "training_tmacs": 0.0,
        "hardware": "",
        "versions": building.versions(new.recipe),
        "prepared": "",
        "code_version": provenance.code_version(),
    }
    store.finish(folder, facts | new.facts)


def _check(folder: Path) -> None:
    """ValueError where readers of runs would find something missing or damaged."""
    store.reports(folder)
    model = ResolvedRecipe(store.recipe(folder)).recipe.model
    plugins.check_name(model.name, plugins.names("models"), "model")
    packing.pack(folder, store.subnets(folder)[0])
