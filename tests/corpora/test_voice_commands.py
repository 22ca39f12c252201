"""The built-in corpus: hard enough a grammar, splits without a common voice or sentence, the same
audio every time.
"""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from core.bench import corpus as bench
from core.corpora import _shards, _spoken, base, voice_commands
from core.records import Choice
from core.speech import audio, grammar
from core.speech.voices import espeak

pytestmark = pytest.mark.slow

SMALL = {
    "hours": 0.004,
    "test_utterances": 8,
    "dev_utterances": 4,
    "search_utterances": 4,
    "shard_utterances": 8,
    "processes": 1,
}


@pytest.fixture(scope="module")
def book():
    return grammar.Grammar()


def make(**changes):
    corpus = voice_commands.Corpus(voice_commands.Options(**{**SMALL, **changes}))
    corpus.follow(lambda done, total, text: None)
    return corpus


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """(corpus, {split: utterances}) made once for all tests that only look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERNET_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        corpus = make()
        yield corpus, {split: list(corpus.utterances(split)) for split in corpus.splits()}


def sentences(book, split, count, seed=1):
    return [voice_commands.draw(book, split, random.Random(f"{seed}/{i}")) for i in range(count)]


# the grammar


@pytest.mark.parametrize(
    "number, words",
    [
        (0, "zero"),
        (13, "thirteen"),
        (25, "twenty five"),
        (40, "forty"),
        (312, "three hundred twelve"),
        (5000, "five thousand"),
    ],
)
def test_numbers_are_words(number, words):
    assert grammar.spell(number) == words


def test_words_perplexity_and_alphabet(book):
    words = book.vocabulary(None)
    assert len(book.vocabulary()) >= 500
    assert book.vocabulary(True) <= book.vocabulary(), (
        "held-out templates must not bring words never trained"
    )
    assert not [word for word in words if not re.fullmatch(r"[a-z']+", word)]
    assert book.perplexity() >= 20


def test_entropy_is_exact(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(
        '[one]\nweight = 1\ntemplates = ["3 go {digit}", "stop [now]"]\nheld_out = ["now'
        ' {digit}"]\n[slots]\ndigit = "one | two | three | four"\nunclear = "now"\n'
    )
    tiny = grammar.Grammar(file)
    bits, words = tiny.measure()
    assert bits == pytest.approx(
        0.811278 + 0.75 * 2 + 0.25 * 1, abs=1e-5
    )  # H(3/4, 1/4) + the choices
    assert words == pytest.approx(0.75 * 2 + 0.25 * 1.5)
    assert 2 ** tiny.log_probability("go two") == pytest.approx(0.75 / 4)
    assert 2 ** tiny.log_probability("stop") == pytest.approx(0.125)
    assert tiny.log_probability("go go") == -np.inf


def test_ambiguity_does_not_hide_behind_derivations(book):
    drawn = [book.draw(random.Random(i))[0] for i in range(60)]
    bits = -np.array([book.log_probability(text) for text in drawn])
    words = np.array([len(text.split()) + 1 for text in drawn])
    assert np.isfinite(bits).all()
    assert 2 ** (bits.sum() / words.sum()) > 20


@pytest.mark.parametrize(
    "pattern, wrong",
    [("turn (on | off", "not closed"), ("turn on)", "partner"), ("Turn 3", "cannot read")],
)
def test_broken_pattern_is_named(pattern, wrong):
    with pytest.raises(ValueError, match=wrong):
        grammar.parse(pattern)


# the splits


def test_sentences_and_templates_are_disjoint(book):
    drawn = {split: sentences(book, split, 400) for split in ("train", "search", "dev", "test")}
    texts = {split: {text for text, _ in some} for split, some in drawn.items()}
    for split in ("search", "dev", "test"):
        assert not texts[split] & texts["train"]
    held_out = {t.pattern for t in book.templates if t.held_out}
    assert not {pattern for _, pattern in drawn["train"]} & held_out
    used = [pattern in held_out for _, pattern in drawn["test"]]
    assert 0.15 < np.mean(used) < 0.35
    assert {p for _, p in drawn["test"]} & held_out == held_out


def test_voices_are_disjoint_and_many():
    variants = {
        split: {v.split("+")[1] for v in espeak.Voice.of_split(split)}
        for split in ("train", "search", "dev", "test")
    }
    assert len(espeak.Voice.of_split("train")) > 100
    every = [v for some in variants.values() for v in some]
    assert len(every) == len(set(every))
    with pytest.raises(ValueError, match="nobody"):
        espeak.voices(["nobody"])


def test_utterances(spoken):
    _, splits = spoken
    assert len(splits["test"]) == 8 and len(splits["dev"]) == 4
    assert sum(u.seconds for u in splits["train"]) >= 0.004 * 3600
    assert not {u.speaker for u in splits["train"]} & {u.speaker for u in splits["test"]}
    assert not {u.text for u in splits["train"]} & {u.text for u in splits["test"]}
    for u in (u for some in splits.values() for u in some):
        samples = audio.read(u.audio, u.offset, u.seconds)
        assert len(samples) == round(u.seconds * 16000)
        assert 0.7 <= u.seconds <= 12 and re.fullmatch(r"[a-z']+( [a-z']+)*", u.text)
        assert 0.008 < np.sqrt(np.mean(samples**2)) < 0.2, "silent or too loud"
        assert np.abs(samples).max() < 1.0, "clipped"
        assert 0.12 < u.seconds / len(u.text.split()) < 2.5


# the audio


def test_same_seed_same_audio_and_more_hours_go_on(spoken):
    first, splits = spoken
    again = make(hours=0.008)  # another folder (own_artifacts), so all is made once more
    more = list(again.utterances("train"))
    assert again.folder != first.folder and again.folder.name == first.folder.name
    assert len(more) > len(splits["train"])
    for old, new in zip(splits["train"], more):
        assert (old.id, old.text, old.speaker, old.offset, old.seconds) == (
            new.id,
            new.text,
            new.speaker,
            new.offset,
            new.seconds,
        )
        np.testing.assert_array_equal(
            audio.read(old.audio, old.offset, old.seconds),
            audio.read(new.audio, new.offset, new.seconds),
        )
    assert make(seed=2).folder.name != first.folder.name
    assert make(test_utterances=5).folder.name == first.folder.name


def test_half_made_shard_is_redone():
    corpus = make(dev_utterances=16)
    before = list(corpus.utterances("dev"))
    one, two = corpus.folder / "dev-00000.flac", corpus.folder / "dev-00001.flac"
    whole, times = one.read_bytes(), two.stat().st_mtime_ns
    one.write_bytes(whole[: len(whole) // 2])  # as a full disk or a kill leaves it
    (corpus.folder / "dev-00000.flac.tmp-999999999").write_bytes(b"half")
    assert list(corpus.utterances("dev")) == before
    assert one.read_bytes() == whole and two.stat().st_mtime_ns == times
    assert not list(corpus.folder.glob("*.tmp-*"))
    assert corpus.shards.whole("dev", 1)
    two.with_suffix(".jsonl").unlink()
    assert not corpus.shards.whole("dev", 1), "without its marker a shard is not made"


def test_failure_in_the_child_is_told(monkeypatch):
    start = _shards._start
    monkeypatch.setattr(_shards, "_start", lambda made, split, n: start(made, "none", n))
    with pytest.raises(RuntimeError, match="no sentence for split 'none'"):
        list(make().utterances("dev"))


def test_a_child_that_is_killed_is_told(monkeypatch):
    begin = _shards._start

    def start(*given):
        process, pipe = begin(*given)
        process.kill()
        return process, pipe

    monkeypatch.setattr(_shards, "_start", start)
    with pytest.raises(RuntimeError, match="ended with -9: it was killed: too little memory"):
        list(make(hours=0.011).utterances("dev"))


def test_room_and_noise_are_options():
    options = voice_commands.Options(reverberant=0.0, noisy=1.0, snr_low=10, snr_high=10)
    rng = np.random.default_rng(1)
    clean = np.sin(np.arange(16000) / 20).astype(np.float32)
    samples, air = _spoken.into_the_air(clean, options, rng, [clean])
    assert air["rt60_s"] is None and air["snr_db"] == 10 and air["noise"]
    assert len(samples) > len(clean) and np.abs(samples).max() <= 1
    with pytest.raises(ValueError, match="snr_low"):
        make(snr_low=20, snr_high=10)


def test_plugin_is_found_and_names_its_license():
    corpus = base.make(Choice("voice_commands", {"hours": 0.1}))
    assert corpus.splits() == ["train", "search", "dev", "test"]
    assert "GPL-3" in corpus.licence and corpus.versions() == {
        "voice_commands": voice_commands.VERSION
    }
    with pytest.raises(ValueError, match="hour"):
        base.make(Choice("voice_commands", {"hour": 1}))


def test_speak_in_a_child_is_repeatable():
    wanted = [
        espeak.Request("turn on the light", "en+f2"),
        espeak.Request("stop", "en-us+klatt3", 140, 30),
    ]
    first, again = espeak.speak(wanted), espeak.speak(wanted)
    for a, b in zip(first, again):
        assert len(a) > 3000 and np.abs(a).max() > 0.05
        np.testing.assert_array_equal(a, b)


def test_bench(capsys):
    result = bench.run(bench.Options(utterances=8, processes=1))
    assert (
        result["utterances"] == 8
        and result["word_perplexity"] >= 20
        and result["times_real_time"] > 0
    )
    assert abs(result["feature_frames"] / 100 - result["speech_s"]) < 1
    assert "times_real_time" in capsys.readouterr().err
