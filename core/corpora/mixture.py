"""Several corpora as one: training, search and dev are unions, tests keep their names behind
"<prefix>/".

Ids become "<prefix>:<id>", so that a part's share of an epoch can be capped (`share`) without a
look at its audio. A speaker or a piece of audio that a more protected split has (test, dev, search)
is dropped from training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.corpora import _speakers, base
from core.records import Choice, Utterance, option

VERSION = 1
FIELDS = ("corpus", "options", "share", "prefix", "splits")


@dataclass(frozen=True)
class Options:
    parts: list[dict] = option(
        [],
        "tables: corpus, options, prefix (default: corpus), share (largest part of an "
        "epoch, 0-1, default 1), splits (only these of it; default all)",
    )


class Corpus(base.Corpus):
    """The union; ValueError names the part that is wrong."""

    def __init__(self, options: Options):
        super().__init__(options)
        if not options.parts:
            raise ValueError(f"mixture: parts is empty; give tables with the fields {FIELDS}")
        self._parts: dict[str, base.Corpus] = {}
        self._shares: dict[str, float] = {}
        self._only: dict[str, list[str]] = {}
        for number, part in enumerate(options.parts):
            self._add(number, dict(part))
        self._protected: dict[str, dict[Any, str]] = {}

    def _add(self, number: int, part: dict[str, Any]) -> None:
        """Checks and makes one part."""
        where = f"mixture parts[{number}]"
        unknown = sorted(set(part) - set(FIELDS))
        if unknown or not isinstance(part.get("corpus"), str):
            raise ValueError(
                f"{where}: unknown fields {unknown}, corpus = {part.get('corpus')!r}; "
                f"allowed fields are {FIELDS} and corpus is a name"
            )
        prefix, share = str(part.get("prefix") or part["corpus"]), part.get("share", 1.0)
        if prefix in self._parts or ":" in prefix or "/" in prefix:
            raise ValueError(
                f"{where}: prefix '{prefix}' is used twice or has ':' or '/' in it; give another"
                " `prefix`"
            )
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"{where}: share is {share!r}; allowed is above 0 and up to 1")
        corpus = base.make(
            Choice(part["corpus"], part.get("options", {})), where=f"{where} ({part['corpus']})"
        )
        only = list(part.get("splits") or corpus.splits())
        missing = sorted(set(only) - set(corpus.splits()))
        if missing:
            raise ValueError(
                f"{where}: splits names {missing}; '{part['corpus']}' has {corpus.splits()}"
            )
        self._parts[prefix], self._shares[prefix], self._only[prefix] = corpus, float(share), only

    @classmethod
    def narrow(cls, options: dict[str, Any], splits: Iterable[str]) -> dict[str, Any]:
        """Only the parts, and of each only the tests, that `splits` ("<prefix>/<name>") ask for;
        everything for other names.
        """
        wanted = [s.partition("/") for s in splits]
        parts = []
        for part in options["parts"]:
            names = [
                name
                for prefix, _, name in wanted
                if name and prefix == (part.get("prefix") or part["corpus"])
            ]
            parts += [{**part, "splits": names}] if names else []
        return (
            {**options, "parts": parts}
            if wanted and sum(len(p["splits"]) for p in parts) == len(wanted)
            else options
        )

    def at_hand(self, split: str) -> bool:
        prefix, _, name = split.partition("/")
        if name:
            return self._parts[prefix].at_hand(name)
        return all(self._parts[p].at_hand(split) for p, only in self._only.items() if split in only)

    def splits(self) -> list[str]:
        names = [s for only in self._only.values() for s in only]
        tests = [
            f"{prefix}/{s}"
            for prefix, only in self._only.items()
            for s in only
            if s not in _speakers.ROLES
        ]
        return [*(role for role in _speakers.ROLES if role in names), *tests]

    def read(self, split: str) -> Iterator[base.Item]:
        protected = self._protects(split)
        for item in self._items_of(split):
            if isinstance(item, Utterance):
                seen = protected.get((item.audio, item.offset)) or protected.get(item.speaker)
                if seen:
                    item = base.Dropped(
                        item.id, f"its audio or its speaker '{item.speaker}' is also in '{seen}'"
                    )
                elif split in _speakers.ROLES:
                    # the same audio through two parts counts once; within tests it is two
                    # measurements
                    protected[(item.audio, item.offset)] = split
            yield item

    def _items_of(self, split: str) -> Iterator[base.Item]:
        """Items of a split with prefixed ids, nothing compared yet."""
        prefix, _, name = split.partition("/")
        chosen = (
            {prefix: name}
            if name
            else {p: split for p, only in self._only.items() if split in only}
        )
        for part, inner in chosen.items():
            for item in self._parts[part].utterances(inner):
                yield replace(item, id=f"{part}:{item.id}")

    def _protects(self, split: str) -> dict[Any, str]:
        """{speaker or (audio, offset): split} of everything in a split more protected than
        `split`.
        """
        if split not in _speakers.ROLES:
            return {}
        if split not in self._protected:
            above = [s for s in self.splits() if _speakers.level(s) > _speakers.level(split)]
            splits: dict[Any, str] = {}
            for other in above:
                for item in self._items_of(other):
                    if isinstance(item, Utterance):
                        splits[item.speaker] = splits[(item.audio, item.offset)] = other
            self._protected[split] = splits
        return dict(self._protected[split])

    def parts(self) -> list[base.Corpus]:
        return list(self._parts.values())

    def shares(self) -> dict[str, float]:
        return {prefix: share for prefix, share in self._shares.items() if share < 1}

    def attributions(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys(entry for part in self.parts() for entry in part.attributions()))
