"""Decoding graphs: H o L o G of CTC topology, lexicon and language model, as Kaldi builds them
(Mohri et al. 2002), by kaldifst.

A graph knows nothing of a net but its tokens: input labels are token + 1 (0 is epsilon), output
labels words. One graph serves every size of a supernet. Letters: V tokens with blank = 0.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaldifst
import kaldilm

VERSION = 3  # raise when the same parts would make another graph
EPSILON = "<eps>"
BACK_OFF = "#0"  # on the back-off arcs of G, so that LG can be determinized
VARIANT_COST = 0.7  # ln, of every pronunciation of a word but its likeliest (ours, not tuned)
Pronunciations = Mapping[
    str, Sequence[tuple[int, ...]]
]  # {word: token ids of each pronunciation, the likeliest first}


@dataclass(frozen=True)
class Graph:
    """fst: ready to decode with; words and their pronunciations: by output label; tokens: V, blank
    included; space: the token that parts words and is no sound, if there is one.
    """

    fst: kaldifst.StdConstFst
    words: list[str]
    said: list[list[tuple[int, ...]]]
    tokens: int
    space: int | None = None


class Symbols:
    """Word labels of G and L."""

    def __init__(self, words: Sequence[str]):
        self.words = [EPSILON, *words]
        self.ids = {word: i for i, word in enumerate(self.words)}
        for special in ("<s>", "</s>", BACK_OFF):
            self.ids[special] = len(self.ids)

    @property
    def back_off(self) -> int:
        return self.ids[BACK_OFF]

    def mark(self) -> int:
        """A new label that says nothing, for a loop of G: two loops over the same words could not
        be determinized without one.
        """
        label = len(self.ids)
        self.ids[f"#{label}"] = label
        return label

    @property
    def marks(self) -> list[int]:
        """The back-off symbol's label and those of all marks."""
        return [label for word, label in self.ids.items() if word.startswith("#")]

    def text(self) -> str:
        return "".join(f"{word} {i}\n" for word, i in self.ids.items())


def of_arpa(arpa: str, symbols: Symbols) -> kaldifst.StdVectorFst:
    """G of the content of an ARPA file; n-grams with words that the symbols lack are left out."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file, table = Path(folder) / "lm.arpa", Path(folder) / "words.txt"
        file.write_text(arpa, encoding="utf-8")
        table.write_text(symbols.text(), encoding="utf-8")
        order = sum(line.startswith("ngram ") for line in arpa[:1000].split("\n"))
        text = kaldilm.arpa2fst(
            str(file), disambig_symbol=BACK_OFF, read_symbol_table=str(table), max_order=order
        )
    return kaldifst.compile(text, acceptor=False)


def union(parts: Sequence[tuple[kaldifst.StdVectorFst, float]]) -> kaldifst.StdVectorFst:
    """G that accepts what any part does, at a cost (ln) per part."""
    whole = kaldifst.StdVectorFst()
    whole.start = whole.add_state()
    for part, cost in parts:
        first = whole.num_states
        for _ in range(part.num_states):
            whole.add_state()
        for state in range(part.num_states):
            final = part.final(state).value
            if final != float("inf"):
                whole.set_final(first + state, final)
            for arc in kaldifst.ArcIterator(part, state):
                whole.add_arc(
                    first + state,
                    kaldifst.StdArc(
                        arc.ilabel, arc.olabel, arc.weight.value, first + arc.nextstate
                    ),
                )
        silent = part.final(part.start).value + cost
        if silent < whole.final(whole.start).value:
            whole.set_final(whole.start, silent)
        for arc in kaldifst.ArcIterator(
            part, part.start
        ):  # copied, not entered by epsilon: G must stay without input epsilons
            whole.add_arc(
                whole.start,
                kaldifst.StdArc(
                    arc.ilabel, arc.olabel, arc.weight.value + cost, first + arc.nextstate
                ),
            )
    return whole


def compose(
    g: kaldifst.StdVectorFst, pronunciations: Pronunciations, symbols: Symbols, tokens: int
) -> Graph:
    """H o min(det(L o G)) with the symbols for disambiguation removed. ValueError where nothing can
    be said.
    """
    kaldifst.arcsort(g, "ilabel")
    first_mark = tokens + 1  # inputs: 1..V tokens, then marks
    lexicon, last_mark = _lexicon(pronunciations, symbols, first_mark)
    kaldifst.arcsort(lexicon, "olabel")
    lg = kaldifst.compose(lexicon, g)
    if lg.num_states == 0:
        raise ValueError(
            "nothing can be said with this lexicon and language model: they have no word in common"
        )
    kaldifst.determinize_star(lg)
    kaldifst.minimize_encoded(lg)
    kaldifst.arcsort(lg, "ilabel")
    h = _ctc_topology(tokens, last_mark)
    kaldifst.arcsort(h, "olabel")
    hlg = kaldifst.compose(h, lg)
    kaldifst.arcsort(hlg, "ilabel")
    said = [list(pronunciations.get(word, ())) for word in symbols.words]
    return Graph(kaldifst.StdConstFst(hlg), symbols.words, said, tokens)


def _lexicon(
    pronunciations: Pronunciations, symbols: Symbols, first_mark: int
) -> tuple[kaldifst.StdVectorFst, int]:
    """(L, its last mark): any sequence of words as tokens; homophones and beginnings of other words
    end in marks that tell them apart. The marks of G say nothing.
    """
    entries = [
        (word, tuple(token + 1 for token in said), VARIANT_COST * (number > 0))
        for word, forms in pronunciations.items()
        if word in symbols.ids
        for number, said in enumerate(forms)
    ]
    times = Counter(said for _, said, _ in entries)
    beginnings = {said[:end] for _, said, _ in entries for end in range(1, len(said))}
    marks: Counter[tuple[int, ...]] = Counter()
    fst = kaldifst.StdVectorFst()
    fst.start = loop = fst.add_state()
    fst.set_final(loop, 0.0)
    for word, said, cost in entries:
        marked = times[said] > 1 or said in beginnings
        marks[said] += marked
        labels = [*said, *([first_mark + marks[said]] if marked else [])]
        state = loop
        for place, label in enumerate(labels):
            after = loop if place == len(labels) - 1 else fst.add_state()
            fst.add_arc(
                state,
                kaldifst.StdArc(
                    label,
                    symbols.ids[word] if place == 0 else 0,
                    cost if place == 0 else 0.0,
                    after,
                ),
            )
            state = after
    free = first_mark + max(marks.values(), default=0) + 1
    for number, label in enumerate(symbols.marks):
        fst.add_arc(loop, kaldifst.StdArc(free + number, label, 0.0, loop))
    return fst, free + len(symbols.marks) - 1


def _ctc_topology(tokens: int, last_mark: int) -> kaldifst.StdVectorFst:
    """H: from frames' tokens to tokens without repeats and blanks; state = token of the frame
    before. Marks (above the tokens) need no frame.
    """
    fst = kaldifst.StdVectorFst()
    for state in range(tokens):
        fst.add_state()
        fst.set_final(state, 0.0)
    fst.start = 0
    for before in range(tokens):
        for now in range(tokens):
            fst.add_arc(
                before, kaldifst.StdArc(now + 1, 0 if now in (before, 0) else now + 1, 0.0, now)
            )
        for mark in range(tokens + 1, last_mark + 1):
            fst.add_arc(before, kaldifst.StdArc(0, mark, 0.0, before))
    return fst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kaldilm reports to the process's stderr, whatever Python's is."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
