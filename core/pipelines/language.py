"""Language models of a recipe's or a run's speech: made of its training transcripts, their weights
chosen on its dev.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard

from core import paths
from core.common import writing
from core.data.prepared import TRAIN
from core.data.source import SpeechRecipe
from core.evaluation import conditions, tuning
from core.lm import arpa, estimation, interpolation, languages, ngrams, pruning
from core.lm.text import read_sentences, reasons
from core.pipelines.evaluate import changed
from core.pipelines.resolved import ResolvedRecipe
from core.pipelines.speech import prepared_now, prepared_of
from core.records import ProgressCallback, Recipe
from core.registry import recipes
from core.storage import packing, store

HELD_OUT = 10  # each tenth sentence tunes an interpolation's weight
FEWEST = 5  # sentences that it is tuned on


def make(
    source: Recipe | str | None,
    files: Sequence[str],
    order: int,
    progress: ProgressCallback,
    marks: Sequence[str] = (),
    prune: float = 0.0,
    least: int = 1,
    mixed_with: str = "",
    weight: float | None = None,
) -> tuple[ngrams.NGrams, str]:
    """An n-gram model of a recipe's or a run's training transcripts, of text files, or of both ->
    (model, what it was made from).

    `prune`: entropy that a dropped n-gram may cost at most (lm/pruning.py), 0 = keep all; `least`:
    words that come less often are unknown.

    `mixed_with`: a base model (an ARPA file, or "base" for the shipped one) that it is interpolated
    with, `weight` of the text against it, None = tuned on a tenth of the sentences.

    `marks` of the text files are no words, beside those of core.speech.marks. Of the speech the
    split train and no other is read. What one speaker says alike more than once (a noisy copy)
    counts once.
    """
    estimation.check_order(order)
    if prune < 0:
        raise ValueError(f"--prune: expected nats a word, 0 or more (e.g. 5e-7), got {prune:g}")
    sentences, origin = _sentences(source, files, marks, progress)
    times = Counter(word for words in sentences for word in words) if least > 1 else {}
    vocabulary = [w for w, n in times.items() if n >= least] if least > 1 else None
    if times and not vocabulary:
        raise ValueError(
            f"no word comes {least} times; the most frequent comes {max(times.values())} times:"
            " lower --least, or give more text"
        )
    counted = estimation.count(sentences, order, vocabulary)
    model = counted.model()
    if prune:
        model = pruning.prune(counted, model, prune)
    origin += f", {sum(map(len, sentences))} words"
    if mixed_with:
        base = arpa.load(languages.file_of(mixed_with))
        interpolation.check_common(model, base)
        how = "as given"
        if weight is None:
            weight, how = _weight(sentences, order, model, base)
        model = interpolation.interpolate(model, base, weight)
        origin += f"; interpolated with {mixed_with}, weight {weight:.2f} of the text ({how})"
    counts = ", ".join(str(n) for n in model.counts)
    return model, f"{origin}; n-grams by length: {counts}"


def _sentences(
    source: Recipe | str | None,
    files: Sequence[str],
    marks: Sequence[str],
    progress: ProgressCallback,
) -> tuple[list[list[str]], str]:
    """(words of each sentence, where they are from)."""
    sentences, left_out = read_sentences(files, marks)
    origins = []
    if files:
        why = f" ({reasons(left_out)})" if left_out else ""
        origins.append(f"{len(sentences)} lines of text{why}")
        if left_out and source is None and not any(sentences):
            raise ValueError(
                f"expected a text with words in a-z, got none in {', '.join(map(str, files))}:"
                f" {reasons(left_out)}; write words in a-z, a sentence a line"
            )
    if source is not None:
        prepared = (
            prepared_of(store.run_folder(source), SpeechRecipe.of(store.recipe(source)), progress)
            if isinstance(source, str)
            else prepared_now(SpeechRecipe.of(source), progress)
        )
        different = dict.fromkeys((row.speaker, row.text) for row in prepared.rows(TRAIN))
        sentences += [text.split() for _, text in different]
        origins.append(f"{len(different)} training transcripts")
    return sentences, " and ".join(origins)


def _weight(
    sentences: list[list[str]], order: int, model: ngrams.NGrams, base: ngrams.NGrams
) -> tuple[float, str]:
    """(weight of the text against the base model, how it was found): on each tenth sentence, by a
    model of the others.
    """
    held_out = sentences[::HELD_OUT]
    others = [s for i, s in enumerate(sentences) if i % HELD_OUT]
    if len(held_out) < FEWEST:
        raise ValueError(
            f"expected at least {FEWEST * HELD_OUT} sentences to tune --weight on a tenth of them,"
            f" got {len(sentences)}: give more text, or --weight, e.g. 0.5"
        )
    held_in = estimation.estimate(others, order, model.words)
    weight = interpolation.tuned(held_in, base, held_out)
    mixed, common = (
        interpolation.interpolate(held_in, base, weight),
        set(held_in.words) & set(base.words),
    )
    text, before, both = (
        interpolation.perplexity(model, held_out, common) for model in (held_in, base, mixed)
    )
    return weight, (
        f"tuned on {len(held_out)} sentences held out, whose perplexity is {text:.0f} by the text,"
        f" {before:.0f} by the base and {both:.0f} by both"
    )


def write(
    source: str,
    files: Sequence[str],
    order: int,
    out: Path | None,
    progress: ProgressCallback,
    marks: Sequence[str] = (),
    prune: float = 0.0,
    least: int = 1,
    mixed_with: str = "",
    weight: float | None = None,
) -> str:
    """What make() makes, of the recipe or run named `source` ("" = of text alone), as an ARPA file
    -> what was made. Without `out`
    it is named like its source and lies where the Transcribe page looks. A file called .zst is
    compressed, its numbers rounded to 0.01.
    """
    if not (source or files):
        raise ValueError(
            "lm: say whose training transcripts are read (a RECIPE or a run), or give --text FILE"
        )
    if out is None:
        out = (
            paths.language_models()
            / f"{Path(source or files[0]).stem if not _is_run(source) else source}.arpa"
        )
        paths.language_models().mkdir(parents=True, exist_ok=True)
    if weight is not None and not mixed_with:
        raise ValueError("--weight says how much of the text is mixed in: add --with base")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: give the name of a file in a folder that exists")
    if same := [
        file for file in files if out.exists() and Path(file).exists() and out.samefile(file)
    ]:
        raise ValueError(f"--out {out} is --text {same[0]}, which would be lost: name another file")
    named = source if _is_run(source) else recipes.load_recipe(source) if source else None
    model, origin = make(named, files, order, progress, marks, prune, least, mixed_with, weight)
    packed = out.suffix == ".zst"
    content = _readable(arpa.write(model, *([2] if packed else [])))
    writing.write_bytes(
        out, zstandard.ZstdCompressor(level=19).compress(content) if packed else content
    )
    return f"{out}: {origin}"


def _readable(content: str) -> bytes:
    """The content of an ARPA file that our own reader takes; ValueError else."""
    try:
        arpa.parse(content)
    except ValueError as error:
        raise ValueError(
            f"the model of this text cannot be read back ({error}), so nothing was written; give"
            " more text, or a lower --least, --order or --prune"
        ) from None
    return content.encode()


def _is_run(source: str) -> bool:
    return source in [r.id for r in store.runs()]


def tune(
    run_id: str,
    subnets: Sequence[str],
    splits: Sequence[str],
    progress: ProgressCallback,
    chunk_ms: float | None = None,
    decoding: dict[str, Any] | None = None,
) -> tuning.Tuning:
    """Weights of a language model chosen for one subnet (dense where none is named), on dev;
    ValueError for any other split.
    """
    tuning.check(splits)
    folder = store.run_folder(run_id)
    resolved = ResolvedRecipe(store.recipe(folder))
    if len(subnets) > 1:
        raise ValueError(
            f"--tune takes one size, but --subnets names {', '.join(subnets)}; the weights of one"
            " can be given to others"
        )
    subnet = store.subnet(folder, subnets[0]) if subnets else store.subnets(folder)[0]
    recognizer = conditions.load_recognizer(
        packing.pack(folder, subnet), changed(resolved.evaluation, splits, chunk_ms, decoding)
    )
    tuning.check_graph(recognizer)  # before any speech is prepared
    return tuning.tune(
        recognizer, prepared_of(folder, resolved.speech, progress, [tuning.DEV]), progress=progress
    )
