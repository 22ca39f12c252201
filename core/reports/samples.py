"""Spoken samples for the Transcribe page: natural voices and sentences that no training had."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import paths
from core.common import writing
from core.corpora import voice_commands
from core.reports import tables
from core.speech import audio
from core.speech.voices import base as voices

MOST_BYTES = 300_000  # of the folder
LEVEL_DB = -23.0  # RMS of a sample against full scale
AROUND_S = 0.25  # of silence before and after


@dataclass(frozen=True)
class Line:
    """What is said by whom; commas are pauses and stand in no transcript."""

    text: str
    voice: str  # a plug-in of core/speech/voices/
    speaker: str
    command: bool = True  # of core/speech/grammar.py


SPOKEN = {
    "1_dinner_in_half_an_hour": Line(
        "he said that dinner would be ready in half an hour", "hibari", "heart+0.94", False
    ),
    "2_a_walk_in_the_rain": Line(
        "she put on her coat and went out into the rain", "hibari", "heart+1.12", False
    ),
    "3_the_old_house": Line(
        "the old house on the hill had been empty for many years", "piper", "joe+1.06", False
    ),
    "4_volume_in_the_garden": Line("turn the volume up in the garden", "piper", "joe+1.06"),
    "5_kitchen_blinds": Line("open the kitchen blinds", "hibari", "heart+0.94"),
    "6_windy_in_detroit": Line("will it be windy in detroit tonight", "piper", "joe+0.91"),
    "7_alarm_at_quarter_to_eight": Line(
        "change alarm for quarter to eight", "hibari", "heart+1.12"
    ),
    "8_six_digits": Line("three seven three three three two", "piper", "joe+1.06"),
    "9_call_benjamin": Line("call benjamin from work", "piper", "joe+1.24"),
    "9_three_commands_in_a_row": Line(
        "please turn off the attic air conditioner, start a timer for thirty one minutes and thirty"
        " five seconds, play some party music from the laundry",
        "hibari",
        "heart+0.94",
    ),
}


def transcript(line: Line) -> str:
    return line.text.replace(",", "")


def check() -> None:
    """ValueError unless every voice is held out for tests, and every command of the built-in
    corpus' training.
    """
    for name, line in SPOKEN.items():
        seen = [
            part
            for part in line.text.split(", ")
            if line.command and voice_commands.sentence_split(part) != "test"
        ]
        if voices.variant(line.speaker) not in voices.load(line.voice).held_out["test"]:
            seen.append(f"{line.voice} {line.speaker}")
        if seen:
            raise ValueError(
                f"sample {name}: its voice and every command must belong to the test split; these"
                f" do not: {', '.join(seen)}"
            )


def spoken(lines: list[Line]) -> list[np.ndarray]:
    """Samples float32 [N] at 16 kHz of each line, by one fresh child process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_spoken_here, lines).result()


def _spoken_here(lines: list[Line]) -> list[np.ndarray]:
    engines = {name: voices.load(name)() for name in sorted({line.voice for line in lines})}
    return [
        engines[line.voice].say(line.text, line.speaker, random.Random(line.text)) for line in lines
    ]


def write() -> Path:
    """Speak all samples into artifacts/released/samples/ as Opus, each with its text, and return
    the folder.
    """
    check()
    folder = paths.RELEASED / paths.SAMPLES
    sounds = [levelled(s) for s in spoken(list(SPOKEN.values()))]
    files = {name: audio.encode(s, ".opus") for name, s in zip(SPOKEN, sounds)}
    total = sum(map(len, files.values()))
    if total > MOST_BYTES:
        raise ValueError(
            f"the samples have {total} bytes, {MOST_BYTES} are allowed: shorten the sentences"
        )
    for old in [
        f for f in folder.glob("*") if f.suffix in (".opus", ".txt") and f.stem not in SPOKEN
    ]:
        old.unlink()
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
        (
            f"[{name}.opus]({name}.opus)",
            transcript(line),
            f"{line.voice}, {line.speaker}",
            f"{len(s) / audio.SAMPLE_RATE:.1f}",
        )
        for (name, line), s in zip(SPOKEN.items(), sounds)
    ]
    licences = sorted({voices.load(line.voice).licence for line in SPOKEN.values()})
    return (
        "# Spoken samples\n\nSpoken by machines, none by a person: "
        + "; ".join(licences)
        + ". No training had these voices' variants or, of 4 to 9, these commands of the built-in"
        " corpus. What a recognizer makes of them says little about human speech.\n\n"
        + tables.table(("file", "what is said", "voice", "seconds"), rows)
        + "\n\nMade by `python -m core release --samples`.\n"
    )
