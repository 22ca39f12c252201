"""What was said in a test set, by whom and in which file, as far as this machine has it: reports
keep hypotheses alone. Nothing is downloaded or made for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from core import paths
from core.corpora import base
from core.data.prepared import MARKER, Prepared
from core.jobs import confinement
from core.records import Choice, Recipe, Utterance, as_dict
from core.speech import marks, normalizer


def references(
    recipe: Recipe, split: str, words: Mapping[str, int], allowed: Iterable[Path]
) -> dict[str, Utterance]:
    """{id: Utterance, its text normalized} of the utterances that a report measured; {} where this
    machine does not have exactly them.

    recipe: of the run. split: as the report calls it. words: {id: number of words of its
    reference}, which must agree. allowed: folders of speech that may be read, beside the project's.
    """
    folders = tuple(allowed)
    for read in (_prepared(split), _corpus(recipe, split, folders)):
        with contextlib.suppress(ValueError, OSError):
            for utterances in read:
                known = {u.id: u for u in utterances if u.id in words}
                if len(known) == len(words) and all(
                    len(known[id].text.split()) == count for id, count in words.items()
                ):
                    return known
    return {}


def _prepared(split: str) -> Iterator[list[Utterance]]:
    """The split's utterances in every folder of prepared speech that has it."""
    for marker in sorted(paths.prepared().glob(f"*/{MARKER}")):
        with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
            prepared = Prepared(marker.parent)
            name = split if split in prepared.splits else split.split("/", 1)[-1]
            yield [
                Utterance(row.id, row.audio, row.offset, row.seconds, row.text, row.speaker)
                for row in (prepared.rows(name) if name in prepared.splits else ())
            ]


def _corpus(recipe: Recipe, split: str, folders: tuple[Path, ...]) -> Iterator[list[Utterance]]:
    """The split's utterances in the run's own corpus, where that can be read as it is."""
    confinement.check_recipe(as_dict(recipe), folders)
    corpus = _narrow(recipe.corpus, split)
    name = split if split in corpus.splits() else split.split("/", 1)[-1]
    if name not in corpus.splits() or not corpus.at_hand(name):
        return
    further = recipe.tokens.get("marks", ())
    yield [
        replace(item, text=normalizer.normalize(marks.without(item.text, further)[0]))
        for item in corpus.utterances(name)
        if isinstance(item, Utterance) and confinement.offered(item.audio, folders)
    ]


def _narrow(choice: Choice, split: str) -> base.Corpus:
    """The corpus with as few other splits as it can do with: what is missing of them matters
    not.
    """
    options = base.plugin(choice.name).narrow(choice.options, [split])
    return base.make(Choice(choice.name, options))
