"""Random numbers that depend on nothing but seed, epoch, utterance and purpose: resuming equals not
stopping.
"""

from __future__ import annotations

import hashlib

import numpy as np


def utterance_rng(seed: int, epoch: int, id: str, salt: str = "") -> np.random.Generator:
    """The generator of one utterance in one epoch for one purpose (`salt`, e.g. "specaugment").

    Philox keyed with 128 bits of BLAKE2b, so that neither order, process nor PYTHONHASHSEED
    matters.
    """
    text = f"{int(seed)}\0{int(epoch)}\0{id}\0{salt}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key.astype(np.uint64)))


def epoch_rng(seed: int, epoch: int, salt: str = "") -> np.random.Generator:
    """The generator of a whole epoch for one purpose, e.g. the order of its batches."""
    return utterance_rng(seed, epoch, "", salt)
