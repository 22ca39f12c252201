"""From an utterance and its features to a row of the index, or the reason why it has none; and what
a split's rows add up to.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from core.data.extract import Extracted
from core.data.filters import Drop, length_drop
from core.data.prepared import Row
from core.records import Utterance
from core.speech import features, tokenizer

SUBSAMPLING = 4  # encoder frames are 40 ms, four feature frames
# CTC loss is computed on these: their labels must fit into the frames
LOSS_SPLITS = ("train", "search", "dev")


def row_of(
    split: str,
    corpus: str,
    utterance: Utterance,
    extracted: Extracted | str,
    tokens: tokenizer.Tokenizer,
) -> Row | Drop:
    """The index row of an utterance, its frames not placed yet, or why it is left out."""
    if isinstance(extracted, str):
        return Drop(split, utterance.id, f"audio cannot be used: {extracted}")
    drop = length_drop(split, utterance.id, extracted.seconds)
    if drop:
        return drop
    try:
        ids = tokens.encode(utterance.text)
    except ValueError as error:
        return Drop(split, utterance.id, f"no tokens: {error}")
    room = min(len(array) for array in extracted.features.values()) // SUBSAMPLING
    if not room:
        return Drop(
            split,
            utterance.id,
            f"no audio: {extracted.seconds:.3f} s are less than one encoder frame",
        )
    needed = len(ids) + tokenizer.repeats(ids)
    if split in LOSS_SPLITS and needed > room:
        return Drop(
            split,
            utterance.id,
            f"more labels than frames: {needed} tokens and repeats, {room} frames of "
            f"{SUBSAMPLING * features.FRAME_SHIFT_MS} ms at the fastest speed",
        )
    return Row(
        utterance.id,
        split,
        corpus,
        utterance.text,
        utterance.speaker,
        round(extracted.seconds, 4),
        utterance.audio,
        utterance.offset,
        utterance.seconds,
        "",
        tuple(ids),
        {},
    )


def summary(rows: list[Row], dropped: list[Drop], training: list[Row]) -> dict[str, Any]:
    """What a split holds, for people and for the model card."""
    speakers, training_speakers = {r.speaker for r in rows}, {r.speaker for r in training}
    return {
        "utterances": len(rows),
        "hours": round(sum(r.seconds for r in rows) / 3600, 3),
        "speakers": len(speakers),
        "words": sum(len(r.text.split()) for r in rows),
        "training_speakers": len(speakers & training_speakers),
        "hours_by_corpus": {
            c: round(sum(r.seconds for r in rows if r.corpus == c) / 3600, 3)
            for c in sorted({r.corpus for r in rows})
        },
        "bad": Counter(d.kind for d in dropped if not d.rule),
        "left_out_by_rule": Counter(d.kind for d in dropped if d.rule),
    }
