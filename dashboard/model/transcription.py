"""From the bytes a person hands in to text: clear checks, two at a time, words as they come. No
Streamlit.

Engines are imported by `recognizer` alone, which is called only when something is really
transcribed; torch is one of them, for models that no other engine runs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from dashboard.model.listening import AT_ONCE, RATE, SHORTEST_S, THREADS, Listening, Transcript

MOST_MB = 100
MOST_MINUTES = 30
MOST_VALUES = 2e8  # decoded samples of all channels: 30 minutes of stereo at 48 kHz are 173 million
MOST_DECODING_S = 60.0
PACKET = 5120  # samples handed over at once: 320 ms
REDRAW_S = 0.1  # the page is told of new words at most this often


class NotUsable(ValueError):
    """The recording cannot be transcribed; the text says what came, what is allowed, what to do."""


def load(
    data: bytes,
    name: str,
    note: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> np.ndarray:
    """Samples [N] float32 mono 16 kHz of an uploaded or recorded file; raises NotUsable with a
    message for people.

    `note` is told in a sentence what was changed in the sound, `warn` that some of it is missing.
    Decoding stops at the limits, whatever the file's header says.
    """
    if len(data) > MOST_MB * 1e6:
        raise NotUsable(
            f"“{name}” has {len(data) / 1e6:.0f} MB; at most {MOST_MB} MB are taken. "
            "Cut it or save it as FLAC, Opus or MP3."
        )
    from core.speech import audio_limits, loudness

    limits = audio_limits.Limits(MOST_MINUTES * 60 + 1, MOST_VALUES, MOST_DECODING_S)
    try:
        samples = _decoded(data, name, limits, note, warn)
    except audio_limits.TooLong as error:
        length = (
            f"is {error.seconds / 60:.0f} minutes long"
            if error.seconds
            else f"is too long ({_without(name, error)})"
        )
        raise NotUsable(
            f"“{name}” {length}; at most {MOST_MINUTES} minutes are taken. Cut it into parts."
        ) from error
    except (ValueError, OSError, RuntimeError) as error:
        raise NotUsable(
            f"“{name}” isn't readable audio. Try WAV or MP3. (The reason: {_without(name, error)}.)"
        ) from error
    if len(samples) < SHORTEST_S * RATE:
        raise NotUsable(
            f"“{name}” holds {len(samples) / RATE:.2f} s of sound; at least {SHORTEST_S} s are"
            " needed."
        )
    if loudness.silent(samples):
        raise NotUsable(
            f"“{name}” is silent: nothing in it is louder than -80 dB, or only a steady hiss below"
            " -60 dB. Was the microphone muted? Check it and record again."
        )
    return samples


def _decoded(
    data: bytes, name: str, limits: Any, note: Callable[[str], None], warn: Callable[[str], None]
) -> np.ndarray:
    """All of the sound, else what is left of it where anything is."""
    from core.speech import audio, audio_limits

    try:
        return audio.decode(data, name, limits, note)
    except audio_limits.TooLong:
        raise
    except audio_limits.AudioError:
        with contextlib.suppress(audio_limits.AudioError):
            samples, lost = audio.decode_rest(data, name, limits, note)
            warn(lost)
            return samples
        raise


def _without(name: str, error: Exception) -> str:
    return str(error).removeprefix(f"{name}: ")


class Seats:
    """At most `AT_ONCE` transcriptions and decodings in this process; the rest wait and see that
    they do.
    """

    def __init__(self, number: int = AT_ONCE) -> None:
        self._free = threading.BoundedSemaphore(number)

    @contextlib.contextmanager
    def taken(self, tell: Callable[[float], None], patience: float = 0.5) -> Iterator[None]:
        """Hold a seat inside the block; while none is free `tell(seconds waited)` is called every
        `patience` s.

        `tell` may raise (a page that was left): then no seat is held.
        """
        start = time.monotonic()
        while not self._free.acquire(timeout=patience):
            tell(time.monotonic() - start)
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class Way:
    """What can be understood: `lm` "open" or an ARPA file, a `grammar` ("commands" or typed
    patterns), `hot_words`; or the net's own
    `tokens`, as they come. `changed` is the file's time, so that a new one of its name is read.
    """

    tokens: bool = False
    lm: str = "open"
    grammar: str = ""
    hot_words: tuple[str, ...] = ()
    changed: int = 0


def recognizer(packed: bytes, chunk_ms: float, way: Way) -> Any:
    """The one door to engines: opens the very file a user would download, and warms it up with
    0.3 s of silence.
    """
    from core import runtime
    from core.decoding.ctc import WrongDecoder
    from core.lm import languages

    language = None if way.tokens else languages.Language(way.lm, way.grammar, way.hot_words)
    if language:
        languages.check(language)  # before the model and the lexicon are loaded
    try:
        opened = runtime.load(
            packed,
            chunk_ms=chunk_ms,
            threads=THREADS,
            decoder="greedy" if way.tokens else "",
            language=language,
        )
    except WrongDecoder:
        if way != Way():
            raise
        opened = runtime.load(
            packed, chunk_ms=chunk_ms, threads=THREADS
        )  # transducers find words themselves
    stream = opened.stream()
    stream.accept(np.zeros(PACKET, np.float32))
    stream.finish()
    return opened


def transcribe(
    recognizers: dict[str, Any], samples: np.ndarray, tell: Callable[[float, dict[str, str]], None]
) -> list[Transcript]:
    """Stream samples [N] through every recognizer in turn, packet by packet.

    `tell(share done, {subnet: text so far})` is called when words change, at most
    every REDRAW_S.
    """
    listening = Listening(recognizers)
    shown, last = dict.fromkeys(recognizers, ""), 0.0
    for start in range(0, len(samples), PACKET):
        texts = listening.accept(samples[start : start + PACKET])
        now = time.monotonic()
        if now - last >= REDRAW_S and (texts != shown or now - last >= 1):
            tell(min(1.0, listening.samples / len(samples)), texts)
            shown, last = texts, now
    received = listening.finish()
    tell(1.0, {item.subnet: item.text for item in received})
    return received


def as_document(name: str, run: str, reference: str, received: list[Transcript]) -> dict[str, Any]:
    """What the JSON download holds."""
    return {
        "audio": name,
        "run": run,
        "reference": reference,
        "transcripts": [asdict(item) for item in received],
    }


def language_models() -> list[Path]:
    """ARPA files made by `core lm` on this machine."""
    folder = paths.language_models()
    return (
        sorted(p for p in folder.iterdir() if p.name.endswith((".arpa", ".arpa.gz")))
        if folder.is_dir()
        else []
    )
