"""Recipe sets: checked before anything is trained, finished arms reused only while nothing has
changed, statistics over seeds.
"""

from __future__ import annotations

import itertools
import json
import os

import numpy as np
import pytest

from core import cost, paths
from core.cli import main as cli
from core.common import writing
from core.data import prepare
from core.data.prepared import Prepared
from core.evaluation.fitness import some_of_each
from core.lm import arpa, estimation, languages
from core.pipelines import compare, search as pipelines_search, train as pipelines_train
from core.pipelines.resolved import ResolvedRecipe
from core.records import Interrupted, as_dict
from core.registry import arm_records, recipe_sets
from core.reports import arms, arms_page, claims, claims_page
from core.storage import run_files, store
from tests.pipelines.test_experiment import go, recipe

pytestmark = pytest.mark.usefixtures("spoken")

SET = """
title = "Does warm-up help?"
recipe = "{base}"
seeds = [1, 2]
[measure]
sparsities = [0.0, 0.8]
seconds = 8.0
[[arms]]
name = "none"
[[arms]]
name = "half"
about = "half of the updates"
set = {{ "method.warmup" = 0.5 }}
"""


RATES = """
title = "Does a higher rate help?"
recipe = "{base}"
seeds = [1, 2]
[measure]
sparsities = [0.0]
seconds = 8.0
[[arms]]
name = "slow"
[[arms]]
name = "quick"
set = {{ "training.peak_lr" = 2e-3 }}
[[claims]]
number = "1"
text = "slow is better"
kind = "better"
arm = "slow"
against = "quick"
sizes = ["0 % zeros"]
"""


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """A set of two arms and two seeds on the tiny corpus; its records go to a temporary folder."""
    (tmp_path / "base.json").write_text(
        json.dumps(as_dict(recipe(options={"sparsest": 0.8, "warmup": 0.0})))
    )
    (tmp_path / "warm.toml").write_text(SET.format(base=tmp_path / "base.json"))
    monkeypatch.setattr(paths, "COMPARED", tmp_path / "comparison")
    return tmp_path / "warm.toml"


@pytest.mark.slow
def test_every_set_of_the_project_is_sound():
    assert "omni_options" in recipe_sets.names()
    for name in recipe_sets.names():
        made = recipe_sets.load(name, ["init_from=some-run"])
        ids = {
            json.dumps([as_dict(made.recipe_of(a, s)) | {"title": ""}, a.search])
            for a in made.arms
            for s in made.seeds
        }
        assert len(ids) == len(made.arms) * len(made.seeds), (
            "no two trainings of a set are the same"
        )
        assert all(made.recipe_of(a, 1).init_from == "some-run" for a in made.arms)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"method.warmup" = 0.5',
            '"method.warmup" = 1.5',
            "arm 'half' of warm: method.options.warmup",
        ),
        ('"method.warmup"', '"method.warmpu"', "warmpu"),
        (
            'name = "half"',
            'name = "half"\nsearch = true',
            "arm 'half': search is 'search' .* or 'random' .*; got True",
        ),
        ('name = "half"', 'name = "half"\nsearch = "random"', "what is searched is named in sizes"),
        ('name = "half"', 'name = "none"', "each with its own name"),
        ("[0.0, 0.8]", "[0.0, 1.8]", "shares of zeros from 0 to below 1"),
        ("seeds = [1, 2]", 'seeds = ["one"]', "seeds: expected a list of integers"),
        ("seeds = [1, 2]", "seeds = 3", "seeds: expected a list of integers"),
        ("[0.0, 0.8]", '["a"]', "shares of zeros from 0 to below 1"),
        ('name = "half"', 'name = "+ None"', "each with its own name"),
        ("[measure]", "[mesure]", "mesure"),
    ],
)
def test_a_wrong_set_is_said_before_anything_is_trained(small_set, old, new, said):
    small_set.write_text(small_set.read_text().replace(old, new))
    with pytest.raises(ValueError, match=said):
        recipe_sets.load(str(small_set))
    with pytest.raises(ValueError, match="omni_options"):
        recipe_sets.load("omni_optoins")


@pytest.mark.slow
def test_phonemes_are_compared_by_words_over_the_graph_with_phonemes_beside(tmp_path, monkeypatch):
    said = tmp_path / "open.arpa"
    said.write_text(arpa.write(estimation.estimate([["turn", "on", "the", "light"], ["stop"]], 2)))
    monkeypatch.setattr(languages, "shipped", lambda: said)
    monkeypatch.setattr(paths, "COMPARED", tmp_path / "comparison")
    base = recipe("dense", {}, tokens={"kind": "phonemes"})
    (tmp_path / "base.json").write_text(json.dumps(as_dict(base)))
    (tmp_path / "rates.toml").write_text(RATES.format(base=tmp_path / "base.json"))
    made = recipe_sets.load(str(tmp_path / "rates.toml"))
    page = compare.run(made, go).read_text()
    record = arm_records.load("rates", "slow", 1)
    assert record["language_model"].startswith("open speech ")
    sums = record["sizes"]["0 % zeros"]["speakers"].values()
    assert all(len(figures) == 6 and figures[3] > figures[5] > 0 for figures in sums), (
        "a word has more than one phoneme"
    )
    assert arms.rates(record) == {"WER": (4, 5), "PER": (2, 3)}
    assert "## WER" in page and "## PER" in page and "over the decoding graph" in page
    monkeypatch.setattr(recipe_sets, "names", lambda: [str(tmp_path / "rates.toml")])
    (claim,) = claims.rows()
    rates = [
        sum(f[4] for f in r["sizes"]["0 % zeros"]["speakers"].values())
        / sum(f[5] for f in r["sizes"]["0 % zeros"]["speakers"].values())
        for r in (record, arm_records.load("rates", "quick", 1))
    ]
    assert claim["seeds"][0] == pytest.approx(rates, abs=1e-4), "words decide, not phonemes"


@pytest.mark.slow
def test_arms_are_trained_once_measured_and_put_on_a_page(small_set, monkeypatch):
    trained = []
    really = pipelines_train.train
    monkeypatch.setattr(
        pipelines_train,
        "train",
        lambda r, report: trained.append((r.method.options["warmup"], r.seed)) or really(r, report),
    )
    made = recipe_sets.load(str(small_set))
    with pytest.raises(Interrupted):  # asked to stop in the second training
        compare.run(made, lambda progress, text, left: progress < 0.3)
    assert (
        trained == [(0.0, 1), (0.0, 2)]
        and "Not finished: none, half." in (paths.COMPARED / "warm.md").read_text()
    )
    page = compare.run(made, go)
    assert trained[2:] == [(0.0, 2), (0.5, 1), (0.5, 2)]
    files = sorted((paths.COMPARED / "warm").glob("*.json"))
    assert [f.name for f in files] == [
        f"{a}-seed{s}.json" for a in ("half", "none") for s in (1, 2)
    ]
    record = json.loads(files[0].read_text())
    assert set(record["sizes"]) == {"0 % zeros", "80 % zeros"}
    assert record["sizes"]["80 % zeros"]["sparsity"] == pytest.approx(0.8, abs=0.02)
    assert all(
        len(four) == 4 and four[1] > 0 for four in record["sizes"]["0 % zeros"]["speakers"].values()
    )
    assert all(os.path.getsize(f) < arm_records.MOST_BYTES for f in files)
    told = page.read_text()
    assert (
        "Not finished" not in told
        and "half of the updates" in told
        and f"python -m core compare {small_set}" in told
    )
    assert told.count(record["run"]) == 1
    compare.run(made, go)
    assert len(trained) == 5, "nothing has changed, nothing is trained"
    with monkeypatch.context() as moved:  # the same speech in other files
        moved.setattr(prepare, "fingerprint", lambda path: "copied")
        compare.run(made, go)
    assert len(trained) == 5 and len([*paths.prepared().glob("*/prepared.json")]) == 2, (
        "prepared again, heard the same"
    )
    other = recipe_sets.load(str(small_set), ["training.peak_lr=1e-3"])
    assert compare.run(other, go) != page and len(trained) == 9, (
        "another recipe is another training, kept elsewhere"
    )
    assert page.read_text() == told and "--set training.peak_lr=1e-3" in arms_page.text(other)


@pytest.mark.slow
def test_arms_of_other_methods_name_their_own_sizes(small_set):
    small_set.write_text(
        small_set.read_text().replace("seeds = [1, 2]", "seeds = [1]")
        + """
[[arms]]
name = "top-k"
set = { "method" = "simple_topk", "method.sizes" = [4] }
sizes = { "0 % zeros" = "dense", "half" = "d4" }
[[arms]]
name = "alone"
set = { "method" = "individual", "method.blocks" = 1 }
sizes = { "half" = "dense" }
"""
    )
    page = compare.run(recipe_sets.load(str(small_set)), go).read_text()
    words = page.split("## Loss per frame")[0].split("## WER")[1]
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in words.splitlines()
        if "|" in line
    }
    assert rows["arm"] == ["0 % zeros", "80 % zeros", "half"] and rows["alone"][:2] == [
        "-",
        "-",
    ] == rows["top-k"][1:2] + ["-"]
    assert "p " in rows["top-k"][0] and "p " not in rows["top-k"][2] and "p " in rows["alone"][2]
    record = arm_records.load("warm", "top-k", 1)
    half = record["sizes"]["half"]
    assert (
        half["mmacs_per_second"] < record["sizes"]["0 % zeros"]["mmacs_per_second"]
        and half["sparsity"] > 0.3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seconds = 8.0", 'seconds = 8.0\nsplits = ["tset"]', "there is no split 'tset'"),
        ('{ "method.warmup" = 0.5 }', '{ "training.chunks_ms" = [50] }', "training.chunks_ms 50"),
    ],
)
def test_what_only_the_speech_and_the_model_know_is_asked_before_anything_is_trained(
    small_set, old, new, said
):
    small_set.write_text(small_set.read_text().replace(old, new))
    before = set(paths.runs().glob("*"))
    with pytest.raises(ValueError, match=said):
        compare.run(recipe_sets.load(str(small_set)), go)
    assert set(paths.runs().glob("*")) == before


@pytest.mark.slow
def test_a_size_that_no_training_stores_is_said_before_anything_is_trained(small_set):
    small_set.write_text(
        small_set.read_text()
        + """
[[arms]]
name = "top-k"
set = { "method" = "simple_topk", "method.sizes" = [4] }
sizes = { "half" = "d5" }
"""
    )
    before = set(paths.runs().glob("*"))
    with pytest.raises(
        ValueError, match="arm 'top-k' of warm measures 'd5', but its training stores dense, d4"
    ):
        compare.run(recipe_sets.load(str(small_set)), go)
    assert set(paths.runs().glob("*")) == before


SIZED = """
[[arms]]
name = "searched"
search = "search"
sizes = { "large" = "<= 0.12 MB", "small" = "s80" }
[[arms]]
name = "drawn"
search = "random"
sizes = { "large" = "<= 0.12 MB", "small" = "r80" }
[[arms]]
name = "depth"
set = { "method" = "simple_topk", "method.sizes" = [5, 2] }
sizes = { "large" = "<= 0.12 MB" }
"""


@pytest.mark.slow
def test_searched_sizes_and_sizes_by_bytes(small_set, monkeypatch):
    small_set.write_text(small_set.read_text().replace("seeds = [1, 2]", "seeds = [1]") + SIZED)
    made = recipe_sets.load(str(small_set))
    page = compare.run(made, go).read_text()
    assert "minutes of selection" in page
    searched, drawn, depth = (
        arm_records.load("warm", name, 1) for name in ("searched", "drawn", "depth")
    )
    assert searched["selection_seconds"] > 0
    assert searched["selection_evaluations"] == 8
    assert drawn["run"] == searched["run"]
    assert drawn["selection_evaluations"] == 8
    assert drawn["sizes"]["small"] != searched["sizes"]["small"]
    assert_work_of_selection(made.arms[-2], drawn)
    assert 0.06e6 < depth["sizes"]["large"]["file_bytes"] <= 0.12e6
    assert "selection_seconds" not in depth
    assert sum(kept for kept, _ in depth["sizes"]["large"]["branches"].values()) == 5
    assert depth["sizes"]["large"]["branches"]["convolution"][1] == 2
    monkeypatch.setattr(paths, "COMPARISONS_FOLDER", small_set.parent)
    assert_budget_that_no_size_fits_into(small_set)


def assert_work_of_selection(arm, drawn: dict) -> None:
    """It is counted from the candidates, and of a search of an earlier version not known."""
    folder = store.run_folder(drawn["run"])
    resolved = ResolvedRecipe(store.recipe(folder))
    options = pipelines_search.search_options(resolved)
    prepared = Prepared(paths.prepared() / run_files.read_json(folder / paths.FINISHED)["prepared"])
    rows = some_of_each(prepared.rows("search"), options.seconds, options.seed)
    tmacs = sum(r.seconds for r in rows) * cost.macs_per_second(store.spec(folder)) / 1e12
    times = drawn["selection_tmacs"] / tmacs
    # candidates, and those that word errors compare at the end
    assert 8 < times <= 8 + options.best * len(options.sparsities) + 0.01
    state = store.own_part(folder) / "random.json"
    writing.write_json(
        state, {n: v for n, v in run_files.read_json(state).items() if n != "macs_per_second"}
    )
    again = compare._search(arm, folder, resolved, prepared, go)
    assert again["selection_tmacs"] is None, (
        "a search of an earlier version did not count them: not known, not 0"
    )


def assert_budget_that_no_size_fits_into(small_set) -> None:
    """Then there is no record of the size, a dash in the table, and the claim's verdict says it."""
    wanted = """sizes = { "large" = "<= 0.12 MB", "tiny" = "<= 0.001 MB" }
[[claims]]
number = "9"
text = "Depth is better"
kind = "better"
arm = "depth"
against = "searched"
sizes = ["large", "tiny"]"""
    text = (
        small_set.read_text()
        .replace('sizes = { "large" = "<= 0.12 MB" }', wanted)
        .replace('"small" = "s80"', '"tiny" = "s80"')
        .replace('"small" = "r80"', '"tiny" = "r80"')
    )
    small_set.write_text(text)
    page = compare.run(recipe_sets.load(str(small_set)), go).read_text()
    assert set(arm_records.load("warm", "depth", 1)["sizes"]) == {"large"}
    head, _, *rows = page.split("## WER")[1].split("## Loss")[0].strip().splitlines()[2:]
    row = next(r for r in rows if r.startswith("| depth | ")).split("|")
    assert row[head.split("|").index(" tiny ")] == " - "
    assert row[head.split("|").index(" large ")] != " - "
    second = claims.rows()[1]
    assert (second["size"], second["verdict"]) == ("tiny", "no size is that small")


@pytest.mark.parametrize(
    ("kept", "sure", "holds"),
    [
        ([(8, 4, 4)] * 3, True, True),
        ([(1, 12, 3)] * 3, True, False),
        ([(4, 8, 4)] * 3, False, False),
        (
            [(6, 2, 8)] * 3,
            False,
            False,
        ),  # more often than by chance, but another kind still more often
        ([(8, 4, 4)] * 2 + [(5, 7, 4)], False, True),
    ],
)  # one seed could be chance
def test_what_is_kept_most_is_held_against_chance(kept, sure, holds):
    found = [
        {"convolution": [c, 8], "feed-forward": [f, 16], "attention": [a, 8]} for c, f, a in kept
    ]
    told = claims._kept_most(found, "convolution")
    assert (told["p"] < 0.05, told["holds"]) == (sure, holds) and told["seeds"][0][0] == kept[0][
        0
    ] / 8


CLAIMED = """
[[claims]]
number = "9"
text = "Half a warm-up is as good"
kind = "on par"
arm = "half"
against = "none"
sizes = ["0 % zeros", "80 % zeros"]
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"on par"', '"equal"'),
        ('"on par"', '"kept most"'),
        ('arm = "half"', 'arm = "halves"'),
        ('against = "none"', 'against = "half"'),
        ('sizes = ["0 % zeros", "80 % zeros"]', "sizes = []"),
    ],
)
def test_a_wrong_claim_is_said_before_anything_is_trained(small_set, old, new):
    small_set.write_text(small_set.read_text() + CLAIMED.replace(old, new))
    with pytest.raises(
        ValueError,
        match=(
            r"claim '9' needs a kind \(better, on par, kept most\), two different arms of the set"
        ),
    ):
        recipe_sets.load(str(small_set))


@pytest.fixture
def claimed(small_set, monkeypatch):
    """The set with a claim, over three seeds, in the folder of the sets."""
    small_set.write_text(small_set.read_text().replace("[1, 2]", "[1, 2, 3]") + CLAIMED)
    monkeypatch.setattr(paths, "COMPARISONS_FOLDER", small_set.parent)
    return small_set


EQUAL = {"0 % zeros": (1.0,) * 3, "80 % zeros": (1.0,) * 3}
CLOSE_AND_FAR = {"0 % zeros": (1.01,) * 3, "80 % zeros": (1.2,) * 3}
UNSURE = {"0 % zeros": (1.01,) * 3, "80 % zeros": (0.9, 1.0, 1.3)}


def save_records(arm: str, factor: dict[str, tuple[float, ...]], heavy: float = 1e6) -> None:
    """Records of an arm of "warm" as if trained: `factor` is its errors at each seed, as a multiple
    of those of the first arm.
    """
    made = recipe_sets.load("warm")
    chosen = next(a for a in made.arms if a.name == arm)
    for seed in (1, 2, 3):
        sizes = {}
        for size, shares in factor.items():
            noise = np.random.default_rng(seed).integers(-2, 3, 40)
            errors = [round(shares[seed - 1] * (30 + n)) for n in noise]
            speakers = {f"p{i}": [5.0, 50.0, e, 100.0] for i, e in enumerate(errors)}
            sizes[size] = {"file_bytes": heavy, "speakers": speakers}
        record = {
            "arm": arm,
            "seed": seed,
            "run": "x",
            "sizes": sizes,
            "split": "t",
            "seconds": 60.0 * seed,
            "measure": made.measured(chosen),
            "recipe": as_dict(made.recipe_of(chosen, seed)),
            "prepared": "p",
        }
        arm_records.save("warm", record)


def verdicts() -> list[str]:
    return [row["verdict"] for row in claims.rows()]


@pytest.mark.slow
def test_claims_stand_or_fall_with_the_arms_records(claimed):
    assert [(r["size"], r["verdict"], r["p"]) for r in claims.rows()] == [
        (f"{s} % zeros", "not run yet", None) for s in (0, 80)
    ]
    save_records("none", EQUAL)
    save_records("half", CLOSE_AND_FAR)
    good, bad = claims.rows()
    assert (good["verdict"], bad["verdict"]) == ("confirmed", "refuted")
    assert good["minutes"] == [2.0, 2.0]
    assert good["relative"] < 0.03
    assert good["low"] <= good["relative"] <= good["high"]
    assert bad["relative"] == pytest.approx(0.2, abs=0.03)
    assert len(bad["seeds"]) == 3
    assert bad["seeds"][0][0] > bad["seeds"][0][1]
    assert good["margin"] == bad["margin"] == 0.03, "the page draws it"
    claims_page.write()
    page = (paths.COMPARED / "CLAIMS.md").read_text()
    assert "| confirmed |" in page
    assert "| refuted |" in page
    assert json.loads((paths.COMPARED / paths.CLAIMS).read_text()) == [good, bad]
    save_records("half", UNSURE)
    assert verdicts()[1] == "undecided"
    claimed.write_text(
        claimed.read_text().replace('"method.warmup" = 0.5', '"method.warmup" = 0.4')
    )
    assert verdicts() == ["not run yet"] * 2, "what was measured was another training"


@pytest.mark.slow
def test_on_par_is_fair_only_with_as_few_bytes(claimed):
    save_records("none", EQUAL)
    save_records("half", CLOSE_AND_FAR, heavy=1.1e6)
    assert verdicts() == ["undecided", "refuted"], "on par with more bytes is not on par"
    for path in (paths.COMPARED / "warm").glob("half-*.json"):
        # its other size is lighter, and as good as the other arm's heavier one
        record = json.loads(path.read_text())
        record["sizes"]["80 % zeros"] = record["sizes"]["0 % zeros"] | {"file_bytes": 0.9e6}
        path.write_text(json.dumps(record))
    lighter = claims.rows()[0]
    assert lighter["size"] == "0 % zeros (the arm's 80 % zeros)"
    assert lighter["verdict"] == "confirmed"
    assert lighter["megabytes"] == [0.9, 1.0]


@pytest.mark.slow
def test_a_larger_set_decides_the_claims_of_a_smaller_one(claimed):
    save_records("none", EQUAL)
    save_records("half", UNSURE)
    alone = [r["p"] for r in claims.rows()]
    larger = claimed.with_name("larger.toml")
    larger.write_text('extends = "warm"\ninstead_of = "warm"\n')
    nothing_run = {("warm", False), ("larger", False)}
    assert {(r["set"], r["smaller"]) for r in claims.rows()} == nothing_run
    assert "It decides the claims of `warm`" in arms_page.text(recipe_sets.load("larger"))
    for arm, seed in itertools.product(("none", "half"), (1, 2, 3)):
        arm_records.save("larger", arm_records.load("warm", arm, seed))
    assert {(r["set"], r["smaller"]) for r in claims.rows()} == {("warm", True), ("larger", False)}
    for name in ("warm", "larger"):
        assert [r["p"] for r in claims.rows() if r["set"] == name] == alone, (
            "each table has its own correction"
        )
    main, smaller = claims_page.text(claims.rows()).split(
        "## The same claims from smaller trainings"
    )
    assert main.count("[larger](larger.md)") == 2
    assert smaller.count("[warm](warm.md)") == 2
    assert "[warm]" not in main
    larger.write_text('extends = "warm"\ninstead_of = "larger"\n')
    with pytest.raises(
        ValueError, match="no recipe set whose claims .*larger.toml may decide called 'larger'"
    ):
        claims.rows()


def test_one_verdict_for_every_size_is_the_least_sure_one():
    def row(size: str, p: float | None, holds: bool, unequal: bool = False) -> dict:
        return {"size": size, "p": p, "holds": holds, "unequal": unequal, "verdict": "not run yet"}

    def told(*rows: dict) -> tuple:
        made = claims._every(list(rows))
        return made["size"], made["p"], made["holds"], made["unequal"]

    sure, less = row("a", 0.001, True), row("b", 0.02, True)
    assert told(sure, less) == (
        "2 of 2 sizes, shown: b",
        0.02,
        True,
        False,
    ), "it holds at each: the largest p"
    assert told(sure, less, row("c", 0.004, False)) == (
        "3 of 3 sizes, shown: c",
        0.012,
        False,
        False,
    ), "one size refutes, times 3"
    assert told(sure, row("c", 0.8, False))[1] == 1.0
    heavy, light = row("c", 0.03, True, unequal=True), row("d", 0.01, False, unequal=True)
    assert told(sure, less, heavy) == (
        "2 of 3 sizes, shown: b",
        0.02,
        True,
        False,
    ), "ahead by more bytes: says nothing"
    assert told(heavy) == ("1 of 1 sizes, shown: c", 0.03, True, True), "nothing fair: undecided"
    assert told(sure, less, light) == (
        "3 of 3 sizes, shown: d",
        0.01,
        False,
        True,
    ), "behind with fewer bytes: undecided"
    assert told(sure, less, row("c", None, False))[0] == "2 of 3 sizes, shown: b", (
        "a size that one of the two cannot have"
    )
    assert told(row("a", None, False), row("b", None, False))[:2] == ("all 2 sizes", None)


def test_one_verdict_for_every_size_is_asked_for_in_the_set(small_set, monkeypatch):
    small_set.write_text(small_set.read_text() + CLAIMED + "every = true\n")
    monkeypatch.setattr(paths, "COMPARISONS_FOLDER", small_set.parent)
    assert [r["size"] for r in claims.rows()] == ["all 2 sizes"]
    for old, new in (("every = true", "every = 1"), ('"on par"', '"kept most"')):
        other = small_set.with_name("other.toml")
        other.write_text(small_set.read_text().replace(old, new))
        with pytest.raises(ValueError, match="every: expected true"):
            recipe_sets.load(str(other))


@pytest.mark.slow
def test_other_splits_are_measured_when_the_set_says_so(small_set):
    text = (
        small_set.read_text()
        .replace("seeds = [1, 2]", "seeds = [1]")
        .replace("seconds = 8.0", 'seconds = 8.0\nsplits = ["test"]')
    )
    small_set.write_text(text)
    compare.run(recipe_sets.load(str(small_set)), go)
    record = arm_records.load("warm", "none", 1)
    assert (
        record["split"] == "test"
        and record["measure"]["splits"] == ["test"]
        and record["training_tmacs"] > 0
    )
    by_hand = (
        3
        * 3
        * record["audio_hours"]
        * 3600
        * record["sizes"]["0 % zeros"]["mmacs_per_second"]
        / 1e6
    )
    assert record["training_tmacs"] == pytest.approx(by_hand, rel=0.01), (
        "three passes, all of the whole net"
    )


def test_a_claim_about_a_size_that_an_arm_does_not_have_is_said(small_set):
    small_set.write_text(small_set.read_text() + CLAIMED.replace('"80 % zeros"', '"80% zeros"'))
    with pytest.raises(
        ValueError,
        match="claim '9' is about '80% zeros', but arm 'none' is measured at 0 % zeros, 80 % zeros",
    ):
        recipe_sets.load(str(small_set))


@pytest.mark.slow
def test_pages_are_written_anew_from_records_alone(small_set, monkeypatch, capsys):
    monkeypatch.setattr(paths, "COMPARISONS_FOLDER", small_set.parent)
    small_set.write_text(small_set.read_text().replace("seeds = [1, 2]", "seeds = [1]"))
    page = compare.run(recipe_sets.load("warm"), go)
    told = page.read_text()
    assert "One seed: no claim." in told
    for seed, arm in ((1, "none"), (1, "half")):  # as if they had begun elsewhere
        found = arm_records.load("warm", arm, seed)
        arm_records.save("warm", found | {"recipe": found["recipe"] | {"init_from": "elsewhere"}})
    page.unlink()  # records that another machine made come without it
    monkeypatch.setattr(pipelines_train, "train", lambda *_: pytest.fail("nothing is trained"))
    assert cli.main(["compare", "--pages"]) == 0
    assert page.read_text() == told.replace(
        "core compare warm", "core compare warm --set init_from=elsewhere"
    ).replace("started from `random weights`", "started from `elsewhere`")
    assert cli.main(["compare"]) != 0 and "needs a recipe set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_whose_start_is_not_here_counts_when_all_of_it_is_recorded(
    small_set, monkeypatch
):
    small_set.write_text(small_set.read_text().replace("seeds = [1, 2]", "seeds = [1]"))
    page = compare.run(recipe_sets.load(str(small_set)), go)
    for arm in ("none", "half"):
        found = arm_records.load("warm", arm, 1)
        arm_records.save("warm", found | {"recipe": found["recipe"] | {"init_from": "elsewhere"}})
    page.unlink()
    monkeypatch.setattr(pipelines_train, "train", lambda *_: pytest.fail("nothing is trained"))
    assert (
        "started from `elsewhere`"
        in compare.run(recipe_sets.load(str(small_set), ["init_from=elsewhere"]), go).read_text()
    )
    for wrong in (["init_from=another"], ["init_from=elsewhere", "seed=1", "training.updates=3"]):
        with pytest.raises(ValueError, match="there is no run called"):
            compare.run(recipe_sets.load(str(small_set), wrong), go)
    arm_records.file("warm", "half", 1).unlink()
    with pytest.raises(ValueError, match="there is no run called 'elsewhere'"):
        compare.run(recipe_sets.load(str(small_set), ["init_from=elsewhere"]), go)


def test_a_set_may_extend_another_but_not_itself(small_set, monkeypatch):
    monkeypatch.setattr(paths, "COMPARISONS_FOLDER", small_set.parent)
    base, child = recipe_sets.load("warm"), small_set.with_name("child.toml")
    child.write_text(
        'extends = "warm"\ntitle = "Other"\nseeds = [7]\nclaims = []\n'
        '[common]\n"training.updates" = 3\n[measure]\nseconds = 2.0\n'
    )
    made = recipe_sets.load("child")
    assert (made.name, made.title, made.seeds, made.arms, made.claims) == (
        "child",
        "Other",
        (7,),
        base.arms,
        (),
    )
    assert made.measure.seconds == 2.0 and made.measure.sparsities == base.measure.sparsities
    assert (
        made.recipe.training == base.recipe.training | {"updates": 3}
        and made.recipe.corpus == base.recipe.corpus
    )
    small_set.with_name("third.toml").write_text('extends = "child"\n')
    child.write_text('extends = "warm"\ninstead_of = "warm"\n')
    assert (recipe_sets.load("child").instead_of, recipe_sets.load("third").instead_of) == (
        "warm",
        "",
    ), "only the set that says so"
    child.write_text('without = ["half"]\n' + small_set.read_text())
    with pytest.raises(ValueError, match="extends, which names that set, is missing"):
        recipe_sets.load("child")
    child.write_text('extends = "warm"\ntuning = ["none"]\n')
    with pytest.raises(
        ValueError, match="no recipe set that may have tuned .*child.toml called 'none'"
    ):
        recipe_sets.load("child")
    small_set.with_name("third.toml").unlink()
    child.write_text('extends = "warm"\nwithout = ["half"]\n')
    with pytest.raises(ValueError, match="expected two or more"):
        recipe_sets.load("child")
    child.write_text('extends = "warm"\nwithout = ["halves"]\n')
    with pytest.raises(
        ValueError, match="no arm of warm that .*child.toml may leave out called 'halves'"
    ):
        recipe_sets.load("child")
    for other in ('"child"', '"none"', "3"):
        child.write_text(f"extends = {other}\n")
        with pytest.raises(
            ValueError, match="there is no recipe set that .*child.toml may extend called"
        ):
            recipe_sets.load("child")
    child.write_text('extends = "warm"\n')
    small_set.write_text('extends = "child"\n' + small_set.read_text())
    with pytest.raises(ValueError, match="may extend called 'child'|may extend called 'warm'"):
        recipe_sets.load("warm")


def test_settings_may_be_tables(small_set):
    common = '[common]\n"training.shares" = { tiny = 0.5, other = 0.25 }\n[measure]'
    small_set.write_text(small_set.read_text().replace("[measure]", common, 1))
    assert recipe_sets.load(str(small_set)).recipe.training["shares"] == {
        "tiny": 0.5,
        "other": 0.25,
    }
