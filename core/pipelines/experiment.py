"""From a Recipe to a finished run: the only file that knows all rooms."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from core import cost, paths, records
from core.common import writing
from core.corpora import base as corpora_base
from core.data import prepare as prepare_room
from core.data.prepared import Prepared
from core.evaluation import evaluate as evaluation, provenance
from core.evaluation.fitness import Fitness, HeldOut
from core.methods import base as methods_base
from core.pipelines import build as building
from core.records import Recipe, Subnet, as_dict
from core.registry import plugins, recipes
from core.search import allocation, evolution as searching, ladders
from core.sparsity import blocks
from core.speech import features, normalizer as text
from core.storage import packing, remote as storage, store
from core.training import checkpoints
from core.training.distributed import Group
from core.training.options import Options as TrainingOptions, training_batches
from core.training.trainer import Listen, Report, Trainer

ORIGINS = {"search": "searched", "random": "random search"}  # of sizes, by how they are found
LADDER = (
    0.0,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.55,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.85,
    0.9,
)  # uniform sizes listed for a nested run


def prepare(recipe: Recipe, report: Report) -> Path:
    """Features, tokens and lists of the recipe's speech, made once."""

    def tell(done: float, total: float, text: str) -> None:
        if not report(done / max(1, total), text, None):
            raise records.Interrupted(
                "stopped while speech was made ready; what was not finished is made again"
            )

    return prepare_room.prepare(recipe, progress=tell)


def identify(
    recipe: Recipe, report: Report, prepared: Prepared | None = None
) -> tuple[Recipe, Prepared, str]:
    """The recipe as it is built, its speech (made ready if need be, unless it is given), and the id
    of its run.
    """
    prepared = prepared or prepared_now(recipe, report)
    recipe = building.resolve(recipe, prepared.tokenizer.size)
    return recipe, prepared, recipes.recipe_id(recipe, prepared.hash, building.versions(recipe))


def train(
    recipe: Recipe, report: Report, resume: str | None = None, group: Group | None = None
) -> Path:
    """Train to the end, continuing from a checkpoint if the same run has one -> run folder. A
    finished run is returned as it is.

    `group`: the processes that share every batch; the run is the one that a single process makes of
    the recipe, up to rounding.
    Raises Interrupted when `report` says stop or on SIGTERM; the checkpoint is then on disk.
    """
    if resume:
        recipe = store.recipe(
            resume
        )  # --resume RUN: this very run or an error, never another one from the start
    options = plugins.make_options(TrainingOptions, recipe.training, "training")
    building.check(recipe, building.vocabulary(recipe))
    recipe, prepared, run_id = _together(group, lambda: identify(recipe, report))
    together = group and recipes.recipe_id(recipe, prepared.content, building.versions(recipe))
    if group is not None:
        run_id = group.one_name(run_id, together)
    if resume not in (None, run_id):
        raise ValueError(
            f"the run {resume} cannot be continued: since it began its speech or a plug-in has"
            " changed, or $SPEECH_ROOT names other speech; to train it anew: python -m core train"
            f" {store.run_folder(resume) / paths.RECIPE}"
        )
    folder = paths.runs() / run_id
    if resume and not (folder / paths.RECIPE).is_file():
        raise ValueError(
            f"the run {resume} was not trained on this machine: there is no checkpoint to go on"
            f" from; a further stage begins with --set init_from={resume}"
        )
    if _together(group, (folder / paths.FINISHED).exists, first=True):
        return folder
    getattr(report, "belongs_to", lambda _: None)(
        run_id
    )  # the queue's report tells the pages whose curves to draw
    model, method = building.build(recipe, prepared.tokenizer.size, options.updates)
    _together(
        group,
        lambda: (
            (group is None or group.keeps)
            and _begin(folder, recipe, prepared, method.anatomy, together)
        ),
    )
    # of a group, lost processes are begun again while they may still be ending
    with (
        contextlib.nullcontext()
        if group and not group.keeps
        else checkpoints.held(folder, 300.0 if group else 20.0)
    ):
        if _together(
            group, (folder / paths.FINISHED).exists, first=True
        ):  # another process was just ready
            return folder
        batches = training_batches(
            prepared, options, recipe.seed, (group.rank, group.size) if group else (0, 1)
        )
        listener = (
            _listener(prepared, options, recipe, method)
            if group is None or group.rank == 0
            else None
        )
        trainer = Trainer(model, method, batches, options, recipe.seed, folder, listener, group)
        if not trainer.resume() and recipe.init_from:
            building.start_from(model, recipe, (prepared.folder / paths.TOKENS).read_text())
            trainer.restart_average()
        with open(folder / paths.LOG if trainer.keeps else os.devnull, "a", buffering=1) as log:

            def tell(progress: float, text: str, left: float | None) -> bool:
                log.write(text + "\n")
                return report(progress, text, left)

            try:
                trainer.run(tell)
            finally:
                if trainer.board:  # its last rows wait in a thread that ends with the process
                    trainer.board.close()
        facts = _together(
            group, lambda: _facts(trainer, recipe, prepared), first=True
        )  # every disk has the same run
        _together(group, lambda: trainer.keeps and _finish(trainer, folder, recipe, facts))
    if os.environ.get(storage.VARIABLE) and (group is None or group.rank == 0):
        try:
            storage.push(folder)
        except ValueError as error:
            raise ValueError(
                f"the run {folder.name} is finished and on this disk, but not stored: {error}. To"
                f" store it: python -m core store {folder.name}"
            ) from error
    return folder


def _together(group: Group | None, work: Callable[[], Any], first: bool = False) -> Any:
    """work() here; in a group once a disk before the others come, or with `first` what process 0
    finds.
    """
    if group is None:
        return work()
    return group.of_first(work()) if first else group.once_a_disk(work)


def _listener(
    prepared: Prepared, options: TrainingOptions, recipe: Recipe, method: methods_base.Method
) -> Listen | None:
    """Word errors for the curves, on the speech held out for searches; none where a corpus holds
    nothing out.
    """
    if not options.wer_every or not prepared.info["splits"].get("search", {}).get("utterances"):
        return None
    chunk = method.model.chunk_frames(building.evaluation_options(recipe).chunk_ms)
    held_out = HeldOut(prepared, ["search"], options.wer_seconds, chunk, recipe.seed)
    return lambda *given, **named: {
        c: e.rate for c, e in held_out.edits(*given, **named).items() if c
    }


def _begin(
    folder: Path, recipe: Recipe, prepared: Prepared, anatomy: records.Anatomy, together: str | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if together:
        writing.write_bytes(folder / paths.TOGETHER, together.encode())
    writing.write_json(folder / paths.RECIPE, as_dict(recipe))
    writing.write_json(folder / paths.UNITS, as_dict(anatomy))
    for name in (paths.TOKENS, paths.BPE, paths.FEATURE_STATISTICS):
        if (prepared.folder / name).exists():
            shutil.copyfile(prepared.folder / name, folder / name)


def _facts(trainer: Trainer, recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    return {
        "seconds": trainer.seconds_spent,
        "audio_hours": trainer.seconds_heard / 3600,
        "updates": trainer.step,
        "threads": trainer.o.threads,
        "device": trainer.device,
        "precision": "bf16" if trainer.bf16 else "fp32",
        "hardware": provenance.hardware(trainer.device),
        "versions": building.versions(recipe),
        "prepared": prepared.hash,
        "attributions": prepared.info["attributions"],
        "code_version": provenance.code_version(),
    }


def _finish(trainer: Trainer, folder: Path, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Weights as fp16, ranks from those very weights, sizes, marker."""
    half = {n: t.half().cpu().contiguous() for n, t in trainer.averaged.items()}
    trainer.averaged = {
        n: t.float() for n, t in half.items()
    }  # ranks must order the weights that ship
    results = trainer.write_ranks(None)
    if (
        not trainer.method.nested and results.subnets
    ):  # only one size was trained: what it prunes is not kept
        masks = blocks.block_masks(results.ranks, trainer.method.anatomy, results.subnets[0].keep)
        half = blocks.masked(half, {n: m.cpu() for n, m in masks.items()})
    writing.write_bytes(folder / paths.WEIGHTS, safetensors.torch.save(half))
    sha = store.ranks_sha256(folder)
    anatomy = trainer.method.anatomy
    for subnet in _sizes(trainer.method, results.subnets, recipe):
        store.save_subnet(
            folder,
            replace(subnet, run=folder.name, pattern=cost.pattern_of(anatomy), ranks_sha256=sha),
        )
    chosen = {s.name: s for s in results.subnets}
    tmacs = methods_base.training_tmacs(
        trainer.method, facts["updates"], facts["audio_hours"], chosen
    )
    store.finish(folder, facts | {"training_tmacs": tmacs})
    checkpoints.remove(folder)


def _sizes(method: methods_base.Method, own: list[Subnet], recipe: Recipe) -> list[Subnet]:
    """The sizes that are stored of a run: the method's own, and uniform ones where any sparsity may
    be chosen.
    """
    uniform = (
        [_uniform(method.anatomy, s) for s in LADDER if s <= sparsest(recipe)]
        if method.nested
        else []
    )
    return own + (uniform or ([] if own else [_uniform(method.anatomy, 0.0)]))


def size_names(recipe: Recipe, vocabulary: int) -> list[str]:
    """Names of the sizes that a training of this resolved recipe will store."""
    model, method = building.build(recipe, vocabulary, 1)
    return [
        s.name
        for s in _sizes(method, method.results(dict(model.named_parameters())).subnets, recipe)
    ]


def _uniform(anatomy, sparsity: float) -> Subnet:
    keep = cost.uniform(anatomy, sparsity)
    name = "dense" if sparsity == 0 else f"u{100 * sparsity:.0f}"
    return Subnet(name, "", keep, cost.sparsity_reached(anatomy, keep))


def sparsest(recipe: Recipe) -> float:
    """The sparsest size a method says it trains, by an option of that name; 1 where it has none.
    Nothing sparser is listed.
    """
    room = plugins.load("methods", recipe.method.name)
    return getattr(
        plugins.make_options(room.Options, recipe.method.options, "method"), "sparsest", 1.0
    )


# after training


def search_options(recipe: Recipe) -> searching.Options:
    """How its sizes are searched. ValueError where there is nothing to search, and for sizes that
    it would not train.
    """
    if not plugins.load("methods", recipe.method.name).Method.nested:
        raise ValueError(
            f"the method {recipe.method.name} trains for the sizes that it stores; there is nothing"
            " to search"
        )
    options = plugins.make_options(searching.Options, recipe.search, "search")
    if not options.sparsities:
        raise ValueError(
            "search.sparsities is empty: give at least one share of zeros from 0 to 0.999, e.g."
            " [0.7]"
        )
    if max(options.sparsities) > sparsest(recipe):
        raise ValueError(
            f"search.sparsities goes to {max(options.sparsities):g}; the run was trained to"
            f" {sparsest(recipe):g} (method.sparsest): a sparser size would be a guess"
        )
    return options


def search(
    run_id: str,
    report: Report,
    spread: Callable[[Fitness], Callable] | None = None,
    methods: Sequence[str] = ("search", "random"),
) -> list[Subnet]:
    """Search the run's ladder of sizes and store it beside uniform, global-magnitude and
    random-search ones of the same bytes.
    A ladder that shipped with a released run is not searched again. `spread` of the fitness
    measures several candidates at once,
    elsewhere; `methods`: keys of ORIGINS.
    """
    folder = store.run_folder(run_id)
    recipe, anatomy, sha = store.recipe(folder), store.anatomy(folder), store.ranks_sha256(folder)
    options = search_options(recipe)
    building.check_version(run_id, "run")
    chunk_ms = building.evaluation_options(recipe).chunk_ms
    fitness = Fitness(
        folder,
        prepared_of(folder, recipe, report),
        options.seconds,
        chunk_ms,
        options.threads,
        options.seed,
    )
    norms = allocation.block_norms(
        {n: t.cpu().numpy() for n, t in fitness.weights.items()}, anatomy
    )
    room = plugins.load(
        "methods", recipe.method.name
    )  # a method that trains nets without some branches says how many
    left_out = getattr(
        plugins.make_options(room.Options, recipe.method.options, "method"), "left_out", 0.0
    )
    many = spread(fitness) if spread else None
    found = allocation.baselines(anatomy, options.sparsities, norms, folder.name, sha)
    shipped = (
        {s.name: s for s in store.subnets(folder, added=False)}
        if store.own_part(folder) != folder
        else {}
    )
    for method in methods:
        names = [allocation.name_of(ORIGINS[method], s) for s in sorted(options.sparsities)]
        if all(
            n in shipped for n in names
        ):  # found again they would differ in a block and hide what was measured
            found += [shipped[n] for n in names]
            continue
        found += ladders.run_ladder(
            anatomy,
            options,
            fitness.loss,
            rerank=fitness.wer,
            norms=norms,
            progress=report,
            run=folder.name,
            ranks_sha256=sha,
            method=method,
            left_out=left_out,
            many=many,
            state_path=store.own_part(folder) / f"{method}.json",
        )
    for subnet in found:
        store.save_subnet(folder, subnet)
    return found


def evaluate(
    run_id: str,
    subnets: Sequence[str],
    splits: Sequence[str],
    report: Report,
    new: dict[str, Any] | None = None,
    chunk_ms: float | None = None,
    decoding: dict[str, Any] | None = None,
    spread: evaluation.Spread | None = None,
    again: bool = False,
) -> list[records.Report]:
    """Measure stored subnets (all when none is named) and store the Reports. `new`: a Subnet that
    is stored first; `chunk_ms` and
    `decoding` {option of evaluation: value}: instead of the recipe's; `spread`: other processes
    that listen; `again`: also what is
    measured already. What is added to a released run goes into this machine's part of it.

    ValueError for conditions that cannot be, before any speech is prepared.
    """
    folder = store.run_folder(run_id)
    recipe = store.recipe(folder)
    building.check_version(folder.name, "run")
    options = measured_so(recipe, splits, chunk_ms, decoding)
    building.check_splits(recipe, options.splits)
    if decoding:
        evaluation.opened(packing.pack(folder, store.subnets(folder)[0]), options)
    prepared = prepared_of(folder, recipe, report, options.splits)
    chosen = [store.subnet(folder, n) for n in subnets]
    if new:
        made = replace(
            records.from_dict(Subnet, new), run=folder.name, ranks_sha256=store.ranks_sha256(folder)
        )
        store.save_subnet(folder, made)
        chosen.append(made)
    return evaluation.evaluate_many(
        folder, chosen or store.subnets(folder), prepared, options, report, again, spread
    )


def measured_so(
    recipe: Recipe, splits: Sequence[str], chunk_ms: float | None, decoding: dict[str, Any] | None
) -> evaluation.Options:
    """The recipe's way to measure, changed where something else is asked for."""
    options = building.evaluation_options(recipe)
    options = replace(
        options,
        splits=list(splits) or options.splits,
        chunk_ms=options.chunk_ms if chunk_ms is None else chunk_ms,
    )
    return replace(options, **{n: v for n, v in (decoding or {}).items() if v is not None})


def prepared_of(
    folder: Path, recipe: Recipe, report: Report, splits: Sequence[str] = ()
) -> Prepared:
    """The run's speech under its own tokens and statistics, whatever stage it began from (that one
    may be elsewhere).

    What the run was trained on is taken if it is here; else only what `splits` need is made ready,
    where the corpus can say
    what that is: measuring one split must not need speech of another.
    """
    with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
        own = Prepared(
            paths.prepared() / json.loads((folder / paths.FINISHED).read_text())["prepared"]
        )
        if _still_good(own, splits):
            return own
    narrow = getattr(plugins.load("corpora", recipe.corpus.name), "narrow", corpora_base.narrow)
    corpus = replace(recipe.corpus, options=narrow(recipe.corpus.options, splits))
    return prepared_now(replace(recipe, corpus=corpus, init_from=folder.name), report)


def _still_good(prepared: Prepared, splits: Sequence[str]) -> bool:
    """Lists, features and words are made today as they were then, and the sound of the splits is
    still there.
    """
    code = {"prepare": prepare_room.VERSION}
    code |= {
        n: plugins.load("corpora", n).VERSION for n in prepared.info["versions"] if n not in code
    }
    same = (prepared.info["features"], prepared.info["normaliser"], prepared.info["versions"]) == (
        features.settings(),
        text.NORMALISER,
        code,
    )
    first = [
        rows[0].audio
        for s in splits or prepared.splits
        if s in prepared.splits
        for rows in [prepared.rows(s)]
        if rows
    ]
    return same and all(Path(audio).is_file() for audio in first)


def prepared_now(recipe: Recipe, report: Report) -> Prepared:
    return Prepared(prepare(recipe, lambda p, text, eta: report(0.0, f"prepare: {text}", eta)))
