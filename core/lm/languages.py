"""What can be understood (open speech, commands, a user's own sentences, or several of them) as a
decoding graph, built once and kept.

A graph is kept under artifacts/graphs/ by a hash of all that decides it (graph_files.py).
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core import paths
from core.lm import arpa, grammars, graph, graph_files, spoken
from core.lm.ngrams import SPECIAL, NGrams, Table
from core.speech import lexicon, tokenizer as tokenizers
from core.speech.grammar import COMMANDS as COMMANDS_FILE, Grammar
from core.speech.tokenizer import Tokenizer

BASE = "base"  # the same model, as what a user's text is interpolated with
OPEN, COMMANDS = "open", "commands"  # the shipped language model, the built-in command grammar
NEW_WORD = -4.5  # log10 of a hot word that the language model lacks, before it is boosted
BOOST = 1.0  # log10 added to the probability of a hot word (ours, not tuned)
MOST_HOT_WORDS = 200
NOTHING = "a language needs an n-gram model (lm) or a grammar: both are empty"
TextCallback = Callable[[str], None]


@dataclass(frozen=True)
class Language:
    """lm: OPEN, an ARPA file (plain, .gz, .zst), or "" for none; grammar: COMMANDS, patterns as
    typed (see grammars.py), or "".

    Both together: one graph by union, `share` of it for the grammar. hot_words: expected more
    often, new ones pronounced by rule.
    """

    lm: str = OPEN
    grammar: str = ""
    hot_words: tuple[str, ...] = ()
    share: float = 0.5

    def name(self) -> str:
        """As reports name it: what it is and the begin of its content's hash."""
        parts = []
        if self.lm:
            parts.append(
                f"{'open speech' if self.lm == OPEN else Path(self.lm).name}"
                f" {arpa.sha256(_file(self.lm))[:8]}"
            )
        if self.grammar:
            what = "built-in commands" if self.grammar == COMMANDS else "typed grammar"
            parts.append(
                f"{what} {hashlib.sha256(_patterns_text(self.grammar).encode()).hexdigest()[:8]}"
            )
        if self.hot_words:
            parts.append(f"{len(self.hot_words)} hot words")
        return " + ".join(parts)


def shipped() -> Path:
    """The language model of open speech that comes with the project."""
    return paths.RELEASED / "language" / "open.arpa.zst"


def load(
    language: Language, tokenizer: Tokenizer, progress: TextCallback = lambda _: None
) -> graph.Graph:
    """The decoding graph of a language over a net's tokens; built when it is not kept from before
    (`progress` says so). ValueError for
    a language that says nothing, a file that is no ARPA file, patterns that cannot be read, words
    that cannot be pronounced.
    """
    if not (language.lm or language.grammar):
        raise ValueError(NOTHING)
    hot_words = tuple(
        sorted({word for phrase in language.hot_words for word in phrase.lower().split()})
    )
    if len(hot_words) > MOST_HOT_WORDS:
        raise ValueError(f"expected at most {MOST_HOT_WORDS} hot words, got {len(hot_words)}")
    return _kept(
        replace(language, hot_words=hot_words), tokenizer.tokens_txt(), tokenizer, progress
    )


def build_ahead() -> None:
    """The graph of open speech for the tokens of every released run that needs one, at a low
    priority; whoever asks for it meanwhile waits (graph_files.py).
    """
    os.nice(10)
    for folder in sorted(path.parent for path in paths.RELEASED.glob(f"*/{paths.TOKENS}")):
        tokens = tokenizers.load(folder)
        if tokens.unit == "phonemes":
            load(Language(), tokens)


def _kept(
    language: Language, tokens: str, tokenizer: Tokenizer, progress: TextCallback
) -> graph.Graph:
    key = {
        "version": graph.VERSION,
        "tokens": tokens,
        "lexicon": lexicon.version() if tokenizer.unit == "phonemes" else "",
        "lm": arpa.sha256(_file(language.lm)) if language.lm else "",
        "grammar": _patterns_text(language.grammar) if language.grammar else "",
        "hot_words": language.hot_words,
        "share": language.share if language.lm and language.grammar else 1.0,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return graph_files.opened(
        paths.graphs() / name, lambda: _build(language, tokenizer, progress), tokenizer
    )


def check(language: Language) -> None:
    """Reads everything that the language names but the model that ships. ValueError as load()
    raises it, without a graph being built.
    """
    if not (language.lm or language.grammar):
        raise ValueError(NOTHING)
    if language.grammar:
        _patterns(language.grammar)
    if language.lm and _file(language.lm) != shipped():
        _model(language.lm)


def lost(language: Language, loaded: graph.Graph | None) -> str:
    """A note where its graph lacks most words of the language's own model, "" else."""
    if loaded is None or language.lm in ("", OPEN):
        return ""
    return spoken.lost(language.lm, _model(language.lm).words, set(loaded.words))


# ---- building


def _build(language: Language, tokenizer: Tokenizer, progress: TextCallback) -> graph.Graph:
    progress("building the decoding graph")
    model = with_hot_words(_model(language.lm), language.hot_words) if language.lm else None
    patterns = _patterns(language.grammar) if language.grammar else None
    needed = grammars.words(patterns) if patterns else []
    said = spoken.pronounced(tokenizer, [*needed, *(language.hot_words if model else ())])
    if model:
        said |= spoken.pronounced(tokenizer, [w for w in model.words if w not in said], skip=True)
        spoken.check(str(_file(language.lm)), model.words, said)
    symbols = graph.Symbols(list(said))
    parts = []
    if model:
        parts.append(
            (
                graph.of_arpa(arpa.write(model), symbols),
                -math.log(1 - language.share) if patterns else 0.0,
            )
        )
    if patterns:
        parts.append(
            (grammars.acceptor(patterns, symbols), -math.log(language.share) if model else 0.0)
        )
    return graph.compose(
        parts[0][0] if len(parts) == 1 else graph.union(parts), said, symbols, tokenizer.size
    )


def with_hot_words(model: NGrams, hot_words: tuple[str, ...]) -> NGrams:
    """The model with these words more probable when no longer n-gram says otherwise, new ones
    added; probabilities then sum to a little
    more than 1, as with any contextual biasing.
    """
    if not hot_words:
        return model
    new = [word for word in hot_words if word not in model]
    first = model.tables[0]
    log10 = np.concatenate([first.log10, np.full(len(new), NEW_WORD)])
    vocabulary = [*model.vocabulary, *new]
    places = {word: i for i, word in enumerate(vocabulary)}
    for word in hot_words:
        log10[places[word]] = min(max(log10[places[word]], NEW_WORD) + BOOST, -0.3)
    unigrams = Table(
        np.zeros(len(vocabulary), np.int64),
        np.arange(len(vocabulary)),
        log10,
        np.concatenate([first.back_off, np.zeros(len(new))]),
    )
    return NGrams(vocabulary, [unigrams, *model.tables[1:]])


def file_of(model: str) -> Path:
    """The file of a model to interpolate with: BASE, the one that ships, or an ARPA file."""
    return _file(OPEN if model == BASE else model)


def _file(lm: str) -> Path:
    file = shipped() if lm == OPEN else Path(lm)
    if lm == OPEN and not file.is_file():
        raise ValueError(
            f"the language model of open speech, {file.name}, is missing from"
            " artifacts/released/language: get it back with git, or name an ARPA file"
        )
    return file


def _model(lm: str) -> NGrams:
    model = arpa.load(_file(lm))
    if len(model.vocabulary) <= len(SPECIAL):
        raise ValueError(f"lm = {str(_file(lm))!r} holds no word: give a language model of words")
    return model


@functools.cache
def _built_in() -> Grammar:
    return Grammar()


def _patterns(grammar: str) -> grammars.Patterns:
    return grammars.of_corpus(_built_in()) if grammar == COMMANDS else grammars.read(grammar)


def _patterns_text(grammar: str) -> str:
    return COMMANDS_FILE.read_text(encoding="utf-8") if grammar == COMMANDS else grammar
