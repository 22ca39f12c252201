"""A seeded command grammar: templates with slots become sentences, and its exact entropy; knows no
audio.

The data is commands.toml. A pattern is words, {slot}, {low..high} (numbers in words), (a | b),
[optional].
"""

from __future__ import annotations

import functools
import math
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from core.speech.normalizer import spell

COMMANDS = Path(__file__).with_name("commands.toml")
MOST_LEVELS = 50  # of brackets (and slots) in each other: what walks them is recursive
TOKEN = re.compile(r"\{[^}]*\}|[()|\[\]+]|[a-z']+")


@dataclass(frozen=True, eq=False)  # hashed by identity: quick keys
class Node:
    """A part of a pattern: kind "word" (text), "slot" (text), "all" (parts in order), "one" (one of
    the parts) or
    "many" (its part once or more; not in commands.toml).
    """

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = field(default=())


class PatternError(ValueError):
    """What is wrong with a pattern, and at which `column`, from 0."""

    def __init__(self, message: str, column: int):
        super().__init__(message)
        self.column = column


def parse(pattern: str, repeats: bool = False) -> Node:
    """A pattern as a tree; PatternError for signs it does not know or open brackets. `repeats`: x+
    is allowed, x once or more.
    """
    tokens = [(m[0], m.start()) for m in TOKEN.finditer(pattern) if repeats or m[0] != "+"]
    known = {i for token, start in tokens for i in range(start, start + len(token))}
    left = next(
        (i for i, sign in enumerate(pattern) if i not in known and not sign.isspace()), None
    )
    if left is not None:
        raise PatternError(
            f"pattern '{pattern}': cannot read '{pattern[left]}'; allowed are a-z ' {{slot}} (a |"
            f" b) [a]{' a+' if repeats else ''}",
            left,
        )
    node, used = _parse_choice(pattern, tokens, 0)
    if used != len(tokens):
        raise PatternError(
            f"pattern '{pattern}': unexpected '{tokens[used][0]}'; every bracket needs its partner",
            tokens[used][1],
        )
    return node


def _parse_choice(
    pattern: str, tokens: list[tuple[str, int]], at: int, level: int = 1
) -> tuple[Node, int]:
    options: list[Node] = []
    parts: list[Node] = []
    while at < len(tokens) and tokens[at][0] not in (")", "]"):
        token, column = tokens[at]
        at += 1
        if token == "|":
            options.append(Node("all", parts=tuple(parts)))
            parts = []
        elif token in ("(", "["):
            if level == MOST_LEVELS:
                raise PatternError(
                    f"brackets are nested too deeply: at most {MOST_LEVELS - 1} levels", column
                )
            inner, at = _parse_choice(pattern, tokens, at, level + 1)
            closing = ")" if token == "(" else "]"
            if at >= len(tokens) or tokens[at][0] != closing:
                raise PatternError(
                    f"pattern '{pattern}': '{token}' is not closed by '{closing}'", column
                )
            at += 1
            parts.append(inner if token == "(" else Node("one", parts=(inner, Node("all"))))
        elif token == "+":
            if not parts:
                raise PatternError(
                    f"pattern '{pattern}': '+' has nothing in front of it to repeat", column
                )
            if parts[-1].kind != "many":  # a++ says what a+ says
                parts[-1] = Node("many", parts=(parts[-1],))
        else:
            parts.append(Node("slot", token[1:-1]) if token[0] == "{" else Node("word", token))
    last = Node("all", parts=tuple(parts))
    return (Node("one", parts=(*options, last)) if options else last), at


@dataclass(frozen=True)
class Template:
    """One sentence pattern of a domain ("home", "phone", ...); `held_out` ones are for tests
    only.
    """

    domain: str
    pattern: str
    weight: float  # its chance among its kind (held out or not); these sum to 1
    held_out: bool
    node: Node


class Grammar:
    """Templates and slots from a TOML file."""

    def __init__(self, path: Path = COMMANDS):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        self.slots = {name: parse(pattern) for name, pattern in data.pop("slots").items()}
        total = sum(domain["weight"] for domain in data.values())
        self.templates: tuple[Template, ...] = tuple(
            Template(
                name, pattern, domain["weight"] / total * share, key == "held_out", parse(pattern)
            )
            for name, domain in data.items()
            for key in ("templates", "held_out")
            for pattern, share in _weighted(domain[key])
        )
        self._slot_words: dict[str, set[str]] = {}
        words: set[str] = set()
        for node in [t.node for t in self.templates if not t.held_out] + list(self.slots.values()):
            self._collect(node, words)
        unclear: set[str] = set()
        self._collect(
            self.slot("unclear"), unclear
        )  # sound like another word, or are no word alone
        self.slots["any"] = parse(" | ".join(sorted(words - unclear)))
        for template in self.templates:
            self._check(template.node, template.pattern)

    def _check(self, node: Node, where: str) -> None:
        if node.kind == "slot":
            self.slot(node.text, where)
        for part in node.parts:
            self._check(part, where)

    def slot(self, name: str, where: str = "") -> Node:
        """What a slot stands for; ValueError lists the slots if there is none of this name."""
        if name not in self.slots:
            bounds = re.fullmatch(r"(\d+)\.\.(\d+)", name)
            if not bounds:
                raise ValueError(
                    f"'{where}': no slot '{name}'; slots are {sorted(self.slots)} and {{low..high}}"
                )
            words = " | ".join(spell(n) for n in range(int(bounds[1]), int(bounds[2]) + 1))
            self.slots[name] = parse(words)
        return self.slots[name]

    # ---- making sentences

    def draw(self, rng: random.Random, held_out: bool = False) -> tuple[str, Template]:
        """A sentence and the template it came from."""
        kind = [t for t in self.templates if t.held_out == held_out]
        template = rng.choices(kind, [t.weight for t in kind])[0]
        return self.fill(template, rng), template

    def fill(self, template: Template, rng: random.Random) -> str:
        return " ".join(self._words(template.node, rng))

    def _words(self, node: Node, rng: random.Random) -> Iterator[str]:
        if node.kind == "word":
            yield node.text
        elif node.kind == "slot":
            yield from self._words(self.slot(node.text), rng)
        elif node.kind == "one":
            yield from self._words(node.parts[rng.randrange(len(node.parts))], rng)
        else:
            for part in node.parts:
                yield from self._words(part, rng)

    def vocabulary(self, held_out: bool | None = False) -> set[str]:
        """Every word of the templates for training (False), for tests only (True) or both
        (None).
        """
        words: set[str] = set()
        for template in self.templates:
            if held_out is None or template.held_out == held_out:
                self._collect(template.node, words)
        return words

    def _collect(self, node: Node, words: set[str]) -> None:
        if node.kind == "word":
            words.add(node.text)
        elif node.kind == "slot" and (node.text != "any" or "any" in self.slots):
            if node.text not in self._slot_words:
                self._slot_words[node.text] = set()
                self._collect(self.slot(node.text), self._slot_words[node.text])
            words |= self._slot_words[node.text]
        for part in node.parts:
            self._collect(part, words)

    # ---- how hard it is

    def measure(self, held_out: bool = False) -> tuple[float, float]:
        """(bits, words) of a drawn sentence: the exact entropy of the derivation and the expected
        length.
        """
        kind = [t for t in self.templates if t.held_out == held_out]
        pairs = [(t.weight, *self._entropy(t.node)) for t in kind]
        choice = -sum(w * math.log2(w) for w, _, _ in pairs)
        return choice + sum(w * bits for w, bits, _ in pairs), sum(
            w * words for w, _, words in pairs
        )

    def _entropy(self, node: Node) -> tuple[float, float]:
        """(bits, expected words): a choice of n adds log2 n to the mean of its parts, a sequence
        sums.
        """
        if node.kind == "word":
            return 0.0, 1.0
        if node.kind == "slot":
            return self._entropy(self.slot(node.text))
        pairs = [self._entropy(part) for part in node.parts]
        bits, words = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
        if node.kind == "one":
            return math.log2(len(pairs)) + bits / len(pairs), words / len(pairs)
        return bits, words

    def perplexity(self, held_out: bool = False) -> float:
        """Word perplexity 2^(bits / (words + 1)), the sentence end counted as a word as language
        models do.

        Exact from the branching of derivations. Where two derivations give one sentence the truth
        is a little
        lower: `log_probability` sums over derivations, and a test compares both.
        """
        bits, words = self.measure(held_out)
        return 2 ** (bits / (words + 1))

    def log_probability(self, sentence: str, held_out: bool = False) -> float:
        """log2 of the chance that `draw` gives this sentence, summed over all derivations; -inf if
        it cannot.
        """
        words = tuple(sentence.split())

        @functools.cache
        def ends(node: Node, at: int) -> tuple[tuple[int, float], ...]:
            """(end, probability) of every way in which `node` produces words[at:end]."""
            if node.kind == "word":
                return ((at + 1, 1.0),) if words[at : at + 1] == (node.text,) else ()
            if node.kind == "slot":
                first = self._slot_words.get(node.text, words)  # no slot may be empty
                return (
                    ends(self.slot(node.text), at) if at < len(words) and words[at] in first else ()
                )
            if node.kind == "one":
                return _merged(
                    (end, p / len(node.parts)) for part in node.parts for end, p in ends(part, at)
                )
            reached: tuple[tuple[int, float], ...] = ((at, 1.0),)
            for part in node.parts:
                reached = _merged(
                    (end, p * q) for start, p in reached for end, q in ends(part, start)
                )
            return reached

        total = sum(
            t.weight * dict(ends(t.node, 0)).get(len(words), 0.0)
            for t in self.templates
            if t.held_out == held_out
        )
        return math.log2(total) if total else -math.inf


def _weighted(patterns: list[str]) -> list[tuple[str, float]]:
    """(pattern, its share) of patterns which may start with a weight: "3 call {name}" is drawn
    three times as often.
    """
    pairs = [
        (m[2], float(m[1] or 1))
        for m in (re.fullmatch(r"(?:(\d+) )?(.*)", p) for p in patterns)
        if m
    ]
    return [(pattern, weight / sum(w for _, w in pairs)) for pattern, weight in pairs]


def _merged(pairs: Iterator[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    times: dict[int, float] = {}
    for end, probability in pairs:
        times[end] = times.get(end, 0.0) + probability
    return tuple(times.items())
