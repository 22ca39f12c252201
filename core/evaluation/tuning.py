"""How frames are weighed against a decoding graph's words: chosen on speech held out as dev and on
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.data.prepared import Prepared
from core.decoding import ctc
from core.evaluation import scoring
from core.evaluation.fitness import some_of_each
from core.records import Interrupted, ProgressCallback
from core.runtime.base import PackedRecognizer

DEV = "dev"
SECONDS = 600.0  # of dev at most, the same from every corpus in it
SCALES = (0.5, 0.65, 0.8, 1.0, 1.3)
BLANK_PENALTIES = (0.0, 1.5, 3.0, 4.5)
BATCH = 16  # utterances in one forward pass


@dataclass(frozen=True)
class Tuning:
    """Word error rates {(scale, blank penalty): 0..1} on dev."""

    wer: dict[tuple[float, float], float]
    utterances: int
    seconds: float

    @property
    def best(self) -> tuple[float, float]:
        """The pair with the fewest errors; of equals the one nearest to what is usual."""
        return min(
            self.wer, key=lambda pair: (self.wer[pair], abs(pair[0] - 0.8) + abs(pair[1] - 3.0))
        )

    def __str__(self) -> str:
        """The table, and what was chosen."""
        penalties = sorted({penalty for _, penalty in self.wer})
        lines = [
            f"WER in % on {DEV} ({self.utterances} utterances, {self.seconds / 60:.1f} min)",
            "scale  " + "".join(f"{f'blank penalty {p:g}':>20}" for p in penalties),
        ]
        for scale in sorted({scale for scale, _ in self.wer}):
            lines.append(
                f"{scale:<7g}" + "".join(f"{100 * self.wer[scale, p]:>20.1f}" for p in penalties)
            )
        scale, penalty = self.best
        edge = [
            n
            for n, v, tried in (
                ("scale", scale, SCALES),
                ("blank penalty", penalty, BLANK_PENALTIES),
            )
            if v in (max(tried), min(tried))
        ]
        chosen = f"chosen: --scale {scale:g} --blank-penalty {penalty:g}"
        return "\n".join(
            [
                *lines,
                chosen + (f" ({' and '.join(edge)} at the edge of what was tried)" if edge else ""),
            ]
        )


def check(splits: Sequence[str]) -> None:
    """ValueError for any split but dev: what is tuned on a test is no test any more."""
    wrong = [s for s in splits if s != DEV]
    if wrong:
        raise ValueError(
            f"--tune reads the split {DEV} only, but --splits names {', '.join(wrong)}: weights"
            " chosen on a test would make its numbers too good; leave out --splits"
        )


def check_graph(recognizer: PackedRecognizer) -> None:
    """ValueError for a recognizer without a decoding graph: there is nothing to weigh."""
    if recognizer.graph is None:
        raise ValueError("--tune needs a decoding graph: give --decoder graph")


def tune(
    recognizer: PackedRecognizer,
    prepared: Prepared,
    *,
    seed: int = 1,
    progress: ProgressCallback = lambda *_: True,
) -> Tuning:
    """Tries SCALES x BLANK_PENALTIES with a recognizer that has a decoding graph. The network runs
    once, the search each time.
    ValueError when the speech has no dev; Interrupted when `progress` says stop.
    """
    check_graph(recognizer)
    if DEV not in prepared.splits or not prepared.rows(DEV):
        raise ValueError(
            f"--tune needs the split {DEV}, which this recipe's speech does not have; it has"
            f" {', '.join(prepared.splits)}"
        )
    rows = sorted(some_of_each(prepared.rows(DEV), SECONDS, seed), key=lambda r: -r.seconds)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    outputs = [recognizer.output([prepared.features(r, 1.0) for r in batch]) for batch in batches]
    pairs, rates = (
        [(s, p) for s in SCALES for p in BLANK_PENALTIES],
        dict[tuple[float, float], float](),
    )
    for scale, penalty in pairs:
        if not progress(
            len(rates) / len(pairs), f"scale {scale:g}, blank penalty {penalty:g}", None
        ):
            raise Interrupted(
                f"stopped after {len(rates)} of {len(pairs)} pairs; nothing was stored"
            )
        weights = replace(recognizer.weights, scale=scale, blank_penalty=penalty)
        texts = [
            text
            for output in outputs
            for text in ctc.over_graph(output.log_probs, output.lengths, recognizer.graph, weights)
        ]
        rates[scale, penalty] = scoring.word_edits([r.text for r in rows], texts).rate
    progress(1.0, f"{len(rates)} pairs were tried", 0.0)
    return Tuning(rates, len(rows), sum(r.seconds for r in rows))
