"""How good weights are on speech held out of training: the model's loss per frame, or WER.
For curves, search and tuning only.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import cost
from core.data.batches import Batch, Batches
from core.data.prepared import Prepared, Row
from core.decoding import ctc, decoders as decoding
from core.evaluation import scoring
from core.lm import languages
from core.lm.graph import Graph
from core.lm.languages import Language
from core.models import base as models
from core.models.base import Model, Output, with_weights
from core.sparsity import blocks
from core.storage import packing, store


class HeldOut:
    """A fixed seeded part of held-out splits, heard by a model under any weights.

    Every corpus in a split gives the same number of seconds, so that the longest does not decide
    alone. Chunk in encoder frames.
    """

    def __init__(
        self, prepared: Prepared, splits: Sequence[str], seconds: float, chunk: int, seed: int
    ):
        self.prepared, self.chunk = prepared, chunk
        chosen = [
            r
            for split in splits
            for r in some_of_each(prepared.rows(split), seconds / len(splits), seed)
        ]
        rows = sorted(chosen, key=lambda r: -r.seconds)
        self.rows = {r.id: r for r in rows}
        source = Batches(prepared, splits[0], seconds_per_batch=200.0, speeds=(1.0,))
        self.batches = [
            source.load([(r, 1.0) for r in rows[i : i + 16]], 0, augment=False)
            for i in range(0, len(rows), 16)
        ]

    @torch.inference_mode()
    def _each(
        self,
        model: Model,
        weights: dict[str, Tensor],
        given: dict[str, Any],
        work: Callable[[Model, Output, Batch], Any],
    ) -> Iterator[tuple[Batch, Output, Any]]:
        """work(model, output, batch) of every batch, under the weights; `given` goes to the
        model.
        """
        device = next(iter(weights.values())).device
        for batch in (b.to(device) for b in self.batches):

            def both(model: Model, batch: Batch = batch) -> tuple[Output, Any]:
                output = model(batch.features, batch.lengths, chunk=self.chunk, **given)
                return output, work(model, output, batch)

            yield batch, *with_weights(model, weights, both)

    def loss(self, model: Model, weights: dict[str, Tensor], **given: Any) -> float:
        """The model's loss per encoder frame; `given` goes to the model (gates, head)."""
        total, frames = self.sums(model, weights, **given)
        return total / frames

    def sums(self, model: Model, weights: dict[str, Tensor], **given: Any) -> tuple[float, float]:
        """(loss, encoder frames), summed over the speech."""
        total = frames = 0.0
        for _, output, loss in self._each(
            model, weights, given, lambda model, output, batch: model.loss(output, batch)
        ):
            total += float(loss)
            frames += float(output.lengths.sum())
        return total, frames

    def part(self, number: int, of: int) -> HeldOut:
        """The same with every `of`-th batch, from `number` on."""
        share = copy.copy(self)
        share.batches = self.batches[number::of]
        return share

    def edits(
        self, model: Model, weights: dict[str, Tensor], **given: Any
    ) -> dict[str, scoring.Edits]:
        """{corpus: word edits (of phonemes, where tokens are phonemes)}, greedy, and all of them
        under "".
        """
        pairs: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        for batch, _, said in self._each(
            model, weights, given, lambda model, output, _: decoding.whole(model, output)
        ):
            for id, ids in zip(batch.ids, said):
                for corpus in ("", self.rows[id].corpus):
                    pairs[corpus][0].append(self.prepared.tokenizer.reference(self.rows[id].text))
                    pairs[corpus][1].append(self.prepared.tokenizer.decode(ids))
        return {corpus: scoring.word_edits(*both) for corpus, both in sorted(pairs.items())}

    def by_speaker(
        self,
        model: Model,
        weights: dict[str, Tensor],
        graph: Graph | None = None,
        **given: Any,
    ) -> dict[tuple[str, str], list[float]]:
        """{(corpus, speaker): [loss, encoder frames, word errors, words]}, each summed over the
        speaker's utterances, greedy; of a net of phonemes the errors are phonemes'. A decoding
        graph adds [word errors, words] over it.
        """

        def both(model: Model, output: Output, batch: Batch) -> tuple[Tensor, list[list[int]]]:
            return model.loss(output, batch, "none"), decoding.whole(model, output)

        sums: dict[tuple[str, str], np.ndarray] = defaultdict(
            lambda: np.zeros(4 if graph is None else 6)
        )
        for batch, output, (losses, ids) in self._each(model, weights, given, both):
            texts = [self.rows[id].text for id in batch.ids]
            said = [self.prepared.tokenizer.decode(tokens) for tokens in ids]
            edits = [
                scoring.word_edits([self.prepared.tokenizer.reference(t) for t in texts], said)
            ]
            if graph is not None:
                words = ctc.over_graph(output.log_probs, output.lengths, graph)
                edits.append(scoring.word_edits(texts, words))
            for i, id in enumerate(batch.ids):
                row, counts = self.rows[id], [(e.errors[i], e.words[i]) for e in edits]
                figures = (float(losses[i]), float(output.lengths[i]), *itertools.chain(*counts))
                sums[row.corpus, row.speaker] += figures
        return {key: [round(float(v), 2) for v in each] for key, each in sorted(sums.items())}


class Fitness:
    """A supernet's shipped weights under masks, on a part of the split `search`, or of others; on a
    GPU where there is one.
    """

    def __init__(
        self,
        run: Path,
        prepared: Prepared,
        seconds: float,
        chunk_ms: float,
        threads: int,
        seed: int,
        splits: Sequence[str] = ("search",),
    ):
        recipe, self.spec = store.recipe(run), store.spec(run)
        torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = models.build(recipe.model, prepared.tokenizer.size).eval().to(device)
        self.weights = {
            n: torch.from_numpy(t).float().to(device) for n, t in packing.weights(run).items()
        }
        self.ranks = {
            n: torch.from_numpy(r.astype(np.int32)).to(device)
            for n, r in packing.ranks(run).items()
        }
        self.held_out = HeldOut(prepared, splits, seconds, self.model.chunk_frames(chunk_ms), seed)

    def _masked(self, keep: dict[str, float]) -> dict[str, Tensor]:
        return blocks.masked(self.weights, blocks.block_masks(self.ranks, self.spec, keep))

    def _gates(self, keep: dict[str, float]) -> dict[str, float]:
        return dict.fromkeys(cost.branches_off(self.spec, keep), 0.0)

    def loss(self, keep: dict[str, float]) -> float:
        """The model's loss per encoder frame."""
        return self.held_out.loss(self.model, self._masked(keep), gates=self._gates(keep))

    def sums(self, keep: dict[str, float], number: int, of: int) -> tuple[float, float]:
        """(loss, encoder frames) of one of several parts of the speech; their sums over all parts
        make the loss.
        """
        return self.held_out.part(number, of).sums(
            self.model, self._masked(keep), gates=self._gates(keep)
        )

    def graph(self) -> Graph | None:
        """The decoding graph of open speech, for nets that make words by one only."""
        tokens = self.held_out.prepared.tokenizer
        over = ctc.usual(self.model.decoding, tokens.unit) == ctc.GRAPH
        return languages.load(Language(), tokens) if over else None

    def by_speaker(
        self, keep: dict[str, float], head: int = 0, graph: Graph | None = None
    ) -> dict[tuple[str, str], list[float]]:
        """As HeldOut.by_speaker."""
        return self.held_out.by_speaker(
            self.model, self._masked(keep), graph, gates=self._gates(keep), head=head
        )

    def wer(self, keep: dict[str, float]) -> float:
        """Word error rate, greedy."""
        return self.held_out.edits(self.model, self._masked(keep), gates=self._gates(keep))[""].rate


def some_of_each(rows: list[Row], seconds: float, seed: int) -> list[Row]:
    """About `seconds` of speech in all, the same from every corpus (or all that it has)."""
    by_corpus: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_corpus[row.corpus].append(row)
    chosen = []
    for corpus in sorted(by_corpus):
        left = seconds / len(by_corpus)
        order = np.random.default_rng(seed).permutation(len(by_corpus[corpus]))
        for i in order:
            if left <= 0:
                break
            chosen.append(by_corpus[corpus][i])
            left -= by_corpus[corpus][i].seconds
    return chosen
