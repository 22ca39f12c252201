"""CTC prefix beam search of one stream (Graves 2012; Hannun et al. 2014), with or without a language model of words; NumPy, no torch.

A prefix is a sequence of tokens; its probability is that of all alignments that say it, kept apart by whether they end in a blank.
Letters: T frames, V tokens with blank = 0.
"""
from __future__ import annotations

import heapq
import math
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from core.lm.fusion import Fusion, State

BLANK = 0
BEAM = 32                     # prefixes kept, where nobody says: 16 lose a tenth of what a language model gains (64 utterances, by hand)
LEAST = math.log(1e-2)        # tokens less likely in a frame do not lengthen a prefix; 1e-3 hears the same and takes longer
BEHIND = 20.0                 # prefixes this much less likely (ln) than the best are dropped
NEVER = -math.inf


class Prefix:
    """Tokens as a chain: the last one and the prefix before it. silent, spoken: ln probability of ending in a blank, in that token."""
    __slots__ = ("before", "token", "number", "fused", "silent", "spoken", "__weakref__")

    def __init__(self, before: Prefix | None, token: int, number: int, fused: State | None):
        self.before, self.token, self.number, self.fused = before, token, number, fused
        self.silent = self.spoken = NEVER

    @property
    def ids(self) -> list[int]:
        ids, at = [], self
        while at.before is not None:
            ids.append(at.token)
            at = at.before
        return ids[::-1]


class PrefixBeam:
    """One stream's decoder (see decoding.Decoder); what was said may change afterwards, at `finish` it is the best of all."""

    def __init__(self, beam: int = BEAM, fusion: Fusion | None = None):
        self.beam, self.fusion, self._count = beam or BEAM, fusion, 0
        root = Prefix(None, BLANK, 0, fusion.start if fusion else None)
        root.silent = 0.0
        self.best, self.prefixes = root, [root]
        # one object a prefix as long as anything holds it: a prefix that was dropped may come back through another one
        self._known: WeakValueDictionary[tuple[int, int], Prefix] = WeakValueDictionary()

    @property
    def ids(self) -> list[int]:
        return self.best.ids

    def accept(self, log_probs: Any) -> list[int]:
        """See decoding.Decoder; log_probs [T, V]: the tokens from the first other one on are given."""
        before = self.ids
        return changed(before, self.read(log_probs))

    def read(self, log_probs: Any) -> list[int]:
        """log_probs [T, V] of the next frames -> all that is said now."""
        rows = log_probs.float().cpu().numpy() if hasattr(log_probs, "cpu") else np.asarray(log_probs)
        for row in rows:
            self._hear(row)
        return self.ids

    def finish(self) -> list[int]:
        """No more frames: the language model hears the last word and the end -> all that has been said."""
        if self.fusion:
            self.best = max(self.prefixes, key=lambda p: _add(p.silent, p.spoken) + self.fusion.finish(p.fused))
        return self.ids

    def _hear(self, row: np.ndarray) -> None:
        blank = float(row[BLANK])
        tokens = [(int(t) + 1, float(row[t + 1])) for t in np.flatnonzero(row[1:] > LEAST)]
        found: dict[Prefix, list[float]] = {}                           # [silent, spoken] after this frame
        for prefix in self.prefixes:
            either = _add(prefix.silent, prefix.spoken)
            now = found.setdefault(prefix, [NEVER, NEVER])
            now[0] = either + blank
            if prefix.token != BLANK:
                now[1] = _add(now[1], prefix.spoken + float(row[prefix.token]))
            for token, value in tokens:
                came = prefix.silent if token == prefix.token else either  # the same token again needs a blank between
                if came > NEVER:
                    now = found.setdefault(self._longer(prefix, token), [NEVER, NEVER])
                    now[1] = _add(now[1], came + value)
        scored = [(_add(*now) + (p.fused.total if self.fusion else 0.0), p.number, p) for p, now in found.items()]
        kept = heapq.nlargest(self.beam, scored)
        self.best = kept[0][2]
        self.prefixes = [p for score, _, p in kept if score > kept[0][0] - BEHIND]
        for prefix in self.prefixes:
            prefix.silent, prefix.spoken = found[prefix]

    def _longer(self, prefix: Prefix, token: int) -> Prefix:
        known = self._known.get((prefix.number, token))
        if known is None:
            self._count += 1
            fused = self.fusion.extend(prefix.fused, token) if self.fusion else None
            known = self._known[prefix.number, token] = Prefix(prefix, token, self._count, fused)
        return known


def changed(before: list[int], now: list[int]) -> list[int]:
    """What is said now from the first token on that was not said before."""
    same = next((i for i, (a, b) in enumerate(zip(before, now)) if a != b), min(len(before), len(now)))
    return now[same:]


def _add(a: float, b: float) -> float:
    """ln(exp a + exp b)."""
    if a < b:
        a, b = b, a
    return a if b == NEVER else a + math.log1p(math.exp(b - a))
