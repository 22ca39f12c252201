"""What decides prepared speech: a recipe's corpus, features and tokens, and the run it continues.

Reads tokens and statistics of that run; prepares nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core import paths
from core.records import Choice, Recipe
from core.registry import plugins
from core.speech import features, tokenizer
from core.speech.frontends import base as frontends
from core.storage import run_files, store


@dataclass(frozen=True)
class SpeechRecipe:
    """The part of a recipe that prepared speech depends on, its tables as typed options.

    The corpus checks its own options when it is made (core/corpora/base.py).
    """

    corpus: Choice
    features: features.Options
    tokens: tokenizer.Options
    named_tokens: dict[str, Any]  # the options of `tokens` that the recipe itself gives
    init_from: str  # run whose weights are continued; "" = none

    @classmethod
    def of(cls, recipe: Recipe) -> SpeechRecipe:
        """ValueError for a wrong option, e.g. "features.cache_gb must be ..."."""
        of_features = plugins.make_options(features.Options, recipe.features, "features")
        frontends.check(of_features.kind)
        return cls(
            recipe.corpus,
            of_features,
            plugins.make_options(tokenizer.Options, recipe.tokens, "tokens"),
            recipe.tokens,
            recipe.init_from,
        )

    def new_tokens(self) -> bool:
        """Whether phonemes are asked for where the continued run has letters or pieces, or the
        reverse, or word ends otherwise than it: then the encoder alone is continued.
        """
        kind, ends = self.named_tokens.get("kind"), self.named_tokens.get("word_ends")
        run = tokenizer.load(store.run_folder(self.init_from))
        phonemes = run.unit == "phonemes"
        other_ends = phonemes and ends is not None and ends != run.word_ends
        return kind is not None and ((kind == "phonemes") != phonemes or other_ends)

    def check_kind(self) -> None:
        """ValueError where the continued run has other features: weights fit but one kind."""
        kind = frontends.kind_of(store.recipe(store.run_folder(self.init_from)).features)
        if kind != self.features.kind:
            raise ValueError(
                f"init_from: run {self.init_from} has features.kind = {kind!r}, got"
                f" {self.features.kind!r}: set features.kind = {kind!r}"
            )

    def inherits(self) -> bool:
        """Whether tokens and statistics are those of another run."""
        return bool(self.init_from) and not self.new_tokens()

    def inherited(self) -> tuple[int, dict[str, bytes]]:
        """Of the continued run: number of tokens, {file name: content} of tokenizer and statistics.
        ValueError when a file is missing, and for another number of tokens.
        """
        self.check_kind()
        run = store.run_folder(self.init_from)
        names = [
            n
            for n in (paths.BPE, paths.TOKENS, paths.FEATURE_STATISTICS)
            if n != paths.BPE or (run / n).is_file()
        ]
        missing = [name for name in names if not (run / name).is_file()]
        if missing:
            raise ValueError(
                f"init_from = '{self.init_from}': {run} lacks {missing}, so its weights cannot be"
                " continued"
            )
        vocabulary, wanted = tokenizer.load(run).size, self.named_tokens.get("size")
        if wanted not in (None, vocabulary):
            raise ValueError(
                f"tokens.size = {wanted}, but '{self.init_from}' has {vocabulary} tokens: leave"
                " tokens out"
            )
        return vocabulary, {name: run_files.read(run / name) for name in names}

    def vocabulary(self) -> int:
        """The number of tokens, before any speech is prepared. ValueError where the recipe
        contradicts the run it starts from.
        """
        return self.inherited()[0] if self.inherits() else self.tokens.vocabulary
