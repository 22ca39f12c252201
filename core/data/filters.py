"""Which items of a corpus can be used, and why the others cannot: by their words, lengths and ids.
Reads no sound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.common import stages, writing
from core.corpora import base
from core.data.prepared import DROPPED, TRAIN
from core.records import CountCallback, Utterance
from core.speech import marks, normalizer as text

TRAIN_SECONDS = (0.5, 20.0)  # of training utterances, at speed 1
EVALUATION_SECONDS = 60.0  # longer speech is for streaming
BAD_SHARE = 0.05  # of a split; above, something is wrong with the corpus, not with an item
PARTICULARS = re.compile(r"'[^']*'|\S*/\S+|\S+:\d+")
GROUPS, EXAMPLES = 5, 5  # reasons in an error, and ids for each


@dataclass(frozen=True)
class Drop:
    """One line of dropped.jsonl. `rule`: left out by a length or hygiene rule, so not counted as
    bad.
    """

    split: str
    id: str
    reason: str
    rule: bool = False

    @property
    def kind(self) -> str:
        """The reason without its particulars (what follows a colon, names in quotes, paths), for
        counting.
        """
        return PARTICULARS.sub("...", self.reason.partition(": ")[0])


def gather(
    corpus: base.Corpus,
    further: Sequence[str] = (),
    progress: CountCallback = lambda done, total, text: None,
) -> tuple[dict[str, list[Utterance]], list[Drop]]:
    """{split: usable utterances with normalized text} and what was left out; no sound is read.
    Marks that are no words (core.speech.marks, and
    `further` ones) are taken out of the texts.
    """
    utterances: dict[str, list[Utterance]] = {}
    dropped: list[Drop] = []
    splits = corpus.splits()
    for number, split in enumerate(splits):
        reading = stages.counted(stages.SPEECH, number, len(splits), "lists", f"reading {split}")
        progress(number, len(splits), reading)
        utterances[split], seen = [], set[str]()
        for item in corpus.utterances(split):
            words = _without_marks(split, item, further) if isinstance(item, Utterance) else item
            drop = words if isinstance(words, Drop) else _filtered(split, words, seen)
            if drop:
                dropped.append(drop)
                continue
            assert isinstance(words, Utterance)  # all others are dropped
            seen.add(words.id)
            utterances[split].append(replace(words, text=text.normalize(words.text)))
    return utterances, dropped


def _without_marks(split: str, utterance: Utterance, further: Sequence[str]) -> Utterance | Drop:
    words, removed = marks.without(utterance.text, further)
    if removed and not text.normalize(words):
        return Drop(
            split, utterance.id, f"only marks and no words: {' '.join(removed)[:80]}", rule=True
        )
    return replace(utterance, text=words)


def _filtered(split: str, item: Utterance | base.Dropped, seen: set[str]) -> Drop | None:
    """Why an item is left out before its sound is read, or None."""
    if isinstance(item, base.Dropped):
        return Drop(
            split, item.id, item.reason, rule=item.rule or " is also in " in item.reason
        )  # hygiene between splits
    if item.id in seen:
        return Drop(split, item.id, "duplicate id: the first one is kept")
    outside = text.problems(item.text)
    if outside:
        return Drop(split, item.id, f"characters outside the alphabet: {' '.join(outside)}")
    if not text.normalize(item.text):
        return Drop(split, item.id, "empty transcript")
    return length_drop(split, item.id, item.seconds)


def length_drop(split: str, id: str, seconds: float) -> Drop | None:
    """The length rules, for a length as declared or as decoded, in s."""
    low, high = TRAIN_SECONDS if split == TRAIN else (0.0, EVALUATION_SECONDS)
    if seconds < low:
        return Drop(split, id, f"shorter than {low:g} s: {seconds:.2f} s", rule=True)
    if seconds > high:
        return Drop(split, id, f"longer than {high:g} s: {seconds:.2f} s", rule=True)
    return None


def _examples(ids: list[str]) -> str:
    return ", ".join(id if len(id) <= 40 else f"{id[:37]}..." for id in ids[:EXAMPLES]) + (
        ", ..." if len(ids) > EXAMPLES else ""
    )


def check_bad(kept: dict[str, list[Any]], dropped: list[Drop], folder: Path) -> None:
    """ValueError if more than 5 % of a split's items are bad; the list stays beside the folder that
    was not made.
    """
    for split, good in kept.items():
        mine = [d for d in dropped if d.split == split]
        bad = Counter(d.kind for d in mine if not d.rule)
        count, total = sum(bad.values()), len(good) + len(mine)
        if count > BAD_SHARE * total:
            listed = folder.with_name(f"{folder.name}.{DROPPED}")
            writing.write_lines(listed, [d.__dict__ for d in dropped])
            reasons = "; ".join(
                f"{n} x {kind} ({_examples([d.id for d in mine if d.kind == kind])})"
                for kind, n in bad.most_common(GROUPS)
            )
            reasons += f"; and {len(bad) - GROUPS} further reasons" if len(bad) > GROUPS else ""
            raise ValueError(
                f"{count} of {total} items of split '{split}' are bad ({count / total:.0%}; allowed"
                f" are {BAD_SHARE:.0%}): {reasons}. All are listed in {listed}: mend them or leave"
                " them out"
            )
