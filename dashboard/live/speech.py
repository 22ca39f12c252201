"""The components of the Transcribe page: a microphone whose words appear while somebody speaks, and
a player whose words appear while the sound plays; the drawing is speech.js.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from core.records import SpokenWord
from dashboard.charts.audio import envelope
from dashboard.live import component

MOUNT = '<div class="speech"></div>'
NAME = "supernet_speech"
COLUMNS = 400  # of the waveform
FASTEST_HZ = 192_000
MOST_PCM = 8_000_000  # bytes of one message: 40 s of the fastest


def player(key: str, content: dict[str, Any]) -> None:
    """Mount the player with a `recording`."""
    component.mounted(NAME, "speech", MOUNT)(key=key, data=content)


@st.cache_data(max_entries=4, show_spinner=False)
def sound(samples: np.ndarray, rate: int) -> dict[str, Any]:
    """The sound that recognizers got, as every browser plays it: {audio: MP3 as a data URL, peaks
    [[lowest, highest]], seconds}.
    """
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3")
    low, high = envelope(samples, COLUMNS)
    return {
        "audio": "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode(),
        "peaks": np.stack([low, high], 1).round(3).tolist(),
        "seconds": len(samples) / rate,
    }


def recording(
    played: dict[str, Any], sizes: list[dict[str, Any]], note: str, autoplay: bool
) -> dict[str, Any]:
    """What the player shows: a `sound` and, by size, {name, label, text, words, partial}. Under the
    same key it plays on; `autoplay` is no part of it, because the next run of the page lacks it.
    """
    content = {"mode": "play", "sizes": sizes, "note": note, **played}
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return {**content, "autoplay": autoplay, "key": key}


def timed(words: list[SpokenWord] | tuple[SpokenWord, ...]) -> list[tuple]:
    """Words as the components take them: (text, begin s, end s, confidence)."""
    return [(w.text, round(w.begin_s, 3), round(w.end_s, 3), round(w.confidence, 3)) for w in words]


def microphone(key: str, content: dict[str, Any], on_sound: Callable[[], None]) -> None:
    """Mount the microphone; `on_sound` runs when a `message` has come."""
    component.mounted(NAME, "speech", MOUNT)(key=key, data=content, on_sound_change=on_sound)


class Message:
    """One message of the microphone: `samples` float32 [N] at `rate` Hz, beginning with sample
    `begin` of the recording `session`; `end` with the last one. ValueError for anything else: the
    browser may send what it likes.
    """

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"expected a message of the microphone, got {type(value).__name__}")
        self.session, self.end = str(value.get("session"))[:64], value.get("end") is True
        self.begin, self.rate = _whole(value, "from", 0), _whole(value, "rate", 8000, FASTEST_HZ)
        text = value.get("pcm")
        if not isinstance(text, str) or len(text) > MOST_PCM * 4 / 3 + 4:
            raise ValueError(f"pcm: expected at most {MOST_PCM} bytes as base64")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as problem:
            raise ValueError(f"pcm: expected base64 ({problem})") from None
        if len(data) % 2:
            raise ValueError(f"pcm: expected 16-bit samples, got {len(data)} bytes")
        self.samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def message(key: str) -> Message | None:
    """The message that has just come, None where there is none."""
    value = (st.session_state.get(key) or {}).get("sound")
    return None if value is None else Message(value)


def _whole(value: dict[str, Any], name: str, low: int, high: int = 1 << 40) -> int:
    number = value.get(name)
    if (
        not isinstance(number, int | float)
        or not math.isfinite(number)
        or not low <= number <= high
    ):
        raise ValueError(
            f"{name}: expected a number from {low} to {high}, got {str(number)[:40]!r}"
        )
    return int(number)
