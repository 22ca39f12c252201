"""One way to write words, for training and scoring alike: a-z, apostrophes and single spaces.

Its name is stored with every score; when any text would come out otherwise, the name changes too.
"""

from __future__ import annotations

import re
import unicodedata

NORMALIZER = "plain-1"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = " '" + LETTERS

# Latin letters that Unicode does not decompose into a letter and a mark
_FOLDED = str.maketrans(
    {
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ß": "ss",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "’": "'",
        "ʼ": "'",
        "`": "'",
        "´": "'",
        "‘": " ",
    }
)
# punctuation that nobody speaks; signs that are spoken ($ % & @ # + = ° ...) stay and are reported
# by `problems`
_PUNCTUATION = re.compile(r"[.,;:!?¡¿…\"“”„«»()\[\]{}<>*_~|/\\\-‐‑‒–—―\s\u00ad\u200b\ufeff]+")
# an integer that stands alone: no letter, sign, currency, percent, fraction, clock time or decimal
# part around it
_INTEGER = re.compile(
    r"(?<![\w$€£¥%#+\-–−./⁄:,'])(\d{1,3}(?:,\d{3})+|\d+)(?![\w$€£¥%°'+\-–−/⁄:])(?![.,]\d)"
)
_APOSTROPHES = re.compile(r"(?<![a-z])'+(?![a-z])|'{2,}")

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
LARGEST = 999_999


def spell(number: int) -> str:
    """An integer from 0 to 999999 as English words without "and": 1905 -> "one thousand nine
    hundred five".
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"can spell 0 to {LARGEST}, not {number}")
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10 - 2] + ("" if number % 10 == 0 else " " + _ONES[number % 10])
    unit, word = (100, "hundred") if number < 1000 else (1000, "thousand")
    rest = number % unit
    return f"{spell(number // unit)} {word}" + ("" if rest == 0 else " " + spell(rest))


def _spelled(match: re.Match) -> str:
    digits = match.group(1).replace(",", "")
    sayable = int(digits) <= LARGEST and (digits == "0" or not digits.startswith("0"))
    return f" {spell(int(digits))} " if sayable else match.group(0)


def normalize(text: str) -> str:
    """Lower case, accents folded, punctuation dropped, single spaces; "Café No. 12" -> "cafe no
    twelve".

    Integers 0..999999 that stand alone are spelled ("1,234" too). Everything else with digits
    (ordinals, decimals,
    times, fractions, ranges, leading zeros, money) can be read in more than one way, and so stays
    and is reported by
    `problems`. An apostrophe is kept when it touches a letter, unless it quotes a single word.
    """
    text = unicodedata.normalize("NFKC", text).translate(_FOLDED).lower().translate(_FOLDED)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words: list[str] = []
    for piece in _INTEGER.sub(_spelled, text).split():
        if any(c.isdigit() for c in piece):
            words.append(piece)  # whole, so that a second pass finds it unsayable again
        else:
            words += _APOSTROPHES.sub(" ", _PUNCTUATION.sub(" ", piece)).split()
    return " ".join(w[1:-1] if len(w) > 2 and w[0] == w[-1] == "'" else w for w in words)


def problems(text: str) -> list[str]:
    """Characters of `normalize(text)` outside the alphabet, sorted: digits and signs whose words
    are unknown,
    letters of other scripts. [] means the text can be trained on and scored.
    """
    return sorted(set(normalize(text)) - set(ALPHABET))
