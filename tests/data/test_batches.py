"""Batches: complete, repeatable, little padding, capped shares, normalised features, masks that follow the id."""
from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.data import prepare
from core.data.batches import Batches, capped_seconds
from core.data.prepared import Prepared
from core.speech.features import SpecAugment
from tests.speech_stub import RECIPE, Stub, give, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    train = [replace(u, id=f"{'arctic' if i % 2 else 'books'}:{u.id}")
             for i, u in enumerate(write_split(folder, "train", 120, 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(folder / "artifacts"))
        give(patch, Stub({"train": train, "search": write_split(folder, "search", 9, 2)}, mixed=True))
        return Prepared(prepare.prepare(RECIPE, processes=1))


def ids(plan):
    return [[(row.id, speed) for row, speed in items] for items in plan]


def padding(plan):
    """Share of padded frames that hold no speech."""
    speech = sum(row.frames[speed][1] for items in plan for row, speed in items)
    return 1 - speech / sum(len(items) * max(row.frames[speed][1] for row, speed in items) for items in plan)


def test_every_utterance_once_an_epoch_in_batches_of_the_size_asked_for(data):
    batches = Batches(data, seconds_per_batch=20)
    plan = batches.plan(0)
    assert Counter(row.id for items in plan for row, _ in items) == Counter(row.id for row in data.rows("train"))
    sizes = [len(items) * max(row.frames[speed][1] for row, speed in items) for items in plan]
    assert max(sizes) <= 2000 and np.median(sizes) > 1400
    alone = Batches(data, seconds_per_batch=0.5).plan(0)
    assert all(len(items) == 1 for items in alone) and len(alone) == 120


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


def test_the_corpus_own_shares_are_the_default(tmp_path, monkeypatch):
    train = [replace(u, id=f"{'ab'[i % 2]}:{u.id}") for i, u in enumerate(write_split(tmp_path / "s", "train", 40, 1))]
    give(monkeypatch, Stub({"train": train}, caps={"a": 0.25}, mixed=True))
    data = Prepared(prepare.prepare(RECIPE))
    plan = Batches(data).plan(0)
    seconds = Counter()
    for row in (row for items in plan for row, _ in items):
        seconds[row.corpus] += row.seconds
    assert 0.15 < seconds["a"] / sum(seconds.values()) <= 0.25
    assert sum(len(items) for items in Batches(data, max_share={}).plan(0)) == 40


def test_capped_seconds_reach_their_shares_exactly():
    for seconds, shares in [({"a": 50.0, "b": 100.0, "c": 900.0}, {"a": 0.01, "b": 0.5}),
                            ({"a": 500.0, "b": 300.0, "c": 100.0}, {"a": 0.3, "b": 0.3}),
                            ({"a": 10.0, "b": 90.0}, {"a": 0.15})]:
        allowed = capped_seconds(seconds, shares)
        total = sum(allowed.values())
        for corpus, share in shares.items():
            assert allowed[corpus] <= share * total + 1e-9
            assert allowed[corpus] == seconds[corpus] or np.isclose(allowed[corpus], share * total)
        assert all(allowed[c] == seconds[c] for c in seconds if c not in shares)
    with pytest.raises(ValueError, match="cannot hold"):
        capped_seconds({"a": 10.0}, {"a": 0.5})


def test_tensors_are_normalised_and_zero_behind_the_end(data):
    batches = Batches(data, seconds_per_batch=20, pad_to=8)
    items = batches.plan(0)[0]
    batch = batches.load(items, 0, augment=False)
    assert batch.features.dtype == torch.float32 and batch.features.shape[0] == len(items) == len(batch.ids)
    assert batch.features.shape[1] % 8 == 0 and batch.features.shape[2] == 80
    assert batch.lengths.dtype == batch.tokens.dtype == batch.token_lengths.dtype == torch.int64
    for i, (row, speed) in enumerate(items):
        count = row.frames[speed][1]
        expected = (data.features(row, speed).astype(np.float32) - data.statistics.mean) / data.statistics.std
        np.testing.assert_allclose(batch.features[i, :count].numpy(), expected, atol=1e-5)
        assert (batch.features[i, count:] == 0).all() and batch.lengths[i] == count
        assert tuple(batch.tokens[i, :batch.token_lengths[i]].tolist()) == row.tokens
        assert (batch.tokens[i, batch.token_lengths[i]:] == 0).all()
    assert batch.seconds == pytest.approx(float(batch.lengths.sum()) / 100)
    clean = Batches(data, speeds=(1.0,))
    everything = torch.cat([b.features[i, :n] for b in clean.iterate(0, augment=False)
                            for i, n in enumerate(b.lengths)])
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
    assert torch.equal(Batches(data, augment=None).load(items, 5).features,
                       batches.load(items, 5, augment=False).features)
    more = Batches(data, augment=SpecAugment(frequency_masks=40)).load(items, 5)
    assert (more.features == 0).float().mean() > (whole.features == 0).float().mean()
    assert row.id == alone.ids[0]


def test_other_splits_are_in_order_of_length_without_masks_or_speeds(data):
    batches = Batches(data, "search", seconds_per_batch=20)
    plan = batches.plan(0)
    assert ids(plan) == ids(batches.plan(1)) and {speed for items in plan for _, speed in items} == {1.0}
    assert torch.equal(batches.load(plan[0], 0).features, batches.load(plan[0], 1, augment=False).features)
    with pytest.raises(ValueError, match="speed_change"):
        Batches(data, "search", speeds=(0.9,))


def test_reading_ahead_changes_nothing_and_starts_anywhere(data):
    batches = Batches(data, seconds_per_batch=20)
    ahead, plain = list(batches.iterate(1)), list(batches.iterate(1, ahead=0))
    assert len(ahead) == len(plain) == len(batches.plan(1)) > 3
    for a, b in zip(ahead, plain):
        assert a.ids == b.ids and torch.equal(a.features, b.features) and torch.equal(a.tokens, b.tokens)
    assert [b.ids for b in batches.iterate(1, start=2)] == [b.ids for b in plain[2:]]


def test_reading_ahead_ends_with_its_reader_and_hands_errors_over(data, monkeypatch):
    batches = Batches(data, seconds_per_batch=5)
    reader = batches.iterate(0)
    next(reader)
    reader.close()
    assert not [t for t in threading.enumerate() if t.name == "batches"]
    monkeypatch.setattr(batches, "load", lambda *a: (_ for _ in ()).throw(RuntimeError("no such frames")))
    with pytest.raises(RuntimeError, match="no such frames"):
        next(batches.iterate(0))


def test_what_comes_soon_is_announced_once_and_before_it_is_loaded(data, monkeypatch):
    told, batches = [], Batches(data, seconds_per_batch=5)
    monkeypatch.setattr(type(data), "expect", lambda self, row, speed: told.append((row.id, speed)))
    plan = batches.plan(0)
    for batch, items in zip(batches.iterate(0, ahead=0), plan):
        assert {(row.id, speed) for row, speed in items} <= set(told) and batch.ids == [row.id for row, _ in items]
    assert len(told) == len(set(told)) == sum(map(len, plan))
    monkeypatch.undo()
    data.expect(data.rows("train")[0], 1.0)
