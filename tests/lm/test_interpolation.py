"""Two language models as one: what its probabilities are, that it helps, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from core.cli.main import main
from core.lm import arpa, estimation, interpolation, languages
from tests.lm.test_ngrams import drawn, sentences, sums

OWN = sentences(["brew a coffee", "brew two coffees", "clean the boiler", "stop", "brew a tea"])
BASE = sentences(
    ["a man saw the sea", "stop the man", "two men saw a coffee", "the sea", "a tea for the man"]
)


@pytest.fixture(scope="module")
def models():
    return estimation.estimate(OWN, 2), estimation.estimate(BASE, 3)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("swapped", [False, True])
def test_after_every_history_probabilities_sum_to_one(models, weight, swapped):
    mixed = interpolation.interpolate(*(models[::-1] if swapped else models), weight)
    assert mixed.order == 3 and set(mixed.words) == {w for s in OWN + BASE for w in s}
    assert sums(mixed) == pytest.approx([1.0] * len(sums(mixed)), abs=1e-6)
    assert sums(arpa.parse(arpa.write(mixed))) == pytest.approx([1.0] * len(sums(mixed)), abs=1e-4)


def test_random_models_sum_to_one_too():
    one, other = estimation.estimate(drawn(2), 3), estimation.estimate(drawn(3, 20), 2)
    mixed = interpolation.interpolate(one, other, 0.3)
    assert sums(mixed) == pytest.approx([1.0] * len(sums(mixed)), abs=1e-6)


def test_every_n_gram_of_either_has_the_weighted_mean(models):
    own, base = models
    mixed = interpolation.interpolate(own, base, 0.3)

    def mean(history, word):
        return sum(
            share * 10 ** model.score(history, word) if word in model else 0.0
            for share, model in ((0.3, own), (0.7, base))
        )

    checked = 0
    for model in models:
        for length in range(1, model.order + 1):
            for row in model.gram_ids(length):
                *history, word = (model.vocabulary[i] for i in row)
                if word != "<s>":
                    got = 10 ** mixed.score(tuple(history), word)
                    assert got == pytest.approx(mean(tuple(history), word), rel=1e-4)
                    checked += 1
    assert checked > 60
    # a word that one model lacks has only the other's share, not that of <unk>
    assert 10 ** mixed.score((), "boiler") == pytest.approx(0.3 * 10 ** own.score((), "boiler"))


def test_scores_of_rows_are_those_of_their_words_one_by_one(models):
    _, base = models
    grams = np.asarray([[3, 4, 5], [-1, 4, 6], [5, -1, 4], [1, 5, 2], [7, 7, 7]])
    names = [tuple("nobody" if i < 0 else base.vocabulary[i] for i in row) for row in grams]
    assert base.gram_scores(grams) == pytest.approx([base.score(n[:-1], n[-1]) for n in names])


def test_the_mix_is_better_than_either_on_text_like_the_users():
    seen, rng = drawn(5, 200), np.random.default_rng(7)
    held_out = drawn(6, 60)
    noise = [[f"w{i}" for i in rng.integers(0, 10, 5)] for _ in range(200)]
    own, base = estimation.estimate(seen[:12], 3), estimation.estimate(seen[20:60] + noise[:20], 3)
    weight = interpolation.tuned(own, base, held_out)
    mixed = interpolation.interpolate(own, base, weight)
    words = set(own.words) & set(base.words)
    alone = [interpolation.perplexity(model, held_out, words) for model in (own, base)]
    assert 0.01 < weight < 0.99
    assert interpolation.perplexity(mixed, held_out, words) < min(alone)
    for other in (0.02, 0.98):
        worse = interpolation.interpolate(own, base, other)
        assert interpolation.perplexity(worse, held_out, words) > interpolation.perplexity(
            mixed, held_out, words
        )


def test_a_weight_out_of_range_and_strangers_are_refused(models):
    with pytest.raises(ValueError, match="expected a weight between 0 and 1, got 1"):
        interpolation.interpolate(*models, 1.0)
    other = estimation.estimate([["GO", "STOP"]], 2)
    with pytest.raises(ValueError, match="no word in common, e.g. .*'boiler'.*'GO'"):
        interpolation.interpolate(models[0], other, 0.5)


# the command


@pytest.fixture
def base_file(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "open.arpa"
    file.write_text(arpa.write(models[1]))
    monkeypatch.setattr(languages, "shipped", lambda: file)
    (tmp_path / "mine.txt").write_text("\n".join(" ".join(s) for s in OWN * 12))
    return file


def test_the_command_tunes_the_weight_and_says_how(base_file, tmp_path, capsys):
    words = ["lm", "--text", "mine.txt", "--with", "base", "--out", "mixed.arpa"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "interpolated with base, weight 0.99 of the text (tuned on 6 sentences held out" in said
    mixed = arpa.load(tmp_path / "mixed.arpa")
    assert mixed.order == 3 and "boiler" in mixed and "sea" in mixed
    assert main([*words[:3], "--with", str(base_file), "--weight", "0.2", *words[5:]]) == 0
    assert "weight 0.20 of the text (as given)" in capsys.readouterr().out
    other = arpa.load(tmp_path / "mixed.arpa")
    assert 10 ** other.score((), "sea") > 10 ** mixed.score((), "sea")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--with", "nowhere.arpa"], "'nowhere.arpa' cannot be read"),
        (["--with", "mine.txt"], "is not a whole ARPA file"),
        (["--with", "base", "--weight", "1.5"], "expected a weight between 0 and 1, got 1.5"),
        (["--with", "base", "--weight", "0"], "expected a weight between 0 and 1, got 0"),
        (["--weight", "0.5"], "add --with base"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(
    base_file, tmp_path, capsys, words, message
):
    assert main(["lm", "--text", "mine.txt", *words, "--out", "mixed.arpa"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mixed.arpa").exists()


def test_too_little_text_to_tune_on_is_said(base_file, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("brew a coffee\nstop\n")
    words = ["lm", "--text", "mine.txt", "--with", "base", "--out", "mixed.arpa"]
    assert main(words) == 2
    assert "at least 50 sentences to tune --weight" in capsys.readouterr().err
    assert main([*words, "--weight", "0.5"]) == 0
