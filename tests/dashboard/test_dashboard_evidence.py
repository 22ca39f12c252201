"""Evidence on stand-in runs: a card for every claim, all experiments, and models side by side under
one set of conditions at a time.
"""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from core import cost, paths
from core.common import writing
from core.records import Origin
from core.storage import store
from dashboard import measurements
from dashboard.charts import arms as arm_charts, kept as kept_charts, looks
from dashboard.components import (
    claim_picture,
    claims as claim_cards,
    experiments as experiments_list,
    models,
    tables,
)
from dashboard.model import comparisons, test_sets
from tests import standin
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

APP, PAGE = ROOT / "dashboard" / "app.py", ROOT / "dashboard" / "views" / "evidence.py"
CLAIMS, EXPERIMENTS, MODELS = "Claims", "All experiments", "Models side by side"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "runs"
    standin.make_run(folder, "aa-supernet", title="Supernet A")
    standin.make_run(folder, "bb-other", title="Other B", method="gradual_magnitude", seed=3)
    return folder


@pytest.fixture
def run(made, own_artifacts, monkeypatch, tmp_path):
    standin.only_runs(made, monkeypatch, tmp_path / "released")
    monkeypatch.setattr(paths, "COMPARED", tmp_path / "released" / "comparison")
    return paths.runs() / "aa-supernet"


def opened(part: str) -> AppTest:
    at = AppTest.from_file(str(PAGE), default_timeout=300)
    at.session_state["evidence_part"] = part
    at.run()
    assert not at.exception
    return at


def text(at: AppTest) -> str:
    shown = [
        e.value
        for group in (at.markdown, at.caption, at.info, at.error, at.warning, at.subheader)
        for e in group
    ]
    return " ".join([*shown, *(e.proto.body for e in at.get("html"))])


def row(**changes) -> dict:
    """A line of claims.json."""
    return {
        "number": "1",
        "text": "A size of <b>one</b> training makes at most 5 % more errors",
        "kind": "on par",
        "set": "small",
        "title": "t",
        "arm": "all <i>at once</i>",
        "against": "alone",
        "size": "half",
        "verdict": "confirmed",
        "margin": 0.05,
        "relative": 0.01,
        "low": -0.02,
        "high": 0.025,
        "p": 0.01,
        "holds": True,
        "seeds": [[0.5, 0.5], [0.51, 0.5]],
        "split": "librispeech/test-clean, mine/test",
        "minutes": [4.2, 1.34],
        "selection_minutes": [2.5, 0.0],
        "tmacs": [4.61, 1.138],
        "selection_tmacs": [1.38, 0.0],
        "megabytes": [6.2, 6.2],
        "unequal": False,
        "smaller": False,
    } | changes


NOT_RUN = {
    "verdict": "not run yet",
    "split": "",
    **dict.fromkeys(("relative", "low", "high", "p", "holds"), None),
    **{
        name: []
        for name in (
            "seeds",
            "minutes",
            "selection_minutes",
            "tmacs",
            "selection_tmacs",
            "megabytes",
        )
    },
}


def leave(*rows: dict) -> list[comparisons.Claim]:
    """Writes claims.json -> what the page makes of it."""
    writing.write_json(paths.COMPARED / paths.CLAIMS, list(rows))
    return comparisons.claims()


# claims


def test_a_claim_is_one_card_with_all_its_rows(run):
    leave(
        row(number="10", text="Ten"),
        row(number="2", text="Two", **NOT_RUN),
        row(),
        row(size="third", verdict="undecided"),
        row(number="3", text="Three", smaller=True),
    )
    at = opened(CLAIMS)
    words = text(at)
    assert at.title[0].value == "Evidence" and words.count("<article") == 3
    assert words.index("at most 5 %") < words.index("Two.") < words.index("Ten."), "2 before 10"
    assert "Three" not in words, "a larger comparison decides it"
    assert "3 claims, tested 4 times\\: 2 confirmed, 1 undecided, 1 not run yet." in words
    assert "small\\: 1.3 to 4.2 minutes of training each, 2 trainings" in words
    assert "✓ Confirmed: 1</span>" in words and "? Undecided: 1</span>" in words
    assert "… Not run yet</span>" in words
    assert "<code>python -m core compare small</code>" in words
    assert "Tested on Read books (test-clean) and mine/test; 2 trainings of either side;" in words
    assert "4.2 against 1.3 minutes each; 2.5 against 0.0 minutes of choosing sizes" in words
    assert "4.6 against 1.1 · 10¹² MACs each" in words
    assert "&lt;b&gt;one" in words and "<i>at" not in words, "texts are shown, not obeyed"


def test_the_median_wer_of_nets_so_small_is_given(run):
    rows = list(leave(row(seeds=[[0.7, 0.8], [0.9, 0.6]], minutes=[3.0, 4.0]))[0].rows)
    said = claim_cards.smallness(rows)
    assert "3.0 to 4.0 minutes" in said and "median WER is 75 %" in said


def test_long_trainings_are_not_called_small(run):
    claims = leave(row(minutes=[90.0, 4.0]))
    assert claim_cards.smallness(list(claims[0].rows)) == ""
    assert claim_cards.smallness(list(leave(row(**NOT_RUN))[0].rows)) == ""


def test_the_picture_has_the_interval_the_margin_and_every_pair_of_trainings(run):
    (claim,) = leave(row(), row(size="third", low=-0.1, relative=-0.05, high=0.0))
    on = claim_picture.scale(claim.rows)
    assert on.left(on.low) == 0 and on.left(on.high) == 100
    assert on.low < -0.1 and on.high > 0.05, "all rows and the margin on one scale"
    drawn = claim_picture.picture(claim, dark=False)
    for value in (0.01, 0.02):  # the mean; the second pair
        assert f"left:{on.left(value)}%" in drawn
    width = round(on.left(0.025) - on.left(-0.02), 2)
    assert f'"interval" style="left:{on.left(-0.02)}%;width:{width}%' in drawn
    assert drawn.count('class="seed"') == 4 and drawn.count('class="track"') == 2
    assert f'"margin" style="left:{on.left(0.05)}%"' in drawn
    assert f'"zero" style="left:{on.left(0.0)}%"' in drawn
    assert "limit of the claim: 5 % more errors" in drawn
    assert "1.0 % more errors (−2.0 to +2.5)" in drawn
    assert "5.0 % fewer errors (−10.0 to 0.0)" in drawn
    (better,) = leave(row(margin=0.0))
    assert "limit of the claim: as many errors" in claim_picture.picture(better, dark=False)


def test_a_claim_without_a_margin_shows_shares_that_are_kept(run):
    nothing = dict.fromkeys(("margin", "relative", "low", "high"), None)
    (claim,) = leave(row(kind="kept most", seeds=[[0.75, 0.4], [0.25, 0.6]], **nothing))
    assert claim.rows[0].differences == pytest.approx([0.35, -0.35])
    drawn = claim_picture.picture(claim, dark=True)
    assert "50 % of them kept, 50 % of the others" in drawn and "more often →" in drawn
    assert drawn.count('class="seed"') == 2 and 'class="interval"' not in drawn


def test_what_an_interval_hides_is_said(run):
    (claim,) = leave(
        row(verdict="undecided", p=0.38),
        row(verdict="undecided", unequal=True, megabytes=[6.55, 9.0]),
        row(verdict="undecided", high=0.07),
    )
    said = [claim_picture.why_undecided(one) for one in claim.rows]
    assert said == [
        "clear alone, not among all claims (p 0.38)",
        "files of 6.55 and 9.00 MB are no fair pair",
        "",
    ]


@pytest.mark.parametrize("word", [*claim_picture.VERDICTS, "new word"])
def test_a_verdict_is_an_icon_a_word_and_a_color_that_can_be_read(word):
    icons = [icon for icon, *_ in claim_picture.VERDICTS.values()]
    assert len(set(icons)) == 3
    for dark in (False, True):
        icon, *colors = claim_picture.VERDICTS.get(word, claim_picture.OTHER)
        assert looks.contrast(colors[dark], looks.PAPER[dark]) >= 4.5
        drawn = claim_picture.verdict(word, dark)
        assert f"{icon} {word.capitalize()}<" in drawn and colors[dark] in drawn


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "{}",
        "[1]",
        json.dumps([{k: v for k, v in row().items() if k != "margin"}]),
        json.dumps([row(seeds=3)]),
        json.dumps([row(relative="much")]),
        json.dumps([row(low=float("nan"))]),
    ],
)
def test_a_damaged_table_of_claims_says_what_to_do(run, damage):
    writing.write_bytes(paths.COMPARED / paths.CLAIMS, damage.encode())
    with pytest.raises(ValueError, match=r"damaged or of another version.*core compare --pages"):
        comparisons.claims()


def test_a_damaged_table_of_claims_hides_nothing_else(run):
    writing.write_bytes(paths.COMPARED / paths.CLAIMS, b"{")
    writing.write_bytes(paths.COMPARED / "other.md", b"# Does it help?")
    at = opened(CLAIMS)
    assert "damaged" in at.warning[0].value and "<article" not in text(at)
    at = opened(EXPERIMENTS)
    assert "damaged" in at.warning[0].value and len(at.expander) == 1


def test_no_claims_yet_says_how_to_get_some(run):
    assert "core compare --help" in opened(CLAIMS).info[0].value
    assert "core compare --help" in opened(EXPERIMENTS).info[0].value


def test_the_released_claims_can_be_shown():
    claims = comparisons.claims()
    assert claims and len(claims) < sum(len(claim.rows) for claim in claims)
    for claim in claims:
        assert "nan" not in claim_cards.card(claim, dark=True)


def test_the_former_address_leads_here(run):
    at = AppTest.from_file(str(APP), default_timeout=300)
    at._page_hash = calc_hash("compare")  # as the browser asks for /compare
    at.run()
    assert not at.exception and at.title[0].value == "Evidence"


def test_a_claim_says_what_its_table_and_its_paper_are(run):
    claims = leave(row(number="1, table C", set="pruning"), row(number="1, table U"), row())
    assert [claim_cards.number_words(claim) for claim in claims] == [
        "Claim 1",
        "Claim 1, table C (equal cost), after Yang et al. 2022",
        "Claim 1, table U (equal updates)",
    ]
    words = text(opened(CLAIMS))
    assert "Claim 1, table C (equal cost)" in words and "arXiv 2110.08352" in words


def test_the_address_keeps_the_tab_the_search_and_the_models(run):
    leave(row())
    writing.write_bytes(paths.COMPARED / "small.md", b"# A small one")
    at = AppTest.from_file(str(PAGE), default_timeout=300)
    at.query_params["evidence_part"] = EXPERIMENTS
    at.query_params["experiments_search"] = "claim 7"
    at.run()
    assert at.text_input(key="experiments_search").value == "claim 7" and not at.expander
    again = AppTest.from_file(str(PAGE), default_timeout=300)
    again.query_params["evidence_part"] = MODELS
    again.query_params["compared"] = "Other B"
    again.query_params["compared_split"] = test_sets.name(standin.SPLITS[1])
    again.run()
    assert [t["name"] for t in drawn(again)] == ["Other B"]
    assert again.selectbox(key="compared_split").value == standin.SPLITS[1]
    assert again.get("popover")[0].proto.popover.label == "Models: 1 of 2"


# experiments


def test_every_experiment_can_be_searched_and_opened(run):
    writing.write_bytes(paths.COMPARED / "CLAIMS.md", b"# Claims")
    leave(row(smaller=True), row(set="other", arm="Zebra", text="Stripes help"))
    page = (
        "# A small one\n\nOn `librispeech/test-clean`.\n\n## WER\n\n| arm | 70 % |\n| --- | --- |\n"
    )
    writing.write_bytes(paths.COMPARED / "small.md", f"{page}| fast | `1.5` |\n".encode())
    writing.write_bytes(paths.COMPARED / "other.md", b"# Does it help?\n\nYes, by 3 points.\n")
    at = opened(EXPERIMENTS)
    labels = [e.label for e in at.expander]
    assert len(labels) == 2 and "Does it help?" in labels[0] and "1 confirmed" in labels[0]
    for wanted, left in (
        ("help", 1),
        ("ZEBRA stripes", 1),
        ("70 fast", 1),
        ("read books", 2),
        ("half once", 1),
        ("nowhere", 0),
    ):
        at.text_input(key="experiments_search").set_value(wanted).run()
        assert len(at.expander) == left, wanted
    at.text_input(key="experiments_search").set_value("").run()
    assert "by 3 points" not in text(at)
    at.session_state["page:other"] = at.session_state["page:small"] = True
    words = text(at.run())
    assert "by 3 points" in words and '<td data-label="70 %"><span><code>1.5</code>' in words
    assert words.count("<article") == 1, "claims that a larger comparison decides stand here"
    assert "A larger comparison has repeated these claims" in words


def test_a_claim_is_searched_for_by_its_number(run):
    leave(
        row(number="1, table C"),
        row(set="other", number="2"),
        row(set="eleven", number="11"),
    )
    for name in ("small", "other", "eleven", "tuning"):
        writing.write_bytes(paths.COMPARED / f"{name}.md", b"# Before claim 1: 1 table c")
    experiments, claims = comparisons.experiments(), comparisons.claims()

    def found(wanted: str) -> list[str]:
        rows = experiments_list.rows_of
        return [e.name for e in experiments if experiments_list.matches(e, rows(e, claims), wanted)]

    assert found("claim 1") == found("Claim 1, table C") == ["small"]
    assert found("claim 2 before") == ["other"] and found("claim 11") == ["eleven"]
    assert found("claim 1 table U") == [] and len(found("claim")) == 4


def test_titles_count_what_the_claims_tab_counts(run):
    claims = leave(row(set="a"), row(set="b", smaller=True), row(set="b", verdict="undecided"))
    (claim,) = claims
    said = [
        experiments_list.verdicts_of(tuple(row for row in claim.rows if row.set == name))
        for name in "ab"
    ]
    assert said == [
        "1 confirmed",
        "1 undecided; repeated by a larger comparison, which counts: 1 confirmed",
    ]
    assert "1 confirmed, 1 undecided" in claim_cards.counted(comparisons.deciding(claims))


def test_learning_curves_and_kept_parts_of_an_experiment(run):
    for seed in (1, 2):
        curve = [
            {"audio_hours": h, "loss": {"dense": 1.0 - h, "sparsest": 2.0 - h}} for h in (0.1, 0.2)
        ]
        sizes = {
            "all": {"branches": {"convolution": [4, 4], "attention": [4, 4]}},
            "half": {"branches": {"convolution": [4, 4], "attention": [seed - 1, 4]}},
        }
        writing.write_json(
            paths.COMPARED / "small" / f"a-seed{seed}.json",
            {"arm": "a", "seed": seed, "curve": curve, "sizes": sizes},
        )
    writing.write_bytes(paths.COMPARED / "small.md", b"# A small one\n\nIts words.")
    at = opened(EXPERIMENTS)
    at.session_state["page:small"] = True
    assert r"a\: half keeps 100 % of convolution, 13 % of attention." in text(at.run())
    kept = arm_charts.arms_kept_table(comparisons.arms("small"))
    assert list(kept.columns) == ["a: half"] and list(kept["a: half"]) == [1.0, 0.125]
    figure = arm_charts.learning_figure(comparisons.arms("small")["a"])
    assert [(t.name, t.showlegend, list(t.y)) for t in figure.data] == [
        ("dense", True, [0.9, 0.8]),
        ("sparsest", True, [1.9, 1.8]),
        ("dense", False, [0.9, 0.8]),
        ("sparsest", False, [1.9, 1.8]),
    ]
    styles = [
        [t.line.color for t in arm_charts.learning_figure(comparisons.arms("small")["a"], on).data]
        for on in (False, True)
    ]
    assert styles == [[looks.BLUE, looks.VERMILLION] * 2, [looks.SKY, looks.VERMILLION] * 2]


def test_a_page_is_prose_and_tables():
    page = "a | b\n\n| x | y |\n| --- | --- |\n| 1 | a\\|b |\n|  | 2 |\n\nend\n| no table |"
    assert tables.split(page) == [
        "a | b\n",
        tables.Table(["x", "y"], [["1", "a|b"], ["", "2"]]),
        "\nend\n| no table |",
    ]


def test_arms_of_a_comparison_on_one_chart():
    def of(wrong, size=1e6):
        return {"file_bytes": size, "speakers": {"a": [0, 1, wrong, 10], "b": [0, 1, 1, 10]}}

    arms = {
        "one": [
            {"seed": 1, "sizes": {"half": of(3), "all": of(1, 2e6)}},
            {"seed": 2, "sizes": {"half": of(5), "all": of(1, 2e6)}},
        ],
        "other": [{"seed": 1, "sizes": {"half": of(9)}}, {"seed": 2, "sizes": {"tiny": of(9)}}],
    }
    points = arm_charts.arms_points(arms)
    assert points.to_dict("records") == [
        {"arm": "one", "size": "half", "megabytes": 1.0, "wer": 25.0, "low": 20.0, "high": 30.0},
        {"arm": "one", "size": "all", "megabytes": 2.0, "wer": 10.0, "low": 10.0, "high": 10.0},
    ], "only what every seed has"
    figure = arm_charts.arms_figure(points)
    assert [(t.name, list(t.x), list(t.y), list(t.error_y.array)) for t in figure.data] == [
        ("one", [1.0, 2.0], [25.0, 10.0], [5.0, 0.0])
    ]


# models side by side


def test_renders_chart_cost_and_parts_with_a_sentence_each(run):
    at = opened(MODELS)
    assert len(at.get("plotly_chart")) == 2 and text(at).count("What to see:") == 3
    words = text(at)
    for title in ("Supernet A", "Other B"):
        assert f'<td data-label="model"><span>{title}</span></td>' in words
    assert words.count('<td data-label="sizes"><span>6</span></td>') == 2
    assert "left out" not in words and not at.dataframe, "st.dataframe cuts text"


def otherwise(run: str, split: str) -> None:
    """A run is measured with another precision on a test set."""
    for report in store.reports(paths.runs() / run):
        if report.split == split:
            path = paths.report_file(paths.runs() / run, report.subnet, report.split, 320.0)
            writing.write_json(
                path, dataclasses.asdict(dataclasses.replace(report, precision="bf16"))
            )


def test_a_model_measured_otherwise_is_left_out_with_the_reason(run):
    otherwise("bb-other", standin.SPLITS[0])
    at = opened(MODELS)
    at.selectbox(key="compared_split").set_value(standin.SPLITS[0]).run()
    words = text(at)
    assert (
        not at.exception
        and "1 of 2 models are left out" in words
        and "core evaluate RUN --splits" in words
        and "- Other B\\: streaming, 320 ms chunks, greedy, bf16" in words
        and len(at.get("plotly_chart")) == 2
    )


def test_opens_where_most_models_stand_beside_the_one_measured_most(run):
    points = measurements.points(("aa-supernet", "bb-other"))
    strings, books = standin.SPLITS
    main, other = points[points["run"] == "aa-supernet"], points[points["run"] == "bb-other"]
    alone = other[(other["split"] == books) | (other["subnet"] == "dense")]
    books_only = pd.concat([main, alone.assign(split=books)])
    assert test_sets.to_compare(books_only)[0][0] == books
    strings_only = pd.concat([main, other[other["split"] == strings].head(3)])
    assert test_sets.to_compare(strings_only)[0][0] == strings
    for split in standin.SPLITS:
        writing.write_json(run / paths.FINISHED, {"default_split": split})
        assert test_sets.to_compare(points)[0][0] == split, "of equals what Explore opens on"
    others = [other.assign(run=f"c{i}", decoder="beam").head(9) for i in range(3)]
    order = test_sets.to_compare(pd.concat([main, *others]))
    assert order[0][1][3] == "beam", "most models, where the one measured most stands alone"
    beside = other.assign(run="dd").head(1)
    order = test_sets.to_compare(pd.concat([main, beside, *others]))
    assert order[0][1][3] == main.iloc[0]["decoder"], "not without the model measured most"
    assert {condition[3] for _, condition in order} == {main.iloc[0]["decoder"], "beam"}


def test_the_mode_with_most_models_is_offered(run, made):
    for name in ("cc", "dd"):
        standin.make_run(paths.runs(), name, title=name.upper(), seed=4)
        for report in store.reports(paths.runs() / name)[6:]:
            paths.report_file(paths.runs() / name, report.subnet, report.split, 320.0).unlink()
        otherwise(name, standin.SPLITS[0])
        otherwise(name, standin.SPLITS[1])
    otherwise("bb-other", standin.SPLITS[0])
    otherwise("bb-other", standin.SPLITS[1])
    at = opened(MODELS)
    at.selectbox(key="compared_split").set_value(standin.SPLITS[1]).run()
    assert {t["name"] for t in drawn(at)} == {"Other B", "CC", "DD"}, "most models"
    mode = at.selectbox(key=f"compared_condition:{standin.SPLITS[1]}")
    mode.select_index(1 - mode.index).run()
    assert [t["name"] for t in drawn(at)] == ["Supernet A"]
    at.button(key="compared_most").click().run()
    assert not at.exception and {t["name"] for t in drawn(at)} == {"Other B", "CC", "DD"}
    assert "compared_most" not in [b.key for b in at.button]


def drawn(at: AppTest) -> list[dict]:
    """The legend's entries of the first chart."""
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    return [t for t in figure["data"] if t.get("showlegend")]


def test_runs_look_the_same_whichever_are_chosen_and_never_alike(run):
    standin.make_run(paths.runs(), "cc-twin", title="Twin", method="gradual_magnitude", seed=5)
    at = opened(MODELS)
    every = {t["name"]: (t["marker"]["color"], t["marker"]["symbol"]) for t in drawn(at)}
    assert set(every) == {"Supernet A", "Other B", "Twin"} and len(set(every.values())) == 3
    at.multiselect(key="compared").set_value(["cc-twin"]).run()
    (one,) = drawn(at)
    assert (one["marker"]["color"], one["marker"]["symbol"]) == every["Twin"]


def test_no_model_chosen(run):
    at = opened(MODELS)
    at.multiselect(key="compared").set_value([]).run()
    assert not at.exception and "Choose at least one" in text(at)


def test_cost_sums_stages_and_says_what_is_unknown():
    stages = [
        {
            "method": "dense",
            "updates": 10,
            "audio_hours": 2.0,
            "seconds": 120.0,
            "training_tmacs": 3.2,
            "hardware": "X",
        },
        {
            "method": "omni_sparsity",
            "updates": 5,
            "audio_hours": 1.0,
            "seconds": None,
            "training_tmacs": 1.9,
            "hardware": "X",
        },
    ]
    assert models.cost_row("A", stages, {}) == [
        "A",
        "dense → omni_sparsity",
        "0",
        "15",
        "3",
        "-",
        "5",
        "X",
    ]


def test_kept_parts_leave_out_uniform_sizes(run):
    spec, sizes = store.spec(run), store.subnets(run)
    uniform = dataclasses.replace(
        sizes[-1],
        name="u50",
        keep=cost.uniform(spec, 0.5),
        sparsity=0.5,
        origin=Origin.UNIFORM,
    )
    table = kept_charts.kept_table(spec, [*sizes, uniform])
    assert not any(c.startswith(("u50", "dense")) for c in table.columns) and (
        (table >= 0) & (table <= 1)
    ).all(axis=None)
    figure = kept_charts.kept_figure(table)
    assert list(figure.data[0].y) == list(table.index)
    assert "all kinds" in kept_charts.kept_sentence(
        pd.DataFrame({"s90": [0.1, 0.1]}, index=["a", "b"])
    )
    assert "b keeps most" in kept_charts.kept_sentence(
        pd.DataFrame({"s90": [0.1, 0.2]}, index=["a", "b"])
    )


def test_a_share_is_rounded_alike_in_the_picture_and_in_the_sentence():
    table = pd.DataFrame({"s90": [0.125, 0.145, 0.9]}, index=["a", "b", "c"])
    assert list(kept_charts.kept_figure(table).data[0].text[0]) == [13]
    assert "a least (13 %)" in kept_charts.kept_sentence(table)
    assert "15 % of b" in arm_charts.arms_kept_sentence(table)


def test_which_parts_depth_sizes_keep(run):
    spec, dense = store.spec(run), store.subnets(run)[0]

    def size(name, off, share=1.0):
        keep = {u.name: 0.0 if u.branch in off else share for u in spec.units}
        origin = Origin.RANDOM if name[0] == "r" else Origin.TRAINED
        sparsity = cost.sparsity_reached(spec, keep)
        return dataclasses.replace(dense, name=name, keep=keep, sparsity=sparsity, origin=origin)

    off = ["blocks.0.attention", "blocks.1.attention", "blocks.1.convolution"]
    sizes = [
        dense,
        size("d15", off[:1]),
        size("d13", off, 0.5),
        size("r13", off),
        size("s50", [], 0.5),
    ]
    assert kept_charts.parts_table(spec, [dense, sizes[-1]]).empty, "zeros alone leave nothing out"
    table = kept_charts.parts_table(spec, sizes)
    kinds = ["feed forward 1", "convolution", "attention", "feed forward 2"]
    assert list(table.columns) == [(n, k) for n in ("d15", "d13") for k in kinds] and list(
        table.index
    ) == [1, 2, 3, 4]
    assert list(table["d15", "attention"]) == [0, 1, 1, 1] and list(
        table["d13", "convolution"]
    ) == [0.5, 0, 0.5, 0.5]
    words = kept_charts.parts_sentence(table)
    assert (
        "d13 keeps 4 of 4 feed forward 1, 4 of 4 feed forward 2, 3 of 4 convolution, 2 of 4"
        " attention." in words
    )
    figure = kept_charts.parts_figure(table)
    assert (
        sum(row.count("×") for row in figure.data[0].text) == 4
        and list(figure.data[0].x[0]) == ["d15"] * 4 + ["d13"] * 4
    )


def test_a_streaming_mode_is_named_without_the_hash_of_its_language_model():
    mode = test_sets.mode
    over = ("graph", "open speech 5342e6cf, scale 0.8, beam 11", 0)
    plain, streaming = ("fp32", "torch"), "streaming, 320 ms chunks"
    assert mode((320.0, 0, 0, *over, *plain)) == f"{streaming}, with open speech"
    assert mode((0, 0, 0, "greedy", "none", 0, "bf16", "torch")) == "whole recording, greedy, bf16"
    assert mode((0, 0, 0, "beam", "a.arpa 0123abcd", 0, *plain)).endswith("beam, with a.arpa")
    assert mode((320.0, 0, 0, *over, "int8", "sparse")) == (
        f"{streaming}, with open speech, engine sparse int8"
    )
