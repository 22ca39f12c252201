"""Where a size's further errors come from: by speaker, by length of the utterance, and in noise.

Intervals resample utterances within a speaker, else speakers where they are known.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.records import Recipe
from dashboard.model.errors import Size, hypotheses

LENGTHS = ((1, 5), (6, 10), (11, 15), (16, 20), (21, 30), (31, 10_000))  # words, both ends
FEWEST = 20  # utterances of a group that has an interval
AGAIN = 1000  # repetitions of a group's bootstrap
SPEAKER = ("speaker", "utterances", "words", "base", "other", "change", "low", "high")


def by_speaker(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per speaker, the one who loses most first: WER of both sizes, its change with a 95 %
    interval (0..1). Speakers with fewer than FEWEST utterances have none (NaN). Empty where nobody
    is known.
    """
    from core.evaluation import scoring

    groups = []
    for speaker, said in rows[rows["speaker"] != ""].groupby("speaker", sort=True):
        other, base, words = (
            said[name].to_numpy() for name in ("other_errors", "base_errors", "words")
        )
        same = [speaker] * len(said)
        change, low, high, _ = scoring.paired(other, base, words, same, AGAIN)
        if len(said) < FEWEST:
            low = high = np.nan
        rates = base.sum() / words.sum(), other.sum() / words.sum()
        groups.append((speaker, len(said), int(words.sum()), *rates, change, low, high))
    table = pd.DataFrame(groups, columns=SPEAKER)
    return table.sort_values("change", ascending=False, kind="stable", ignore_index=True)


def by_length(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per length with at least FEWEST utterances: length (in words, as text), utterances,
    words, and of both sizes WER with the ends of its 95 % interval (0..1).
    """
    from core.evaluation import scoring

    groups = []
    for low, high in LENGTHS:
        said = rows[rows["words"].between(low, high)]
        if len(said) < FEWEST:
            continue
        words, speakers = said["words"].to_numpy(), list(said["speaker"])
        group: dict = {
            "length": f"{low} to {high}" if high < LENGTHS[-1][1] else f"{low} or more",
            "utterances": len(said),
            "words": int(words.sum()),
        }
        for size in ("base", "other"):
            errors = said[f"{size}_errors"].to_numpy()
            ends = scoring.bootstrap(errors, words, speakers, AGAIN)
            group |= {size: errors.sum() / words.sum()}
            group |= {f"{size}_low": ends[0], f"{size}_high": ends[1]}
        groups.append(group)
    return pd.DataFrame(groups)


def noisy_copies(recipe: Recipe) -> dict[str, str]:
    """{noisy test set: the clean one of the same words}, as the recipe's mixture makes them."""
    if recipe.corpus.name != "mixture":
        return {}
    parts = [part for part in recipe.corpus.options.get("parts", []) if isinstance(part, dict)]
    prefixes = {part.get("corpus"): _prefix(part) for part in reversed(parts)}
    copies: dict[str, str] = {}
    for part in parts:
        options = part.get("options", {})
        if part.get("corpus") == "noisy" and options.get("corpus", "librispeech") in prefixes:
            clean = prefixes[options.get("corpus", "librispeech")]
            splits = options.get("splits") or {"test-clean-noisy": "test-clean"}
            copies |= {f"{_prefix(part)}/{new}": f"{clean}/{old}" for new, old in splits.items()}
    return copies


def _prefix(part: dict) -> str:
    return str(part.get("prefix") or part.get("corpus"))


def in_noise(clean: list[Size], noisy: list[Size]) -> pd.DataFrame:
    """A row per size that was measured on both test sets, densest first: size, sparsity,
    utterances, words, and WER without and with noise on the same utterances (clean, noisy, 0..1).
    """
    loud, groups = {size.name: size for size in noisy}, []
    for size in clean:
        if size.name not in loud:
            continue
        tables = [_by_plain_id(hypotheses(s)) for s in (size, loud[size.name])]
        both = tables[0].merge(
            tables[1], left_index=True, right_index=True, suffixes=("", "_noisy")
        )
        both = both[both["words"] == both["words_noisy"]]
        if words := int(both["words"].sum()):
            rates = both["errors"].sum() / words, both["errors_noisy"].sum() / words
            groups.append((size.label, size.sparsity, len(both), words, *rates))
    columns = ["size", "sparsity", "utterances", "words", "clean", "noisy"]
    return pd.DataFrame(groups, columns=columns)


def _by_plain_id(rows: pd.DataFrame) -> pd.DataFrame:
    """Ids as the corpus has them: a mixture puts its part's prefix before them."""
    return rows.set_axis([id.split(":", 1)[-1] for id in rows.index], axis=0)
