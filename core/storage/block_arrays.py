"""Blocks of a weight matrix as NumPy arrays: cut, ranked by size, put together again."""

from __future__ import annotations

import numpy as np


def blocks_of(weight: np.ndarray, block: int) -> np.ndarray:
    """Weight [R, C] -> its blocks [R/b, C, b]."""
    rows, columns = weight.shape
    return weight.reshape(rows // block, block, columns).transpose(0, 2, 1)


def dense_of(values: np.ndarray, mask: np.ndarray, block: int) -> np.ndarray:
    """Kept values [kept * b] and mask [R/b, C] -> weight [R, C] with zeros elsewhere."""
    blocks = np.zeros((*mask.shape, block), values.dtype)
    blocks[mask] = values.reshape(-1, block)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(
        mask.shape[0] * block, mask.shape[1]
    )


def unit_mask(ranks: np.ndarray, kept: int) -> np.ndarray:
    """Ranks [R/b, C] -> kept blocks, bool [R/b, C]."""
    return ranks < kept


def block_norms(weight: np.ndarray, block: int) -> np.ndarray:
    """Weight [R, C] -> L2 norm of every block [R/b, C], as sparsity/blocks.py has it in torch."""
    return np.sqrt(np.square(blocks_of(weight.astype(np.float32), block)).sum(2))


def ranks_by_size(weight: np.ndarray, block: int) -> np.ndarray:
    """Weight [R, C] -> ranks uint32 [R/b, C] of its blocks by L2 norm, largest first, ties by
    position: what is zero comes last. Blocks
    whose norms differ by a rounding may change places with what training wrote.
    """
    norms = block_norms(weight, block).reshape(-1)
    ranks = np.empty(len(norms), np.uint32)
    ranks[np.argsort(-norms, kind="stable")] = np.arange(len(norms), dtype=np.uint32)
    return ranks.reshape(-1, weight.shape[1])
