"""Attention ways agree with a plain reference, dropout uses the numbers it is given, subsampling is
causal.
"""

from __future__ import annotations

import pytest
import torch

from core.layers import attention, dropout, subsampling


@pytest.mark.parametrize("chunk", [4, 8, 16, 32])
def test_blocks_of_queries_equal_the_masked_product(chunk, monkeypatch):
    torch.manual_seed(0)
    layer = attention.Attention(16, 2)
    x, lengths = torch.randn(2, 333, 16), torch.tensor([333, 201])
    by_blocks = attention.Layout(333, lengths, chunk)
    monkeypatch.setattr(attention, "SHORT", 1000)
    whole = attention.Layout(333, lengths, chunk)
    assert by_blocks.blocks and not whole.blocks
    a, b = layer(x, by_blocks), layer(x, whole)
    for row, n in enumerate(lengths):
        torch.testing.assert_close(a[row, :n], b[row, :n], atol=1e-5, rtol=1e-5)


def test_a_frame_sees_its_chunk_and_the_left_context_only():
    mask = attention.chunk_mask(200, 8)
    seen = mask[100].nonzero().flatten()
    assert seen.min() == 96 - attention.LEFT and seen.max() == 103
    assert attention.chunk_mask(50, 0).all()


def test_a_chunk_that_does_not_divide_the_span_is_refused():
    with pytest.raises(ValueError, match="chunk of 7 frames"):
        attention.Layout(100, torch.tensor([100]), 7)


def test_dropout_is_constant_over_time_and_reproducible():
    uniform = torch.rand(2, 64)
    x = torch.ones(2, 10, 64)
    once = dropout.Noise(uniform, 0.3).drop(x)
    assert torch.equal(once, dropout.Noise(uniform, 0.3).drop(x))
    assert torch.equal(once[:, 0], once[:, 9])
    assert torch.equal(once == 0, (uniform >= 0.7).unsqueeze(1).expand_as(once))
    with pytest.raises(ValueError, match="random numbers"):
        dropout.Noise(uniform, 0.3).drop(torch.ones(2, 10, 65))


def test_subsampling_sees_nothing_of_the_future():
    torch.manual_seed(0)
    stem = subsampling.Subsampling(80, 16)
    x = torch.randn(1, 40, 80)
    before = stem(subsampling.with_history(x))
    x[:, 20:] += 1.0  # frames of the sixth 40 ms frame and later
    after = stem(subsampling.with_history(x))
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5], after[:, 5])
    assert (
        subsampling.out_lengths(torch.tensor([40, 41, 44])).tolist() == [10, 11, 11]
        and before.shape[1] == 10
    )
