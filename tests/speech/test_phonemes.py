"""Phoneme tokens: round trips, files, words that nobody listed, what cannot be pronounced; the
lexicon's file.
"""

from __future__ import annotations

import pytest

from core.speech import lexicon, phones, tokenizer
from core.speech.tokenizer import Options, Phonemes


@pytest.fixture
def own_lexicon(monkeypatch):
    """Three words, instead of the lexicon that ships."""
    monkeypatch.setattr(
        lexicon,
        "shipped",
        lambda: lexicon.parse("the DH AH\nthe DH IY\nlight L AY T\nlight DH AH\n"),
    )


def test_round_trip_and_files(tmp_path, own_lexicon):
    made = tokenizer.train([], Options(kind="phonemes"), tmp_path)
    loaded = tokenizer.load(tmp_path)
    assert isinstance(loaded, Phonemes) and loaded.unit == "phonemes"
    assert loaded.size == made.size == Options(kind="phonemes").vocabulary == 40
    lines = (tmp_path / "tokens.txt").read_text().splitlines()
    assert lines[0] == "<blk> 0" and [line.split() for line in lines] == [
        [s, str(i)] for i, s in enumerate(loaded.symbols)
    ]
    assert not (tmp_path / "bpe.model").exists()
    assert (
        loaded.decode(loaded.encode("the light")) == "DH AH L AY T" == loaded.reference("the light")
    )
    assert (
        loaded.decode([0, *loaded.encode("light"), 0]) == "L AY T"
        and 0 not in loaded.encode("the light")
        and loaded.encode("") == []
    )
    assert [loaded.decode(form) for form in loaded.pronunciations("the")] == ["DH AH", "DH IY"]
    assert tokenizer.of_tokens(loaded.tokens_txt()).symbols == loaded.symbols


def test_phonemes_that_end_words_are_tokens_of_their_own(tmp_path, own_lexicon):
    options = Options(kind="phonemes", word_ends=True)
    made = tokenizer.train([], options, tmp_path)
    loaded = tokenizer.load(tmp_path)
    assert loaded.symbols == made.symbols and loaded.size == options.vocabulary == 79
    ids = loaded.encode("the light")
    assert [loaded.symbols[i] for i in ids] == ["DH", "AH_E", "L", "AY", "T_E"]
    assert loaded.decode(ids) == loaded.reference("the light") == "DH AH L AY T"
    assert loaded.word_ends and not Phonemes(["<blk>", "AH"]).word_ends
    ends = [[loaded.symbols[i] for i in form] for form in loaded.pronunciations("the")]
    assert ends == [["DH", "AH_E"], ["DH", "IY_E"]]
    with pytest.raises(ValueError, match="word_ends belongs to tokens.kind = 'phonemes'.*'pieces'"):
        tokenizer.train(["a b c"], Options(word_ends=True), tmp_path)


def test_a_folder_without_phonemes_is_refused(tmp_path):
    (tmp_path / "tokens.txt").write_text("<blk> 0\n\u2581the 1\nAH 2\n")
    with pytest.raises(
        ValueError, match="names .*the.*, which are no phonemes, and there is no bpe.model"
    ):
        tokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="the first must be '<blk>'"):
        Phonemes(["AH", "<blk>"])
    with pytest.raises(ValueError, match="none may come twice"):
        Phonemes(["<blk>", "AH", "AH"])
    with pytest.raises(
        ValueError, match="'the' needs the phoneme 'DH', which is not among the 2 tokens"
    ):
        Phonemes(["<blk>", "AH"]).encode("the")


@pytest.mark.slow
def test_words_that_nobody_listed_are_read_by_rule():
    assert "zorblattic" not in lexicon.shipped()
    said = lexicon.pronounce("zorblattic")
    assert (
        len(said) == 1
        and said[0][0] == "Z"
        and set(said[0]) <= set(phones.PHONES)
        and 6 <= len(said[0]) <= 10
    )


@pytest.mark.parametrize("word", ["", "'", "caf\u00e9", "x2", "a" * 41, "two words"])
def test_what_cannot_be_pronounced_is_said(word):
    with pytest.raises(ValueError, match="cannot be pronounced"):
        lexicon.pronounce(word)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("no letters")])
def test_a_word_that_the_rules_cannot_read_is_said(monkeypatch, error):
    def reader():
        def read(word):
            raise error

        return read

    monkeypatch.setattr(lexicon, "_reader", reader)
    with pytest.raises(ValueError, match="'qqzzqx' cannot be pronounced .*spell it otherwise"):
        lexicon.read_by_rule("qqzzqx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the DH AH\nlight L AY TT", "lexicon, line 2: 'light L AY TT': 'TT' is no phoneme"),
        ("the", "line 1: 'the': no phonemes"),
        ("the DH AH1", "'AH1' is no phoneme"),
    ],
)
def test_a_wrong_line_of_a_lexicon_is_named(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        lexicon.parse(text)
    assert "a line is a word and its phonemes" in str(caught.value)


def test_a_lexicon_comes_back_in_the_order_of_likelihood():
    text = "a AH\na EY\nbe B IY\n"
    assert (
        lexicon.parse(text) == {"a": (("AH",), ("EY",)), "be": (("B", "IY"),)}
        and lexicon.as_text(lexicon.parse(text)) == text
    )
    assert lexicon.parse("\nbe B IY\nbe B IY\n\n") == {"be": (("B", "IY"),)}


@pytest.mark.slow
def test_the_shipped_lexicon_is_whole():
    known = lexicon.shipped()
    assert (
        len(known) > 10_000
        and known["the"][0] == ("DH", "AH")
        and known["light"] == (("L", "AY", "T"),)
    )
    assert all(forms and len(set(forms)) == len(forms) for forms in known.values())
    assert lexicon.parse(lexicon.as_text(known)) == known


def test_a_lexicon_is_made_of_weak_forms_then_cmudict_then_rules(monkeypatch):
    monkeypatch.setattr(
        lexicon,
        "read_by_rule",
        lambda word: ("Z",) if word != "bad" else lexicon.shipped()["no such word"],
    )
    made = lexicon.make(
        ["to", "light", "new"], {"to": [["T", "UW1"], ["T", "IH0"]], "light": [["L", "AY1", "T"]]}
    )
    assert made == {
        "to": (("T", "UW"), ("T", "AH"), ("T", "IH")),
        "light": (("L", "AY", "T"),),
        "new": (("Z",),),
    }


def test_other_alphabets():
    assert phones.from_misaki("w\u02c8\u0254T\u0259\u0279") == ("W", "AO", "T", "ER")
    assert phones.from_cmudict(["W", "AO1", "T", "ER0"]) == ("W", "AO", "T", "ER")
    assert len(phones.PHONES) == 39 and list(phones.PHONES) == sorted(phones.PHONES)
    with pytest.raises(ValueError, match="'7' is no phoneme of misaki's alphabet"):
        phones.from_misaki("w7")
