"""Words to ids and back: blank first, round trips, files as sherpa-onnx reads them, the same every
time.
"""

from __future__ import annotations

import io

import pytest
import sentencepiece

from core.speech import tokenizer
from core.speech.tokenizer import Options, Pieces, load

WORDS = [
    "turn",
    "on",
    "the",
    "light",
    "in",
    "kitchen",
    "and",
    "play",
    "some",
    "music",
    "by",
    "queen",
    "what",
    "is",
    "weather",
    "like",
    "tomorrow",
    "set",
    "a",
    "timer",
    "for",
    "ten",
]
TEXTS = [
    " ".join(WORDS[i % 19 :] + WORDS[: i * 7 % 19] + [WORDS[i * i % 19] + WORDS[i * 3 % 19]])
    for i in range(120)
]


@pytest.mark.parametrize("options", [Options(size=100), Options(kind="characters")])
def test_round_trip_and_files(tmp_path, options):
    made = tokenizer.train(TEXTS, options, tmp_path)
    loaded = load(tmp_path)
    assert loaded.size == made.size == (100 if options.kind == "pieces" else 29)
    assert loaded.symbols == made.symbols and loaded.symbols[0] == "<blk>"
    for words in [
        *TEXTS[:20],
        "jazz quartz vex",
        "o'clock",
        "",
    ]:  # every letter has a token, seen in training or not
        ids = loaded.encode(words)
        assert loaded.decode(ids) == words and 0 not in ids
        assert loaded.decode([0, *ids, 0]) == words
    lines = (tmp_path / "tokens.txt").read_text().splitlines()
    assert lines[0] == "<blk> 0"
    assert [line.rsplit(" ", 1) for line in lines] == [
        [s, str(i)] for i, s in enumerate(loaded.symbols)
    ]


def test_pieces_are_shorter_than_characters(tmp_path):
    pieces = tokenizer.train(TEXTS, Options(size=100), tmp_path / "p")
    letters = tokenizer.train(TEXTS, Options(kind="characters"), tmp_path / "c")
    assert sum(len(pieces.encode(t)) for t in TEXTS) < 0.5 * sum(
        len(letters.encode(t)) for t in TEXTS
    )


def test_same_text_same_bytes(tmp_path):
    first, second = (tokenizer.train(TEXTS, Options(size=100), tmp_path / n).model for n in "ab")
    assert first == second


def test_from_bytes_equals_from_folder(tmp_path):
    made = tokenizer.train(TEXTS, Options(size=100), tmp_path)
    assert Pieces((tmp_path / "bpe.model").read_bytes()).encode(TEXTS[0]) == made.encode(TEXTS[0])


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="tokens.size = 256 is too large .* they support"):
        tokenizer.train(["hello world"] * 3, Options(size=256), tmp_path)
    with pytest.raises(ValueError, match="'train' is empty"):
        tokenizer.train([], Options(), tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="SentencePiece"):
        Pieces(b"not a model")
    made = tokenizer.train(TEXTS, Options(size=100), tmp_path)
    with pytest.raises(ValueError, match=r"without a token: \['1', 'é'\]"):
        made.encode("caf\u00e9 1")


def test_repeats_are_counted():
    assert [tokenizer.repeats(ids) for ids in ([], [3], [3, 3], [3, 3, 3, 4, 3])] == [0, 0, 1, 2]


def test_a_model_without_a_blank_gets_one_in_front_and_ids_grow_by_one(tmp_path):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=file, vocab_size=60, minloglevel=2
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    ours = tokenizer.with_blank(file.getvalue())
    pieces = [theirs.id_to_piece(i) for i in range(60)]
    assert ours.symbols == ["<blk>", *pieces] and ours.size == 61 and ours.symbols[1] == "<unk>"
    for text in TEXTS[:20]:
        ids = theirs.encode(text)
        assert (
            ours.encode(text) == [id + 1 for id in ids] and ours.decode(ours.encode(text)) == text
        )
    assert ours.decode([0, 1, 2, 3, *ours.encode("turn on"), 0]) == "turn on", "only words are said"
    with pytest.raises(ValueError, match=r"without a token: \['!', '<'\]"):
        ours.encode("turn <!")
    (tmp_path / "bpe.model").write_bytes(ours.model)
    assert load(tmp_path).symbols == ours.symbols
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        tokenizer.with_blank(b"no model")
