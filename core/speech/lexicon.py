"""How English words are pronounced: a lexicon that ships, and a network for every other word.

The file holds the words of the shipped language model and of the speech that the released runs were
trained on. Pronunciations are CMUdict's (BSD license) where it has the word, else those of
hibari-tts (Apache-2.0), which also reads any new word. Several a word, the likeliest first; weak
forms of function words are ours.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import zstandard

from core.speech import phones
from core.speech.normalizer import LETTERS

Pronunciation = tuple[str, ...]
FILE = Path(__file__).with_name("english.lexicon.zst")
VERSION = (
    1  # raise when a word would be pronounced otherwise: it is part of the prepared speech's key
)
MOST_LETTERS = 40  # in a word that is read by rule; longer ones are no words
WORD = re.compile(rf"[{LETTERS}']*[{LETTERS}][{LETTERS}']*")

# function words in running speech, the likeliest first (ours, after the weak forms of any
# pronouncing dictionary)
WEAK = {
    "a": "AH|EY",
    "an": "AE N|AH N",
    "and": "AE N D|AH N D|AH N",
    "are": "AA R|ER",
    "as": "AE Z|AH Z",
    "at": "AE T|AH T",
    "but": "B AH T",
    "can": "K AE N|K AH N",
    "could": "K UH D|K AH D",
    "do": "D UW|D AH",
    "does": "D AH Z",
    "for": "F AO R|F ER",
    "from": "F R AH M|F R AA M",
    "had": "HH AE D|HH AH D|AE D|AH D",
    "has": "HH AE Z|HH AH Z|AH Z",
    "have": "HH AE V|HH AH V|AH V",
    "he": "HH IY|IY",
    "her": "HH ER|ER",
    "him": "HH IH M|IH M",
    "his": "HH IH Z|IH Z",
    "i": "AY",
    "in": "IH N|AH N",
    "into": "IH N T UW|IH N T AH",
    "is": "IH Z",
    "it": "IH T|AH T",
    "just": "JH AH S T|JH IH S T",
    "me": "M IY",
    "must": "M AH S T",
    "my": "M AY",
    "nor": "N AO R|N ER",
    "not": "N AA T",
    "of": "AH V|AH",
    "or": "AO R|ER",
    "our": "AW ER|AA R|AW R",
    "shall": "SH AE L|SH AH L",
    "she": "SH IY",
    "should": "SH UH D|SH AH D",
    "so": "S OW",
    "some": "S AH M",
    "than": "DH AE N|DH AH N",
    "that": "DH AE T|DH AH T",
    "the": "DH AH|DH IY",
    "them": "DH EH M|DH AH M|AH M",
    "then": "DH EH N",
    "there": "DH EH R|DH ER",
    "to": "T UW|T AH|T IH",
    "until": "AH N T IH L",
    "upon": "AH P AA N|AH P AO N",
    "us": "AH S",
    "was": "W AA Z|W AH Z",
    "were": "W ER",
    "what": "W AH T|W AA T|HH W AH T",
    "when": "W EH N|HH W EH N",
    "which": "W IH CH|HH W IH CH",
    "will": "W IH L|W AH L",
    "with": "W IH DH|W IH TH",
    "would": "W UH D|W AH D",
    "you": "Y UW|Y AH",
    "your": "Y AO R|Y UH R|Y ER",
}


def pronounce(word: str) -> tuple[Pronunciation, ...]:
    """All pronunciations of a normalized word, the likeliest first; ValueError for what cannot be
    said.
    """
    known = shipped().get(word)
    return known or (read_by_rule(word),)


@functools.cache
def version() -> str:
    """Changes whenever a word of the lexicon, or the way other words are read, would come out
    otherwise.
    """
    return f"{VERSION} {hashlib.sha256(as_text(shipped()).encode()).hexdigest()[:12]}"


@functools.cache
def shipped() -> dict[str, tuple[Pronunciation, ...]]:
    """The lexicon that ships; empty where the file is missing (then every word is read by rule)."""
    if not FILE.is_file():
        return {}
    return parse(zstandard.ZstdDecompressor().decompress(FILE.read_bytes()).decode())


def parse(text: str) -> dict[str, tuple[Pronunciation, ...]]:
    """Lines "word PHONE PHONE ..." as in Kaldi's lexicon.txt, a word on several lines in the order
    of likelihood. ValueError names the
    line that is wrong.
    """
    entries: dict[str, list[Pronunciation]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        word, *said = line.split()[:1] + line.split()[1:] or [""]
        wrong = [phone for phone in said if phone not in phones.PHONES]
        if word and (wrong or not said):
            raise ValueError(
                f"lexicon, line {number}: {line[:60]!r}:"
                f" {f'{wrong[0]!r} is no phoneme' if wrong else 'no phonemes'}; a line is a word"
                f" and its phonemes, of {' '.join(phones.PHONES)}"
            )
        if word:
            entries.setdefault(word, []).append(tuple(said))
    return {word: tuple(dict.fromkeys(said)) for word, said in entries.items()}


def as_text(lexicon: dict[str, tuple[Pronunciation, ...]]) -> str:
    """The counterpart of parse()."""
    return "".join(
        f"{word} {' '.join(said)}\n" for word in sorted(lexicon) for said in lexicon[word]
    )


@functools.lru_cache(maxsize=100_000)
def read_by_rule(word: str) -> Pronunciation:
    """A word read by hibari's lexicon, suffix rules and network. ValueError for what it cannot
    read.
    """
    if not WORD.fullmatch(word) or len(word) > MOST_LETTERS:
        raise ValueError(
            f"{word[:60]!r} cannot be pronounced: a word is up to {MOST_LETTERS} letters a-z and"
            " apostrophes"
        )
    try:
        said = phones.from_misaki(_reader()(word))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{word!r} cannot be pronounced ({error}); spell it otherwise") from None
    if not said:
        raise ValueError(f"{word!r} cannot be pronounced: no phoneme came out; spell it otherwise")
    return said


@functools.cache
def _reader():
    try:
        from hibari.g2p import G2P
    except ImportError as error:
        raise ImportError(
            f"reading a new word needs the package hibari-tts ({error}): pip install hibari-tts"
        ) from error
    return G2P()


def make(
    words: Iterable[str], cmudict: dict[str, list[list[str]]]
) -> dict[str, tuple[Pronunciation, ...]]:
    """Pronunciations of words from CMUdict's entries, else by rule, function words from WEAK; words
    that cannot be said are left out.
    """
    lexicon = {}
    for word in sorted(set(words)):
        said = [tuple(form.split()) for form in WEAK.get(word, "").split("|") if form]
        said += [phones.from_cmudict(form) for form in cmudict.get(word, [])]
        if not said:
            try:
                said = [read_by_rule(word)]
            except ValueError:
                continue
        lexicon[word] = tuple(dict.fromkeys(said))
    return lexicon
