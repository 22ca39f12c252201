"""Test sets and streaming modes as menus call them; charts' hovers have the full condition."""

from __future__ import annotations

NAMES = {
    "librispeech/test-clean": "Read books (test-clean)",
    "librispeech-noisy/test-clean-noisy": "Read books with noise",
    "speech_commands/strings": "Command words, human voices",
    "voice_commands/test": "Spoken commands, synthetic voices",
}

YOURS = "yours/"  # core/data/test_sets.py


def name(split: str) -> str:
    """A test set in a person's words; its own name where none is known."""
    if split.startswith(YOURS):
        return f"Yours: {split.removeprefix(YOURS)}"
    return NAMES.get(split, split)


def mode(condition: tuple) -> str:
    """A condition (values of data.CONDITION without the test set) in a few words."""
    chunk, _, _, decoder, model, _, precision = condition
    words = ["whole recording" if chunk == 0 else f"streaming, {chunk:g} ms chunks", decoder]
    if model not in ("", "none"):
        words.append(f"with {model.split(',')[0]}")
    if precision != "fp32":
        words.append(precision)
    return ", ".join(words)
