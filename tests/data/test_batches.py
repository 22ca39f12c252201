"""Batches: complete, repeatable, little padding, capped shares, normalized features, masks that
follow the id.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.common.randomness import utterance_rng
from core.data import prepare
from core.data.batches import Batches, capped_seconds
from core.data.prepared import Prepared
from core.data.source import SpeechRecipe
from core.speech import augment
from core.speech.features import SpecAugment, spec_augment
from core.speech.tokenizer import repeats
from core.training.options import Options as TrainingOptions, training_batches
from tests.speech_stub import RECIPE, Stub, give, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    train = [
        replace(u, id=f"{'arctic' if i % 2 else 'books'}:{u.id}")
        for i, u in enumerate(write_split(folder, "train", 120, 1))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(folder / "artifacts"))
        give(
            patch, Stub({"train": train, "search": write_split(folder, "search", 9, 2)}, mixed=True)
        )
        return Prepared(prepare.prepare(SpeechRecipe.of(RECIPE), processes=1))


def ids(plan):
    return [[(row.id, speed) for row, speed in items] for items in plan]


def padding(plan):
    """Share of padded frames that hold no speech."""
    speech = sum(row.frames[speed][1] for items in plan for row, speed in items)
    return 1 - speech / sum(
        len(items) * max(row.frames[speed][1] for row, speed in items) for items in plan
    )


@pytest.mark.slow
def test_every_utterance_once_an_epoch_in_batches_of_the_size_asked_for(data):
    batches = Batches(data, seconds_per_batch=20)
    plan = batches.plan(0)
    assert Counter(row.id for items in plan for row, _ in items) == Counter(
        row.id for row in data.rows("train")
    )
    sizes = [len(items) * max(row.frames[speed][1] for row, speed in items) for items in plan]
    assert max(sizes) <= 2000 and np.median(sizes) > 1400
    alone = Batches(data, seconds_per_batch=0.5).plan(0)
    assert all(len(items) == 1 for items in alone) and len(alone) == 120


@pytest.mark.slow
def test_little_padding(data):
    shares = [padding(Batches(data, seconds_per_batch=20).plan(epoch)) for epoch in range(5)]
    print(f"padding share {np.mean(shares):.1%}")
    assert np.mean(shares) < 0.08


def test_plans_repeat_and_differ_between_epochs_and_seeds(data):
    batches = Batches(data, seconds_per_batch=20, seed=3)
    assert ids(batches.plan(2)) == ids(Batches(data, seconds_per_batch=20, seed=3).plan(2))
    assert ids(batches.plan(2)) != ids(batches.plan(3))
    assert ids(batches.plan(2)) != ids(Batches(data, seconds_per_batch=20, seed=4).plan(2))
    speeds = Counter(speed for items in batches.plan(0) for _, speed in items)
    assert set(speeds) == {0.9, 1.0, 1.1} and min(speeds.values()) > 20
    lengths = [max(row.frames[speed][1] for row, speed in items) for items in batches.plan(0)]
    assert lengths != sorted(lengths) and lengths != sorted(lengths, reverse=True)


def test_speed_is_drawn_for_the_utterance_not_for_its_place(data, monkeypatch):
    batches = Batches(data, seconds_per_batch=20)
    speeds = {row.id: speed for items in batches.plan(1) for row, speed in items}
    batches.rows = batches.rows[::-1][:60]
    assert all(speeds[row.id] == speed for items in batches.plan(1) for row, speed in items)


def test_shares_are_capped_and_drawn_anew(data):
    batches = Batches(data, seconds_per_batch=20, max_share={"arctic": 0.15})
    chosen = []
    for epoch in range(3):
        rows = [row for items in batches.plan(epoch) for row, _ in items]
        seconds = Counter()
        for row in rows:
            seconds[row.corpus] += row.seconds
        assert 0.10 < seconds["arctic"] / sum(seconds.values()) <= 0.15
        assert sum(row.corpus == "books" for row in rows) == 60
        chosen.append({row.id for row in rows if row.corpus == "arctic"})
    assert chosen[0] != chosen[1] != chosen[2]


@pytest.mark.slow
def test_the_corpus_own_shares_are_the_default(tmp_path, monkeypatch):
    train = [
        replace(u, id=f"{'ab'[i % 2]}:{u.id}")
        for i, u in enumerate(write_split(tmp_path / "s", "train", 40, 1))
    ]
    give(monkeypatch, Stub({"train": train}, caps={"a": 0.25}, mixed=True))
    data = Prepared(prepare.prepare(SpeechRecipe.of(RECIPE)))
    plan = Batches(data).plan(0)
    seconds = Counter()
    for row in (row for items in plan for row, _ in items):
        seconds[row.corpus] += row.seconds
    assert 0.15 < seconds["a"] / sum(seconds.values()) <= 0.25
    assert sum(len(items) for items in Batches(data, max_share={}).plan(0)) == 40


def test_capped_seconds_reach_their_shares_exactly():
    for seconds, shares in [
        ({"a": 50.0, "b": 100.0, "c": 900.0}, {"a": 0.01, "b": 0.5}),
        ({"a": 500.0, "b": 300.0, "c": 100.0}, {"a": 0.3, "b": 0.3}),
        ({"a": 10.0, "b": 90.0}, {"a": 0.15}),
    ]:
        allowed = capped_seconds(seconds, shares)
        total = sum(allowed.values())
        for corpus, share in shares.items():
            assert allowed[corpus] <= share * total + 1e-9
            assert allowed[corpus] == seconds[corpus] or np.isclose(allowed[corpus], share * total)
        assert all(allowed[c] == seconds[c] for c in seconds if c not in shares)
    with pytest.raises(ValueError, match="cannot hold"):
        capped_seconds({"a": 10.0}, {"a": 0.5})


def test_tensors_are_normalized_and_zero_behind_the_end(data):
    batches = Batches(data, seconds_per_batch=20, pad_to=8)
    items = batches.plan(0)[0]
    batch = batches.load(items, 0, augment=False)
    assert batch.features.dtype == torch.float32 and batch.features.shape[0] == len(items) == len(
        batch.ids
    )
    assert batch.features.shape[1] % 8 == 0 and batch.features.shape[2] == 80
    assert batch.lengths.dtype == batch.tokens.dtype == batch.token_lengths.dtype == torch.int64
    for i, (row, speed) in enumerate(items):
        count = row.frames[speed][1]
        expected = (
            data.features(row, speed).astype(np.float32) - data.statistics.mean
        ) / data.statistics.std
        np.testing.assert_allclose(batch.features[i, :count].numpy(), expected, atol=1e-5)
        assert (batch.features[i, count:] == 0).all() and batch.lengths[i] == count
        assert tuple(batch.tokens[i, : batch.token_lengths[i]].tolist()) == row.tokens
        assert (batch.tokens[i, batch.token_lengths[i] :] == 0).all()
    assert batch.seconds == pytest.approx(float(batch.lengths.sum()) / 100)
    clean = Batches(data, speeds=(1.0,))
    everything = torch.cat(
        [
            b.features[i, :n]
            for b in clean.iterate(0, augment=False)
            for i, n in enumerate(b.lengths)
        ]
    )
    assert everything.mean().abs() < 1e-3 and (everything.std() - 1).abs() < 1e-3


def test_masks_follow_seed_epoch_and_id_only(data):
    batches = Batches(data, seconds_per_batch=20)
    items = batches.plan(0)[0]
    whole, row = batches.load(items, 5), items[-1][0]
    alone = batches.load(items[-1:], 5)
    count = int(alone.lengths[0])
    assert torch.equal(whole.features[-1, :count], alone.features[0, :count])
    assert not torch.equal(alone.features, batches.load(items[-1:], 6).features)
    assert not torch.equal(alone.features, batches.load(items[-1:], 5, augment=False).features)
    assert torch.equal(
        Batches(data, augment=None).load(items, 5).features,
        batches.load(items, 5, augment=False).features,
    )
    more = Batches(data, augment=SpecAugment(frequency_masks=40)).load(items, 5)
    assert (more.features == 0).float().mean() > (whole.features == 0).float().mean()
    assert row.id == alone.ids[0]


def test_other_splits_are_in_order_of_length_without_masks_or_speeds(data):
    batches = Batches(data, "search", seconds_per_batch=20)
    plan = batches.plan(0)
    assert ids(plan) == ids(batches.plan(1)) and {
        speed for items in plan for _, speed in items
    } == {1.0}
    assert torch.equal(
        batches.load(plan[0], 0).features, batches.load(plan[0], 1, augment=False).features
    )
    with pytest.raises(ValueError, match="speed_change"):
        Batches(data, "search", speeds=(0.9,))


def test_reading_ahead_changes_nothing_and_starts_anywhere(data):
    batches = Batches(data, seconds_per_batch=20)
    ahead, plain = list(batches.iterate(1)), list(batches.iterate(1, ahead=0))
    assert len(ahead) == len(plain) == len(batches.plan(1)) > 3
    for a, b in zip(ahead, plain):
        assert (
            a.ids == b.ids
            and torch.equal(a.features, b.features)
            and torch.equal(a.tokens, b.tokens)
        )
    assert [b.ids for b in batches.iterate(1, start=2)] == [b.ids for b in plain[2:]]


def test_reading_ahead_ends_with_its_reader_and_hands_errors_over(data, monkeypatch):
    batches = Batches(data, seconds_per_batch=5)
    reader = batches.iterate(0)
    next(reader)
    reader.close()
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]
    monkeypatch.setattr(
        batches, "load", lambda *a: (_ for _ in ()).throw(RuntimeError("no such frames"))
    )
    with pytest.raises(RuntimeError, match="no such frames"):
        next(batches.iterate(0))


def test_what_comes_soon_is_announced_once_and_before_it_is_loaded(data, monkeypatch):
    told, batches = [], Batches(data, seconds_per_batch=5)
    monkeypatch.setattr(type(data), "expect", lambda self, row, speed: told.append((row.id, speed)))
    plan = batches.plan(0)
    for batch, items in zip(batches.iterate(0, ahead=0), plan):
        assert {(row.id, speed) for row, speed in items} <= set(told) and batch.ids == [
            row.id for row, _ in items
        ]
    assert len(told) == len(set(told)) == sum(map(len, plan))
    monkeypatch.undo()
    data.expect(data.rows("train")[0], 1.0)


# augmentation on the fly

CHANGE = augment.Options(warp=0.1, tempo=0.2, loudness=3.0, noise=0.5, room=0.5)


def features_of(batch):
    return {i: batch.features[k, :n] for k, (i, n) in enumerate(zip(batch.ids, batch.lengths))}


def test_old_recipes_batches_are_as_they_were_bit_for_bit(data):
    """Speed, masks and normalization, made here as they were before there was other
    augmentation.
    """
    options = TrainingOptions(batch_seconds=20.0)
    batches = training_batches(data, options, 3)
    items = batches.plan(2)[1]
    batch = batches.load(items, 2)
    assert (
        batches.views == 1
        and batch.ids == [row.id for row, _ in items]
        and {speed for _, speed in items} == {0.9, 1.0, 1.1}
    )
    for i, (row, speed) in enumerate(items):
        own = np.subtract(data.features(row, speed), data.statistics.mean, dtype=np.float32)
        own *= (1 / data.statistics.std).astype(np.float32)
        spec_augment(own, utterance_rng(3, 2, row.id, "specaugment"), SpecAugment())
        assert np.array_equal(batch.features[i, : len(own)].numpy(), own)
    assert ids(batches.plan(2)) == ids(Batches(data, seconds_per_batch=20.0, seed=3).plan(2))


def test_changes_follow_seed_epoch_and_id_only(data):
    def batches(seed=1, **changes):
        return Batches(
            data,
            seconds_per_batch=20,
            seed=seed,
            speeds=(1.0,),
            augment=None,
            change=replace(CHANGE, tempo=0.0, **changes),
        )

    items = batches().plan(0)[0]
    whole, alone = batches().load(items, 5), batches().load(items[-1:], 5)
    count = int(alone.lengths[0])
    assert torch.equal(whole.features[-1, :count], alone.features[0, :count])
    plain = batches().load(items[-1:], 5, augment=False).features
    others = [
        batches().load(items[-1:], 6),
        batches(seed=2).load(items[-1:], 5),
        batches(loudness=9.0).load(items[-1:], 5),
    ]
    assert all(
        not torch.allclose(alone.features, x) for x in (plain, *(o.features for o in others))
    )


@pytest.fixture(scope="module")
def one_speed(tmp_path_factory):
    """The same speech prepared at one speed, as tempo asks for it."""
    folder = tmp_path_factory.mktemp("one_speed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(folder / "artifacts"))
        give(
            patch,
            Stub(
                {
                    "train": write_split(folder, "train", 30, 1),
                    "search": write_split(folder, "search", 4, 2),
                }
            ),
        )
        return Prepared(
            prepare.prepare(
                SpeechRecipe.of(replace(RECIPE, features={"speed_change": 0.0})), processes=1
            )
        )


@pytest.mark.slow
def test_lengths_follow_the_tempo_and_labels_always_fit(one_speed):
    batches = Batches(one_speed, seconds_per_batch=20, change=CHANGE)
    tempi = []
    for epoch in range(3):
        for items in batches.plan(epoch):
            batch = batches.load(items, epoch)
            for (row, tempo), length in zip(items, batch.lengths.tolist()):
                assert (
                    length == max(1, round(row.frames[1.0][1] / tempo))
                    and len(row.tokens) + repeats(row.tokens) <= length // 4
                )
                tempi.append(tempo)
    assert 0.8 <= min(tempi) < 0.85 and 1.1 < max(tempi) <= 1.2 and len(set(tempi)) > 60
    assert (
        ids(batches.plan(1))
        == ids(Batches(one_speed, seconds_per_batch=20, change=CHANGE).plan(1))
        != ids(batches.plan(2))
    )


def test_views_share_utterance_and_tempo_but_not_their_changes(one_speed):
    batches = Batches(one_speed, seconds_per_batch=20, change=CHANGE, views=2)
    items = batches.plan(0)[0]
    batch, count = batches.load(items, 0), len(items)
    assert (
        batch.ids == [r.id for r, _ in items] + [f"{r.id}#1" for r, _ in items]
        and len(batch.lengths) == 2 * count
    )
    assert torch.equal(batch.lengths[:count], batch.lengths[count:]) and torch.equal(
        batch.tokens[:count], batch.tokens[count:]
    )
    assert all(not torch.equal(batch.features[i], batch.features[count + i]) for i in range(count))
    assert torch.equal(
        features_of(batch)[items[0][0].id],
        features_of(replace_views(batches, 1).load(items, 0))[items[0][0].id],
    )
    assert batch.seconds == pytest.approx(2 * float(batch.lengths[:count].sum()) / 100)
    sizes = [
        2 * len(items) * max(round(r.frames[1.0][1] / t) for r, t in items)
        for items in batches.plan(0)
    ]
    assert max(sizes) <= 2000, "both views count"


def replace_views(batches, views):
    return Batches(batches.prepared, seconds_per_batch=20, change=batches.change, views=views)


def test_held_out_speech_is_never_changed(one_speed):
    given = Batches(one_speed, "search", seconds_per_batch=20, change=CHANGE, views=2)
    plain = Batches(one_speed, "search", seconds_per_batch=20)
    for items, same in zip(given.plan(3), plain.plan(0)):
        batch = given.load(items, 3)
        assert batch.ids == [row.id for row, _ in same] and torch.equal(
            batch.features, plain.load(same, 0, augment=False).features
        )


def test_what_training_is_told_reaches_its_batches(data, one_speed):
    asked = {"warp": 0.1, "tempo": 0.1, "time_masks": 1, "frequency_masks": 0}
    batches = training_batches(one_speed, TrainingOptions(augment=asked, consistency=0.2), 1)
    assert batches.views == 2 and batches.change == augment.Options(**asked)
    assert (batches.augment.time_masks, batches.augment.frequency_masks) == (1, 0)
    assert training_batches(one_speed, TrainingOptions(masking=False), 1).augment is None
    with pytest.raises(ValueError, match="training.augment: unknown option 'wrap'"):
        training_batches(one_speed, TrainingOptions(augment={"wrap": 0.1}), 1)
    with pytest.raises(ValueError, match="warp: expected a number from 0 to 0.3, got 0.5"):
        training_batches(one_speed, TrainingOptions(augment={"warp": 0.5}), 1)
    with pytest.raises(
        ValueError,
        match=(
            r"tempo = 0.1 changes .* prepared at the speeds \[0.9, 1.0, 1.1\]: set"
            r" features.speed_change = 0"
        ),
    ):
        training_batches(data, TrainingOptions(augment={"tempo": 0.1}), 1)
