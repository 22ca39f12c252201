"""Words to numbers and back: phonemes, SentencePiece pieces or characters, blank = 0, in the files
sherpa-onnx expects.

Letters: U tokens. `tokens.txt` has one "symbol id" per line, `<blk> 0` first; `bpe.model` is the
SentencePiece model, which phonemes do without.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from core import paths
from core.common import writing
from core.records import option
from core.speech import lexicon, phones
from core.speech.normalizer import ALPHABET
from core.storage import checksums

BLANK = 0
BLANK_SYMBOL = "<blk>"
FIXED_SIZES = {
    "characters": 2 + len(ALPHABET.replace(" ", "")),  # the blank, the space, the others
    "phonemes": 1 + len(phones.PHONES),
}
CHARACTERS = FIXED_SIZES["characters"]
SPACE = "\u2581"  # SentencePiece's mark for the start of a word
WORD_END = "_E"  # after a phoneme that ends a word, in token tables with word ends


@dataclass(frozen=True)
class Options:
    """What the network writes: word pieces, single characters, or phonemes, which a decoding graph
    makes words of.
    """

    kind: str = option(
        "pieces",
        "word pieces learned from the training text, single characters, or phonemes",
        choices=("pieces", "characters", "phonemes"),
    )
    size: int = option(
        256,
        "number of pieces, the blank included; characters are always 29, phonemes 40",
        low=32,
        high=4096,
    )
    word_ends: bool = option(False, "of phonemes: those that end a word are tokens of their own")
    marks: list[str] = option(
        [],
        "what stands in transcripts and is no word, beside the marks of core/speech/marks.py, e.g."
        ' ["*laughs*"]',
    )

    @property
    def vocabulary(self) -> int:
        """Number of symbols, the blank included."""
        return FIXED_SIZES.get(self.kind, self.size) + len(phones.PHONES) * self.word_ends


def train(texts: Iterable[str], options: Options, folder: Path) -> Tokenizer:
    """Learns pieces from normalized training `texts` and writes bpe.model and tokens.txt into
    `folder`.

    Deterministic: one thread, the texts in their order. Phonemes need no text. ValueError if there
    is too little for the size.
    """

    if options.word_ends and options.kind != "phonemes":
        raise ValueError(
            f"tokens.word_ends belongs to tokens.kind = 'phonemes', but the kind is"
            f" {options.kind!r}: leave one out"
        )
    if options.kind == "phonemes":
        ends = [phone + WORD_END for phone in phones.PHONES] if options.word_ends else []
        phonemes = Phonemes([BLANK_SYMBOL, *phones.PHONES, *ends])
        writing.write_bytes(folder / paths.TOKENS, phonemes.tokens_txt().encode())
        return phonemes
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError(
            "no training text to learn tokens from: the corpus' split 'train' is empty"
        )
    letters = ALPHABET.replace(" ", "")
    vocabulary_size = options.size if options.kind == "pieces" else len(letters) + 2
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocabulary_size,
            num_threads=1,
            model_type="bpe" if options.kind == "pieces" else "char",
            character_coverage=1.0,
            required_chars=letters,
            normalization_rule_name="identity",
            max_sentence_length=1 << 20,
            shuffle_input_sentence=False,
            unk_id=BLANK,
            unk_piece=BLANK_SYMBOL,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        limit = re.search(r"<= (\d+)", str(error))
        raise ValueError(
            f"tokens.size = {vocabulary_size} is too large for {len(texts)} training"
            f" texts{f': they support {limit.group(1)}' if limit else ''}; make tokens.size smaller"
            f" or use tokens.kind = 'characters' ({error})"
        ) from error
    tokenizer = Pieces(model.getvalue())
    writing.write_bytes(folder / paths.BPE, tokenizer.model)
    writing.write_bytes(folder / paths.TOKENS, tokenizer.tokens_txt().encode())
    return tokenizer


class Tokenizer:
    """Encodes normalized text as ids 1..size-1 and decodes ids; 0 is the blank."""

    symbols: list[str]
    word_ends = False  # whether phonemes that end words are tokens of their own
    unit = (  # what decode() gives: words, or phonemes, of which only a decoding graph makes words
        "words"
    )

    @property
    def size(self) -> int:
        """Number of symbols, the blank included: outputs of the network."""
        return len(self.symbols)

    @property
    def space(self) -> int | None:
        """The token that parts words and is no sound, if there is one."""
        return self.symbols.index(SPACE) if SPACE in self.symbols else None

    def encode(self, text: str) -> list[int]:
        """Ids [U] of normalized `text`; ValueError for what has no token."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; blanks are skipped. Repeats are kept: collapsing CTC paths is
        decoding's work.
        """
        raise NotImplementedError

    def pronunciations(self, word: str) -> list[tuple[int, ...]]:
        """Token ids of every way to say a word, the likeliest first, for a decoding graph.
        ValueError for what has no token.
        """
        return [tuple(self.encode(word))]

    def reference(self, text: str) -> str:
        """What decode() gives of a perfect net's tokens: what its output is scored against."""
        return text

    def joinable(self) -> list[str]:
        """The symbols for a runtime that joins them in a row and knows only the mark of a space."""
        return self.symbols

    def tokens_txt(self) -> str:
        """The content of tokens.txt: `<blk> 0`, then one "symbol id" per line."""
        return "".join(f"{symbol} {id}\n" for id, symbol in enumerate(self.symbols))


class Pieces(Tokenizer):
    """SentencePiece: word pieces or single characters."""

    def __init__(self, model: bytes):
        """`model`: the content of a bpe.model."""
        self.model = bytes(model)
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise ValueError(
                f"not a SentencePiece model ({error}); give the content of {paths.BPE}"
            ) from error
        self.symbols: list[str] = [
            self._pieces.id_to_piece(i) for i in range(self._pieces.get_piece_size())
        ]
        # never said: the blank, and what stands for unknown text and the ends of sentences
        is_silent = (self._pieces.is_unknown, self._pieces.is_control)
        self._silent = {i for i in range(len(self.symbols)) for silent in is_silent if silent(i)}
        if self.symbols[:1] != [BLANK_SYMBOL]:
            raise ValueError(
                f"the first token is {self.symbols[:1]}; it must be '{BLANK_SYMBOL}', the blank:"
                " train the tokenizer with this module"
            )

    def encode(self, text: str) -> list[int]:
        ids = self._pieces.encode(text)
        if self._silent & {*ids}:
            spoken = (s for i, s in enumerate(self.symbols) if i not in self._silent)
            known = set("".join(spoken).replace(SPACE, " "))
            raise ValueError(
                f"'{text}' holds characters without a token: {sorted(set(text) - known)}; normalize"
                " it first (core.speech.normalizer)"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        pieces = (self.symbols[i] for i in ids if i not in self._silent)
        return "".join(pieces).replace(SPACE, " ").strip()


def with_blank(model: bytes) -> Pieces:
    """A SentencePiece model that knows no blank, as one that does: ids grow by one, 0 is the blank.
    ValueError when it is none.
    """
    # its pieces are field 1 of a message, and messages join by being written one after the other
    name = BLANK_SYMBOL.encode()
    piece = b"\x0a" + bytes([len(name)]) + name + b"\x18\x03"  # its text, and its type: control
    return Pieces(b"\x0a" + bytes([len(piece)]) + piece + model)


class Phonemes(Tokenizer):
    """ARPAbet; every word as its likeliest pronunciation. Words are not kept apart, unless the
    symbols have word ends.
    """

    unit = "phonemes"

    def __init__(self, symbols: Sequence[str]):
        self.symbols = list(symbols)
        self._ids = {symbol: id for id, symbol in enumerate(self.symbols)}
        self.word_ends = any(symbol.endswith(WORD_END) for symbol in self.symbols)
        if self.symbols[:1] != [BLANK_SYMBOL] or len(self._ids) != len(self.symbols):
            raise ValueError(
                f"tokens {self.symbols[:3]} ...: the first must be '{BLANK_SYMBOL}', and none may"
                " come twice"
            )

    def encode(self, text: str) -> list[int]:
        return [id for word in text.split() for id in self._of(word, lexicon.pronounce(word)[0])]

    def pronunciations(self, word: str) -> list[tuple[int, ...]]:
        return [self._of(word, said) for said in lexicon.pronounce(word)]

    def _of(self, word: str, said: Sequence[str]) -> tuple[int, ...]:
        if self.word_ends:
            said = [*said[:-1], said[-1] + WORD_END]
        try:
            return tuple(self._ids[phone] for phone in said)
        except KeyError as error:
            raise ValueError(
                f"'{word}' needs the phoneme {error}, which is not among the {self.size} tokens"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The phonemes, whether they end words or not: error rates can be compared."""
        return " ".join(self.symbols[i].removesuffix(WORD_END) for i in ids if i != BLANK)

    def reference(self, text: str) -> str:
        return self.decode(self.encode(text))

    def joinable(self) -> list[str]:
        return [SPACE + symbol.removesuffix(WORD_END) for symbol in self.symbols]


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder that holds tokens.txt and, unless it is of phonemes, bpe.model
    (prepared speech or a run).
    """
    model, tokens = Path(folder) / paths.BPE, Path(folder) / paths.TOKENS
    if model.is_file():
        return Pieces(_checked(model))
    if not tokens.is_file():
        raise ValueError(f"neither {model} nor {tokens} exists: this folder holds no tokenizer")
    return of_tokens(_checked(tokens).decode("utf-8"))


def _checked(file: Path) -> bytes:
    """ValueError when it is not the file that was written."""
    data = file.read_bytes()
    checksums.check(file, data)
    return data


def of_tokens(tokens_txt: str) -> Phonemes:
    """From the content of a tokens.txt; ValueError unless it is one of phonemes."""
    symbols = [line.rsplit(" ", 1)[0] for line in tokens_txt.split("\n") if line]
    strange = {s for s in symbols[1:] if s.removesuffix(WORD_END) not in phones.PHONES}
    if strange:
        raise ValueError(
            f"{paths.TOKENS} names {sorted(strange)[:3]}, which are"
            f" no phonemes, and there is no {paths.BPE}: this folder holds no whole tokenizer"
        )
    return Phonemes(symbols)


def repeats(ids: Sequence[int]) -> int:
    """Neighbors that are equal: CTC needs a blank between them, so U + repeats frames at least."""
    return sum(a == b for a, b in zip(ids, list(ids)[1:]))
