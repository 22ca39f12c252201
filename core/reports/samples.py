"""Spoken samples for the Transcribe page: espeak-ng in voices, and with sentences, that no training
ever had.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core import paths
from core.common import writing
from core.corpora import voice_commands
from core.reports import tables
from core.speech import audio, speaking
from core.speech.speaking import Request

MOST_BYTES = 300_000  # of the folder
LEVEL_DB = -23.0  # RMS of a sample against full scale
AROUND_S = 0.25  # of silence before and after
# Test sentences of core/speech/grammar.py; commas are pauses and stand in no transcript.
SPOKEN = {
    "1_volume_in_the_garden": Request("turn the volume up in the garden", "en-us+m7", 170, 45, 55),
    "2_kitchen_blinds": Request("open the kitchen blinds", "en+f3", 165, 55, 50),
    "3_windy_in_detroit": Request(
        "will it be windy in detroit tonight", "en-us-nyc+Michael", 175, 50, 60
    ),
    "4_alarm_at_quarter_to_eight": Request(
        "change alarm for quarter to eight", "en-gb-scotland+Annie", 165, 60, 50
    ),
    "5_six_digits": Request("three seven three three three two", "en-029+benjamin", 150, 40, 45, 2),
    "6_call_benjamin": Request("call benjamin from work", "en-gb-x-rp+shelby", 170, 55, 60),
    "7_three_commands_in_a_row": Request(
        "please turn off the attic air conditioner, start a timer for thirty one minutes and thirty"
        " five seconds, play some party music from the laundry",
        "en-us+quincy",
        165,
        50,
        55,
    ),
}


def transcript(request: Request) -> str:
    return request.text.replace(",", "")


def check() -> None:
    """ValueError unless every voice and every command is held out of the built-in corpus'
    training.
    """
    voices = set(voice_commands.split_voices("test"))
    for name, request in SPOKEN.items():
        seen = [
            part
            for part in request.text.split(", ")
            if voice_commands.sentence_split(part) != "test"
        ]
        if seen or request.voice not in voices:
            raise ValueError(
                f"sample {name}: voice {request.voice} and every command must belong to the test"
                f" split of voice_commands; these do not: {seen or [request.voice]}"
            )


def write() -> Path:
    """Speak all samples into artifacts/released/samples/ as Opus, each with its text, and return
    the folder.
    """
    check()
    folder = paths.RELEASED / paths.SAMPLES
    sounds = [levelled(s) for s in speaking.speak(list(SPOKEN.values()))]
    files = {name: audio.encode(s, ".opus") for name, s in zip(SPOKEN, sounds)}
    total = sum(map(len, files.values()))
    if total > MOST_BYTES:
        raise ValueError(
            f"the samples have {total} bytes, {MOST_BYTES} are allowed: shorten the sentences"
        )
    for name, data in files.items():
        writing.write_bytes(folder / f"{name}.opus", data)
        writing.write_bytes(folder / f"{name}.txt", (transcript(SPOKEN[name]) + "\n").encode())
    writing.write_bytes(folder / paths.CARD, _readme(sounds).encode())
    return folder


def levelled(samples: np.ndarray) -> np.ndarray:
    """Samples [N] at LEVEL_DB, never clipping, with silence around them."""
    gain = 10 ** (LEVEL_DB / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-9)
    gain = min(gain, 0.95 / max(float(np.abs(samples).max()), 1e-9))
    return np.pad(samples * gain, round(AROUND_S * audio.SAMPLE_RATE)).astype(np.float32)


def _readme(sounds: list[np.ndarray]) -> str:
    rows = [
        (f"[{name}.opus]({name}.opus)", transcript(r), r.voice, f"{len(s) / audio.SAMPLE_RATE:.1f}")
        for (name, r), s in zip(SPOKEN.items(), sounds)
    ]
    return (
        "# Spoken samples\n\nSpoken by a machine: every file here was synthesised by espeak-ng"
        " (GPL-3.0-or-later, through the package espeakng-loader), none by a person. Voices and"
        " commands belong to the test split of the built-in corpus, so no training had them. What a"
        " recogniser makes of them says nothing about human speech.\n\n"
        + tables.table(("file", "what is said", "espeak-ng voice", "seconds"), rows)
        + "\n\nMade by `python -m core release --samples`.\n"
    )
