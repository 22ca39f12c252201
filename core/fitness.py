"""How good a subnet is on speech held out for searching: CTC loss per frame, or word errors. For search and tuning only."""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.func import functional_call

from core import decoding, paths, plugins, scoring, store
from core.batches import Batch, Batches
from core.methods.base import ctc_loss
from core.prepared import Prepared, Row
from core.sparsity import blocks


class Fitness:
    """A supernet's shipped weights under masks, on a fixed seeded part of the split `search`.

    Every corpus in the split gives the same number of seconds, so that the longest does not decide alone. Chunk in frames of 40 ms.
    """

    def __init__(self, run: Path, prepared: Prepared, seconds: float, chunk: int, threads: int, seed: int):
        recipe, self.anatomy = store.recipe(run), store.anatomy(run)
        torch.set_num_threads(threads)
        module = plugins.load("models", recipe.model.name)
        self.prepared, self.chunk = prepared, chunk
        self.model = module.build(plugins.make_options(module.Options, recipe.model.options, "model"), prepared.tokenizer.size).eval()
        self.weights = {n: t.float() for n, t in safetensors.torch.load_file(run / paths.WEIGHTS).items()}
        self.ranks = {n: torch.from_numpy(r.astype(np.int32)) for n, r in store.ranks(run).items()}
        rows = some_of_each(prepared.rows("search"), seconds, seed)
        self.texts = {r.id: r.text for r in rows}
        self.batches = self._batches(rows)

    def _batches(self, rows: list[Row]) -> list[Batch]:
        source = Batches(self.prepared, "search", seconds_per_batch=200.0)
        ordered = sorted(rows, key=lambda r: -r.seconds)
        return [source.load([(r, 1.0) for r in ordered[i:i + 16]], 0, augment=False) for i in range(0, len(ordered), 16)]

    @torch.inference_mode()
    def _outputs(self, keep: dict[str, float]):
        weights = blocks.masked(self.weights, blocks.block_masks(self.ranks, self.anatomy, keep))
        for batch in self.batches:
            yield batch, functional_call(self.model, weights, (batch.features, batch.lengths), {"chunk": self.chunk})

    def loss(self, keep: dict[str, float]) -> float:
        """CTC loss per encoder frame."""
        total = frames = 0.0
        for batch, output in self._outputs(keep):
            total += float(ctc_loss(output.log_probs, output.lengths, batch))
            frames += float(output.lengths.sum())
        return total / frames

    def wer(self, keep: dict[str, float]) -> float:
        """Word error rate, greedy."""
        texts, heard = [], []
        for batch, output in self._outputs(keep):
            texts += [self.texts[i] for i in batch.ids]
            heard += [self.prepared.tokenizer.decode(ids) for ids in decoding.greedy(output.log_probs, output.lengths)]
        return scoring.word_edits(texts, heard).rate


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
