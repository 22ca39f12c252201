"""Decoding graphs: what brute force over all word sequences says, several languages at once, typed
grammars, graphs kept on disk.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kaldifst
import numpy as np
import pytest

from core import paths
from core.decoding.graph_search import GraphSearch, Weights
from core.lm import arpa, estimation, grammars, graph, graph_files, languages, ngrams
from core.lm.languages import Language
from core.speech import normalizer, tokenizer

LN10 = math.log(10)
EXACT = Weights(1.0, 0.0, beam=1000.0, max_active=100_000, sure_blank=1.0)
# homophones (be, bee), beginnings of others (a, ab, abc), a word of two pronunciations (abc);
# tokens 1, 2, 3
SAID = {"a": [(1,)], "ab": [(1, 2)], "abc": [(1, 2, 3), (3,)], "be": [(2, 3)], "bee": [(2, 3)]}
TEXTS = [["a", "be"], ["ab"], ["bee", "a"], ["abc", "abc"], ["be", "ab", "a"]]


def composed(*parts, said=SAID, tokens=4) -> graph.Graph:
    """Of ARPA models and patterns, each as probable as the others."""
    symbols = graph.Symbols(list(said))
    made = [
        (
            graph.of_arpa(arpa.write(p), symbols)
            if isinstance(p, ngrams.NGrams)
            else grammars.acceptor(grammars.read(p), symbols)
        )
        for p in parts
    ]
    g = made[0] if len(made) == 1 else graph.union([(m, math.log(len(made))) for m in made])
    return graph.compose(g, said, symbols, tokens)


def spelled(*texts: str) -> dict[str, list[tuple[int, ...]]]:
    """A lexicon of letters: a = 1."""
    return {w: [tuple(ord(c) - 96 for c in w)] for text in texts for w in text.split()}


def heard(made: graph.Graph, log_probs: np.ndarray, weights: Weights = EXACT) -> str:
    search = GraphSearch(made, weights)
    search.accept(log_probs)
    search.finish()
    return search.text


def frames(tokens, vocabulary: int = 4, sure: float = 0.99) -> np.ndarray:
    found = np.full((len(tokens), vocabulary), (1 - sure) / (vocabulary - 1))
    found[np.arange(len(tokens)), tokens] = sure
    return np.log(found).astype(np.float32)


def says(made: graph.Graph, text: str, said=SAID) -> str:
    """What a net that is sure of these words' letters makes of them."""
    tokens = [t for w in text.split() for t in (*itertools.chain(*((t, 0) for t in said[w][0])),)]
    return heard(made, frames(tokens, made.tokens))


def everything(model: ngrams.NGrams, most: int) -> list[tuple[str, tuple, float]]:
    """(words, tokens, ln) of all word sequences of up to `most` tokens, said in every way."""
    found = []
    for words in itertools.chain(
        *(itertools.product(SAID, repeat=count) for count in range(most + 1))
    ):
        forms = [
            f
            for f in itertools.product(*(enumerate(SAID[w]) for w in words))
            if sum(len(said) for _, said in f) <= most
        ]
        if forms:
            history, lm = ("<s>",), 0.0
            for word in (*words, "</s>"):
                lm += LN10 * model.score(history, word)
                history = model.follow(history, word)
            costs = [sum(graph.VARIANT_COST * (number > 0) for number, _ in f) for f in forms]
            found += [
                (" ".join(words), sum((said for _, said in f), ()), lm - cost)
                for f, cost in zip(forms, costs)
            ]
    return found


def brute_force(log_probs: np.ndarray, said: list[tuple[str, tuple, float]]) -> str:
    """The words of the best CTC path of all, its sound and its words together."""
    best: dict[tuple, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        tokens = tuple(k for k, _ in itertools.groupby(path) if k)
        best[tokens] = max(
            best.get(tokens, -math.inf), sum(float(log_probs[t, k]) for t, k in enumerate(path))
        )
    return max((best[tokens] + score, words) for words, tokens, score in said if tokens in best)[1]


def test_a_graph_decodes_what_brute_force_says():
    model = estimation.estimate(TEXTS, 2)
    made, said, rng, found = composed(model), everything(model, 4), np.random.default_rng(0), set()
    for _ in range(15):
        log_probs = rng.normal(size=(4, 4)) * 2
        log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
        found.add(text := heard(made, log_probs.astype(np.float32)))
        assert text == brute_force(log_probs, said)
    assert len(found) > 4


def test_homophones_are_told_apart_by_the_words_before_them():
    model = estimation.estimate([["a", "be"], ["a", "be"], ["ab", "bee"], ["ab", "bee"]], 2)
    made = composed(model, said=SAID)
    assert (
        says(made, "a be") == says(made, "a bee") == "a be"
        and says(made, "ab be") == says(made, "ab bee") == "ab bee"
    )


def test_words_without_pronunciation_and_n_grams_with_them_are_left_out():
    model = estimation.estimate([["a", "zebra"], ["ab"]], 2)
    assert says(composed(model, said={"a": [(1,)], "ab": [(1, 2)]}), "ab") == "ab"
    with pytest.raises(ValueError, match="nothing can be said .* no word in common"):
        composed("zebra", said={"zebra": []})


def test_a_union_accepts_what_its_parts_do_and_only_that():
    said = spelled("go stop now")
    model = estimation.estimate([["stop", "now"]], 2)
    both = composed(model, "go now", said=said, tokens=27)
    assert says(both, "go now", said) == "go now" and says(both, "stop now", said) == "stop now"
    only = composed("go now", said=said, tokens=27)
    assert says(only, "stop now", said) != "stop now"


def test_a_union_is_silent_where_a_part_may_be():
    symbols = graph.Symbols(["a"])
    parts = [grammars.acceptor(grammars.read("a"), symbols) for _ in range(2)]
    parts[1].set_final(parts[1].start, 0.5)
    whole = graph.union([(parts[0], 0.1), (parts[1], 0.25)])
    assert whole.final(whole.start).value == pytest.approx(0.75)


# typed grammars


def draws(text: str) -> dict[str, float]:
    """{sentence: probability} of a grammar, by walking its acceptor; loops a few times round."""
    patterns = grammars.read(text)
    symbols = graph.Symbols(grammars.words(patterns))
    fst, found = grammars.acceptor(patterns, symbols), dict[str, float]()

    def walk(state: int, words: tuple, p: float) -> None:
        final = fst.final(state).value
        if final != math.inf:
            found[" ".join(words)] = found.get(" ".join(words), 0.0) + p * math.exp(-final)
        for arc in kaldifst.ArcIterator(fst, state):
            if p > 1e-3:
                word = (symbols.words[arc.ilabel],) if 0 < arc.ilabel < len(symbols.words) else ()
                walk(arc.nextstate, words + word, p * math.exp(-arc.weight.value))

    walk(fst.start, (), 1.0)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("turn (on | off) # a comment\n\n", {"turn on": 0.5, "turn off": 0.5}),
        ("Please STOP", {"please stop": 1.0}),
        ("[please] stop", {"please stop": 0.5, "stop": 0.5}),
        ("3 go\nstop", {"go": 0.75, "stop": 0.25}),
        (
            "set {room} {9..11}\nroom = kitchen | hall",
            {f"set {r} {n}": 1 / 6 for r in ("kitchen", "hall") for n in ("nine", "ten", "eleven")},
        ),
        ("{42..42} (a | (b | c))", {"forty two a": 0.5, "forty two b": 0.25, "forty two c": 0.25}),
    ],
)
def test_a_grammar_is_drawn_from_as_its_signs_say(text, expected):
    assert draws(text) == pytest.approx(expected)


def test_once_or_more():
    found = draws("go+ now")
    assert [found[" ".join(["go"] * n + ["now"])] for n in (1, 2, 3)] == pytest.approx(
        [0.5, 0.25, 0.125]
    )
    assert "now" not in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("turn (on", "line 1, column 6: .*'\\(' is not closed by '\\)'"),
        ("go\n  turn on) now", "line 2, column 10: .*unexpected '\\)'"),
        ("go\nstop; now", "line 2, column 5: .*cannot read ';'"),
        ("go\nroom = hall ?", "line 2, column 13: .*cannot read '\\?'"),
        ("2 + go", "line 1, column 3: .*'\\+' has nothing in front of it"),
        ("go {room}", "line 1: no slot {room}; defined are none: add a line 'room = ...'"),
        ("go {roam}\nroom = hall", "line 1: no slot {roam}; defined are room"),
        ("go {a}\na = {b}\nb = now {a}", "the slot {a} holds itself"),
        ("go {a}\na = b\na = c", "line 3: the slot 'a' is defined twice"),
        ("go {9..5}", "line 1: {9..5} is not allowed"),
        ("go {0..1000000}", "is not allowed: numbers go up"),
        ("", "expected 1 to 5000 sentences, got 0"),
        ("a = b", "expected 1 to 5000 sentences, got 0"),
        ("go {0..1" + "0" * 5000 + "}", "line 1: {0..10+…} is not allowed"),
        ("go\n 0 stop", "line 2, column 2: a weight must be above 0 and below 10.6, got 0"),
        ("1000000 go", "line 1, column 1: a weight must be above 0 and below 10.6"),
        ("9" * 400 + " go", "line 1, column 1: a weight must be above 0 .*, got 9{40}…$"),
        ("0." + "0" * 400 + "1 go", "line 1, column 1: a weight must be above 0"),
        ("go\nno " + "(" * 900 + "a" + ")" * 900, "line 2, column 53: brackets .* at most 49"),
        ("go " + "[" * 900, "line 1, column 53: brackets are nested too deeply"),
        ("go\na = {b}\nb = {c}", "line 3: no slot {c}"),
    ],
)
def test_what_is_no_grammar_is_said_with_its_place(text, words):
    with pytest.raises(ValueError, match=words):
        grammars.read(text)


def chain(slots: int, body: str, end: str = "go") -> str:
    """Slots that each hold the next one."""
    lines = [f"s{i} = {body.format(i + 1)}" for i in range(slots)]
    return "\n".join(["say {s0}", *lines, f"s{slots} = {end}"])


def test_too_large_a_grammar_is_refused_before_it_is_expanded(monkeypatch):
    """Each slot is measured once: 40 that double make 2^40 steps."""
    looks = [0]
    measured = grammars._Measure.of

    def counted(*given):
        looks[0] += 1
        return measured(*given)

    monkeypatch.setattr(grammars._Measure, "of", counted)
    with pytest.raises(ValueError, match="more than 500000 steps"):
        grammars.read(chain(40, "{{s{0}}} {{s{0}}}"))
    assert looks[0] < 1000


@pytest.mark.parametrize("text", ["{0..99}", "a [b] c+ (d | [e f]) {n} {n}\nn = x | {0..21}+"])
def test_steps_are_counted_as_they_are_built(text, monkeypatch):
    patterns = grammars.read(text)
    fst = grammars.acceptor(patterns, graph.Symbols(grammars.words(patterns)))
    arcs = sum(fst.num_arcs(state) for state in range(fst.num_states))
    monkeypatch.setattr(grammars, "MOST_ARCS", arcs)
    grammars.read(text)
    monkeypatch.setattr(grammars, "MOST_ARCS", arcs - 1)
    with pytest.raises(ValueError, match=f"more than {arcs - 1} steps"):
        grammars.read(text)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["{{s{0}}}", "(now | [[{{s{0}}}]+])+"])
def test_slots_in_each_other_without_end_are_refused(body):
    with pytest.raises(ValueError, match="nested too deeply: at most 49 levels"):
        grammars.read(chain(3000, body))
    with pytest.raises(ValueError, match="nested too deeply"):
        grammars.read("\n".join(reversed(chain(3000, body).split("\n"))))
    within = chain(10, body)
    patterns = grammars.read(within)
    grammars.acceptor(patterns, graph.Symbols(grammars.words(patterns)))


def test_a_plus_after_a_plus_says_nothing_new():
    assert draws("go" + "+" * 3000) == pytest.approx(draws("go+"))


def test_loops_over_the_same_words_can_be_composed():
    """Without a mark of its own on each loop, determinization never ended."""
    said = spelled("say go stop now")
    model = estimation.estimate([["say", "go", "go", "go", "go", "now"]], 3)
    made = composed("say go+\nsay (go | stop)+ now\n([go] now)+", model, said=said, tokens=27)
    for text in ("say go go go", "say go stop go now", "say go go now", "now go now"):
        assert says(made, text, said) == text


# languages


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    return tokenizer.train(
        ["the quick brown fox jumps over the lazy dog", "it's"],
        tokenizer.Options(kind="characters"),
        tmp_path_factory.mktemp("letters"),
    )


def token_frames(tokens: tokenizer.Tokenizer, text: str, sure: float = 0.9) -> np.ndarray:
    ids = [i for word in text.split() for token in tokens.encode(word) for i in (token, 0)]
    return frames(ids, tokens.size, sure)


@pytest.mark.slow
def test_the_built_in_commands_compose_and_hear_their_sentences(letters):
    made = languages.load(Language("", languages.COMMANDS), letters)
    for text in (
        "turn on the kitchen lamp",
        "preheat oven two hundred degrees milk bread and butter",
    ):
        assert heard(made, token_frames(letters, text), Weights()).split()[:2] == text.split()[:2]
    patterns = grammars.of_corpus(languages._built_in())
    assert sum(share for _, share in patterns.sentences) == pytest.approx(1.0)
    assert set(grammars.words(patterns)) == languages._built_in().vocabulary(None) | set(
        made.words
    ) - {graph.EPSILON}
    assert all(normalizer.normalize(w) == w for w in made.words[1:])


def test_a_graph_is_kept_and_a_damaged_one_is_built_again(letters, monkeypatch):
    built, build = [], languages._build
    monkeypatch.setattr(languages, "_build", lambda *a: built.append(a) or build(*a))
    monkeypatch.setattr(graph_files, "_IN_MEMORY", {})
    asked = Language("", "turn (on | off)")

    def again() -> str:
        graph_files._IN_MEMORY.clear()
        return heard(languages.load(asked, letters), token_frames(letters, "turn off"), Weights())

    assert again() == again() == "turn off" and len(built) == 1
    (folder,) = paths.graphs().iterdir()
    assert sorted(f.name for f in folder.iterdir()) == [graph_files.FST, graph_files.WORDS]
    fst, facts = (
        (folder / graph_files.FST).read_bytes(),
        json.loads((folder / graph_files.WORDS).read_text()),
    )
    damages = [
        (graph_files.FST, fst[:-100]),
        (graph_files.FST, fst[: len(fst) // 2] + bytes(len(fst) - len(fst) // 2)),
        (graph_files.FST, b""),
        (graph_files.WORDS, b"{"),
        (graph_files.WORDS, b"[]"),
        (graph_files.WORDS, json.dumps({k: v for k, v in facts.items() if k != "words"}).encode()),
    ]
    for number, (name, data) in enumerate(damages, 2):
        (folder / name).write_bytes(data)
        assert again() == "turn off" and len(built) == number, "damage is never read"
        assert (folder / graph_files.FST).read_bytes() == fst
    (folder / graph_files.WORDS).unlink()
    assert again() == "turn off" and len(built) == len(damages) + 2
    assert languages.load(asked, letters) is languages.load(asked, letters), "kept in memory"


def test_one_builds_a_graph_and_the_others_wait_for_it(letters, monkeypatch):
    monkeypatch.setattr(graph_files, "_IN_MEMORY", {})
    build, built, asked = languages._build, [], Language("", "turn (on | off)")

    def slowly(*given):
        built.append(threading.current_thread())
        time.sleep(0.3)
        return build(*given)

    monkeypatch.setattr(languages, "_build", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: languages.load(asked, letters), range(4)))
    assert len(built) == 1 and all(g.words == found[0].words for g in found)
    assert [path.suffix for path in paths.graphs().iterdir()] == [""], "no lock is left behind"


def test_a_graph_that_may_not_be_kept_is_used_all_the_same(letters, monkeypatch):
    monkeypatch.setattr(graph_files, "_IN_MEMORY", {})
    asked = Language("", "turn (on | off)")

    def refused(number: int):
        def write(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(graph_files, "_write", write)
        graph_files._IN_MEMORY.clear()
        return languages.load(asked, letters)

    for number in (errno.EROFS, errno.EACCES):
        found = heard(refused(number), token_frames(letters, "turn off"), Weights())
        assert found == "turn off"
    with pytest.raises(OSError, match="No space left"):
        refused(errno.ENOSPC)


def test_a_full_disk_is_said_once_and_by_us(letters, monkeypatch, capfd):
    built = languages.load(Language("", "turn (on | off)"), letters)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="make room on that disk"):
        graph_files._write(paths.graphs() / "abc", built)
    monkeypatch.undo()
    assert capfd.readouterr().err == "" and not list(paths.graphs().glob("abc*"))


def test_the_room_that_a_graph_takes_is_known_before(letters):
    built = languages.load(Language("", "turn (on | off) [the] (light | radio)"), letters)
    (file,) = paths.graphs().glob(f"*/{graph_files.FST}")
    assert abs(graph_files._file_bytes(built.fst) - file.stat().st_size) < 100


def test_what_decides_a_graph_is_in_its_name(letters, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_files, "_IN_MEMORY", {})
    file = tmp_path / "a.arpa"
    file.write_text(arpa.write(estimation.estimate([["go", "now"]], 2)))
    asked = [
        Language(str(file)),
        Language("", "go"),
        Language("", "stop"),
        Language(str(file), "go"),
        Language(str(file), "go", share=0.1),
        Language(str(file), hot_words=("stop",)),
        Language(str(file), hot_words=("Stop",)),
    ]
    for one in asked:
        languages.load(one, letters)
    assert len(list(paths.graphs().iterdir())) == len(asked) - 1, (
        "hot words are the same in capitals"
    )
    file.write_text(arpa.write(estimation.estimate([["go", "stop"]], 2)))
    languages.load(asked[0], letters)
    assert len(list(paths.graphs().iterdir())) == len(asked)
    assert (
        asked[3].name().startswith("a.arpa ")
        and " + typed grammar " in asked[3].name()
        and asked[5].name().endswith("1 hot words")
    )
    assert asked[3].name() != Language(str(file), "stop").name()


def test_hot_words_are_expected_and_new_ones_known(letters):
    model = estimation.estimate(
        [["go", w] for w in ("now", "mow", *(f"w{i}" for i in range(40)))], 2
    )
    boosted = languages.with_hot_words(model, ("mow", "cow"))
    assert boosted.score((), "mow") == pytest.approx(model.score((), "mow") + languages.BOOST)
    assert (
        boosted.score((), "cow") == pytest.approx(languages.NEW_WORD + languages.BOOST)
        and "cow" not in model
    )
    assert boosted.score((), "now") == model.score((), "now") and boosted.score(
        ("go",), "now"
    ) == model.score(("go",), "now")
    assert languages.with_hot_words(model, ()) is model


def test_a_hot_word_is_heard(letters, tmp_path):
    file = tmp_path / "a.arpa"
    file.write_text(arpa.write(estimation.estimate([["call", "now"], ["tall", "men"]], 2)))
    log_probs = token_frames(letters, "call cow", 0.9999)
    assert heard(languages.load(Language(str(file)), letters), log_probs, Weights()) == "call now"
    assert (
        heard(
            languages.load(Language(str(file), hot_words=("cow",)), letters), log_probs, Weights()
        )
        == "call cow"
    )


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (Language("", ""), "both are empty"),
        (Language("nowhere.arpa"), "cannot be read .*give an ARPA file"),
        (Language("", "go)"), "line 1, column 3"),
        (
            Language("", "go", tuple(f"w{'a' * i}" for i in range(201))),
            "at most 200 hot words, got 201",
        ),
        (Language(__file__), "is not a whole ARPA file"),
    ],
)
def test_a_language_that_says_nothing_is_refused(letters, language, words):
    with pytest.raises(ValueError, match=words):
        languages.load(language, letters)
    if not language.hot_words:
        with pytest.raises(ValueError, match=words):
            languages.check(language)


def test_a_model_without_words_and_a_word_without_tokens_are_refused(letters, tmp_path):
    file = tmp_path / "empty.arpa"
    file.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <unk>\n-1 <s>\n-1 </s>\n\\end\\\n")
    with pytest.raises(ValueError, match="holds no word"):
        languages.load(Language(str(file)), letters)
    file.write_text(arpa.write(estimation.estimate([["GO", "now"]], 2)))
    assert "GO" not in languages.load(Language(str(file)), letters).words
    with pytest.raises(ValueError, match="without a token"):
        languages.load(Language(str(file), hot_words=("caf\u00e9",)), letters)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["привет", "мир"], "none of the 2 words of this model can be pronounced with the rec"),
        (["GO", "NOW"], "e.g. not 'GO'; allowed are words in a-z, in lower case"),
    ],
)
def test_a_model_whose_words_have_no_tokens_is_refused(letters, tmp_path, words, text):
    file = tmp_path / "a.arpa"
    file.write_text(arpa.write(estimation.estimate([words], 2)))
    with pytest.raises(ValueError, match=re.escape(text)):
        languages.load(Language(str(file)), letters)


def test_a_model_most_of_whose_words_have_no_tokens_is_used_with_a_note(letters, tmp_path):
    notes = []
    for words in (["go", "мир", "GO"], ["go", "мир"]):
        file = tmp_path / "a.arpa"
        file.write_text(arpa.write(estimation.estimate([words], 2)))
        notes.append(
            languages.lost(Language(str(file)), languages.load(Language(str(file)), letters))
        )
    assert f"lm = {str(file)!r}: only 1 of the 3 words" in notes[0] and notes[1] == ""


def test_the_shipped_model_that_is_missing_is_said(letters, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RELEASED", tmp_path)
    with pytest.raises(ValueError, match="open.arpa.zst, is missing"):
        languages.load(Language(), letters)
