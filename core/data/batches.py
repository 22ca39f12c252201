"""Training batches: which utterances meet at which speed, and their normalised features as tensors.

Letters: B utterances, T frames of 10 ms, U tokens. Everything drawn is a function of (seed, epoch, utterance id), so a
plan can be made again at any time, and a batch does not depend on the batches before it.
"""
from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.common.randomness import epoch_rng, utterance_rng
from core.data.prepared import TRAIN, Prepared, Row
from core.speech.features import BINS, FRAMES_PER_SECOND, SpecAugment, spec_augment

MASKS = SpecAugment()
EXPECTED = 32  # batches whose features the system is asked to read before they are loaded
Item = tuple[Row, float]  # an utterance and the speed it is heard at


@dataclass(frozen=True)
class Batch:
    """What one update is computed from."""
    features: torch.Tensor        # float32 [B, T, 80], normalised; 0 behind each utterance's end
    lengths: torch.Tensor         # int64 [B], frames of 10 ms
    tokens: torch.Tensor          # int64 [B, U], 0 behind the end
    token_lengths: torch.Tensor   # int64 [B]
    ids: list[str]
    seconds: float                # of speech in all parts of the batch, as heard, padding not counted

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.features.to(device, non_blocking=True), self.lengths.to(device), self.tokens.to(device),
                     self.token_lengths.to(device), self.ids, self.seconds)


class Batches:
    """Length-bucketed batches of one split of prepared data.

    seconds_per_batch: padded speech in a batch, at most (a longer utterance is a batch of its own).
    speeds: drawn per utterance and epoch; None: all there are for "train", 1 for others.
    max_share: {corpus: largest share of an epoch's seconds}; None: as the corpus asked for it.
    augment: SpecAugment settings of "train"; None: no masks.  bucket_noise: lengths are blurred by this share before
    sorting, so that batches differ from epoch to epoch.  pad_to: T is made a multiple of this.
    part: (number, of how many) of the processes that train together: load() gives its part of every batch, as long as the whole.
    """

    def __init__(self, prepared: Prepared, split: str = TRAIN, seconds_per_batch: float = 120.0, seed: int = 1, *,
                 speeds: Sequence[float] | None = None, max_share: dict[str, float] | None = None,
                 augment: SpecAugment | None = MASKS, bucket_noise: float = 0.05, pad_to: int = 4,
                 max_utterances: int = 512, part: tuple[int, int] = (0, 1)):
        self.prepared, self.split, self.seed = prepared, split, seed
        self.rows = prepared.rows(split)
        if not self.rows:
            raise ValueError(f"the split '{split}' of {prepared.folder} is empty")
        self.frames_per_batch = seconds_per_batch * FRAMES_PER_SECOND
        self.speeds = tuple(prepared.speeds(split) if speeds is None else speeds)
        missing = sorted(set(self.speeds) - set(prepared.speeds(split)))
        if missing or not self.speeds:
            raise ValueError(f"speeds {list(self.speeds)} of split '{split}': prepared are {prepared.speeds(split)}; "
                             f"change features.speed_change and prepare again")
        self.max_share = dict(prepared.shares if max_share is None else max_share) if split == TRAIN else {}
        self.augment = augment if split == TRAIN else None
        self.bucket_noise = bucket_noise if split == TRAIN else 0.0
        self.pad_to, self.max_utterances, self.part = pad_to, max_utterances, part
        self._mean = prepared.statistics.mean
        self._scale = (1 / prepared.statistics.std).astype(np.float32)

    def plan(self, epoch: int) -> list[list[Item]]:
        """The batches of an epoch, in order; the same for the same (seed, epoch)."""
        items, keys = [], []
        for row in self._chosen(epoch):
            rng = utterance_rng(self.seed, epoch, row.id, "plan")
            speed = self.speeds[int(rng.integers(len(self.speeds)))]
            items.append((row, speed))
            keys.append(row.frames[speed][1] * (1 + self.bucket_noise * rng.uniform(-1, 1)))
        order = sorted(range(len(items)), key=lambda i: (-keys[i], items[i][0].id))
        batches = self._cut([items[i] for i in order])
        if self.split == TRAIN:
            epoch_rng(self.seed, epoch, "batches").shuffle(batches)
        return batches

    def _cut(self, items: list[Item]) -> list[list[Item]]:
        """Neighbours together while count x longest fits into the budget."""
        batches: list[list[Item]] = []
        longest = 0
        for item in items:
            frames = item[0].frames[item[1]][1]
            longest = max(longest, frames)
            full = not batches or len(batches[-1]) == self.max_utterances
            if full or longest * (len(batches[-1]) + 1) > self.frames_per_batch:
                batches.append([])
                longest = frames
            batches[-1].append(item)
        return batches

    def _chosen(self, epoch: int) -> list[Row]:
        """This epoch's utterances: capped corpora give a part, drawn anew each epoch."""
        if not self.max_share:
            return self.rows
        seconds: dict[str, float] = defaultdict(float)
        for row in self.rows:
            seconds[row.corpus] += row.seconds
        allowed = capped_seconds(dict(seconds), self.max_share)
        left = dict(allowed)
        rows = list(self.rows)
        epoch_rng(self.seed, epoch, "share").shuffle(rows)
        chosen = set()
        for row in rows:
            if allowed[row.corpus] >= seconds[row.corpus] or row.seconds <= left[row.corpus]:
                left[row.corpus] -= row.seconds
                chosen.add(row.id)
        return [row for row in self.rows if row.id in chosen]

    def load(self, items: Sequence[Item], epoch: int, augment: bool = True) -> Batch:
        """The tensors of one item of a plan; `augment` False: no SpecAugment (evaluation). Of a small batch a part may be empty."""
        frames = [row.frames[speed][1] for row, speed in items]
        longest = -(-max(frames) // self.pad_to) * self.pad_to
        items = items[self.part[0]::self.part[1]]
        views = [self.prepared.features(row, speed) for row, speed in items]
        features = np.zeros((len(items), longest, BINS), np.float32)
        tokens = np.zeros((len(items), max([1, *(len(row.tokens) for row, _ in items)])), np.int64)
        for i, ((row, _), view) in enumerate(zip(items, views)):
            own = features[i, :len(view)]
            np.subtract(view, self._mean, out=own)
            own *= self._scale
            if augment and self.augment:
                spec_augment(own, utterance_rng(self.seed, epoch, row.id, "specaugment"), self.augment)
            tokens[i, :len(row.tokens)] = row.tokens
        lengths = [len(view) for view in views]
        return Batch(torch.from_numpy(features), torch.tensor(lengths, dtype=torch.int64), torch.from_numpy(tokens),
                     torch.tensor([len(row.tokens) for row, _ in items], dtype=torch.int64), [row.id for row, _ in items],
                     sum(frames) / FRAMES_PER_SECOND)

    def iterate(self, epoch: int, start: int = 0, augment: bool = True, ahead: int = 2) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, read by one thread `ahead` batches before they are used."""
        plan = self.plan(epoch)[start:]

        def loaded() -> Iterator[Batch]:
            for i, items in enumerate(plan):
                for soon in plan[:EXPECTED] if i == 0 else plan[i + EXPECTED - 1:i + EXPECTED]:
                    for row, speed in soon[self.part[0]::self.part[1]]:
                        self.prepared.expect(row, speed)
                yield self.load(items, epoch, augment)
        return _ahead(loaded(), ahead)


def capped_seconds(seconds: dict[str, float], max_share: dict[str, float]) -> dict[str, float]:
    """{corpus: seconds} such that no corpus is more than its share of their sum, each as large as possible.

    ValueError if the shares leave nothing: every corpus is capped and they do not reach 1 together."""
    allowed = dict(seconds)
    bound: set[str] = set()
    while True:
        share = sum(max_share[c] for c in bound)
        free = sum(s for c, s in seconds.items() if c not in bound)
        if bound and (free <= 0 or share >= 1):
            raise ValueError(f"the largest shares {max_share} cannot hold: they leave out what fills the epoch; raise "
                             f"one, or leave one corpus of {sorted(seconds)} without")
        total = free / (1 - share) if bound else free
        allowed.update({c: max_share[c] * total for c in bound})
        over = {c for c, s in seconds.items() if c not in bound and s > max_share.get(c, 1.0) * total}
        if not over:
            return allowed
        bound |= over


def _ahead(batches: Iterator[Batch], ahead: int) -> Iterator[Batch]:
    """`batches`, read by a thread; its exceptions are raised here, and it ends when nobody reads on."""
    if ahead < 1:
        yield from batches
        return
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(what: tuple) -> bool:
        while not stop.is_set():
            try:
                ready.put(what, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(("batch", batch)):
                    return
            put(("end", None))
        except BaseException as error:  # handed over: it is raised where the batch is used
            put(("error", error))

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
