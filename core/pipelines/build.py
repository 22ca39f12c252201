"""From a Recipe to what it names: model, method, first weights; and what can be said against it
before any speech is prepared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core import cost, paths
from core.corpora import base as corpora_base
from core.data.source import SpeechRecipe
from core.decoding import ctc as decoding
from core.evaluation import conditions
from core.lm import languages
from core.methods.base import Method
from core.models.base import Model
from core.pipelines import sizes
from core.pipelines.resolved import ResolvedRecipe
from core.records import ModelSpec, Recipe
from core.registry import plugins
from core.speech import tokenizer
from core.speech.frontends import base as frontends
from core.storage import packing, run_files, store
from core.training import intermediate, mmi
from core.training.options import Options as TrainingOptions, augmentation_of

BLOCK = re.compile(
    r"(.*\b(?:blocks|layers|emformer_layers)\.)(\d+)(\..*)"
)  # a parameter of a numbered block, in every model


def versions(recipe: Recipe) -> dict[str, int]:
    """VERSION of every plug-in a recipe names, so that a changed behavior gets another run id."""
    chosen = (("corpora", recipe.corpus), ("models", recipe.model), ("methods", recipe.method))
    return {f"{room}/{c.name}": plugins.load(room, c.name).VERSION for room, c in chosen}


def build(resolved: ResolvedRecipe, vocabulary: int, updates: int) -> tuple[Model, Method]:
    """Model and method of a recipe as its method builds it, seeded."""
    recipe = resolved.recipe
    torch.manual_seed(recipe.seed)
    model: Model = plugins.load("models", recipe.model.name).build(resolved.model, vocabulary)
    method = resolved.method_class
    spec = cost.with_pattern(_spec(model, recipe), method.pattern(resolved.method))
    return model, method(resolved.method, model, spec, updates, recipe.seed)


def _spec(model: Model, recipe: Recipe) -> ModelSpec:
    """The model's, with the look-ahead of the recipe's features in place of fbank's."""
    usual, of_recipe = (
        frontends.load(kind).lookahead_ms
        for kind in (frontends.USUAL, frontends.kind_of(recipe.features))
    )
    spec = model.spec()
    return replace(spec, lookahead_ms=spec.lookahead_ms - usual + of_recipe)


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
    here = plugins.load(*room.split("/")).VERSION
    if noted not in (None, here):
        raise ValueError(
            f"{field}: run {run_id} was trained with version {noted} of core/{room}.py, and only"
            f" version {here} is here: use a run of version {here}, or the project as it was when"
            " the run was trained"
        )


def start_from(model: torch.nn.Module, resolved: ResolvedRecipe, tokens: str) -> None:
    """Load the released weights of the recipe's earlier stage; ValueError when its version, tokens
    or shapes are others.

    Where the recipe asks for another kind of tokens (SpeechRecipe.new_tokens), the output layers
    stay as the model was built. Output layers it lacks (one per size) begin as its first one; a
    method with blocks_of() takes some of its blocks.
    """
    run_id = resolved.speech.init_from
    folder = store.run_folder(run_id)
    check_version(run_id, "init_from")
    resolved.speech.check_kind()
    new_tokens = resolved.speech.new_tokens()
    if not new_tokens and run_files.read(folder / paths.TOKENS).decode() != tokens:
        raise ValueError(
            f"init_from: run {run_id} was trained with other tokens; use the corpus and tokens of"
            " its recipe"
        )
    weights = {n: torch.from_numpy(t) for n, t in packing.weights(folder).items()}
    parameters = dict(model.named_parameters())
    if new_tokens:
        weights = {n: t for n, t in weights.items() if not n.startswith(packing.HEADS)}
        parameters = {n: p for n, p in parameters.items() if not n.startswith(packing.HEADS)}
    method, options = resolved.method_class, resolved.method
    weights = _some_blocks(weights, lambda deeper: method.blocks_of(options, deeper))
    _add_outputs(weights, parameters)
    _check_shapes(run_id, weights, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name].float())


def _add_outputs(weights: dict[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Output layers that the earlier stage lacks are its first one."""
    for name in [n for n in parameters if n.startswith(packing.HEADS) and n not in weights]:
        weights[name] = weights.get(f"{packing.HEADS}0.{name.rsplit('.', 1)[-1]}", torch.empty(0))


def _check_shapes(
    run_id: str, weights: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> None:
    wrong = [n for n in parameters if n not in weights or weights[n].shape != parameters[n].shape]
    wrong += [n for n in weights if n not in parameters and not n.startswith(packing.HEADS)]
    if wrong:
        raise ValueError(
            f"init_from: run {run_id} has another model; {len(wrong)} tensors differ, the first is"
            f" {wrong[0]}"
        )


def _some_blocks(
    weights: dict[str, Tensor], blocks_of: Callable[[int], list[int] | None]
) -> dict[str, Tensor]:
    """The weights of those blocks that a method starts from, numbered anew; all where it does not
    say which.
    """
    places = {n: m for n in weights if (m := BLOCK.match(n))}
    chosen = blocks_of(1 + max((int(m[2]) for m in places.values()), default=-1))
    if chosen is None:
        return weights
    new = {old: i for i, old in enumerate(chosen)}
    return {
        n if n not in places else f"{places[n][1]}{new[int(places[n][2])]}{places[n][3]}": t
        for n, t in weights.items()
        if n not in places or int(places[n][2]) in new
    }


def check(resolved: ResolvedRecipe, vocabulary: int) -> None:
    """ValueError, before any speech is prepared, for options, sizes, chunks and decoders that
    cannot be, and for a run to begin from that is of another model or version.
    """
    training, evaluation = resolved.training, resolved.evaluation
    built = resolved.built(vocabulary)
    model, method = build(built, vocabulary, training.updates)
    check_tokens(resolved, model)
    augmentation_of(training, resolved.speech.features.speeds)
    intermediate.chosen(training.intermediate, model, method.spec)
    mmi.chosen(training.mmi, model)
    check_model(model, training, evaluation)
    if evaluation.sizes:
        sizes.check(evaluation.sizes, sizes.names(method, built.sparsest), "evaluation.sizes")
    check_splits(resolved.recipe, evaluation.splits)
    if resolved.speech.init_from:
        start_from(model, built, tokens_of(resolved))


def size_names(resolved: ResolvedRecipe, vocabulary: int) -> list[str]:
    """Names of the sizes that a training of this recipe, as it is built, will store."""
    _, method = build(resolved, vocabulary, resolved.training.updates)
    return sizes.names(method, resolved.sparsest)


def tokens_of(resolved: ResolvedRecipe) -> str:
    """The tokens of the run that the recipe continues."""
    return run_files.read(store.run_folder(resolved.speech.init_from) / paths.TOKENS).decode()


def check_tokens(resolved: ResolvedRecipe, model: Model) -> None:
    """ValueError for phonemes where no decoding graph makes words of them, which are scored."""
    speech, decoder = resolved.speech, resolved.evaluation.decoder
    if _unit(speech) != "phonemes":
        return
    if decoding.GRAPH not in decoding.DECODERS[model.decoding]:
        raise ValueError(
            f"tokens are phonemes, of which a decoding graph makes words, and none reads the frames"
            f" of model {resolved.recipe.model.name!r} ({model.decoding}): set tokens.kind ="
            " 'pieces' or 'characters', or take a CTC model, e.g. conformer_ctc"
        )
    if decoder not in ("", decoding.GRAPH):
        raise ValueError(
            f"evaluation.decoder = {decoder!r} gives phonemes, not words, which are scored: set"
            f" {decoding.GRAPH!r}, or leave it empty"
        )


def _unit(speech: SpeechRecipe) -> str:
    """What the recipe's tokens are, its own or those of the run that it continues."""
    if speech.inherits():
        return tokenizer.load(store.run_folder(speech.init_from)).unit
    return speech.tokens.kind


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


def check_model(model: Model, training: TrainingOptions, measured: conditions.Options) -> None:
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
    understood = conditions.language(measured)
    usual = decoding.GRAPH if understood else decoding.GREEDY
    decoding.check(model.decoding, measured.decoder or usual, measured.beam)
    if understood:
        languages.check(understood)
