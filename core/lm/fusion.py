"""A language model of words beside a beam of tokens (shallow fusion): what it says of the words finished and of the one begun.

A word that is being spelled already counts as the likeliest word that begins so, without a history (max smearing, as flashlight does);
when the next one begins, its own probability after the words before takes that place. Weights are chosen on dev
(core/evaluation/tuning.py).
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from core.lm import ngrams
from core.speech.tokenizer import SPACE

LN10 = math.log(10)
NO_WORD = -10.0      # log10, added for words that are not in the vocabulary, beside <unk> for all of them (pyctcdecode's default)
UNSPELLED = 0.1      # the largest share of a vocabulary that the tokens may be unable to spell
NONE = "none"        # what a report says where there is no language model


@dataclass(frozen=True)
class Language:
    """An ARPA file and what it counts for: score = ln p(tokens | sound) + lm_weight ln p(words) + word_score per word."""
    file: str
    lm_weight: float = 0.5
    word_score: float = 0.0

    def text(self) -> str:
        """As reports name it: file, begin of its sha256, weights."""
        _, sha256 = ngrams.load(self.file)
        return f"{Path(self.file).name} {sha256[:12]}, weight {self.lm_weight:g}, word score {self.word_score:g}"


class State(NamedTuple):
    """Words heard so far, as a hypothesis carries them. total = done + what the word begun counts for now."""
    history: ngrams.NGram
    word: str          # letters of the word begun
    done: float
    total: float


class Fusion:
    """A language model for a tokenizer's symbols."""

    def __init__(self, model: ngrams.NGrams, symbols: list[str], language: Language):
        self.model, self.symbols, self.language = model, symbols, language
        self.start = State(model.follow((), ngrams.BEGIN), "", 0.0, 0.0)

    def with_weights(self, lm_weight: float, word_score: float) -> Fusion:
        """The same model counting for more or less."""
        return Fusion(self.model, self.symbols, replace(self.language, lm_weight=lm_weight, word_score=word_score))

    def extend(self, state: State, token: int) -> State:
        """One more token (never the blank)."""
        symbol = self.symbols[token]
        history, word, done = state.history, state.word, state.done
        if symbol.startswith(SPACE):
            if word:
                history, done = self.model.follow(history, word), done + self._counts(self._said(history, word))
            word = ""
        word += symbol.removeprefix(SPACE)
        return State(history, word, done, done + (self._counts(self._begun(word)) if word else 0.0))

    def finish(self, state: State) -> float:
        """What all words count for when no more come: the last one and the end of the sentence are scored, too."""
        history, done = state.history, state.done
        if state.word:
            done += self._counts(self._said(history, state.word))
            history = self.model.follow(history, state.word)
        return done + self.language.lm_weight * LN10 * self.model.score(history, ngrams.END)

    def _said(self, history: ngrams.NGram, word: str) -> float:
        return self.model.score(history, word) + (0.0 if word in self.model else NO_WORD)

    def _begun(self, word: str) -> float:
        best = self.model.beginnings.get(word)
        return self._said((), word) if best is None else best

    def _counts(self, log10: float) -> float:
        return self.language.lm_weight * LN10 * log10 + self.language.word_score


def load(language: Language, symbols: list[str]) -> Fusion:
    """ValueError for a file that is no ARPA file or is of other words than these tokens write."""
    model, _ = ngrams.load(language.file)
    letters = set("".join(symbols[1:])) - {SPACE}
    words = model.words
    wrong = [w for w in words if not set(w) <= letters]
    advice = "make one from text with `python -m core lm RECIPE --out FILE`, which writes words as training does"
    if len(wrong) > UNSPELLED * len(words):
        raise ValueError(f"lm = {language.file!r}: {len(wrong) / len(words):.0%} of its {len(words)} words, e.g. {wrong[0]!r}, cannot be "
                         f"spelled with the model's tokens; allowed is at most {UNSPELLED:.0%}: it was made for other tokens or from text "
                         f"written otherwise; {advice}")
    if max(map(len, words), default=0) < 2:
        raise ValueError(f"lm = {language.file!r} is a language model of {len(words)} single characters; allowed is one of words: {advice}")
    return Fusion(model, symbols, language)
