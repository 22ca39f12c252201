"""Marks in transcripts that are no words: `<unk>`, `[noise]`, `(cough)`, `{laugh}`, `<s>`, `!SIL`,
`%hesitation`. They are taken out.

Three kinds are known, in upper and lower case: one word in angle brackets, whatever it is; one of
NAMES, or two joined by - or _, in any brackets; and PLAIN, without brackets. A recipe's
`tokens.marks` names further ones, as they stand in the transcripts. Other words in ( ), [ ] and { }
stay words, for people also speak what is written in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NAMES = """
    applause background beep bell blank blank_audio breath breathing cough coughing coughs
    crosstalk crowd_noise door eps filler fil foreign fp garbage hesitation hes human_noise
    inaudible inhale exhale ignore ignore_time_segment_in_scoring lau laugh laughing laughs
    laughter lip lipsmack lip_smack mouth music nes no_speech noise noises ns nsn oov overlap
    pause pad pers pii ring sigh sil silence silent skip smack sneeze sniff snn sound spk spn
    spoken_noise sp sta static sta_noise throat tone uh uhm um umm unclear unintelligible unk
    unknown unknown_word voc_noise vocalized_noise vocnoise xxx yawn
""".split()  # noqa: SIM905 - a list of sixty literals would fill a page
PLAIN = (
    "!sil",
    "!silence",
    "!exclamation-point",
    "%hesitation",
    "%hes",
    "%bcack",
    "++noise++",
    "++breath++",
    "++um++",
    "++uh++",
    "++cough++",
    "++laughter++",
    "++smack++",
)

_LONGEST_FIRST = sorted(NAMES, key=len, reverse=True)
_NAME = rf"(?:{'|'.join(re.escape(n).replace('_', '[ _-]?') for n in _LONGEST_FIRST)})"
_NAMES = rf"{_NAME}(?:[ _-]{_NAME})?\d*"
_KNOWN = "|".join(
    (
        r"</?[^\s<>]+/?>",
        *(
            rf"{left}\s*/?{_NAMES}/?\s*{right}"
            for left, right in ((r"\[", r"\]"), (r"\(", r"\)"), (r"\{", r"\}"), ("<", ">"))
        ),
        rf"(?<!\S)(?:{'|'.join(map(re.escape, PLAIN))})(?!\S)",
    )
)


def without(text: str, further: Iterable[str] = ()) -> tuple[str, list[str]]:
    """A transcript without marks, as it came but for them, and the marks that were in it; `further`
    marks stand as words of their own.
    """
    further_marks = "|".join(
        rf"(?<!\S){re.escape(mark)}(?!\S)"
        for mark in sorted(further, key=len, reverse=True)
        if mark
    )
    removed: list[str] = []

    def take(match: re.Match[str]) -> str:
        removed.append(match.group())
        return " "

    return re.sub(
        f"{_KNOWN}|{further_marks}" if further_marks else _KNOWN, take, text, flags=re.IGNORECASE
    ), removed
