"""Speech from text by espeak-ng, in child processes; knows voices and knobs, nothing about corpora.

The library comes with the package espeakng-loader (espeak-ng 1.52, licence GPL-3.0-or-later: it is
used, not shipped, here). It keeps hidden state and is not thread-safe: `Voice` belongs into a
child process of its own and gives the same samples when a fresh process speaks the same requests in
the same order. `speak` does that for callers.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from core.speech.voices import base

VERSION = 1
RATE, VOLUME, PITCH, RANGE, WORDGAP = 1, 2, 3, 4, 7  # espeak_PARAMETER
SYNCHRONOUS, POS_CHARACTER, CHARS_UTF8, OK = 2, 1, 1, 0
LOUDNESS = 55  # of 100: the loudest voices clip inside espeak-ng above about 70
SPEED = (120, 170, 230)  # words per minute: lowest, most frequent, highest
PITCH_DRAWN, RANGE_DRAWN, GAP_DRAWN = (25, 75), (25, 80), (1, 8)

# English accents (espeak-ng's file names; "en" is British) and the voice variants that sound like
# people: whispering, croaking, robots and those that clip are left out. Checked against the
# package's own folder.
ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
)
VARIANTS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "klatt3",
    "klatt6",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "Denis",
    "Diogo",
    "Gene",
    "Henrique",
    "Hugo",
    "Lee",
    "Mario",
    "Michael",
    "Mike",
    "Reed",
    "adam",
    "anika",
    "announcer",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "david",
    "ed",
    "edward",
    "grandma",
    "grandpa",
    "gustave",
    "iven3",
    "john",
    "kaukovalta",
    "linda",
    "marcelo",
    "max",
    "michel",
    "miguel",
    "norbert",
    "pablo",
    "quincy",
    "rob",
    "robert",
    "shelby",
    "steph",
    "travis",
    "victor",
    "zac",
)


@dataclass(frozen=True)
class Request:
    """One thing to say. `voice` is "<accent>+<variant>"; speed in words per minute (80..450), pitch
    and range 0..100,
    gap between words in 10 ms.
    """

    text: str
    voice: str = "en-us+m3"
    speed: int = 175
    pitch: int = 50
    range: int = 50
    gap: int = 0


def drawn(text: str, voice: str, rng: random.Random) -> Request:
    """A voice says it at a pace and pitch of the moment."""
    gap = rng.randint(*GAP_DRAWN) if rng.random() < 0.25 else 0
    speed = round(rng.triangular(SPEED[0], SPEED[2], SPEED[1]))
    return Request(text, voice, speed, rng.randint(*PITCH_DRAWN), rng.randint(*RANGE_DRAWN), gap)


@cache
def available(folder: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(accents, variants) of those above which the installed package really has."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise base.not_installed("espeak", "espeakng-loader", error) from None
    data = Path(folder or espeakng_loader.get_data_path())
    accents = {path.name.lower() for path in (data / "lang" / "gmw").glob("en*")}
    variants = {path.name for path in (data / "voices" / "!v").iterdir()}
    return tuple(a for a in ACCENTS if a in accents), tuple(v for v in VARIANTS if v in variants)


def voices(variants: Iterable[str] | None = None) -> list[str]:
    """Every "<accent>+<variant>", of the variants given or all; ValueError for a variant that is
    not there.
    """
    accents, there = available()
    wanted = there if variants is None else tuple(variants)
    missing = [v for v in wanted if v not in there]
    if missing:
        raise ValueError(
            f"espeak-ng voice variants {missing} are not in espeakng-loader's data; it has"
            f" {list(there)}"
        )
    return [f"{accent}+{variant}" for accent in accents for variant in wanted]


class Voice(base.Voice):
    """espeak-ng in this process. Make one per process, use it from one thread, end the process
    afterwards.
    """

    licence = "speech made by espeak-ng (GPL-3.0-or-later, through espeakng-loader)"
    held_out = {
        "test": ("m4", "m7", "f3", "Annie", "Michael", "benjamin", "quincy", "shelby"),
        "dev": ("m6", "f5", "Reed", "belinda"),
        "search": ("m2", "Andrea", "boris", "rob"),
    }

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self.library.espeak_Initialize(
            SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
        )
        if self.rate <= 0:
            raise RuntimeError(
                f"espeak_Initialize returned {self.rate}; reinstall the package espeakng-loader"
            )
        self._chunks: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = kind(self._take)  # kept: ctypes would free it
        self.library.espeak_SetSynthCallback(self._callback)
        self.library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self.library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._random = ctypes.CDLL(None).srand

    @classmethod
    def speakers(cls) -> list[str]:
        return voices()

    @classmethod
    def of_split(cls, split: str) -> list[str]:
        """The speakers of a split: a held-out voice is new in all its accents. ValueError if one is
        missing.
        """
        held = {v for some in cls.held_out.values() for v in some}
        return voices(cls.held_out.get(split) or [v for v in available()[1] if v not in held])

    def say(self, text: str, speaker: str, rng: random.Random) -> np.ndarray:
        return self.speak(drawn(text, speaker, rng))

    def _take(self, wave, count: int, events) -> int:
        if wave and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    def version(self) -> str:
        self.library.espeak_Info.restype = ctypes.c_char_p
        return self.library.espeak_Info(None).decode()

    def speak(self, request: Request) -> np.ndarray:
        """Samples float32 [N] at 16 kHz, silence at the ends trimmed; [0] if nothing was said.

        ValueError for a voice that espeak-ng does not know."""
        if self.library.espeak_SetVoiceByName(request.voice.encode()) != OK:
            raise ValueError(
                f"espeak-ng has no voice '{request.voice}'; allowed are <accent>+<variant> of "
                f"{available()}"
            )
        for knob, value in (
            (RATE, request.speed),
            (VOLUME, LOUDNESS),
            (PITCH, request.pitch),
            (RANGE, request.range),
            (WORDGAP, request.gap),
        ):
            self.library.espeak_SetParameter(knob, value, 0)
        self.library.espeak_ng_SetRandSeed(1)  # its own generator starts from the clock
        self._random(1)  # and some effects use the C library's
        self._chunks.clear()
        text = request.text.encode()
        self.library.espeak_Synth(text, len(text) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        self.library.espeak_Synchronize()
        if not self._chunks:
            return np.zeros(0, np.float32)
        samples = np.concatenate(self._chunks).astype(np.float32) / 32768
        return base.trim(
            np.asarray(soxr.resample(samples, self.rate, base.SAMPLE_RATE), np.float32)
        )


def speak(requests: list[Request]) -> list[np.ndarray]:
    """Samples float32 [N] at 16 kHz of each request, spoken by one fresh child process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_speak_here, requests).result()


def _speak_here(requests: list[Request]) -> list[np.ndarray]:
    engine = Voice()
    return [engine.speak(request) for request in requests]
