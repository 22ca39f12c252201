"""NeMo manifests, which several plug-ins read: JSON lines as items, and whose recordings they
name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from core.common import reading
from core.corpora import base
from core.jobs import confinement
from core.records import Utterance
from core.speech import audio as audio_module

LICENSES = {  # by the first part of a manifest's file name
    "librispeech": "LibriSpeech (V. Panayotov et al. 2015), CC BY 4.0",
    "cmu_arctic": "CMU ARCTIC (J. Kominek, A. Black 2003), permissive CMU licence",
    "ljspeech": "LJSpeech (K. Ito 2017), public domain",
    "speechocean762": "speechocean762 (J. Zhang et al. 2021), CC BY 4.0",
    "speech_commands": "Speech Commands (P. Warden 2018), CC BY 4.0",
    "fsdd": "Free Spoken Digit Dataset (Z. Jackson et al.), CC BY-SA 4.0 (share-alike)",
    "robotutor": "RoboTutor's read stories (Team RoboTutor), CC BY 4.0",
    "kathleen": "Kathleen, a voice for Mimic and Piper, CC0",
    "dc_tts_philipp": "sentences of LJSpeech by a second voice (for DC-TTS), Apache-2.0",
}


def lines(path: Path) -> Iterator[base.Item]:
    """The items of one manifest; `audio_filepath` is relative to it. What cannot be used is Dropped
    by line.
    """
    for number, line in enumerate(
        reading.lines(path, "replace"), 1
    ):  # what is no UTF-8 becomes a letter outside the alphabet
        if line.strip():
            yield _item(path, f"{path.name}:{number}", line)


def _item(path: Path, place: str, line: str) -> base.Item:
    """One line as an Utterance, or Dropped with its reason."""
    try:
        row = json.loads(line)
        audio = os.path.normpath(path.parent / confinement.expanded(row["audio_filepath"]))
        confinement.check_audio(audio)
        offset, text = float(row.get("offset") or 0), row.get("text")
        id = str(row.get("id") or f"{Path(audio).stem}{f'-{offset:.3f}' if offset else ''}")
        if not isinstance(text, str):
            return base.Dropped(id, f"no text: {place}")
        seconds = (
            float(row["duration"]) if row.get("duration") else audio_module.duration(audio) - offset
        )
        return Utterance(
            id, audio, offset, seconds, text, str(row.get("speaker") or f"no-speaker-{id}")
        )
    except KeyError as error:
        return base.Dropped(place, f"field {error} is missing")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return base.Dropped(place, f"not a usable line: {error}")


def attributions(files: dict[str, list[Path]], licence: str = "") -> list[tuple[str, str]]:
    """(corpus, licence) of manifests by split, from `licence` or LICENSES; what is in no training
    split says so.
    """
    trained = {_corpus_of(f) for f in files.get("train", [])}
    corpora = dict.fromkeys(_corpus_of(f) for split in files.values() for f in split)
    return [
        (
            name if name in trained else f"{name} (measured only)",
            licence or LICENSES.get(name, "unknown: see the corpus' own documents"),
        )
        for name in corpora
    ]


def _corpus_of(manifest: Path) -> str:
    return manifest.name.split(".")[0]
