"""One way to write words: known answers, nothing changed twice, and what cannot be said is
reported.
"""

from __future__ import annotations

import json

import pytest

from core.speech import normalizer as text

CASES = {
    "Hello,  WORLD!": "hello world",
    "Café naïve Æsop Straße ŁÓDŹ": "cafe naive aesop strasse lodz",
    "mother-in-law — and/or": "mother in law and or",
    "don’t 'tis boys' o'clock": "don't 'tis boys' o'clock",
    "she said 'yes' -- ' - ''": "she said yes",
    "room 12, 3 beds. 0": "room twelve three beds zero",
    "in 1905; 1,234 of 999,999": (
        "in one thousand nine hundred five one thousand two hundred thirty four of nine "
        "hundred ninety nine thousand nine hundred ninety nine"
    ),
    "ＡＢＣ": "abc",
    "": "",
    " ... ": "",
}


@pytest.mark.parametrize("given, expected", CASES.items())
def test_known_answers(given, expected):
    assert text.normalize(given) == expected
    assert text.problems(given) == []


@pytest.mark.parametrize(
    "number, words",
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (21, "twenty one"),
        (100, "one hundred"),
        (110, "one hundred ten"),
        (1000, "one thousand"),
        (12_345, "twelve thousand three hundred forty five"),
        (700_007, "seven hundred thousand seven"),
    ],
)
def test_numbers_are_spelled(number, words):
    assert text.spell(number) == words == text.normalize(f" {number} ")


def test_all_spellings_differ():
    assert len({text.spell(n) for n in range(20_000)}) == 20_000
    with pytest.raises(ValueError, match="999999"):
        text.spell(1_000_000)


@pytest.mark.parametrize(
    "given",
    [
        "$5",
        "5%",
        "3.5",
        "1st",
        "10:30",
        "1/2",
        "½",
        "5-6",
        "-5",
        "007",
        "1000000",
        "12,34",
        "AT&T",
        "a@b",
        "Привет",
        "20°",
        "x2",
        "5's",
    ],
)
def test_what_has_no_sure_words_is_reported_and_kept(given):
    assert text.problems(given)
    assert text.normalize(given).replace(" ", "")


@pytest.mark.parametrize(
    "given",
    [
        *CASES,
        "3.5 apples, 5",
        "-5 5-6 (7)",
        "a''b ''c'' 'd' '",
        "½ ² ④",
        "x1, 2",
        "1.",
        "5.5.",
        "‘quoted’ `x´",
        "a_b*c",
    ],
)
def test_a_second_time_changes_nothing(given):
    assert text.normalize(text.normalize(given)) == text.normalize(given)


@pytest.mark.slow
@pytest.mark.speech
def test_the_references_of_the_test_sets_are_unchanged(speech_root):
    for file in sorted((speech_root / "manifests").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            words = json.loads(line)["text"]
            assert text.normalize(words) == words and text.problems(words) == []
