"""Words while they are spoken: any packets say the same, words have times and confidences, other
nets' frames are refused.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from core.decoding import ctc
from core.decoding.graph_search import GraphSearch, Weights, Word, align
from core.lm import estimation
from tests.lm.test_graph import EXACT, composed, frames

TEXTS = [["a", "be", "ab"], ["ab", "abc"], ["bee", "a"], ["abc", "be", "a", "ab"]]


@pytest.fixture(scope="module")
def graph():
    return composed(estimation.estimate(TEXTS, 2))


def noisy(seed: int, count: int = 60) -> np.ndarray:
    log_probs = np.random.default_rng(seed).normal(size=(count, 4)) * 3
    return (log_probs - np.log(np.exp(log_probs).sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_any_packets_say_the_same_in_the_end(graph, seed):
    log_probs, rng = noisy(seed), np.random.default_rng(seed)
    (whole,) = ctc.over_graph(
        torch.from_numpy(log_probs)[None], torch.tensor([60]), graph, Weights()
    )
    search, seen = GraphSearch(graph), []
    for part in np.split(log_probs, np.sort(rng.integers(0, 61, 9))):
        search.accept(part)
        seen.append(search.text)
        assert [w.text for w in search.words] == search.text.split()
    assert len(set(seen)) > 3 and [len(t) for t in seen[:3]] < [len(seen[-1])] * 3, (
        "the text grows with the sound"
    )
    search.finish()
    assert search.text == whole and len(whole.split()) > 5


def test_lengths_are_heeded(graph):
    log_probs = np.stack([noisy(0), noisy(1)])
    log_probs[0, 20:] = frames([1, 0] * 20)
    short, _ = ctc.over_graph(log_probs, [20, 60], graph)
    assert (
        short
        == ctc.over_graph(log_probs[:1, :20], [20], graph)[0]
        != ctc.over_graph(log_probs[:1], [60], graph)[0]
    )


def test_nothing_is_said_before_the_first_frame(graph):
    search = GraphSearch(graph)
    search.accept(np.zeros((0, 4), np.float32))
    assert search.text == "" and search.words == []
    search.finish()
    assert search.text == "" and search.words == []


def test_words_lie_where_their_tokens_do(graph):
    """Also where a graph names the word late: "ab" and "a" begin as "abc" does, "bee" sounds as
    "be".
    """
    search = GraphSearch(graph, EXACT)
    search.accept(frames([0, 1, 1, 0, 2, 2, 3, 0, 0, 1, 2, 0]))
    search.finish()
    assert [(w.text, w.begin, w.end) for w in search.words] in (
        [("a", 1, 3), ("be", 4, 7), ("ab", 9, 11)],
        [("abc", 1, 7), ("ab", 9, 11)],
    )


def test_of_a_sure_silence_one_frame_is_searched_and_times_stay(graph):
    quiet = [0] * 7
    log_probs = frames([*quiet, 1, 1, 0, 2, 2, 3, *quiet, *quiet, 1, 2, *quiet, 2, 3, *quiet])
    found = []
    for weights in (EXACT, dataclasses.replace(EXACT, sure_blank=0.9)):
        search = GraphSearch(graph, weights)
        for part in np.array_split(log_probs, 9):
            search.accept(part)
        search.finish()
        found.append(([(w.text, w.begin, w.end) for w in search.words], len(search._places)))
    (all_words, all_frames), (words, searched) = found
    assert words == all_words and len(words) > 2
    assert all_frames == len(log_probs) and searched == 5 + 9


@pytest.mark.parametrize("seed", range(3))
def test_times_increase_and_confidences_are_shares(graph, seed):
    search = GraphSearch(graph)
    search.accept(noisy(seed))
    search.finish()
    words = search.words
    assert [w.text for w in words] == search.text.split() and len(words) > 5
    edges = [t for w in words for t in (w.begin, w.end)]
    assert (
        edges == sorted(edges)
        and edges[0] >= 0
        and edges[-1] <= 60
        and all(w.begin < w.end for w in words)
    )
    assert all(0 < w.confidence <= 1 for w in words) and len({w.confidence for w in words}) > 2


def test_confidence_is_by_hand(graph):
    log_probs = np.log(
        np.array(
            [[0.1, 0.8, 0.05, 0.05], [0.1, 0.6, 0.15, 0.15], [0.6, 0.3, 0.05, 0.05]], np.float32
        )
    )
    search = GraphSearch(graph, EXACT)
    search.accept(log_probs)
    search.finish()
    assert search.words == [Word("a", 0, 2, 1.0)], "its frames are likeliest"
    only = composed("be", said={"be": [(2, 3)]})
    search = GraphSearch(only, EXACT)
    search.accept(np.log(np.array([[0.05, 0.55, 0.33, 0.07], [0.15, 0.1, 0.15, 0.6]], np.float32)))
    search.finish()
    assert search.words == [Word("be", 0, 2, pytest.approx(math.sqrt(0.3 / 0.5)))]


def test_words_are_aligned_with_tokens():
    assert align([1, 2, 3], [[(1,)], [(2, 3)]]) == [(0, 1), (1, 3)]
    assert align([1, 2, 3, 1], [[(1, 2), (1,)], [(3,), (2, 3)]]) in (
        [(0, 2), (2, 3)],
        [(0, 1), (1, 3)],
    ), "a token without a word follows"
    assert align([1, 2], [[(1,)], [(2, 3, 3)]]) == [(0, 1), (1, 2)], "the last word is cut off"
    assert align([], []) == [] == align([1], [])


def test_weights_count(graph):
    log_probs = np.log(
        np.array([[0.05, 0.0001, 0.9, 0.0001], [0.6, 0.4, 0.0001, 0.0001]], np.float32)
    )
    only = composed("b [a]", said={"a": [(1,)], "b": [(2,)]})
    for penalty, text in ((0.0, "b"), (5.0, "b a")):
        search = GraphSearch(only, Weights(1.0, penalty, beam=50.0))
        search.accept(log_probs)
        assert search.text == text
    model = estimation.estimate([["ab"]] * 20 + [["abc"]], 1)
    sound = np.log(
        np.array(
            [[0.01, 0.97, 0.01, 0.01], [0.01, 0.01, 0.97, 0.01], [0.7, 0.0, 0.0, 0.3]], np.float32
        )
        + 1e-9
    )
    texts = [
        ctc.over_graph(sound[None], [3], composed(model), Weights(scale, 2.0))[0]
        for scale in (0.3, 5.0)
    ]
    assert texts == ["ab", "abc"]


def test_frames_of_another_net_are_refused(graph):
    with pytest.raises(
        ValueError, match="the net has 5 tokens, the decoding graph was built for 4"
    ):
        GraphSearch(graph).accept(np.zeros((3, 5), np.float32))
