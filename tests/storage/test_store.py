"""Runs on disk: written in one step, read back equal, damaged ones named and never a traceback for
the pages.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import threading

import numpy as np
import pytest
from safetensors.numpy import save

from core import paths
from core.common import writing
from core.records import (
    Choice,
    FixedTensor,
    ModelSpec,
    PrunableMatrix,
    Recipe,
    Report,
    Subnet,
    as_dict,
)
from core.registry import recipes
from core.storage import metrics, store

ANATOMY = ModelSpec(
    "m",
    40.0,
    0.0,
    2560.0,
    (PrunableMatrix("blocks.0.a", "attention", 0, "blocks.0.attention", 16, 8),),
    (FixedTensor("head", 10, 1.0),),
)
RECIPE = Recipe(Choice("voice_commands"), Choice("conformer_ctc"), Choice("dense"), title="A title")


def report(run: str, **changes) -> Report:
    values = {
        f.name: {"str": "x", "int": 1, "float": 0.5}.get(f.type) for f in dataclasses.fields(Report)
    }
    values |= {
        "run": run,
        "subnet": "s70",
        "split": "librispeech/test-clean",
        "chunk_ms": 320.0,
        "decoder": "greedy",
        "language_model": "none",
        "engine": "torch",
    }
    return Report(**values | changes)


@pytest.fixture(autouse=True)
def no_released(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RELEASED", tmp_path / "released")


def make_run(name="dense-00000001", parent=None, finished=True):
    folder = (parent or paths.runs()) / name
    writing.write_json(folder / paths.RECIPE, as_dict(RECIPE))
    writing.write_json(folder / paths.UNITS, as_dict(ANATOMY))
    if finished:
        store.finish(folder, {"seconds": np.float32(1.5)})
    return folder


def test_a_run_is_read_back_as_it_was_written():
    folder = make_run()
    subnets = [
        Subnet("s70", folder.name, {"blocks.0.a": 0.3}, 0.7),
        Subnet("dense", folder.name, {}, 0.0),
    ]
    for s in subnets:
        store.save_subnet(folder, s)
    rows = [
        {
            "id": "ü",
            "hypothesis": "a b",
            "insertions": 0,
            "deletions": 1,
            "substitutions": 0,
            "words": 3,
        }
    ]
    store.save_report(folder, report(folder.name), rows)
    ranks = np.arange(16, dtype=np.uint32).reshape(2, 8)
    writing.write_bytes(paths.ranks_file(folder), save({"blocks.0.a": ranks}))
    writing.write_bytes(paths.ranks_file(folder, 100), save({"blocks.0.a": ranks}))
    writing.write_bytes(paths.ranks_file(folder, 20), save({"blocks.0.a": ranks}))
    for run in (folder, folder.name):
        assert store.recipe(run) == RECIPE and store.spec(run) == ANATOMY
        assert store.subnets(run) == subnets[::-1] and store.subnet(run, "s70") == subnets[0]
        assert store.reports(run) == [report(folder.name)]
        assert store.hypotheses(run, "s70", "librispeech/test-clean", 320) == rows
        assert store.rank_steps(run) == [20, 100] and len(store.ranks_sha256(run)) == 64
        assert np.array_equal(store.ranks(run, 20)["blocks.0.a"], ranks)
        assert store.ranks(run)["blocks.0.a"].dtype == np.uint32
    (info,) = store.runs()
    assert (info.id, info.finished, info.released, info.title, info.broken) == (
        folder.name,
        True,
        False,
        "A title",
        "",
    )


def test_released_runs_come_first_and_wherever_the_artifacts_are():
    make_run("b-00000001", paths.RELEASED)
    make_run("a-00000001")
    (paths.RELEASED / "screenshots").mkdir()
    (paths.runs() / "job-1.log").write_text("no run")
    assert [(r.id, r.released) for r in store.runs()] == [
        ("b-00000001", True),
        ("a-00000001", False),
    ]
    assert store.run_folder("b-00000001").parent == paths.RELEASED


@pytest.mark.parametrize("run", ["../runs/a-00000001", "", ".", "/etc", "a-00000002"])
def test_an_unknown_run_lists_what_exists(run):
    make_run("a-00000001")
    with pytest.raises(ValueError, match="near names: a-00000001; all: python -m core list"):
        store.run_folder(run)


@pytest.mark.parametrize("file", [paths.RECIPE, paths.UNITS, paths.FINISHED])
@pytest.mark.parametrize("damage", ["half", "missing", "list", "bytes"])
def test_a_damaged_run_is_listed_unfinished_with_its_reason(file, damage):
    folder = make_run()
    path = folder / file
    if damage == "missing":
        path.unlink()
    else:
        text = path.read_bytes()
        path.write_bytes(
            {"half": text[: len(text) // 2], "list": b"[1]", "bytes": b"\xff\xfe"}[damage]
        )
    (info,) = store.runs()
    assert not info.finished
    assert (file, damage) == (paths.FINISHED, "missing") or str(path) in info.broken


def test_what_is_damaged_inside_a_run_is_said_as_value_error():
    folder = make_run()
    store.save_subnet(folder, Subnet("s70", folder.name, {}, 0.7))
    store.save_report(folder, report(folder.name), [{"id": "a"}])
    for path in (paths.subnet_file(folder, "s70"), *(folder / paths.REPORTS).iterdir()):
        path.write_bytes(path.read_bytes()[:9])
    paths.ranks_file(folder).parent.mkdir()
    paths.ranks_file(folder).write_bytes(b"torn")
    for read in (
        lambda: store.subnets(folder),
        lambda: store.reports(folder),
        lambda: store.ranks(folder),
        lambda: store.hypotheses(folder, "s70", "librispeech/test-clean", 320),
    ):
        with pytest.raises(ValueError, match=str(folder)):
            read()
    with pytest.raises(ValueError, match="cannot be read"):
        store.ranks(folder, 7)
    with pytest.raises(ValueError, match="did you mean 's70'"):
        store.subnet(folder, "s7")
    with pytest.raises(ValueError, match="subnet name"):
        store.save_subnet(folder, Subnet("../x", folder.name, {}, 0.7))


def test_what_is_added_to_a_released_run_is_kept_apart_and_read_with_it():
    folder = make_run("b-00000001", paths.RELEASED)
    shipped = [
        Subnet("dense", folder.name, {}, 0.0),
        Subnet("s7", folder.name, {}, 0.07),
        Subnet("s70", folder.name, {}, 0.7),
    ]
    for subnet in shipped:  # as a release writes it
        writing.write_json(paths.subnet_file(folder, subnet.name), as_dict(subnet))
        told = report(folder.name, subnet=subnet.name)
        writing.write_json(paths.report_file(folder, told.subnet, told.split, 320), as_dict(told))
        writing.write_lines(
            paths.hypotheses_file(folder, told.subnet, told.split, 320), [{"id": "shipped"}]
        )
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    new = Subnet("s65-between", folder.name, {"blocks.0.a": 0.35}, 0.65)
    store.save_subnet(folder.name, new)
    store.save_report(folder.name, report(folder.name, subnet=new.name), [{"id": "own"}])
    assert [s.name for s in store.subnets(folder.name)] == ["dense", "s7", "s65-between", "s70"]
    assert (
        store.subnet(folder.name, new.name) == new
        and store.subnets(folder.name, added=False) == shipped
    )
    assert {r.subnet for r in store.reports(folder.name)} == {"dense", "s7", "s65-between", "s70"}
    assert {r.subnet for r in store.reports(folder.name, added=False)} == {"dense", "s7", "s70"}
    assert store.hypotheses(folder.name, new.name, "librispeech/test-clean", 320) == [{"id": "own"}]

    store.save_subnet(folder.name, shipped[2])  # equal: nothing is written
    assert not paths.subnet_file(store.own_part(folder), "s70").exists()
    other = dataclasses.replace(shipped[1], keep={"blocks.0.a": 0.9})
    store.save_subnet(folder.name, other)
    store.save_subnet(folder.name, shipped[1])  # as it shipped, again: its reports count again
    assert {r.subnet for r in store.reports(folder.name)} == {"dense", "s7", "s65-between", "s70"}
    store.save_subnet(folder.name, other)
    assert {r.subnet for r in store.reports(folder.name)} == {
        "dense",
        "s65-between",
        "s70",
    }  # of s7 another file was measured
    with pytest.raises(ValueError, match="cannot be read"):
        store.hypotheses(folder.name, "s7", "librispeech/test-clean", 320)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    writing.write_bytes(
        paths.ranks_file(folder), b"other weights"
    )  # another release under the same name
    assert store.subnets(folder.name) == shipped and {
        r.subnet for r in store.reports(folder.name)
    } == {"dense", "s7", "s70"}
    assert [(r.id, r.released) for r in store.runs()] == [("b-00000001", True)]


def test_metrics_tolerate_a_torn_last_line_and_heal_it():
    folder = make_run()
    assert metrics.metrics(folder) == []
    for step in (1, 2, 3):
        metrics.append_metrics(folder, {"step": step, "loss": np.float32(0.5)})
    path = folder / paths.METRICS
    path.write_bytes(path.read_bytes()[:-5])
    assert [r["step"] for r in metrics.metrics(folder)] == [1, 2]
    metrics.append_metrics(folder, {"step": 4})
    assert [r["step"] for r in metrics.metrics(folder)] == [1, 2, 4]
    metrics.truncate_metrics(folder, 2)
    assert [r["step"] for r in metrics.metrics(folder)] == [1, 2]
    path.write_bytes(b"{torn\n" + path.read_bytes())
    with pytest.raises(ValueError, match="line 1"):
        metrics.metrics(folder)


@pytest.mark.slow
def test_a_reader_never_sees_half_a_file(tmp_path):
    path, stop = tmp_path / "x.json", threading.Event()
    writing.write_json(path, [0] * 20000)

    def write():
        for i in range(30):
            writing.write_json(path, [i] * 20000)
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not stop.is_set():
        assert len(json.loads(path.read_bytes())) == 20000
    thread.join()
    assert list(tmp_path.iterdir()) == [path]  # nothing was left aside


def test_a_failed_write_leaves_the_old_file(tmp_path):
    writing.write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        writing.write_json(tmp_path / "x.json", object())
    assert json.loads((tmp_path / "x.json").read_text()) == 1


# recipes


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    """A small house of plug-ins to write recipes for."""
    core = tmp_path / "house"
    plugin = '"""T."""\nVERSION = 1\nclass Options:\n    {}\n'
    for place, line in (
        ("corpora/tiny", 'hours: float = option(1.0, "h", low=0)'),
        ("models/net", 'layers: int = option(8, "n", low=1, high=16)'),
        ("methods/dense", "pass"),
        ("methods/omni_sparsity", 'sparsest: float = option(0.9, "s")'),
        ("training/options", 'minutes: float = option(5.0, "m", low=0)'),
    ):
        path = core / f"{place}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plugin.format(line))
    monkeypatch.setattr(paths, "CORE", core)
    monkeypatch.setattr(paths, "RECIPES", core / "recipes")
    (core / "recipes").mkdir()
    return core


TOML = """title = "T"
seed = 2
[corpus]
name = "tiny"
[corpus.options]
hours = 3
[model]
name = "net"
[method]
name = "omni_sparsity"
[method.options]
sparsest = 0.95
[training]
minutes = 1
"""


def test_a_recipe_is_read_by_name_and_by_path(rooms):
    (rooms / "recipes" / "small.toml").write_text(TOML)
    recipe = recipes.load_recipe("small")
    assert recipe == recipes.load_recipe(rooms / "recipes" / "small.toml")
    assert recipe.method == Choice("omni_sparsity", {"sparsest": 0.95}) and recipe.seed == 2
    writing.write_json(rooms / "recipe.json", as_dict(recipe))
    assert (
        recipes.load_recipe(rooms / "recipe.json") == recipe == recipes.recipe_from(as_dict(recipe))
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 2", "sede = 2", "unknown option 'sede'.*did you mean 'seed'"),
        ("seed = 2", 'seed = "2"', "seed: expected int, got '2'"),
        ('name = "tiny"', 'name = "tyni"', "corpus .*'tyni'.*did you mean 'tiny'"),
        ('name = "tiny"', 'nam = "tiny"', r"corpus: expected a table \[corpus\] with name"),
        ("hours = 3", "hours = -3", "corpus.options.hours: expected a number at least 0, got -3"),
        ("hours = 3", "huors = 3", "corpus.options: unknown option 'huors'"),
        ("minutes = 1", "minute = 1", "training: unknown option 'minute'.*did you mean 'minutes'"),
        ("minutes = 1", 'minutes = "1"', "training.minutes: expected float"),
        ("[corpus]", "[corpus", "damaged"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_file_and_field(rooms, old, new, words):
    path = rooms / "recipes" / "small.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(ValueError, match=words) as error:
        recipes.load_recipe("small")
    assert str(path) in str(error.value)


def test_a_missing_recipe_lists_what_exists(rooms):
    (rooms / "recipes" / "small.toml").write_text(TOML)
    for source in ("smal", "elsewhere/small.toml"):
        with pytest.raises(ValueError, match="small"):
            recipes.load_recipe(source)


def test_settings_change_a_recipe(rooms):
    (rooms / "recipes" / "small.toml").write_text(TOML)
    recipe = recipes.load_recipe("small")
    changed = recipes.override(
        recipe, ["training.minutes=0.5", "seed=3", "corpus.hours=9", "method=dense", "title=a b"]
    )
    assert (changed.training, changed.seed, changed.title) == ({"minutes": 0.5}, 3, "a b")
    assert changed.method == Choice("dense") and changed.corpus.options == {"hours": 9}
    assert recipe.training == {"minutes": 1}
    for setting, words in (
        ("training.minutse=1", "minutes"),
        ("trainin.minutes=1", "tables are"),
        ("seed", "tables are"),
        ("training=1", "which option"),
    ):
        with pytest.raises(ValueError, match=words):
            recipes.override(recipe, [setting])


def test_run_ids_are_pinned(rooms):
    """Golden: a changed id would orphan stored runs and restart trainings."""
    recipe = Recipe(
        Choice("tiny", {"hours": 3}),
        Choice("net"),
        Choice("omni_sparsity", {"sparsest": 0.95}),
        seed=2,
    )
    assert (
        recipes.recipe_id(recipe, "p", {"methods/omni_sparsity": 1})
        == "omni_sparsity-sparsest0.95-seed2-3110b792"
    )
    assert (
        recipes.recipe_id(Recipe(Choice("tiny"), Choice("net"), Choice("dense")), "p", {})
        == "dense-7306de4d"
    )


def test_every_field_but_the_title_changes_the_id(rooms):
    base = Recipe(Choice("tiny"), Choice("net"), Choice("dense"))
    ids = {
        recipes.recipe_id(base, data, {"a": version})
        for data, version in (("p", 1), ("q", 1), ("p", 2))
    }
    for field in dataclasses.fields(Recipe):
        value = getattr(base, field.name)
        other = (
            Choice(value.name, {"x": 1})
            if isinstance(value, Choice)
            else (
                {"x": 1}
                if isinstance(value, dict)
                else value + 2
                if isinstance(value, int)
                else "other"
            )
        )
        ids.add(recipes.recipe_id(dataclasses.replace(base, **{field.name: other}), "p", {"a": 1}))
    assert len(ids) == 3 + len(dataclasses.fields(Recipe)) - 1
    assert all(store.SAFE.fullmatch(i) for i in ids)
    same = [dataclasses.replace(base, training={"batch_seconds": value}) for value in (40, 40.0)]
    assert (
        len({recipes.recipe_id(r, "p", {}) for r in same})
        == 1
        < len({recipes.recipe_id(r, "p", {}) for r in (*same, base)})
    )


def _id(_):
    return recipes.recipe_id(
        Recipe(Choice("tiny"), Choice("net"), Choice("dense")), "p", {"b": 1, "a": 2}
    )


@pytest.mark.slow
def test_ids_are_the_same_in_another_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_id, [0]) == [_id(0)]


def test_a_library_that_cannot_write_is_an_os_error_with_its_path(tmp_path):
    for text, number in (
        ("System error", errno.EIO),
        ("I/O error: No space left on device", errno.ENOSPC),
    ):
        with (
            pytest.raises(OSError, match="cannot be written") as caught,
            writing.os_errors(tmp_path / "a.flac", KeyError),
        ):
            raise KeyError(text)
        assert (caught.value.filename, caught.value.errno) == (str(tmp_path / "a.flac"), number)
    with pytest.raises(ZeroDivisionError), writing.os_errors(tmp_path / "a", KeyError):
        raise ZeroDivisionError


def test_reports_of_two_decoders_stand_side_by_side():
    folder = make_run()
    store.save_subnet(folder, Subnet("s70", folder.name, {"blocks.0.a": 0.3}, 0.7))
    for decoder in ("greedy", "modified_beam_search"):
        store.save_report(folder, report(folder.name, decoder=decoder), [{"id": decoder}])
    assert {r.decoder for r in store.reports(folder)} == {"greedy", "modified_beam_search"}
    assert store.hypotheses(
        folder, "s70", "librispeech/test-clean", 320, "modified_beam_search"
    ) == [{"id": "modified_beam_search"}]
    assert store.hypotheses(folder, "s70", "librispeech/test-clean", 320) == [{"id": "greedy"}]
