"""Training batches: which utterances meet at which speed, and their normalized features as tensors.

Letters: B utterances, T frames of 10 ms, U tokens. Everything drawn is a function of (seed, epoch,
utterance id), so a plan can be made again at any time, and a batch does not depend on the batches
before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.common.randomness import epoch_rng, utterance_rng
from core.data.prefetch import prefetch
from core.data.prepared import TRAIN, Prepared, Row
from core.speech import augment as augmentation
from core.speech.features import BINS, FRAMES_PER_SECOND, SpecAugment, spec_augment
from core.speech.tokenizer import repeats

MASKS = SpecAugment()
SUBSAMPLING = (
    4  # feature frames of an encoder frame: a tempo must leave room for an utterance's labels
)
EXPECTED = 32  # batches whose features the system is asked to read before they are loaded
PlannedUtterance = tuple[Row, float]  # an utterance and the speed it is heard at


@dataclass(frozen=True)
class Batch:
    """What one update is computed from."""

    features: torch.Tensor  # float32 [B, T, 80], normalized; 0 behind each utterance's end
    lengths: torch.Tensor  # int64 [B], frames of 10 ms
    tokens: torch.Tensor  # int64 [B, U], 0 behind the end
    token_lengths: torch.Tensor  # int64 [B]
    ids: list[str]
    seconds: float  # of speech in all parts of the batch, as heard, padding not counted

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.features.to(device, non_blocking=True),
            self.lengths.to(device),
            self.tokens.to(device),
            self.token_lengths.to(device),
            self.ids,
            self.seconds,
        )


class Batches:
    """Length-bucketed batches of one split of prepared data.

    seconds_per_batch: padded speech in a batch, at most (a longer utterance is a batch of its own).
    speeds: drawn per utterance and epoch; None: all there are for "train", 1 for others.
    max_share: {corpus: largest share of an epoch's seconds}; None: as the corpus asked for it.
    augment: SpecAugment settings of "train"; None: no masks.  change: other augmentation of "train"
    (core/speech/augment.py); its tempo
    takes the place of `speeds`.  views: every utterance comes so often in a batch, differently
    augmented but at one tempo: first all
    utterances, then all of them again; the seconds of a batch count them all.  bucket_noise:
    lengths are blurred by this share before
    sorting, so that batches differ from epoch to epoch.  pad_to: T is made a multiple of this.
    part: (number, of how many) of the processes that train together: load() gives its part of every
    batch, as long as the whole.
    """

    def __init__(
        self,
        prepared: Prepared,
        split: str = TRAIN,
        seconds_per_batch: float = 120.0,
        seed: int = 1,
        *,
        speeds: Sequence[float] | None = None,
        max_share: dict[str, float] | None = None,
        augment: SpecAugment | None = MASKS,
        change: augmentation.Options | None = None,
        views: int = 1,
        bucket_noise: float = 0.05,
        pad_to: int = 4,
        max_utterances: int = 512,
        part: tuple[int, int] = (0, 1),
    ):
        self.prepared, self.split, self.seed = prepared, split, seed
        self.rows = prepared.rows(split)
        if not self.rows:
            raise ValueError(f"the split '{split}' of {prepared.folder} is empty")
        self.views = views if split == TRAIN else 1
        self.frames_per_batch = seconds_per_batch * FRAMES_PER_SECOND / self.views
        self.speeds = tuple(prepared.speeds(split) if speeds is None else speeds)
        missing = sorted(set(self.speeds) - set(prepared.speeds(split)))
        if missing or not self.speeds:
            raise ValueError(
                f"speeds {list(self.speeds)} of split '{split}': prepared are"
                f" {prepared.speeds(split)}; change features.speed_change and prepare again"
            )
        self.max_share = (
            dict(prepared.shares if max_share is None else max_share) if split == TRAIN else {}
        )
        self.augment = augment if split == TRAIN else None
        self.change = change if split == TRAIN else None
        self.bucket_noise = bucket_noise if split == TRAIN else 0.0
        self.pad_to, self.max_utterances, self.part = pad_to, max_utterances, part
        self._mean = prepared.statistics.mean
        self._scale = (1 / prepared.statistics.std).astype(np.float32)

    def plan(self, epoch: int) -> list[list[PlannedUtterance]]:
        """The batches of an epoch, in order; the same for the same (seed, epoch)."""
        items, keys = [], []
        for row in self._chosen(epoch):
            rng = utterance_rng(self.seed, epoch, row.id, "plan")
            speed = self._speed(row, rng)
            items.append((row, speed))
            keys.append(_frames(row, speed) * (1 + self.bucket_noise * rng.uniform(-1, 1)))
        order = sorted(range(len(items)), key=lambda i: (-keys[i], items[i][0].id))
        batches = self._cut([items[i] for i in order])
        if self.split == TRAIN:
            epoch_rng(self.seed, epoch, "batches").shuffle(batches)
        return batches

    def _speed(self, row: Row, rng: np.random.Generator) -> float:
        if self.change is None or not self.change.tempo:
            return self.speeds[int(rng.integers(len(self.speeds)))]
        labels = len(row.tokens) + repeats(row.tokens)
        return augmentation.draw_tempo(self.change, rng, row.frames[1.0][1], labels, SUBSAMPLING)

    def _cut(self, items: list[PlannedUtterance]) -> list[list[PlannedUtterance]]:
        """Neighbors together while count x longest fits into the budget."""
        batches: list[list[PlannedUtterance]] = []
        longest = 0
        for item in items:
            frames = _frames(*item)
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

    def load(self, items: Sequence[PlannedUtterance], epoch: int, augment: bool = True) -> Batch:
        """The tensors of one item of a plan; `augment` False: as it was spoken (evaluation). Of a
        small batch a part may be empty.
        """
        frames = [_frames(row, speed) for row, speed in items]
        longest = -(-max(frames) // self.pad_to) * self.pad_to
        items = items[self.part[0] :: self.part[1]]
        each = [
            (row, speed, "" if view == 0 else f"#{view}")
            for view in range(self.views)
            for row, speed in items
        ]
        features = np.zeros((len(each), longest, BINS), np.float32)
        tokens = np.zeros((len(each), max([1, *(len(row.tokens) for row, _ in items)])), np.int64)
        for i, (row, speed, view) in enumerate(each):
            features[i, : _frames(row, speed)] = self._normalized(row, speed, epoch, view, augment)
            tokens[i, : len(row.tokens)] = row.tokens
        return Batch(
            torch.from_numpy(features),
            torch.tensor([_frames(row, speed) for row, speed, _ in each], dtype=torch.int64),
            torch.from_numpy(tokens),
            torch.tensor([len(row.tokens) for row, _, _ in each], dtype=torch.int64),
            [row.id + view for row, _, view in each],
            sum(frames) * self.views / FRAMES_PER_SECOND,
        )

    def _normalized(
        self, row: Row, speed: float, epoch: int, view: str, augment: bool
    ) -> np.ndarray:
        """Features float32 [T, 80] of one utterance: changed on the fly, normalized, masked."""
        if speed in row.frames:
            features = self.prepared.features(row, speed)
        else:
            features = augmentation.stretched(
                self.prepared.features(row, 1.0).astype(np.float32), _frames(row, speed)
            )
        if augment and self.change:
            rng = utterance_rng(self.seed, epoch, row.id, "change" + view)
            features = augmentation.change(np.asarray(features, np.float32), self.change, rng)
        normalized = np.subtract(features, self._mean, dtype=np.float32)
        normalized *= self._scale
        if augment and self.augment:
            spec_augment(
                normalized,
                utterance_rng(self.seed, epoch, row.id, "specaugment" + view),
                self.augment,
            )
        return normalized

    def iterate(
        self, epoch: int, start: int = 0, augment: bool = True, ahead: int = 2
    ) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, read by one thread `ahead` batches before
        they are used.
        """
        plan = self.plan(epoch)[start:]

        def loaded() -> Iterator[Batch]:
            for i, items in enumerate(plan):
                for soon in plan[:EXPECTED] if i == 0 else plan[i + EXPECTED - 1 : i + EXPECTED]:
                    for row, speed in soon[self.part[0] :: self.part[1]]:
                        self.prepared.expect(row, speed if speed in row.frames else 1.0)
                yield self.load(items, epoch, augment)

        return prefetch(loaded(), ahead)


def _frames(row: Row, speed: float) -> int:
    """Frames of an utterance at a prepared speed, or at a tempo that is made on the fly."""
    return (
        row.frames[speed][1] if speed in row.frames else max(1, round(row.frames[1.0][1] / speed))
    )


def capped_seconds(seconds: dict[str, float], max_share: dict[str, float]) -> dict[str, float]:
    """{corpus: seconds} such that no corpus is more than its share of their sum, each as large as
    possible.

    ValueError if the shares leave nothing: every corpus is capped and they do not reach 1 together.
    """
    allowed = dict(seconds)
    bound: set[str] = set()
    while True:
        share = sum(max_share[c] for c in bound)
        free = sum(s for c, s in seconds.items() if c not in bound)
        if bound and (free <= 0 or share >= 1):
            raise ValueError(
                f"the largest shares {max_share} cannot hold: they leave out what fills the epoch;"
                f" raise one, or leave one corpus of {sorted(seconds)} without"
            )
        total = free / (1 - share) if bound else free
        allowed.update({c: max_share[c] * total for c in bound})
        over = {
            c for c, s in seconds.items() if c not in bound and s > max_share.get(c, 1.0) * total
        }
        if not over:
            return allowed
        bound |= over
