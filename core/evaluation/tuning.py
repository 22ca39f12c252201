"""How loud a language model should be: its weight and the score of a word, chosen on speech held out as dev and on nothing else."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.data.prepared import Prepared
from core.decoding import decoders as decoding
from core.evaluation import evaluate as evaluation, scoring
from core.evaluation.fitness import some_of_each
from core.runtime.recognizer import TorchRecognizer

DEV = "dev"
SECONDS = 600.0                                         # of dev at most, the same from every corpus in it
WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5)
SCORES = (-1.0, 0.0, 1.0, 2.0)
BATCH = 16                                              # utterances in one forward pass


@dataclass(frozen=True)
class Tuning:
    """Word error rates {(lm_weight, word_score): 0..1} on dev, and the ones to compare them with."""
    wer: dict[tuple[float, float], float]
    greedy: float
    beam: float              # beam search without the language model
    utterances: int
    seconds: float

    @property
    def best(self) -> tuple[float, float]:
        """The pair with the fewest errors; of equals the smaller weight, then the score nearer to 0."""
        return min(self.wer, key=lambda pair: (self.wer[pair], pair[0], abs(pair[1]), pair[1]))

    def __str__(self) -> str:
        """The table, and what was chosen."""
        scores = sorted({score for _, score in self.wer})
        lines = [f"words wrong in % on {DEV} ({self.utterances} utterances, {self.seconds / 60:.1f} min); greedy {100 * self.greedy:.1f}, "
                 f"beam without a language model {100 * self.beam:.1f}",
                 "lm_weight  " + "".join(f"{f'word_score {s:g}':>16}" for s in scores)]
        for weight in sorted({weight for weight, _ in self.wer}):
            lines.append(f"{weight:<11g}" + "".join(f"{100 * self.wer[weight, s]:>16.1f}" for s in scores))
        weight, score = self.best
        edge = [n for n, v, all_ in (("lm_weight", weight, WEIGHTS), ("word_score", score, SCORES)) if v in (max(all_), min(all_))]
        said = f"chosen: --lm-weight {weight:g} --word-score {score:g}"
        return "\n".join([*lines, said + (f" ({' and '.join(edge)} at the edge of what was tried)" if edge else "")])


def check(splits: Sequence[str]) -> None:
    """ValueError for any split but dev: what is tuned on a test is no test any more."""
    wrong = [s for s in splits if s != DEV]
    if wrong:
        raise ValueError(f"--tune hears the split {DEV} only, but --splits names {', '.join(wrong)}: weights chosen on a test would make "
                         f"its numbers too good; leave out --splits")


def tune(heard: TorchRecognizer, prepared: Prepared, *, seed: int = 1, report: evaluation.Progress = lambda *_: True) -> Tuning:
    """Tries WEIGHTS x SCORES with a recogniser that has a language model. The network runs once, the search each time. ValueError
    when the speech has no dev; Interrupted when `report` says stop."""
    if heard.fusion is None:
        raise ValueError("--tune needs a language model: give --decoder beam --lm FILE")
    if DEV not in prepared.splits or not prepared.rows(DEV):
        raise ValueError(f"--tune needs the split {DEV}, which this recipe's speech does not have; it has {', '.join(prepared.splits)}")
    rows = sorted(some_of_each(prepared.rows(DEV), SECONDS, seed), key=lambda r: -r.seconds)
    batches = [rows[i:i + BATCH] for i in range(0, len(rows), BATCH)]
    outputs = [heard.output([prepared.features(r, 1.0) for r in batch]) for batch in batches]
    loud, pairs = heard.fusion, [(w, s) for w in WEIGHTS for s in SCORES]

    def wer(fusion, decoder: str) -> float:
        ids = [one for output in outputs for one in decoding.whole(heard.model, output, decoder, heard.beam, fusion)]
        return scoring.word_edits([r.text for r in rows], [heard.tokenizer.decode(one) for one in ids]).rate

    found: dict[tuple[float, float], float] = {}
    plain = wer(None, decoding.GREEDY), wer(None, heard.decoder)
    for pair in pairs:
        if not report(len(found) / len(pairs), f"lm_weight {pair[0]:g}, word_score {pair[1]:g}", None):
            raise evaluation.Interrupted(f"stopped after {len(found)} of {len(pairs)} pairs; nothing was stored")
        found[pair] = wer(loud.with_weights(*pair), heard.decoder)
    report(1.0, f"{len(found)} pairs were tried", 0.0)
    return Tuning(found, *plain, len(rows), sum(r.seconds for r in rows))
