"""Errors: exact numbers of a small hand-made test set, and the page on stand-in runs: filters,
pages, what is missing, and hostile text.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import zstandard
from streamlit.testing.v1 import AppTest

from core import paths
from core.records import Choice, Recipe, Utterance
from core.storage import store
from dashboard.charts import errors as charts
from dashboard.components import utterances
from dashboard.model import error_groups, errors, lost_sounds, lost_words
from tests import sounds, standin
from tests.conftest import ROOT

APP = str(ROOT / "dashboard" / "app.py")
SPLIT = standin.SPLITS[0]
SAID = {"a": "the cat sat on the mat", "b": "open the door", "c": "stop"}
SPEAKERS = {"a": "anna", "b": "anna", "c": "bert"}
DENSE = {"a": ("the cat sat on the mat", 0), "b": ("open a door", 1), "c": ("stop", 0)}
SPARSE = {"a": ("a cat sat on mat", 2), "b": ("open the door", 0), "c": ("stop it now", 2)}


def measured(texts: dict[str, tuple[str, int]]) -> pd.DataFrame:
    rows = [(id, text, count, len(SAID[id].split())) for id, (text, count) in texts.items()]
    return pd.DataFrame(rows, columns=["id", "hypothesis", "errors", "words"]).set_index("id")


def known() -> dict[str, Utterance]:
    return {
        id: Utterance(id, "", 0.0, 1.0 + len(text), text, SPEAKERS[id]) for id, text in SAID.items()
    }


def rows(said=None) -> pd.DataFrame:
    return errors.table(measured(DENSE), measured(SPARSE), known() if said is None else said)


def size(name: str, sparsity: float, delta=None) -> errors.Size:
    return errors.Size("run", SPLIT, name, sparsity, delta=delta)


# numbers


def test_two_sizes_side_by_side():
    table = rows()
    assert list(table["added"]) == [2, -1, 2]
    assert list(table["speaker"]) == ["anna", "anna", "bert"]
    assert table.loc["b", "reference"] == "open the door"
    fewer = measured(DENSE).drop(index="a")
    assert list(errors.table(fewer, measured(SPARSE), {}).index) == ["b", "c"]
    assert math.isnan(rows({})["seconds"].iloc[0])


def test_the_headline_counts_all_errors_over_all_words():
    dense, sparse = size("dense", 0.0), size("s90", 0.9)
    sentence = errors.headline(dense, sparse, rows(), (0.1, 0.5)).replace(errors.NBSP, " ")
    assert sentence == (
        "From dense to s90 (90 % sparsity), there are 3 more word errors in 10 words:"
        " 30.0 more per 100 words (95 % CI 10.0 to 50.0)."
    )
    back = errors.table(measured(SPARSE), measured(DENSE), {})
    assert "3 fewer word errors in 10 words: 30.0 fewer" in errors.headline(
        sparse, dense, back, (-0.5, -0.1)
    )
    assert "10.0 to 50.0" in errors.headline(sparse, dense, back, (-0.5, -0.1))
    same = errors.table(measured(DENSE), measured(DENSE), {})
    assert "stays the same" in errors.headline(dense, sparse, same, None)


def test_the_interval_is_the_reports_own_where_it_fits_and_none_without_speakers(monkeypatch):
    monkeypatch.setattr(errors.data, "stamp", lambda run: 0)
    dense, sparse = size("dense", 0.0), size("s90", 0.9, (0.3, 0.1, 0.5))
    assert errors.interval(dense, sparse, rows({})) == (0.1, 0.5)
    other = size("s90", 0.9, (0.2, 0.1, 0.5))  # of another measurement
    assert errors.interval(dense, other, rows({})) is None
    low, high = errors.interval(dense, other, rows())
    assert low < 0.3 < high
    assert errors.interval(size("s50", 0.5), sparse, rows({})) is None


def test_filters_and_orders():
    table = rows()
    assert list(errors.filtered(table, "MAT").index) == ["a"]
    assert list(errors.filtered(table, " it  now ").index) == ["c"], "of a transcript"
    assert list(errors.filtered(table, ".*").index) == [], "text, not a pattern"
    assert list(errors.filtered(table, only_added=True).index) == ["a", "c"]
    assert list(errors.filtered(table, speaker="anna").index) == ["a", "b"]
    assert list(errors.ordered(table, "Most errors added").index) == ["a", "c", "b"]
    assert list(errors.ordered(table, "Longest").index) == ["a", "b", "c"]
    assert list(errors.ordered(table.iloc[::-1], "As in the test set").index) == ["a", "b", "c"]


def test_words_that_get_lost_and_what_stands_in_their_place():
    tallies = {
        name: lost_words.tally(list(SAID.values()), [text for text, _ in texts.values()])
        for name, texts in (("dense", DENSE), ("s90", SPARSE))
    }
    assert [tallies[name].errors for name in tallies] == [1, 4]
    table = lost_words.lost(tallies, "dense", "s90", 1).set_index("word")
    assert table.loc["the", "said"] == 3
    assert table.loc["the", "at dense"] == pytest.approx(2 / 3)
    assert table.loc["the", "at s90"] == table.loc["the", "lost"] == pytest.approx(1 / 3)
    assert table.loc["the", "instead"] == "(deleted) 1, a 1"
    assert table.index[0] == "the"
    assert set(lost_words.lost(tallies, "dense", "s90", 2)["word"]) == {"the"}
    assert tallies["s90"].counts.tolist() == [[3, 1, 3, 3], [1, 1, 2, 2], [0, 0, 1, 1]]


def test_function_words_are_said_to_be_lost_more_only_where_it_is_so():
    texts = ["the cat of the house"] * 40
    dense = lost_words.tally(texts, texts)
    sparse = lost_words.tally(texts, ["a cat a a house"] * 40)
    people = [str(n % 5) for n in range(40)]
    sentence = lost_words.function_words(dense, sparse, people)
    assert "are lost more than other words" in sentence
    assert "from 100 to 0 % of 120 recognized, against from 100 to 100 % of 80" in sentence
    assert "undecided" in lost_words.function_words(dense, dense, people)
    few = lost_words.tally(texts[:5], texts[:5])
    assert lost_words.function_words(few, few, people[:5]) == ""


@pytest.mark.slow
def test_sounds_that_get_lost():
    assert lost_sounds.in_sounds("open the zzyzzx door") == "OW P AH N DH AH D AO R"
    texts = [lost_sounds.in_sounds("thin ice")] * 200
    dense = lost_words.tally(texts, texts)
    sparse = lost_words.tally(texts, [lost_sounds.in_sounds("tin ice")] * 200)
    table = lost_sounds.lost({"dense": dense, "s90": sparse}, "dense", "s90")
    assert table.iloc[0][["sound", "as in", "said", "lost"]].tolist() == ["TH", "thin", 200, 1.0]
    assert table.iloc[0]["instead"] == "T 200"
    sentence = lost_sounds.sentence(table, "dense", "s90")
    assert sentence == "Lost most: TH (as in thin) from 100 to 0 % recognized."
    assert len(lost_sounds.EXAMPLES) == 39
    few = lost_words.tally(texts[:9], texts[:9])
    assert lost_sounds.lost({"dense": few, "s90": few}, "dense", "s90").empty


def test_groups_have_counts_intervals_and_no_chart_of_too_few_points():
    many = pd.concat([rows()] * 30)
    table = error_groups.by_speaker(many).set_index("speaker")
    assert list(table.index) == ["bert", "anna"], "who loses most comes first"
    assert table.loc["bert", "change"] == 2.0 and table.loc["bert", "words"] == 30
    assert table.loc["anna", "change"] == pytest.approx(1 / 9)
    assert table.loc["anna", "low"] < 1 / 9 < table.loc["anna", "high"]
    assert error_groups.by_speaker(rows())["low"].isna().all(), "too few utterances"
    assert error_groups.by_speaker(rows({})).empty
    lengths = error_groups.by_length(many)
    assert list(lengths["length"]) == ["1 to 5", "6 to 10"]
    assert list(lengths["other"]) == pytest.approx([2 / 4, 2 / 6])
    assert charts.speakers(table.reset_index(), False) is None
    assert charts.lengths(lengths, "dense", "s90", False) is None
    three = pd.concat([table.reset_index()] * 2).head(3)
    assert len(charts.speakers(three, True).data[0].x) == 3


def test_the_noisy_copy_of_a_test_set_is_known_by_the_recipe_and_compared_on_the_same_words(
    monkeypatch,
):
    parts = [
        {"corpus": "librispeech", "options": {}},
        {"corpus": "noisy", "prefix": "loud", "options": {"splits": {"test-n": "test-clean"}}},
    ]
    recipe = Recipe(Choice("mixture", {"parts": parts}), Choice("m"), Choice("n"))
    assert error_groups.noisy_copies(recipe) == {"loud/test-n": "librispeech/test-clean"}
    plain = Recipe(Choice("voice_commands"), Choice("m"), Choice("n"))
    assert error_groups.noisy_copies(plain) == {}
    quiet = measured(DENSE).set_axis(["x:a", "x:b", "x:c"], axis=0)
    loud = measured(SPARSE).drop(index="c").set_axis(["loud:a", "loud:b"], axis=0)
    monkeypatch.setattr(
        error_groups, "hypotheses", lambda size: loud if size.split == "loud" else quiet
    )
    clean, noisy = size("dense", 0.0), errors.Size("run", "loud", "dense", 0.0)
    table = error_groups.in_noise([clean, size("s50", 0.5)], [noisy])
    assert table[["utterances", "words"]].values.tolist() == [[2, 9]]
    assert table[["clean", "noisy"]].values[0] == pytest.approx([1 / 9, 2 / 9])
    assert charts.noise(table, False) is None
    assert charts.noise(pd.concat([table] * 3), False) is not None


# the page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "runs"
    standin.make_run(folder, "aa-supernet", title="Supernet A", utterances=25)
    return folder


@pytest.fixture
def run(made, own_artifacts, monkeypatch, tmp_path):
    standin.only_runs(made, monkeypatch, tmp_path / "released")
    return paths.runs() / "aa-supernet"


def file_of(run, name: str, split: str = SPLIT):
    return paths.hypotheses_file(run, name, split, 320.0)


def store_texts(run, texts: dict[str, dict[str, str]], said: dict[str, str]) -> None:
    """The hypotheses {size: {id: text}} of SPLIT, with the errors that they have against `said`."""
    from core.evaluation import scoring

    for name, by_id in texts.items():
        edits = scoring.word_edits([said[id] for id in by_id], list(by_id.values()))
        lines = [
            json.dumps(
                {
                    "id": id,
                    "hypothesis": text,
                    "insertions": int(edits.insertions[n]),
                    "deletions": int(edits.deletions[n]),
                    "substitutions": int(edits.substitutions[n]),
                    "words": int(edits.words[n]),
                }
            )
            for n, (id, text) in enumerate(by_id.items())
        ]
        packed = zstandard.ZstdCompressor().compress("\n".join(lines).encode())
        file_of(run, name).write_bytes(packed)


def opened(**query) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params.update(query)
    at.run()
    at.switch_page("views/errors.py").run()
    assert not at.exception
    return at


def html_of(at: AppTest) -> str:
    return " ".join(e.proto.body for e in at.get("html"))


def text(at: AppTest) -> str:
    groups = at.markdown, at.caption, at.info, at.error, at.warning
    plain = " ".join(e.value for group in groups for e in group)
    return plain.replace("\\", "").replace(errors.NBSP, " ")


def cards(at: AppTest) -> list[str]:
    return [e.proto.body for e in at.get("html") if " words · " in e.proto.body]


def menu(at: AppTest, label: str):
    return next(box for box in at.selectbox if box.label == label)


def sizes_shown(at: AppTest) -> list[str]:
    return [menu(at, label).value for label in ("From", "To")]


def references(monkeypatch, said: dict[str, Utterance]) -> None:
    monkeypatch.setattr(errors, "references", lambda size, rows: said)


def show(at: AppTest, part: str) -> AppTest:
    at.button_group(key="errors_part").set_value(part).run()
    assert not at.exception
    return at


@pytest.mark.slow
def test_the_page_opens_with_dense_and_the_sparsest_and_says_that_references_are_missing(run):
    at = AppTest.from_file(APP, default_timeout=300)
    at.switch_page("views/errors.py").run()
    assert not at.exception
    assert sizes_shown(at) == ["dense", "s90"]
    assert at.query_params["subnet"] == "s90", "the address says what the page shows"
    tables = [errors.hypotheses(errors.Size("aa-supernet", SPLIT, n, 0)) for n in ("dense", "s90")]
    added = tables[1]["errors"].sum() - tables[0]["errors"].sum()
    assert f"there are {added} more word errors in 150 words" in text(at)
    assert "What was said in this test set is not on this machine" in text(at)
    assert text(at).count("The sound of this test set is not on this machine") == 1
    assert len(cards(at)) == 10 and "s90, beside dense" in cards(at)[0]
    assert "can be counted only where" in text(show(at, "Words"))
    assert "Who spoke is not known" in text(show(at, "Speakers, length, noise"))


@pytest.mark.slow
def test_the_size_of_the_address_is_shown_and_a_chosen_one_goes_there(run):
    at = opened(run="aa-supernet", subnet="s50")
    assert sizes_shown(at) == ["dense", "s50"]
    menu(at, "To").set_value("s80").run()
    assert at.query_params["subnet"] == "s80" and "to s80" in text(at)
    at = opened(run="aa-supernet", subnet="s73-between")
    assert "s73-between has no results on this speech, so you see s90" in text(at)
    assert at.query_params["subnet"] == "s73-between", "the choice of other pages stays"
    at = AppTest.from_file(APP, default_timeout=300)
    at.query_params["run"] = "<b>no</b>"
    at.switch_page("views/errors.py").run()
    assert "There is no finished run called “<b>no</b>” here" in text(at)
    assert "From dense to" in text(at)
    at = opened(run="aa-sup", subnet="s50")
    assert at.query_params["run"] == "aa-supernet" and "no finished run" not in text(at)
    assert sizes_shown(at) == ["dense", "s50"]


@pytest.mark.slow
def test_filters_and_pages(run):
    at = opened(run="aa-supernet", subnet="s90")
    assert at.get("pagination")[0].num_pages == 3
    seen = cards(at)
    for number in (2, 3):
        at.get("pagination")[0].set_value(number).run()
        seen += cards(at)
    assert len(seen) == 25 and len(set(seen)) >= 24, "every utterance stands on one page"
    at.toggle[0].set_value(True).run()
    table = errors.table(
        *(errors.hypotheses(errors.Size("aa-supernet", SPLIT, n, 0)) for n in ("dense", "s90")), {}
    )
    wanted = len(errors.filtered(table, only_added=True))
    assert 0 < wanted < 25 and f"{wanted} of 25 utterances" in text(at)
    at.text_input[0].set_value("no such words").run()
    assert "No utterance fits these filters" in text(at) and not cards(at)


@pytest.mark.slow
def test_with_references_the_errors_are_marked_and_words_and_speakers_counted(run, monkeypatch):
    said = {f"u{n}": ("open the door" if n % 2 else "stop now") for n in range(24)}
    dense = dict(said) | {"u1": "open a door"}
    sparse = {id: t.replace("the ", "") for id, t in said.items()}
    store_texts(run, {"dense": dense, "s90": sparse, "s50": dense}, said)
    references(
        monkeypatch,
        {id: Utterance(id, "", 0.0, 2.5, t, f"p{int(id[1:]) // 2 % 4}") for id, t in said.items()},
    )
    at = opened(run="aa-supernet", subnet="s90")
    assert "there are 11 more word errors in 60 words: 18.3 more per 100 words" in text(at)
    assert "not on this machine, so" not in text(at)
    first = cards(at)[0]
    assert "speaker p1 · 2.5 s · 3 words · dense: 0 errors, s90: 1 error" in first
    assert "line-through" in first and "deleted here" in first, "marked by more than a color"
    at.selectbox(key="utterances_speaker").set_value("p1").run()
    assert "6 of 24 utterances" in text(at)
    at = show(at, "Words")
    table = at.dataframe[0].value
    assert table.iloc[0]["word"] == "the"
    assert table.iloc[0][
        ["said", "lost, points", "at dense", "at s50", "at s90"]
    ].tolist() == pytest.approx([12, 100 * 11 / 12, 100 * 11 / 12, 100 * 11 / 12, 0])
    assert table.iloc[0]["instead, at s90"] == "(deleted) 12"
    assert "at s80" not in table, "a size measured on other utterances has no share of these words"
    assert "Function words (the, of, to ...) are lost more than other words" in text(at)
    at = show(at, "Speakers, length, noise")
    assert len(at.get("plotly_chart")) == 1, "four speakers, but one length"


@pytest.mark.slow
def test_references_that_do_not_give_the_counted_errors_are_not_shown(run, monkeypatch):
    table = errors.hypotheses(errors.Size("aa-supernet", SPLIT, "dense", 0))
    other = {id: Utterance(id, "", 0.0, 1.0, "w " * 6, "p") for id in table.index}
    references(monkeypatch, other)
    at = opened(run="aa-supernet", subnet="s90")
    assert "do not give the errors that were counted when dense was measured" in text(at)
    assert "beside dense" in cards(at)[0]


@pytest.mark.slow
def test_hostile_text_is_shown_and_not_obeyed(run, monkeypatch):
    evil = "<img src=x onerror=alert(1)> [x](http://evil.example) **b** $x$"
    speaker = "<script>alert(2)</script>"
    said = {f"<b>u{n}</b>": "one two" for n in range(4)}
    store_texts(run, {"dense": dict.fromkeys(said, evil), "s90": dict.fromkeys(said, evil)}, said)
    references(
        monkeypatch,
        {
            id: Utterance(id, "/etc/passwd", 0.0, 1.0, "one two", f"{speaker}{n % 3}")
            for n, id in enumerate(said)
        },
    )
    at = opened(run="aa-supernet", subnet="s90")
    assert "<img" not in html_of(at) and "<script" not in html_of(at)
    assert "&lt;img" in html_of(at) and "&lt;script&gt;" in html_of(at)
    assert not at.get("audio"), "a file outside of the operator's folders is no sound"
    at = show(at, "Speakers, length, noise")
    drawn = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert all("<" not in name for name in drawn["data"][0]["x"])
    at = show(at, "Words")
    assert not at.exception and "**b** 4" in at.dataframe[0].value.iloc[0]["instead, at s90"]


@pytest.mark.slow
def test_sound_is_played_where_the_operator_offers_it(run, monkeypatch, tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    (folder / "one.flac").write_bytes(sounds.encoded(sounds.voice(1.0), "FLAC"))
    said = {"u0": "one two", "u1": "three"}
    store_texts(run, {"dense": dict(said), "s90": dict(said)}, said)
    by_id = {
        id: Utterance(id, str(folder / f"{name}.flac"), 0.0, 1.0, said[id], "p")
        for id, name in (("u0", "one"), ("u1", "missing"))
    }
    references(monkeypatch, by_id)
    assert not opened(run="aa-supernet", subnet="s90").get("audio")
    monkeypatch.setenv("SPEECH_ROOT", str(folder))
    at = opened(run="aa-supernet", subnet="s90")
    assert len(at.get("audio")) == 1
    assert "sound of this test set is not" not in text(at)


@pytest.mark.slow
def test_what_is_missing_is_said_with_what_to_do(run, monkeypatch):
    for name in ("dense", "s30", "s50", "s70", "s80"):
        file_of(run, name).unlink()
    at = opened(run="aa-supernet")
    assert "Only s90 (90 % sparsity) has results of every utterance here" in text(at)
    assert f"python -m core evaluate aa-supernet --splits {SPLIT}" in text(at)
    file_of(run, "s90").unlink()
    at = opened(run="aa-supernet")
    assert "hold no results of single utterances" in text(at)
    for file in (run / paths.REPORTS).glob("*.json"):
        file.unlink()
    at = opened(run="aa-supernet")
    assert "No size of this model has been measured yet" in text(at)


@pytest.mark.slow
def test_damaged_results_are_named_and_the_others_shown(run):
    file_of(run, "s90").write_bytes(b"no zstd")
    at = opened(run="aa-supernet", subnet="s90")
    assert "hypotheses of s90" in text(at) and "From dense to s80" in text(at)


@pytest.mark.slow
def test_phonemes_are_no_words(run):
    said = {f"u{n}": "open the door" for n in range(3)}
    spelled = dict.fromkeys(said, "OW P AH N DH AH D AO R")
    store_texts(run, {"dense": spelled, "s90": spelled}, said)
    at = opened(run="aa-supernet", subnet="s90")
    assert "These results are phonemes" in text(at) and not cards(at)


@pytest.mark.slow
def test_without_any_run_the_page_says_where_to_begin(own_artifacts, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    standin.only_runs(tmp_path / "empty", monkeypatch, tmp_path / "released")
    at = AppTest.from_file(APP, default_timeout=300)
    at.switch_page("views/errors.py").run()
    assert not at.exception and "Open **Train**" in text(at)


@pytest.mark.slow
def test_the_shipped_samples_have_references_and_sound():
    if not errors.sample_sizes("supernet"):
        pytest.skip("this copy ships no samples")
    at = opened(run="supernet", subnet="u90")
    at.button_group(key="errors_source").set_value("Samples with sound").run()
    assert not at.exception
    assert len(cards(at)) == len(at.get("audio")) == 10
    assert "Said" in cards(at)[0] and "in 93 words" in text(at)


@pytest.mark.slow
def test_the_shipped_supernet_is_reported_as_its_reports_say():
    reports = [
        r
        for r in store.reports("supernet", added=False)
        if r.split == "librispeech/test-clean" and r.subnet in ("dense", "u90")
    ]
    if len(reports) < 2:
        pytest.skip("this copy ships no reports of the supernet")
    dense, sparse = reports
    at = opened(run="supernet", subnet="u90")
    added = round((sparse.wer - dense.wer) * dense.words)
    low, high = 100 * sparse.delta_low, 100 * sparse.delta_high
    assert f"there are {added:,} more word errors in {dense.words:,} words" in text(at)
    assert f"(95 % CI {low:.1f} to {high:.1f})" in text(at)


def test_a_card_escapes_all_of_an_utterance():
    row = rows().assign(base="<i>x</i>", speaker='"><b>').iloc[0]
    shown = utterances.card("dense", "<s90>", row, True)
    assert "<i>" not in shown and "<b>" not in shown and "<s90>" not in shown
    assert np.isclose(row.seconds, 23) and "23.0 s" in shown
