"""From a Recipe to what it names: model, method, first weights; and what can be said against it
before any speech is prepared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch

from core import cost, paths
from core.corpora import base as corpora_base
from core.data import prepare as prepare_room
from core.decoding import decoders as decoding
from core.evaluation import evaluate as evaluation
from core.lm import languages
from core.methods import base as methods_base
from core.models.base import Model
from core.records import Recipe
from core.registry import plugins
from core.speech import tokenizer
from core.storage import packing, run_files, store
from core.training.options import Options as TrainingOptions

BLOCK = re.compile(
    r"(.*\b(?:blocks|layers|emformer_layers)\.)(\d+)(\..*)"
)  # a parameter of a numbered block, in every model


def versions(recipe: Recipe) -> dict[str, int]:
    """VERSION of every plug-in a recipe names, so that a changed behaviour gets another run id."""
    chosen = (("corpora", recipe.corpus), ("models", recipe.model), ("methods", recipe.method))
    return {f"{room}/{c.name}": plugins.load(room, c.name).VERSION for room, c in chosen}


def build(recipe: Recipe, vocabulary: int, updates: int):
    """Model and method of a resolved recipe, seeded -> (model, method)."""
    model_room, method_room = (
        plugins.load("models", recipe.model.name),
        plugins.load("methods", recipe.method.name),
    )
    torch.manual_seed(recipe.seed)
    model = model_room.build(
        plugins.make_options(model_room.Options, recipe.model.options, "model"), vocabulary
    )
    options = plugins.make_options(method_room.Options, recipe.method.options, "method")
    anatomy = cost.with_pattern(model.anatomy(), getattr(options, "pattern", "8x1"))
    return model, method_room.Method(options, model, anatomy, updates, recipe.seed)


def resolve(recipe: Recipe, vocabulary: int) -> Recipe:
    return getattr(plugins.load("methods", recipe.method.name), "resolve", methods_base.resolve)(
        recipe, vocabulary
    )


def check_version(run_id: str, field: str) -> None:
    """ValueError for a run whose model was of another version: its weights would mean something
    else now.
    """
    folder = store.run_folder(run_id)
    room = f"models/{store.recipe(folder).model.name}"
    try:
        noted = run_files.read_json(folder / paths.FINISHED).get("versions", {}).get(room)
    except (
        run_files.FileProblem
    ):  # not finished yet: what is missing then is said by name elsewhere
        return
    own = plugins.load(*room.split("/")).VERSION
    if noted not in (None, own):
        raise ValueError(
            f"{field}: run {run_id} was trained with version {noted} of core/{room}.py, and only"
            f" version {own} is here: use a run of version {own}, or the project as it was when the"
            " run was trained"
        )


def start_from(model: torch.nn.Module, recipe: Recipe, tokens: str) -> None:
    """Load the released weights of the recipe's earlier stage; ValueError when its version, tokens
    or shapes are others.

    Where the recipe asks for another kind of tokens (prepare.new_tokens), the output layers stay as
    the model was built.
    Output layers it lacks (one per size) begin as its first one; a method with blocks_of() takes
    some of its blocks.
    """
    run_id, blocks_of = (
        recipe.init_from,
        getattr(plugins.load("methods", recipe.method.name), "blocks_of", None),
    )
    folder = store.run_folder(run_id)
    check_version(run_id, "init_from")
    new_tokens = prepare_room.new_tokens(recipe)
    if not new_tokens and run_files.read(folder / paths.TOKENS).decode() != tokens:
        raise ValueError(
            f"init_from: run {run_id} was trained with other tokens; use the corpus and tokens of"
            " its recipe"
        )
    weights = {n: torch.from_numpy(t) for n, t in packing.weights(folder).items()}
    own = dict(model.named_parameters())
    if new_tokens:
        weights = {n: t for n, t in weights.items() if not n.startswith(packing.HEADS)}
        own = {n: p for n, p in own.items() if not n.startswith(packing.HEADS)}
    if blocks_of:  # for all others a deeper net is another one
        weights = _some_blocks(weights, lambda deeper: blocks_of(recipe, deeper))
    for name in [n for n in own if n.startswith(packing.HEADS) and n not in weights]:
        weights[name] = weights.get(f"{packing.HEADS}0.{name.rsplit('.', 1)[-1]}", torch.empty(0))
    wrong = [n for n in own if n not in weights or weights[n].shape != own[n].shape]
    wrong += [n for n in weights if n not in own and not n.startswith(packing.HEADS)]
    if wrong:
        raise ValueError(
            f"init_from: run {run_id} has another model; {len(wrong)} tensors differ, the first is"
            f" {wrong[0]}"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name].float())


def _some_blocks(
    weights: dict[str, torch.Tensor], chosen: Callable[[int], list[int]]
) -> dict[str, torch.Tensor]:
    """The weights of a net that has only the chosen blocks, numbered anew."""
    places = {n: m for n in weights if (m := BLOCK.match(n))}
    new = {
        old: i
        for i, old in enumerate(chosen(1 + max((int(m[2]) for m in places.values()), default=-1)))
    }
    return {
        n if n not in places else f"{places[n][1]}{new[int(places[n][2])]}{places[n][3]}": t
        for n, t in weights.items()
        if n not in places or int(places[n][2]) in new
    }


def vocabulary(recipe: Recipe) -> int:
    """The number of tokens, before any speech is prepared. ValueError where the recipe contradicts
    the run it starts from.
    """
    if recipe.init_from and not prepare_room.new_tokens(recipe):
        return prepare_room.inherited(recipe)[0]
    options = plugins.make_options(tokenizer.Options, recipe.tokens, "tokens")
    return options.vocabulary


def check(recipe: Recipe, vocabulary: int) -> None:
    """ValueError, before any speech is prepared, for sizes, chunks and decoders that the model
    cannot do, and for a run to begin from
    that is of another model or version.
    """
    training = plugins.make_options(TrainingOptions, recipe.training, "training")
    model, _ = build(resolve(recipe, vocabulary), vocabulary, training.updates)
    check_model(model, training, evaluation_options(recipe))
    check_splits(recipe, evaluation_options(recipe).splits)
    if recipe.init_from:
        start_from(
            model,
            recipe,
            run_files.read(store.run_folder(recipe.init_from) / paths.TOKENS).decode(),
        )


def check_splits(recipe: Recipe, splits: Sequence[str]) -> None:
    """ValueError for splits that the recipe's corpus has not. Where the corpus is not on this
    machine nothing is known of it yet.
    """
    try:
        known = corpora_base.make(recipe.corpus).splits() if splits else []
    except ValueError:
        return
    for split in splits:
        if (
            split not in known
        ):  # reports say "librispeech/test-clean" where the corpus says "test-clean"
            plugins.check_name(
                split.split("/", 1)[-1],
                known,
                f"split of the corpus {recipe.corpus.name} (evaluation.splits)",
            )


def check_model(model: Model, training: TrainingOptions, measured: evaluation.Options) -> None:
    """ValueError for chunks and decoders that the model cannot do, and for a language model that
    cannot be read.
    """
    if not training.chunks_ms:
        raise ValueError(
            "training.chunks_ms is empty: give at least one length of a chunk in ms, e.g. [320]"
        )
    for chunk_ms in training.chunks_ms:
        model.chunk_frames(chunk_ms, "training.chunks_ms")
    model.chunk_frames(measured.chunk_ms, "evaluation.chunk_ms")
    understood = evaluation.language(measured)
    decoding.check(model, measured.decoder or (decoding.GRAPH if understood else decoding.GREEDY))
    if understood:
        languages.check(understood)


def evaluation_options(recipe: Recipe) -> evaluation.Options:
    return plugins.make_options(evaluation.Options, recipe.evaluation, "evaluation")
