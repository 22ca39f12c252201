"""What a device must understand, typed by a person: sentence patterns become the acceptor G of a
decoding graph.

One pattern a line: words, (a | b), [optional], {slot}, {5..59} (numbers in words), x+ (once or
more), a number in front as its weight. "slot = pattern" says what {slot} stands for; # begins a
comment. Probabilities are those of drawing a sentence: choices alike. core/README.md has an
example.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import kaldifst

from core.common.reading import excerpt
from core.lm.graph import Symbols
from core.speech.grammar import MOST_LEVELS, Grammar, Node, parse
from core.speech.normalizer import spell

AGAIN = math.log(2)  # cost (ln) of saying something marked + once more, and of not doing so
MOST_PATTERNS = 5000
MOST_ARCS = 500_000  # of G: more would not be built in a minute
DEFINITION = re.compile(r"\s*([a-z][a-z0-9_]*)\s*=(.*)", re.DOTALL)
WEIGHTED = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s+(\S.*)")
NUMBERS = re.compile(r"([0-9]+)\.\.([0-9]+)")
MOST_NUMBERS = 10_000
HEAVIEST = 10**6  # weights are below it


@dataclass(frozen=True)
class Patterns:
    """Sentence patterns with their share of all sentences, and what their slots stand for."""

    sentences: tuple[tuple[Node, float], ...]
    slots: dict[str, Node]


def read(text: str) -> Patterns:
    """Typed patterns. ValueError with line and column for what cannot be read, and for a text
    without a sentence or of more than MOST_ARCS steps.
    """
    sentences, slots, lines = (
        list[tuple[Node, float, int]](),
        dict[str, Node](),
        dict[str, int](),
    )
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = line.split("#", 1)[0].rstrip().lower()
        if not line.strip():
            continue
        definition, weighted = DEFINITION.fullmatch(line), WEIGHTED.fullmatch(line)
        pattern = definition[2] if definition else weighted[2] if weighted else line
        node = _parsed(pattern, number, line.index(pattern) if pattern.strip() else len(line))
        if definition and definition[1] in slots:
            raise ValueError(
                f"line {number}: the slot {definition[1]!r} is defined twice; give one of them"
                " another name"
            )
        if definition:
            slots[definition[1]], lines[definition[1]] = node, number
        else:
            sentences.append((node, _weight(weighted, number) if weighted else 1.0, number))
    if not sentences or len(sentences) > MOST_PATTERNS:
        raise ValueError(
            f"expected 1 to {MOST_PATTERNS} sentences, got {len(sentences)}: write one a line, e.g."
            " turn (on | off) the light"
        )
    _check(sentences, slots, lines)
    total = sum(weight for _, weight, _ in sentences)
    return Patterns(tuple((node, weight / total) for node, weight, _ in sentences), slots)


def _parsed(pattern: str, number: int, column: int) -> Node:
    try:
        return parse(pattern, repeats=True)
    except ValueError as error:
        at = getattr(error, "column", 0)
        raise ValueError(f"line {number}, column {column + at + 1}: {error}") from None


def _weight(match: re.Match[str], number: int) -> float:
    weight = float(match[1])
    if not 0 < weight < HEAVIEST:
        raise ValueError(
            f"line {number}, column {match.start(1) + 1}: a weight must be above 0 and below 10^6,"
            f" got {excerpt(match[1])}"
        )
    return weight


def _check(
    sentences: Sequence[tuple[Node, float, int]], slots: dict[str, Node], lines: dict[str, int]
) -> None:
    """ValueError for slots that are not defined, hold themselves or lie too deep in each other, and
    for more than MOST_ARCS arcs. Before anything is expanded, for slots that double grow like 2^n.
    """
    measure = _Measure(slots, lines)
    arcs = sum(1 + measure.of(node, number)[0] for node, _, number in sentences)
    for name in slots:
        measure.of(Node("slot", name), lines[name])
    if arcs > MOST_ARCS:
        raise ValueError(
            f"these patterns make more than {MOST_ARCS} steps: use fewer or smaller slots"
        )


class _Measure:
    """The size of nodes; each slot is looked at once, however often it is used."""

    def __init__(self, slots: dict[str, Node], lines: dict[str, int]) -> None:
        self.slots, self.lines = slots, lines
        self.known: dict[str, tuple[int, int]] = {}
        self.inside: list[str] = []  # the slots that the node stands in

    def of(self, node: Node, line: int, level: int = 0) -> tuple[int, int]:
        """(arcs that _Builder makes, levels of slots and brackets) of a node on `line`; `level`:
        levels around it.
        """
        own = int(node.kind == "all")  # of every slot and bracket
        arcs, height = {"word": 1, "many": 3, "all": int(not node.parts)}.get(node.kind, 0), 0
        if node.kind == "slot":
            arcs, height = self._of_slot(node.text, line, level)
        for part in node.parts if level + own <= MOST_LEVELS else ():
            more, below = self.of(part, line, level + own)
            arcs, height = arcs + more, max(height, below)
        if level + own + height > MOST_LEVELS:
            raise ValueError(
                f"line {line}: slots and brackets are nested too deeply: at most"
                f" {MOST_LEVELS - 1} levels"
            )
        return arcs, own + height

    def _of_slot(self, name: str, line: int, level: int) -> tuple[int, int]:
        if name in self.known:
            return self.known[name]
        if NUMBERS.fullmatch(name):
            _check_numbers(name, line)
            self.known[name] = sum(len(part.parts) for part in _numbers(name).parts), 1
            return self.known[name]
        if name not in self.slots:
            raise ValueError(
                f"line {line}: no slot {{{name}}}; defined are"
                f" {', '.join(sorted(self.slots)) or 'none'}: add a line '{name} = ...'"
            )
        if name in self.inside:
            raise ValueError(
                f"line {line}: the slot {{{name}}} holds itself; write what is said again"
                " and again with +"
            )
        self.inside.append(name)
        self.known[name] = self.of(self.slots[name], self.lines[name], level)
        self.inside.pop()
        return self.known[name]


def _check_numbers(slot: str, line: int) -> None:
    low, high = _bounds(slot)
    if not 0 <= low <= high <= 999_999 or high - low > MOST_NUMBERS:
        raise ValueError(
            f"line {line}: {{{excerpt(slot)}}} is not allowed: numbers go up, from 0 to 999999,"
            f" {MOST_NUMBERS} at most"
        )


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
    low, high = NUMBERS.findall(slot)[0]  # cut after 7 digits: Python reads no endless numbers
    return int(low.lstrip("0")[:7] or 0), int(high.lstrip("0")[:7] or 0)


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
    """G of the patterns."""
    fst = kaldifst.StdVectorFst()
    fst.start, end = fst.add_state(), fst.add_state()
    fst.set_final(end, 0.0)
    builder = _Builder(fst, patterns.slots, symbols)
    for node, share in patterns.sentences:
        first = fst.add_state()
        builder.arc(fst.start, 0, -math.log(share), first)
        builder.add(node, first, end)
    return fst


class _Builder:
    def __init__(self, fst: kaldifst.StdVectorFst, slots: dict[str, Node], symbols: Symbols):
        self.fst, self.slots, self.symbols = fst, slots, symbols

    def arc(self, before: int, label: int, cost: float, after: int) -> None:
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
            self.fst.add_arc(last, kaldifst.StdArc(self.symbols.mark(), 0, AGAIN, first))
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
