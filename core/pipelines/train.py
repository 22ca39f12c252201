"""From a recipe to a finished run, in one process or in a group of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from core import paths
from core.common import writing
from core.data.prepared import Prepared
from core.evaluation.fitness import HeldOut
from core.methods.base import Method
from core.models.base import Model
from core.pipelines import build as building, finish as finishing
from core.pipelines.resolved import ResolvedRecipe
from core.pipelines.speech import prepared_now
from core.records import ModelSpec, ProgressCallback, Recipe, as_dict
from core.registry import recipes
from core.storage import estimates, remote, speeds, store
from core.training import checkpoints
from core.training.distributed import Group
from core.training.options import training_batches
from core.training.pace import RECENT, Pace, profile
from core.training.trainer import Listen, Trainer

# s to wait for another process that has the run; of a group, lost processes are begun again while
# they may still be ending
HELD_S, HELD_GROUP_S = 20.0, 300.0


def identify(
    resolved: ResolvedRecipe, progress: ProgressCallback, prepared: Prepared | None = None
) -> tuple[ResolvedRecipe, Prepared, str]:
    """The recipe as it is built, its speech (made ready if need be, unless it is given), and the id
    of its run.
    """
    prepared = prepared or prepared_now(resolved.speech, progress)
    built = resolved.built(prepared.tokenizer.size)
    recipe = built.recipe
    return built, prepared, recipes.recipe_id(recipe, prepared.hash, building.versions(recipe))


def train(
    recipe: Recipe,
    progress: ProgressCallback,
    resume: str | None = None,
    group: Group | None = None,
    begun: Callable[[str], None] = lambda run: None,
) -> Path:
    """Train to the end, continuing from a checkpoint if the same run has one -> run folder. A
    finished run is returned as it is.

    `group`: the processes that share every batch; the run is the one that a single process makes of
    the recipe, up to rounding. `begun` is told the run's id before it is trained. Raises
    Interrupted when `progress` says stop or on SIGTERM; the checkpoint is then on disk.
    """
    if resume:  # this very run or an error, never another one from the start
        recipe = store.recipe(resume)
    resolved = ResolvedRecipe(recipe)
    building.check(resolved, resolved.speech.vocabulary())
    built, prepared, run_id = _together(group, lambda: identify(resolved, progress))
    together = ""
    if group is not None:
        versions = building.versions(built.recipe)
        together = recipes.recipe_id(built.recipe, prepared.content, versions)
        run_id = group.agree_on_name(run_id, together)
    folder = paths.runs() / run_id
    _check_resumed(resume, folder)
    if _finished(folder, group):
        return folder
    begun(run_id)
    model, method = building.build(built, prepared.tokenizer.size, resolved.training.updates)
    _together(group, lambda: _begin(folder, built.recipe, prepared, method.spec, together, group))
    with _held(folder, group):
        if not _finished(folder, group):  # another process may have been just ready
            device = "cuda" if torch.cuda.is_available() else "cpu"
            work = estimates.training_work(recipe, device)
            _train(folder, built, prepared, model, method, progress, group, work)
    if os.environ.get(remote.VARIABLE) and (group is None or group.rank == 0):
        _push(folder)
    return folder


def _together(group: Group | None, work: Callable[[], Any], first: bool = False) -> Any:
    """work() here; in a group once a disk before the others come, or with `first` what process 0
    finds.
    """
    if group is None:
        return work()
    return group.broadcast(work()) if first else group.run_once_per_disk(work)


def _finished(folder: Path, group: Group | None) -> bool:
    return bool(_together(group, (folder / paths.FINISHED).exists, first=True))


def _held(folder: Path, group: Group | None) -> contextlib.AbstractContextManager[None]:
    """The run's folder for this process alone, where it writes it."""
    if group is None:
        return checkpoints.held(folder, HELD_S)
    return checkpoints.held(folder, HELD_GROUP_S) if group.keeps else contextlib.nullcontext()


def _check_resumed(resume: str | None, folder: Path) -> None:
    """ValueError where --resume names a run that this recipe does not make, or that is not here."""
    if resume not in (None, folder.name):
        raise ValueError(
            f"the run {resume} cannot be continued: since it began its speech or a plug-in has"
            " changed, or $SPEECH_ROOT names other speech; to train it anew: python -m core train"
            f" {store.run_folder(str(resume)) / paths.RECIPE}"
        )
    if resume and not (folder / paths.RECIPE).is_file():
        raise ValueError(
            f"the run {resume} was not trained on this machine: there is no checkpoint to go on"
            f" from; a further stage begins with --set init_from={resume}"
        )


def _begin(
    folder: Path,
    recipe: Recipe,
    prepared: Prepared,
    spec: ModelSpec,
    together: str = "",
    group: Group | None = None,
) -> None:
    """The run's folder with all that is known before the first update; `together`: its id on any
    machine of a group.
    """
    if group is not None and not group.keeps:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if together:
        writing.write_bytes(folder / paths.TOGETHER, together.encode())
    writing.write_json(folder / paths.RECIPE, as_dict(recipe))
    writing.write_json(folder / paths.UNITS, as_dict(spec))
    for name in (paths.TOKENS, paths.BPE, paths.FEATURE_STATISTICS):
        if (prepared.folder / name).exists():
            shutil.copyfile(prepared.folder / name, folder / name)


def _train(
    folder: Path,
    built: ResolvedRecipe,
    prepared: Prepared,
    model: Model,
    method: Method,
    progress: ProgressCallback,
    group: Group | None,
    work: str,
) -> None:
    """All updates of a run, from its checkpoint if it has one, and what it leaves behind; `work`
    names what they are, for estimates.
    """
    options, seed = built.training, built.recipe.seed
    part = (group.rank, group.size) if group else (0, 1)
    batches = training_batches(prepared, options, seed, part)
    listener = _listener(prepared, built, method) if part[0] == 0 else None
    pace = _pace(built, prepared.tokenizer.size, work)
    trainer = Trainer(model, method, batches, options, seed, folder, listener, group, pace)
    if not trainer.resume() and built.speech.init_from:
        building.start_from(model, built, (prepared.folder / paths.TOKENS).read_text())
        trainer.restart_average()
    _run(trainer, work, progress)
    # every disk has the same run
    facts = _together(
        group, lambda: finishing.facts_of(trainer, built.recipe, prepared), first=True
    )
    if_kept = finishing.finish if trainer.keeps else lambda *_: None
    _together(group, lambda: if_kept(trainer, folder, built, facts))


def _run(trainer: Trainer, work: str, progress: ProgressCallback) -> None:
    """The updates; what they cost is remembered as `work` for estimates."""
    try:
        trainer.run(progress)
        if trainer.keeps and trainer.group is None and trainer.step >= RECENT:
            speeds.note(work, trainer.seconds_heard, trainer.seconds_spent)
    finally:
        if trainer.board:  # its last rows wait in a thread that ends with the process
            trainer.board.close()


def _pace(built: ResolvedRecipe, vocabulary: int, work: str) -> Pace:
    """What is known of the updates before the first one; their plans come from a method of its own,
    for one in training must not be asked ahead.
    """
    updates = built.training.updates
    with torch.random.fork_rng(devices=[]):
        _, method = building.build(built, vocabulary, updates)
    spent = speeds.costs(work)
    expected_s = statistics.median(spent) * built.training.batch_seconds if spent else None
    return Pace(updates, profile(method, updates), expected_s)


def _listener(prepared: Prepared, built: ResolvedRecipe, method: Method) -> Listen | None:
    """WER for the curves, on the held-out set for searches; none where a corpus holds
    nothing out.
    """
    options = built.training
    if not options.wer_every or not prepared.info["splits"].get("search", {}).get("utterances"):
        return None
    chunk = method.model.chunk_frames(built.evaluation.chunk_ms)
    held_out = HeldOut(prepared, ["search"], options.wer_seconds, chunk, built.recipe.seed)
    return lambda *given, **named: {
        c: e.rate for c, e in held_out.edits(*given, **named).items() if c
    }


def _push(folder: Path) -> None:
    try:
        remote.push(folder)
    except ValueError as error:
        raise ValueError(
            f"the run {folder.name} is finished and on this disk, but not stored: {error}. To"
            f" store it: python -m core store {folder.name}"
        ) from error
