"""What a device must understand, typed by a person: sentence patterns become the acceptor G of a
decoding graph.

One pattern a line: words, (a | b), [optional], {slot}, {5..59} (numbers in words), x+ (once or
more), a number in front as its weight. "slot = pattern" says what {slot} stands for; # begins a
comment. Probabilities are those of drawing a sentence: choices alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import kaldifst

from core.lm.graph import Symbols
from core.speech.grammar import Grammar, Node, parse
from core.speech.normalizer import spell

AGAIN = math.log(2)  # cost (ln) of saying something marked + once more, and of not doing so
MOST_PATTERNS = 5000
MOST_ARCS = 500_000  # of G: more would not be built in a minute
DEFINITION = re.compile(r"\s*([a-z][a-z0-9_]*)\s*=(.*)", re.DOTALL)
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
MOST_NUMBERS = 10_000


@dataclass(frozen=True)
class Patterns:
    """Sentence patterns with their share of all sentences, and what their slots stand for."""

    sentences: tuple[tuple[Node, float], ...]
    slots: dict[str, Node]


def read(text: str) -> Patterns:
    """Typed patterns. ValueError with line and column for what cannot be read, and for a text
    without a sentence.
    """
    sentences, slots, places = (
        list[tuple[Node, float]](),
        dict[str, Node](),
        list[tuple[Node, int]](),
    )
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = line.split("#", 1)[0].rstrip().lower()
        if not line.strip():
            continue
        definition = DEFINITION.fullmatch(line)
        weighted = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+(\S.*)", line)
        pattern = definition[2] if definition else weighted[2] if weighted else line
        node = _parsed(pattern, number, line.index(pattern) if pattern.strip() else len(line))
        places.append((node, number))
        if definition and definition[1] in slots:
            raise ValueError(
                f"line {number}: the slot {definition[1]!r} is defined twice; give one of them"
                " another name"
            )
        if definition:
            slots[definition[1]] = node
        else:
            sentences.append((node, float(weighted[1]) if weighted else 1.0))
    if not sentences or len(sentences) > MOST_PATTERNS:
        raise ValueError(
            f"expected 1 to {MOST_PATTERNS} sentences, got {len(sentences)}: write one a line, e.g."
            " turn (on | off) the light"
        )
    for node, number in places:
        _check(node, slots, number, ())
    total = sum(weight for _, weight in sentences)
    if total <= 0:
        raise ValueError("all weights are 0: give at least one sentence a weight above 0")
    return Patterns(tuple((node, weight / total) for node, weight in sentences), slots)


def _parsed(pattern: str, number: int, column: int) -> Node:
    try:
        return parse(pattern, repeats=True)
    except ValueError as error:
        at = getattr(error, "column", 0)
        raise ValueError(f"line {number}, column {column + at + 1}: {error}") from None


def _check(node: Node, slots: dict[str, Node], number: int, inside: tuple[str, ...]) -> None:
    """ValueError for slots that are not defined or that hold themselves."""
    if node.kind == "slot" and not NUMBERS.fullmatch(node.text):
        if node.text not in slots:
            raise ValueError(
                f"line {number}: no slot {{{node.text}}}; defined are"
                f" {', '.join(sorted(slots)) or 'none'}: add a line '{node.text} = ...'"
            )
        if node.text in inside:
            raise ValueError(
                f"line {number}: the slot {{{node.text}}} holds itself; write what is said again"
                " and again with +"
            )
        _check(slots[node.text], slots, number, (*inside, node.text))
    elif node.kind == "slot":
        low, high = _bounds(node.text)
        if not 0 <= low <= high <= 999_999 or high - low > MOST_NUMBERS:
            raise ValueError(
                f"line {number}: {{{node.text}}} is not allowed: numbers go up, from 0 to 999999,"
                f" {MOST_NUMBERS} at most"
            )
    for part in node.parts:
        _check(part, slots, number, inside)


def of_corpus(grammar: Grammar) -> Patterns:
    """The built-in command grammar: templates that training speaks and those held out, alike."""
    return Patterns(tuple((t.node, t.weight / 2) for t in grammar.templates), dict(grammar.slots))


def words(patterns: Patterns) -> list[str]:
    """Every word that can be said, sorted."""
    vocabulary: set[str] = set()
    for node in (*(node for node, _ in patterns.sentences), *patterns.slots.values()):
        _collect(node, vocabulary)
    return sorted(vocabulary)


def _collect(node: Node, vocabulary: set[str]) -> None:
    if node.kind == "word":
        vocabulary.add(node.text)
    elif node.kind == "slot" and NUMBERS.fullmatch(node.text):
        vocabulary.update(word for part in _numbers(node.text).parts for word in _said(part))
    for part in node.parts:
        _collect(part, vocabulary)


def _said(node: Node) -> list[str]:
    return (
        [node.text]
        if node.kind == "word"
        else [word for part in node.parts for word in _said(part)]
    )


def _bounds(slot: str) -> tuple[int, int]:
    """Lowest and highest number of a slot that NUMBERS matches."""
    low, high = NUMBERS.findall(slot)[0]
    return int(low), int(high)


def _numbers(bounds: str) -> Node:
    low, high = _bounds(bounds)
    return Node(
        "one",
        parts=tuple(
            Node("all", parts=tuple(Node("word", w) for w in spell(n).split()))
            for n in range(low, high + 1)
        ),
    )


def acceptor(patterns: Patterns, symbols: Symbols) -> kaldifst.StdVectorFst:
    """G of the patterns; ValueError when they make more than MOST_ARCS arcs."""
    fst = kaldifst.StdVectorFst()
    fst.start, end = fst.add_state(), fst.add_state()
    fst.set_final(end, 0.0)
    builder = _Builder(fst, patterns.slots, symbols)
    for node, share in patterns.sentences:
        if share > 0:
            first = fst.add_state()
            builder.arc(fst.start, 0, -math.log(share), first)
            builder.add(node, first, end)
    return fst


class _Builder:
    def __init__(self, fst: kaldifst.StdVectorFst, slots: dict[str, Node], symbols: Symbols):
        self.fst, self.slots, self.symbols, self.arcs = fst, slots, symbols, 0

    def arc(self, before: int, label: int, cost: float, after: int) -> None:
        self.arcs += 1
        if self.arcs > MOST_ARCS:
            raise ValueError(
                f"these patterns make more than {MOST_ARCS} steps: use fewer or smaller slots"
            )
        self.fst.add_arc(before, kaldifst.StdArc(label, label, cost, after))

    def add(self, node: Node, before: int, after: int, cost: float = 0.0) -> None:
        """Paths from `before` to `after` that say the node."""
        if node.kind == "word":
            self.arc(before, self.symbols.ids[node.text], cost, after)
        elif node.kind == "slot":
            self.add(
                _numbers(node.text) if NUMBERS.fullmatch(node.text) else self.slots[node.text],
                before,
                after,
                cost,
            )
        elif node.kind == "one":
            for part in node.parts:
                self.add(part, before, after, cost + math.log(len(node.parts)))
        elif node.kind == "many":
            first, last = self.fst.add_state(), self.fst.add_state()
            self.arc(before, 0, cost, first)
            self.add(node.parts[0], first, last)
            self.arc(last, self.symbols.mark(), AGAIN, first)
            self.arc(last, 0, AGAIN, after)
        else:
            self._sequence(node.parts, before, after, cost)

    def _sequence(self, parts: Sequence[Node], before: int, after: int, cost: float) -> None:
        if not parts:
            self.arc(before, 0, cost, after)
        for place, part in enumerate(parts):
            here = after if place == len(parts) - 1 else self.fst.add_state()
            self.add(part, before, here, cost if place == 0 else 0.0)
            before = here
