"""N-gram models: probabilities by hand and KenLM's, sums of 1, ARPA files there and back, pruning
that leaves a model whole.
"""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
import zstandard

from core.lm import arpa, estimation, ngrams, pruning
from core.lm.text import read_sentences

SAID = [
    "yes no stop",
    "yes yes go",
    "no stop go go",
    "one two three",
    "one two",
    "stop",
    "two three yes no",
    "go one",
]
# log10 of whole sentences as KenLM (in flashlight-text 0.0.7) tells them of the ARPA file that
# `estimate` makes of SAID
KENLM = {
    "yes no stop": -1.844536,
    "go yes two": -4.416845,
    "three three": -2.890308,
    "stop zebra go": -3.973119,
    "zebra": -2.038654,
    "": -0.930761,
    "one two three yes no stop go go": -3.089532,
}


def sentences(texts=SAID):
    return [t.split() for t in texts]


def drawn(seed: int = 2, count: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [
        [f"w{min(int(rng.exponential(3)), 9)}" for _ in range(rng.integers(1, 9))]
        for _ in range(count)
    ]


def total(model: ngrams.NGrams, text: str) -> float:
    history, score = model.follow((), "<s>"), 0.0
    for word in [*text.split(), "</s>"]:
        score += model.score(history, word)
        history = model.follow(history, word)
    return score


def grams(model: ngrams.NGrams, length: int) -> dict[tuple, tuple[float, float]]:
    """{words: (log10 probability, log10 back-off weight)}."""
    table = model.tables[length - 1]
    return {
        tuple(model.vocabulary[i] for i in row): (p, b)
        for row, p, b in zip(model.gram_ids(length), table.log10, table.back_off)
    }


def sums(model: ngrams.NGrams) -> list[float]:
    """The sum of p(word | history) over all words, for every history of the model and one that it
    lacks.
    """
    vocabulary = [w for w in model.vocabulary if w != ngrams.BEGIN]
    histories = [
        (),
        ("w1", "w9", "nobody"),
        *(g for n in range(1, model.order) for g in grams(model, n) if g[-1] != ngrams.END),
    ]
    return [sum(10 ** model.score(h, w) for w in vocabulary) for h in histories]


# estimation


def test_bigrams_by_hand():
    """Two sentences, "a b" and "a": the discounts are lmplz's fallback, 0.5 for a count of 1 and 1
    for 2.
    """
    found = estimation.estimate([["a", "b"], ["a"]], 2)
    # words by how many different ones stand before them: a 1 (<s>), b 1 (a), </s> 2 (b, a); 0.5 +
    # 0.5 + 1 of 4 shared by 4 with <unk>
    one = {
        "a": (0.5 + 2 / 4) / 4,
        "b": (0.5 + 2 / 4) / 4,
        "</s>": (1 + 2 / 4) / 4,
        "<unk>": 2 / 4 / 4,
    }
    assert {w: 10 ** found.score((), w) for w in one} == pytest.approx(one)
    # <s> a twice: 1 of 2 is discounted; a b and a </s> once each: 0.5 + 0.5 of 2
    assert 10 ** found.score(("<s>",), "a") == pytest.approx((1 + 1 * one["a"]) / 2)
    assert 10 ** found.score(("a",), "b") == pytest.approx((0.5 + 1 * one["b"]) / 2)
    assert 10 ** found.score(("a",), "a") == pytest.approx(1 / 2 * one["a"]), "backed off"
    assert 10 ** found.score(("b",), "zebra") == pytest.approx(0.5 * one["<unk>"])


def test_discounts_are_chen_and_goodmans():
    y = 6 / (6 + 2 * 3)
    assert estimation._discounts([1] * 6 + [2] * 3 + [3] * 2 + [4]) == pytest.approx(
        (0, 1 - 2 * y * 3 / 6, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2)
    )
    assert estimation._discounts([1, 1, 2]) == (0.0, *estimation.FALLBACK)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_after_every_history_probabilities_sum_to_one_and_survive_the_file(order):
    made = estimation.estimate(drawn(), order)
    read = arpa.parse(arpa.write(made))
    assert (
        read.order == made.order == order
        and read.counts == made.counts
        and read.words == made.words
    )
    assert len(sums(made)) >= 2 + (order > 1) * 10
    for model in (made, read):
        assert sums(model) == pytest.approx([1.0] * len(sums(model)), abs=1e-5)


def test_scores_are_kenlms():
    model = arpa.parse(arpa.write(estimation.estimate(sentences(), 3)))
    for text, expected in KENLM.items():
        assert total(model, text) == pytest.approx(expected, abs=2e-5), text


@pytest.mark.parametrize("order", [1, 3])
def test_a_whole_text_is_scored_as_its_words_one_by_one(order):
    model = estimation.estimate(drawn(), order)
    texts = [["w1", "w2", "w1"], [], ["nobody", "w9", "w3"], *drawn(seed=9, count=20)]
    ids = model.text_ids(texts)
    scores = np.split(model.text_scores(ids), np.flatnonzero(ids == ngrams.BOS)[1:])
    assert [s.sum() for s in scores] == pytest.approx([total(model, " ".join(t)) for t in texts])
    assert all(s[0] == 0 for s in scores) and [len(s) for s in scores] == [
        len(t) + 2 for t in texts
    ]


def test_perplexity_is_of_known_words_and_ends():
    model = estimation.estimate([["a", "b"], ["a"]], 2)
    p = [10 ** model.score(("<s>",), "a"), 10 ** model.score(("<unk>",), "</s>")]
    assert model.perplexity([["a", "zebra"]]) == pytest.approx((math.prod(p) ** -0.5, 0.5))


def test_a_given_vocabulary_makes_other_words_unknown():
    model = estimation.estimate(sentences(), 3, ["yes", "no"])
    assert model.words == ["no", "yes"] and all(
        ngrams.UNKNOWN not in g for n in (2, 3) for g in grams(model, n)
    )
    assert model.score(("yes",), "stop") == model.score(("yes",), "zebra")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: estimation.estimate([["a"]], 7), "order: expected a number from 1 to 6, got 7"),
        (lambda: estimation.estimate([["a"]], 0), "order: expected a number from 1 to 6, got 0"),
        (lambda: estimation.estimate([[]], 2), "no words"),
        (lambda: read_sentences(["nowhere.txt"]), "text = 'nowhere.txt' cannot be read"),
    ],
)
def test_a_model_of_nothing_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# ARPA files


def test_a_file_holds_every_number_and_comes_back_from_any_packing(tmp_path):
    made = estimation.estimate(drawn(), 3)
    text = arpa.write(made).encode()
    for name, data in (
        ("a.arpa", text),
        ("a.arpa.gz", gzip.compress(text)),
        ("a.arpa.zst", zstandard.ZstdCompressor().compress(text)),
        ("b.arpa", b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")),
    ):
        (tmp_path / name).write_bytes(data)
        read = arpa.load(tmp_path / name)
        for n in (1, 2, 3):
            ours, theirs = grams(made, n), grams(read, n)
            assert theirs.keys() == ours.keys()
            assert np.allclose([theirs[g] for g in ours], [ours[g] for g in ours], rtol=1e-6)
    assert arpa.load(tmp_path / "a.arpa") is arpa.load(tmp_path / "a.arpa"), "kept"
    (tmp_path / "a.arpa").write_text(arpa.write(estimation.estimate([["other"]], 2)))
    assert arpa.load(tmp_path / "a.arpa").words == ["other"], "a file that changed is read anew"


def test_fewer_digits_make_a_smaller_file_with_the_same_n_grams():
    made = estimation.estimate(drawn(), 3)
    read = arpa.parse(small := arpa.write(made, digits=2))
    assert len(small) < 0.75 * len(arpa.write(made)) and read.counts == made.counts
    assert (
        max(
            abs(grams(read, n)[g][i] - v[i])
            for n in (1, 2, 3)
            for g, v in grams(made, n).items()
            for i in (0, 1)
        )
        <= 0.0051
    )


def test_a_file_without_unknown_words_hears_none():
    assert (
        arpa.parse(HEAD.replace("-1 <unk>", "-1 a") + "\\end\\\n").score((), "b") == ngrams.MISSING
    )


HEAD = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <unk>\n-1 <s>\n-1 </s>\n"
TWO = HEAD.replace("1=3", "1=3\nngram 2=1") + "\\2-grams:\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "there is no line \\data\\"),
        (HEAD, "expected \\end\\, but the file ends"),
        (HEAD + "-1 one more\n\\end\\\n", "line 8 is '-1 one more'"),
        (HEAD.replace("1=3", "1=4") + "\\end\\\n", "announces 4 n-grams of length 1, it holds 3"),
        (HEAD.replace("1=3", "2=3"), "announces {2: 3}"),
        (HEAD.replace("1=3", "1=0"), "announces {1: 0}"),
        ("\\data\\\n", "announces {}"),
        (HEAD.replace("1=3", "1=three"), "line 2: 'three' is no number"),
        (HEAD.replace("1=3", "1=" + "9" * 400), "n-grams of length 1, it holds 3"),
        (
            HEAD.replace("ngram 1=3", "gram 1=3"),
            "line 2: expected 'ngram LENGTH=COUNT', got 'gram 1=3'",
        ),
        (HEAD.replace("\\1-", "\\2-"), "expected \\1-grams: but line 4 is '\\\\2-grams:'"),
        (HEAD.replace("-1 <s>", "x <s>") + "\\end\\\n", "line 6: 'x' is no number"),
        (HEAD.replace("-1 <s>", "nan <s>") + "\\end\\\n", "line 6: log10 of a probability is nan"),
        (
            HEAD.replace("-1 <s>", "0.5 <s>") + "\\end\\\n",
            "line 6: log10 of a probability is 0.5; allowed are numbers up to 0",
        ),
        (
            HEAD.replace("-1 <s>", "-inf <s>") + "\\end\\\n",
            "line 6: log10 of a probability is -inf",
        ),
        (HEAD.replace("-1 <s>", "-1 <s> inf") + "\\end\\\n", "line 6: a back-off weight is inf"),
        (HEAD.replace("-1 <s>", "-1 <s> nan") + "\\end\\\n", "line 6: a back-off weight is nan"),
        (
            HEAD.replace("-1 <s>", "-1 <s> 0 0") + "\\end\\\n",
            "line 6: '-1 <s> 0 0' is not a probability, 1 words and at most one weight",
        ),
        (HEAD.replace("<s>", "a") + "\\end\\\n", "the 1-grams lack <s>"),
        (HEAD.replace("<s>", "</s>") + "\\end\\\n", "line 7: the n-gram '</s>' is there twice"),
        (TWO + "-1 <s> zebra\n\\end\\\n", "line 10: the word 'zebra' is not among the 1-grams"),
        (
            TWO.replace("2=1", "2=2") + "-1 <s> </s>\n-1 <s> </s>\n\\end\\\n",
            "line 11: the n-gram '<s> </s>' is there twice",
        ),
        (
            TWO.replace("2=1", "2=1\nngram 3=1")
            + "-1 <s> </s>\n\\3-grams:\n-1 <unk> <unk> </s>\n\\end\\\n",
            "line 13: the n-gram '<unk> <unk> </s>' stands without its beginning '<unk> <unk>'",
        ),
        (TWO, "announces 1 n-grams of length 2, it holds 0"),
    ],
)
def test_what_is_no_arpa_file_is_said_with_its_line(tmp_path, text, words):
    file = tmp_path / "bad.arpa"
    file.write_text(text)
    with pytest.raises(ValueError, match="is not a whole ARPA file.*python -m core lm") as caught:
        arpa.load(file)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.arpa.gz", HEAD.encode()),
        ("a.arpa.zst", HEAD.encode()),
        ("a.arpa.gz", gzip.compress(HEAD.encode(), mtime=0)[:-9]),
        ("a.arpa.zst", zstandard.ZstdCompressor().compress(HEAD.encode())[:-9]),
        ("a.arpa", HEAD.encode() + b"\xff"),
    ],
)
def test_damaged_packing_is_said(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="is not a whole ARPA file"):
        arpa.load(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read"):
        arpa.load(tmp_path)


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gz", "zst"]
)
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(monkeypatch, pack):
    monkeypatch.setattr(arpa, "LARGEST", 3_000_000)
    suffix = ".gz" if pack is gzip.compress else ".zst"
    assert len(arpa.unpacked(pack(b" " * 3_000_000), suffix)) == 3_000_000
    with pytest.raises(ValueError, match="unpacks to more than 3000000 bytes"):
        arpa.unpacked(pack(b" " * 3_000_001), suffix)


# pruning


@pytest.fixture(scope="module")
def counted():
    return estimation.count(drawn(), 3)


@pytest.mark.parametrize("threshold", [0.0, 1e-3, 4e-3])
def test_a_pruned_model_is_whole(counted, threshold):
    whole = counted.model()
    pruned = pruning.prune(counted, whole, threshold)
    assert sums(pruned) == pytest.approx([1.0] * len(sums(pruned)), abs=1e-6)
    for n in (2, 3):
        ours, theirs = grams(whole, n), grams(pruned, n)
        assert theirs.keys() <= ours.keys() and all(
            g[:-1] in grams(pruned, n - 1) for g in theirs
        ), "every history stays"
        assert all(theirs[g][0] == ours[g][0] for g in theirs)
    assert grams(pruned, 1).keys() == grams(whole, 1).keys()


def test_the_threshold_decides_how_many_stay(counted):
    whole = counted.model()
    counts = [pruning.prune(counted, whole, t).counts for t in (0.0, 1e-3, 4e-3, 10.0)]
    assert counts[0] == whole.counts and counts[-1] == [whole.counts[0]]
    assert all(a[n] > b[n] for a, b in zip(counts, counts[1:-1]) for n in (1, 2))
    texts = drawn()
    perplexities = [
        pruning.prune(counted, whole, t).perplexity(texts)[0] for t in (0.0, 1e-3, 4e-3, 10.0)
    ]
    assert perplexities == sorted(perplexities) and perplexities[1] < 1.3 * perplexities[0]
    assert arpa.parse(arpa.write(pruning.prune(counted, whole, 1e-3))).counts == counts[1]


def test_what_is_lost_is_the_relative_entropy(counted):
    """Stolcke's closed form for one bigram against the sum over all words, the histories weighed as
    they occur.
    """
    whole = estimation.count(drawn(), 2)
    model = whole.model()
    lost = pruning._divergence(
        model,
        2,
        whole.counts[0].times / (whole.counts[0].times.sum() - whole.counts[0].times[ngrams.BOS]),
    )
    table, words = model.tables[1], [w for w in model.vocabulary if w != ngrams.BEGIN]
    for at in (0, 7, 30):
        keep = np.ones(len(table), bool)
        keep[at] = False
        less = pruning._without(model, [np.ones(len(model.tables[0]), bool), keep])
        h = model.vocabulary[table.history[at]]
        p, q = (np.array([10 ** m.score((h,), w) for w in words]) for m in (model, less))
        often = whole.counts[0].times[table.history[at]] / (
            whole.counts[0].times.sum() - whole.counts[0].times[ngrams.BOS]
        )
        assert lost[at] == pytest.approx(
            often * float((p * np.log(p / q)).sum()), rel=1e-6, abs=1e-12
        )
