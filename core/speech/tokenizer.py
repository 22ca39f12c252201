"""Words to numbers and back: SentencePiece pieces or characters, blank = 0, in the files sherpa-onnx expects.

Letters: U tokens. `bpe.model` is the SentencePiece model, `tokens.txt` one "symbol id" per line, `<blk> 0` first.
"""
from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from core import paths
from core.records import option
from core.speech.normalizer import ALPHABET

BLANK = 0
BLANK_SYMBOL = "<blk>"
CHARACTERS = 2 + len(ALPHABET.replace(" ", "")) # symbols when tokens are characters: the blank, the space, the others
SPACE = "\u2581"  # SentencePiece's mark for the start of a word


@dataclass(frozen=True)
class Options:
    """What the network writes: word pieces or single characters."""
    kind: str = option("pieces", "word pieces learned from the training text, or single characters",
                       choices=("pieces", "characters"))
    size: int = option(256, "number of pieces, the blank included; characters are always 29", low=32, high=4096)


def train(texts: Iterable[str], options: Options, folder: Path) -> Tokenizer:
    """Learns pieces from normalised training `texts` and writes bpe.model and tokens.txt into `folder`.

    Deterministic: one thread, the texts in their order. ValueError if there is too little text for the size."""
    from core.storage import store
    texts = [text for text in texts if text]
    if not texts:
        raise ValueError("no training text to learn tokens from: the corpus' split 'train' is empty")
    letters = ALPHABET.replace(" ", "")
    size = options.size if options.kind == "pieces" else len(letters) + 2
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=size, num_threads=1,
            model_type="bpe" if options.kind == "pieces" else "char", character_coverage=1.0, required_chars=letters,
            normalization_rule_name="identity", max_sentence_length=1 << 20, shuffle_input_sentence=False,
            unk_id=BLANK, unk_piece=BLANK_SYMBOL, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2)
    except RuntimeError as error:
        limit = re.search(r"<= (\d+)", str(error))
        raise ValueError(f"tokens.size = {size} is too large for {len(texts)} training texts"
                         f"{f': they support {limit.group(1)}' if limit else ''}; make tokens.size smaller or use "
                         f"tokens.kind = 'characters' ({error})") from error
    tokenizer = Tokenizer(model.getvalue())
    store.write_bytes(folder / paths.BPE, tokenizer.model)
    store.write_bytes(folder / paths.TOKENS, tokenizer.tokens_txt().encode())
    return tokenizer


class Tokenizer:
    """Encodes normalised text as ids 1..size-1 and decodes ids; 0 is the blank."""

    def __init__(self, model: bytes):
        """`model`: the content of a bpe.model."""
        self.model = bytes(model)
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise ValueError(f"not a SentencePiece model ({error}); give the content of {paths.BPE}") from error
        self.symbols: list[str] = [self._pieces.id_to_piece(i) for i in range(self._pieces.get_piece_size())]
        if self.symbols[:1] != [BLANK_SYMBOL]:
            raise ValueError(f"the first token is {self.symbols[:1]}; it must be '{BLANK_SYMBOL}', the blank: train "
                             f"the tokenizer with this module")

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """From a folder that holds bpe.model (prepared data or a run)."""
        file = Path(folder) / paths.BPE
        if not file.is_file():
            raise ValueError(f"{file} does not exist: this folder holds no tokenizer")
        return cls(file.read_bytes())

    @property
    def size(self) -> int:
        """Number of symbols, the blank included: outputs of the network."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Ids [U] of normalised `text`; ValueError for characters that have no token."""
        ids = self._pieces.encode(text)
        if BLANK in ids:
            known = set("".join(self.symbols[1:]).replace(SPACE, " "))
            raise ValueError(f"'{text}' holds characters without a token: {sorted(set(text) - known)}; normalise it "
                             f"first (core.speech.normalizer)")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; blanks are skipped. Repeats are kept: collapsing CTC paths is decoding's work."""
        return "".join(self.symbols[i] for i in ids if i != BLANK).replace(SPACE, " ").strip()

    def tokens_txt(self) -> str:
        """The content of tokens.txt: `<blk> 0`, then one "symbol id" per line."""
        return "".join(f"{symbol} {id}\n" for id, symbol in enumerate(self.symbols))


def repeats(ids: Sequence[int]) -> int:
    """Neighbours that are equal: CTC needs a blank between them, so U + repeats frames at least."""
    return sum(a == b for a, b in zip(ids, list(ids)[1:]))
