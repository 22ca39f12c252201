"""ARPAbet, the phonemes of American English without stress (as in CMUdict), and how other alphabets
are written in it.
"""

from __future__ import annotations

VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
)
PHONES = tuple(sorted(VOWELS + CONSONANTS))

# the alphabet of misaki and hibari: IPA with capitals for diphthongs, T for a flap; two letters
# first
_MISAKI = {
    "ɜɹ": "ER",
    "əɹ": "ER",
    "A": "EY",
    "I": "AY",
    "O": "OW",
    "W": "AW",
    "Y": "OY",
    "T": "T",
    "ɾ": "T",
    "ʔ": "T",
    "b": "B",
    "d": "D",
    "f": "F",
    "h": "HH",
    "i": "IY",
    "j": "Y",
    "k": "K",
    "l": "L",
    "m": "M",
    "n": "N",
    "p": "P",
    "s": "S",
    "t": "T",
    "u": "UW",
    "v": "V",
    "w": "W",
    "z": "Z",
    "æ": "AE",
    "ð": "DH",
    "ŋ": "NG",
    "ɐ": "AH",
    "ɑ": "AA",
    "ɔ": "AO",
    "ə": "AH",
    "ɛ": "EH",
    "ɜ": "ER",
    "ɡ": "G",
    "ɪ": "IH",
    "ɹ": "R",
    "ʃ": "SH",
    "ʊ": "UH",
    "ʌ": "AH",
    "ʒ": "ZH",
    "ʤ": "JH",
    "ʧ": "CH",
    "θ": "TH",
    "ᵊ": "AH",
    "ᵻ": "IH",
    "a": "AA",
    "o": "OW",
    "e": "EY",
    "ɒ": "AA",
    "x": "K",
}
_SILENT = "ˈˌː'.,!?;:—…\"“” "


def from_misaki(text: str) -> tuple[str, ...]:
    """ "wˈɔTəɹ" -> ("W", "AO", "T", "ER"); ValueError for letters that are not in its alphabet."""
    phones: list[str] = []
    text = "".join(letter for letter in text if letter not in _SILENT)
    while text:
        letters = text[:2] if text[:2] in _MISAKI else text[:1]
        if letters not in _MISAKI:
            raise ValueError(f"{letters!r} is no phoneme of misaki's alphabet")
        phones.append(_MISAKI[letters])
        text = text[len(letters) :]
    return tuple(phones)


def from_cmudict(phones: list[str]) -> tuple[str, ...]:
    """["W", "AO1", "T", "ER0"] -> ("W", "AO", "T", "ER")."""
    return tuple(phone.rstrip("012") for phone in phones)
