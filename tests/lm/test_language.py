"""Language models: probabilities by hand and KenLM's, sums of 1, exact beams, streams as whole, dev alone, clear refusals."""
from __future__ import annotations

import gzip
import itertools
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core.decoding.prefix_beam import PrefixBeam
from core.lm.fusion import Language

from core import paths
from core.cli import main as cli
from core.decoding import decoders as decoding
from core.evaluation import evaluate as evaluation, tuning
from core.lm import fusion, kneser_ney, ngrams
from core.pipelines import build as building, experiment, language
from core.records import Choice, Recipe
from core.runtime import recognizer
from core.speech import tokenizer
from core.storage import store
from core.training.options import Options as TrainingOptions
from tests import standin, tiny
from tests.models.test_transducer import Scripted
from tests.runtime.test_recognizer import sounds, talkative

SAID = ["yes no stop", "yes yes go", "no stop go go", "one two three", "one two", "stop", "two three yes no", "go one"]
# log10 of whole sentences as KenLM (in flashlight-text 0.0.7) tells them of the ARPA file that `estimate` makes of SAID
KENLM = {"yes no stop": -1.844536, "go yes two": -4.416845, "three three": -2.890308, "stop zebra go": -3.973119, "zebra": -2.038654,
         "": -0.930761, "one two three yes no stop go go": -3.089532}


def sentences(texts=SAID):
    return [t.split() for t in texts]


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    file = tmp_path_factory.mktemp("lm") / "said.arpa"
    file.write_text(kneser_ney.estimate(sentences(), 3).text())
    return file


# estimating

def test_bigrams_by_hand():
    """Two sentences, "a b" and "a": the discounts are lmplz's fallback, 0.5 for a count of 1 and 1 for 2."""
    found = kneser_ney.estimate([["a", "b"], ["a"]], 2)
    # words by how many different ones stand before them: a 1 (<s>), b 1 (a), </s> 2 (b, a); 0.5 + 0.5 + 1 of 4 shared by 4 with <unk>
    one = {"a": (0.5 + 2 / 4) / 4, "b": (0.5 + 2 / 4) / 4, "</s>": (1 + 2 / 4) / 4, "<unk>": 2 / 4 / 4}
    assert {w: 10 ** found.score((), w) for w in one} == pytest.approx(one)
    # <s> a twice: 1 of 2 is discounted; a b and a </s> once each: 0.5 + 0.5 of 2
    assert 10 ** found.score(("<s>",), "a") == pytest.approx((1 + 1 * one["a"]) / 2)
    assert 10 ** found.score(("a",), "b") == pytest.approx((0.5 + 1 * one["b"]) / 2)
    assert 10 ** found.score(("a",), "a") == pytest.approx(1 / 2 * one["a"]), "backed off"
    assert 10 ** found.score(("b",), "zebra") == pytest.approx(0.5 * one["<unk>"])


def test_discounts_are_chen_and_goodmans():
    y = 6 / (6 + 2 * 3)
    told = kneser_ney._discounts([1] * 6 + [2] * 3 + [3] * 2 + [4])
    assert told == pytest.approx((0, 1 - 2 * y * 3 / 6, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2))
    assert kneser_ney._discounts([1, 1, 2]) == (0.0, *kneser_ney.FALLBACK)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_after_every_history_probabilities_sum_to_one_and_survive_the_file(order):
    rng = np.random.default_rng(2)
    texts = [[f"w{min(int(rng.exponential(4)), 20)}" for _ in range(rng.integers(1, 9))] for _ in range(200)]
    made = kneser_ney.estimate(texts, order)
    read = ngrams.parse(made.text())
    assert read.order == made.order == order and read.counts == made.counts and read.words == made.words
    vocabulary = [*made.words, ngrams.END, ngrams.UNKNOWN]
    histories = {g[:-1] for g in made.table} | {("w1", "w19", "nobody")}
    assert len(histories) > (order > 1) * 20
    for model in (made, read):
        assert max(abs(sum(10 ** model.score(h, w) for w in vocabulary) - 1) for h in histories) < 1e-5


def test_scores_are_kenlms(arpa):
    model = ngrams.load(arpa)[0]
    for text, expected in KENLM.items():
        history, total = model.follow((), "<s>"), 0.0
        for word in [*text.split(), "</s>"]:
            total += model.score(history, word)
            history = model.follow(history, word)
        assert total == pytest.approx(expected, abs=2e-5), text


def test_text_is_written_as_training_writes_it_and_only_training_is_read(tmp_path, monkeypatch, capsys):
    given = tmp_path / "text.txt"
    given.write_text("Hello, World!\n\nIt's 5 o'clock\n3rd\n", encoding="utf-8")
    assert kneser_ney.read_sentences([given]) == ([["hello", "world"], ["it's", "five", "o'clock"]], 1)

    class Prepared:
        asked: list[str] = []

        def rows(self, split):
            self.asked.append(split)
            texts = {"train": ["yes no", "yes no", "stop go"], "dev": ["secret dev"], "search": ["secret search"], "test": ["secret test"]}
            return [SimpleNamespace(speaker=f"s{i // 2}", text=t) for i, t in enumerate(texts[split])]
    monkeypatch.setattr(experiment, "prepared_now", lambda recipe, report: Prepared())
    made, told = language.make(Recipe(Choice("c"), Choice("m"), Choice("d")), [], 2, lambda *_: True)
    assert Prepared.asked == ["train"] and made.words == ["go", "no", "stop", "yes"] and "2 training transcripts, 4 words" in told
    out = tmp_path / "made.arpa"
    assert cli.main(["lm", "--text", str(given), "--order", "2", "--out", str(out)]) == 0
    assert ngrams.load(out)[0].words == ["five", "hello", "it's", "o'clock", "world"]
    assert "2 lines of text (1 left out" in capsys.readouterr().out
    assert cli.main(["lm", "--text", str(given), "--order", "2"]) == 0, "where the Transcribe page looks"
    assert (paths.language_models() / f"{given.stem}.arpa").read_bytes() == out.read_bytes()


# searching

def letters(*symbols):
    return ["<blk>", *symbols]


def paths_of(log_probs):
    """{tokens: ln probability} summed over every alignment, by brute force."""
    frames, vocabulary = log_probs.shape
    found: dict[tuple, float] = {}
    for path in itertools.product(range(vocabulary), repeat=frames):
        said = tuple(k for k, _ in itertools.groupby(path) if k)
        found[said] = np.logaddexp(found.get(said, -math.inf), sum(log_probs[t, k] for t, k in enumerate(path)))
    return found


def words_of(model, symbols, tokens, weight, score):
    """What a language model counts for, from the text alone."""
    words = "".join(symbols[t] for t in tokens).replace(tokenizer.SPACE, " ").split()
    history, total = model.follow((), "<s>"), 0.0
    for word in words:
        total += weight * fusion.LN10 * (model.score(history, word) + (0 if word in model else fusion.NO_WORD)) + score
        history = model.follow(history, word)
    return total + weight * fusion.LN10 * model.score(history, "</s>")


@pytest.mark.parametrize(("weight", "score"), [(None, 0), (0.0, 0.0), (0.7, 0.0), (0.4, 1.5)])
def test_a_wide_prefix_beam_is_exact(weight, score, monkeypatch):
    monkeypatch.setattr("core.decoding.prefix_beam.LEAST", -math.inf)
    monkeypatch.setattr("core.decoding.prefix_beam.BEHIND", math.inf)
    model = kneser_ney.estimate([["a", "ab"], ["b"], ["ab", "a"], ["a"]], 2)
    symbols = letters("▁", "a", "b")
    heard = None if weight is None else fusion.Fusion(model, symbols, Language("", weight, score))
    rng, differs = np.random.default_rng(0), 0
    for _ in range(12):
        log_probs = torch.from_numpy(rng.normal(size=(5, 4)) * 2).log_softmax(-1).numpy()
        exact = paths_of(log_probs)
        adds = (lambda t: 0.0) if heard is None else (lambda t: words_of(model, symbols, t, weight, score))
        best = max(exact, key=lambda t: exact[t] + adds(t))
        for cut in (5, 2):  # whole, and in two pieces
            search = PrefixBeam(10_000, heard)
            search.accept(log_probs[:cut])
            search.accept(log_probs[cut:])
            assert tuple(search.finish()) == best == tuple(search.ids)
        differs += list(best) != decoding.greedy(log_probs[None], [5])[0]
    assert differs


def test_prefixes_that_come_back_are_one_and_old_ones_are_forgotten():
    rng = np.random.default_rng(1)
    search = PrefixBeam(3)
    for _ in range(40):
        search.read(torch.from_numpy(rng.normal(size=(10, 6)) * 2).log_softmax(-1))
        said = [tuple(p.ids) for p in search.prefixes]
        assert len(set(said)) == len(said) <= 3
    held = {p.number for at in search.prefixes for p in chain(at)}
    assert len(search._known) == len(held) < search._count / 3, "only what living hypotheses hold"


def chain(prefix):
    """A prefix and those before it, without the empty one."""
    while prefix.before is not None:
        yield prefix
        prefix = prefix.before


def test_word_pieces_and_letters_count_alike_and_a_word_begun_counts_as_the_likeliest():
    model = kneser_ney.estimate(sentences(), 3)
    pieces, single = letters("▁st", "op", "▁go", "▁", "xyz"), letters("▁", "s", "t", "o", "p", "g")
    totals = []
    for symbols, tokens in ((pieces, [1, 2, 3]), (single, [1, 2, 3, 4, 5, 1, 6, 4])):
        heard = fusion.Fusion(model, symbols, Language("", 0.6, 0.3))
        state = heard.start
        for token in tokens:
            state = heard.extend(state, token)
        totals.append(heard.finish(state))
        assert totals[-1] == pytest.approx(words_of(model, symbols, tokens, 0.6, 0.3))
    assert totals[0] == pytest.approx(totals[1])
    heard = fusion.Fusion(model, pieces, Language("", 1.0, 0.0))
    begun = heard.extend(heard.start, 1)
    assert begun.total == pytest.approx(fusion.LN10 * model.score((), "stop")) and begun.done == 0
    assert heard.extend(begun, 5).total < begun.total + fusion.LN10 * fusion.NO_WORD, "no word begins so"


def test_a_wide_transducer_beam_with_words_is_exact():
    model = kneser_ney.estimate([["a", "ab"], ["b"], ["ab", "a"], ["a"]], 2)
    symbols = letters("▁a", "b")
    heard = fusion.Fusion(model, symbols, Language("", 0.8, 0.5))
    torch.manual_seed(4)
    changed = 0
    for _ in range(30):
        table = (2 * torch.randn(4, 2, 3)).log_softmax(-1)
        scores: dict[tuple, float] = {}
        for path in itertools.product(range(3), repeat=4):
            said, value = (), 0.0
            for t, token in enumerate(path):
                value += float(table[t, int(bool(said)), token])
                said += (token,) if token else ()
            scores[said] = np.logaddexp(scores.get(said, -math.inf), value)
        best = max(scores, key=lambda s: (scores[s] + words_of(model, symbols, s, 0.8, 0.5)) / (len(s) + 2))
        search = decoding.BeamSearch(Scripted(table), 100, heard)
        search.read(torch.arange(4.0).unsqueeze(1))
        assert tuple(search.finish()) == best
        changed += best != max(scores, key=lambda s: scores[s] / (len(s) + 2))
        narrow = decoding.BeamSearch(Scripted(table), 2, heard)
        narrow.read(torch.arange(4.0).unsqueeze(1))
        assert len(narrow.said) <= 2
    assert changed > 3


# runs

@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return standin.make_run(tmp_path_factory.mktemp("runs"), utterances=2)


@pytest.mark.parametrize("words", [False, True])
def test_streams_say_what_whole_utterances_say(run, arpa, words):
    asked = {"language": Language(str(arpa), 0.5, 1.0)} if words else {}
    heard = recognizer.open(run, "s50", 320, decoder="beam", **asked)
    waves, rng = sounds(5), np.random.default_rng(0)
    features = [recognizer.OnlineFbank() for _ in waves]
    features = [np.concatenate([f.accept(w), f.finish()]) for f, w in zip(features, waves)]
    talkative(heard, features)
    whole = heard.transcribe(features)
    plain = decoding.whole(heard.model, heard.output(features[:1]))
    assert len(set(whole)) > 3 and plain != [heard.tokenizer.encode(whole[0])]
    for wave, text in zip(waves, whole):
        stream = heard.stream()
        for packet in np.split(wave, np.sort(rng.integers(0, len(wave), 5))):
            stream.accept(packet)
        assert stream.finish() == text
    assert heard.conditions["decoder"] == "prefix_beam_search"
    assert heard.conditions["language_model"].startswith("said.arpa ") == words


def test_reports_name_the_condition_and_stand_beside_each_other(tmp_path, arpa):
    from core.speech.features import fbank
    run = standin.make_run(tmp_path, utterances=2)
    waves = sounds(3)
    texts = ["yes no", "stop", "go"]
    material = SimpleNamespace(split="tiny/test", ids=["u0", "u1", "u2"], references=texts, speakers=["s"] * 3, seconds=5.0,
                               features=[fbank(w) for w in waves], sounds=[], waves=lambda count: waves[:1])
    options = {"threads": 1, "repetitions": 100}
    found = []
    for extra in ({"speed_utterances": 0}, {"speed_utterances": 0, "decoder": "prefix_beam_search", "beam": 5},
                  {"speed_utterances": 1, "decoder": "beam", "lm": str(arpa), "lm_weight": 0.5},
                  {"speed_utterances": 0, "decoder": "prefix_beam_search", "lm": str(arpa), "lm_weight": 0.75}):
        report, rows = evaluation.evaluate(run, store.subnet(run, "s80"), material, evaluation.Options(**options | extra))
        store.save_report(run, report, rows)
        found.append(report)
        again = store.hypotheses(run, "s80", "tiny/test", 320.0, report.decoder, report.language_model)
        assert [r["hypothesis"] for r in again] == [r["hypothesis"] for r in rows]
        same = evaluation._measured(run, store.subnet(run, "s80"), material, evaluation.Options(**options | extra | {
            "decoder": report.decoder.split()[0]}))
        assert same == report, "not measured twice"
    stored = [r for r in store.reports(run) if r.split == "tiny/test"]
    assert len(stored) == 4 and len({(r.decoder, r.language_model) for r in stored}) == 4
    sha = ngrams.load(arpa)[1][:12]
    assert [r.decoder for r in found] == ["greedy", "prefix_beam_search 5", "prefix_beam_search", "prefix_beam_search"]
    assert [r.language_model for r in found] == ["none", "none", *(f"said.arpa {sha}, weight {w}, word score 0" for w in (0.5, 0.75))]
    assert found[2].rtf > 0


class Dev:
    """Prepared data whose dev a recogniser can be tuned on."""

    def __init__(self, rows, features):
        self.splits, self._rows, self._features = ["train", "dev", "test"], rows, features

    def rows(self, split):
        assert split == "dev", f"{split} was read"
        return self._rows

    def features(self, row, speed):
        return self._features[row.id]


def test_weights_are_chosen_on_dev_and_on_nothing_else(run, arpa, monkeypatch):
    from core.speech.features import fbank
    rows = [SimpleNamespace(id=i, corpus="c", seconds=2.0, text=t) for i, t in enumerate(["yes no stop", "go one", "two"])]
    heard = recognizer.open(run, "dense", decoder="beam", language=Language(str(arpa)))
    prepared = Dev(rows, [fbank(w) for w in sounds(3)])
    monkeypatch.setattr(tuning, "WEIGHTS", (0.5, 1.0))
    monkeypatch.setattr(tuning, "SCORES", (0.0, 2.0))
    found = tuning.tune(heard, prepared)
    assert set(found.wer) == {(0.5, 0.0), (0.5, 2.0), (1.0, 0.0), (1.0, 2.0)} and found.utterances == 3
    weight, score = found.best
    asked = recognizer.open(run, "dense", decoder="beam", language=Language(str(arpa), weight, score))
    errors = evaluation.scoring.word_edits([r.text for r in rows], asked.transcribe([prepared.features(r, 1.0) for r in rows])).rate
    assert errors == found.wer[found.best] == min(found.wer.values())
    assert f"--lm-weight {weight:g} --word-score {score:g}" in str(found) and "at the edge" in str(found)
    with pytest.raises(evaluation.Interrupted):
        tuning.tune(heard, prepared, report=lambda *_: False)
    prepared.splits = ["train", "test"]
    with pytest.raises(ValueError, match="needs the split dev"):
        tuning.tune(heard, prepared)
    tied = tuning.Tuning({(1.0, 0.0): 0.2, (0.5, 2.0): 0.2, (0.5, 0.0): 0.2, (0.25, 0.0): 0.3}, 0.5, 0.4, 1, 1.0)
    assert tied.best == (0.5, 0.0)


# what cannot be

HEAD = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <unk>\n-1 <s>\n-1 </s>\n"


@pytest.mark.parametrize(("text", "words"), [
    ("hello", "no line"), (HEAD, "ends before the end"), (HEAD + "-1 one more\n\\end\\\n", "line 8"),
    (HEAD.replace("1=3", "1=4") + "\\end\\\n", "announces {1: 4}"), (HEAD.replace("-1 <s>", "x <s>") + "\\end\\\n", "'x' is no number"),
    (HEAD.replace("-1 <s>", "0.5 <s>") + "\\end\\\n", "allowed are numbers up to 0"), (HEAD.replace("<s>", "a") + "\\end\\\n", "lack <s>"),
])
def test_what_is_no_arpa_file_is_said_with_its_line(tmp_path, text, words):
    file = tmp_path / "bad.arpa"
    file.write_text(text)
    with pytest.raises(ValueError, match="is not a whole ARPA file.*python -m core lm") as caught:
        ngrams.load(file)
    assert words in str(caught.value)
    with pytest.raises(ValueError, match="is not a whole ARPA file"):
        ngrams.load(file.rename(tmp_path / "bad.arpa.gz"))
    with pytest.raises(ValueError, match="cannot be read"):
        ngrams.load(tmp_path)


def test_compressed_files_are_read_and_a_file_without_unknown_words_hears_none(tmp_path, arpa):
    packed = tmp_path / "x.arpa.gz"
    packed.write_bytes(gzip.compress(arpa.read_bytes()))
    assert ngrams.load(packed)[0].table == ngrams.load(arpa)[0].table
    without = ngrams.NGrams({(w,): (-0.5, 0.0) for w in ("<s>", "</s>", "a")}, 1)
    assert without.score((), "b") == ngrams.MISSING


def test_models_of_other_tokens_are_refused(tmp_path, run):
    for texts, words in ((["HELLO WORLD", "hello"], "67% of its 3 words, e.g. 'HELLO', cannot be spelled.*at most 10%"),
                         (["▁he llo"], "e.g. '▁he'"), (["h e l l o"], "single characters")):
        file = tmp_path / "other.arpa"
        file.write_text(kneser_ney.estimate(sentences(texts), 2).text())
        with pytest.raises(ValueError, match=words):
            recognizer.open(run, decoder="beam", language=Language(str(file)))
        ngrams._load.cache_clear()


def test_what_does_not_go_together_is_refused(run, arpa):
    with pytest.raises(ValueError, match="allowed with lm is 'beam'"):
        recognizer.open(run, language=Language(str(arpa)))
    with pytest.raises(ValueError, match="allowed are greedy, prefix_beam_search and beam"):
        recognizer.open(run, decoder="modified_beam_search")
    for options, words in (({"lm": str(arpa)}, "evaluation.lm needs a beam search"),
                           ({"lm": "nowhere.arpa", "decoder": "beam"}, "cannot be read")):
        with pytest.raises(ValueError, match=words):
            building.check_model(tiny.model(), TrainingOptions(chunks_ms=[320]), evaluation.Options(**options))
    building.check_model(tiny.model(), TrainingOptions(chunks_ms=[320]), evaluation.Options(lm=str(arpa), decoder="beam"))
    other = run.parent / "shouting.arpa"
    other.write_text(kneser_ney.estimate(sentences(["HELLO WORLD"]), 2).text())
    with pytest.raises(ValueError, match="cannot be spelled with the model's tokens; allowed is at most 10%"):
        building.check_model(tiny.model(), TrainingOptions(chunks_ms=[320]), evaluation.Options(lm=str(other), decoder="beam"))
    with pytest.raises(ValueError, match="order must be from 1 to 6"):
        kneser_ney.estimate([["a"]], 7)
    with pytest.raises(ValueError, match="no words"):
        kneser_ney.estimate([[]], 2)


@pytest.mark.parametrize(("words", "text"), [
    (["--decoder", "beam", "--lm", "nowhere.arpa"], "there is no such file"),
    (["--decoder", "beam", "--lm", "ARPA", "--lm-weight", "7"], "evaluation.lm_weight must be from 0 to 5, but 7"),
    (["--decoder", "beam", "--lm", "ARPA", "--word-score", "-11"], "evaluation.word_score must be from -10 to 10"),
    (["--decoder", "beam", "--beam", "-1"], "evaluation.beam must be from 0 to 1000"),
    (["--decoder", "been"], "evaluation.decoder must be one of"), (["--lm", "ARPA"], "add --decoder beam"),
    (["--decoder", "beam", "--lm-weight", "1"], "give it, too"), (["--decoder", "beam", "--tune"], "needs a language model"),
    (["--decoder", "beam", "--lm", "ARPA", "--tune", "--splits", "dev,librispeech/test-clean"], "librispeech/test-clean"),
    (["--decoder", "beam", "--lm", "ARPA", "--tune", "--subnets", "s50,s70"], "takes one size"),
    (["--decoder", "modified_beam_search", "--lm", "ARPA"], "does not read this model"),
])
def test_the_command_line_refuses_before_any_speech_is_prepared(run, own_artifacts, arpa, monkeypatch, capsys, words, text):
    shutil.copytree(run, own_artifacts / "runs" / run.name)
    monkeypatch.setattr(experiment, "prepare", None)
    assert cli.main(["evaluate", "standin", *(str(arpa) if w == "ARPA" else w for w in words)]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


@pytest.mark.parametrize(("words", "text"), [
    (["--out", "x.arpa"], "say whose training"), (["smal", "--out", "x.arpa"], "recipe"),
    (["--text", "nowhere.txt", "--out", "x.arpa"], "text = 'nowhere.txt' cannot be read"),
    (["--text", "x", "--order", "9", "--out", "x.arpa"], "order must be from 1 to 6"),
    (["--text", "x", "--out", "no/where"], "a folder that exists"),
])
def test_a_model_of_nothing_is_refused(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lm", *words]) == 2
    assert text in capsys.readouterr().err and not list(tmp_path.glob("*.arpa"))
