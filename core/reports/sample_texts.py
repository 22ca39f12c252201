"""Transcribes the spoken samples at every size of a run, for the live page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.speech import audio
from core.storage import spoken, store

CHUNK_MS = 320.0


def write(run: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """Transcribe every sample at every size of the run (320 ms chunks, the shipped language model
    where the model takes one) and keep the words.
    """
    from core import runtime
    from core.decoding.ctc import WrongDecoder
    from core.lm.languages import Language

    sounds = {name: audio.read(spoken.sound_file(name)) for name in spoken.texts()}
    sizes: dict[str, dict[str, str]] = {}
    decoder = ""
    for subnet in store.subnets(run):
        try:
            opened = runtime.load(run, subnet.name, CHUNK_MS, threads=1, language=Language())
        except WrongDecoder:  # transducers find words themselves
            opened = runtime.load(run, subnet.name, CHUNK_MS, threads=1)
        decoder = opened.conditions["decoder"]
        sizes[subnet.name] = {name: _hypothesis(opened, sound) for name, sound in sounds.items()}
        say(f"samples at {subnet.name}")
    return spoken.keep(run, {"run": run, "chunk_ms": CHUNK_MS, "decoder": decoder, "sizes": sizes})


def _hypothesis(opened: Any, samples: np.ndarray) -> str:
    stream = opened.stream()
    stream.accept(samples)
    return str(stream.finish())
