"""Plug-ins are found by scanning, and wrong names and options are refused with words that help."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from core import paths
from core.records import option
from core.registry import plugins


@dataclass(frozen=True)
class Options:
    layers: int = option(8, "blocks", low=1, high=16)
    rate: float = option(0.1, "rate", low=0.0)
    kind: str = option("fast", "kind", choices=("fast", "slow"))
    chunks: tuple[int, ...] = option((160, 320), "chunks", unit="ms", low=0)
    limit: float | None = option(None, "limit", high=5)
    weights: dict[str, float] = option({}, "weights")
    on: bool = option(True, "switch")


def test_names_are_the_files_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CORE", tmp_path)
    (tmp_path / "methods").mkdir()
    for name in ("dense", "base", "__init__", "_helper", "sparse"):
        (tmp_path / "methods" / f"{name}.py").write_text("")
    assert plugins.names("methods") == ["dense", "sparse"]
    assert plugins.names("nothing_here") == []


def test_a_real_plugin_is_loaded():
    assert plugins.load("runners", "local").VERSION >= 1


def test_unknown_plugin_lists_what_exists_and_guesses():
    with pytest.raises(ValueError, match="'locla'.*did you mean 'local'.*there are: .*local"):
        plugins.load("runners", "locla")


def test_right_options_become_an_instance_of_the_right_types():
    made = plugins.make_options(
        Options,
        {
            "layers": 4,
            "rate": 1,
            "chunks": [640],
            "limit": 2,
            "weights": {"a": 1},
            "on": False,
            "kind": "slow",
        },
        "model.options",
    )
    assert made == Options(4, 1.0, "slow", (640,), 2.0, {"a": 1.0}, False)
    assert isinstance(made.rate, float) and isinstance(made.weights["a"], float)
    assert plugins.make_options(Options, {"limit": None}, "m") == Options()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layres": 4}, ["model.options", "'layres'", "did you mean 'layers'", "allowed are"]),
        ({"layers": 4.5}, ["model.options.layers", "int", "4.5"]),
        ({"layers": True}, ["model.options.layers", "int", "True"]),
        ({"layers": 17}, ["model.options.layers", "from 1 to 16", "17"]),
        ({"rate": -0.5}, ["model.options.rate", "at least 0", "-0.5"]),
        ({"rate": float("nan")}, ["model.options.rate", "nan"]),
        ({"rate": "x"}, ["model.options.rate", "float", "'x'"]),
        ({"kind": "fats"}, ["model.options.kind", "'fast', 'slow'", "'fats'"]),
        ({"chunks": [320, -1]}, ["model.options.chunks", "at least 0", "-1"]),
        ({"chunks": ["a"]}, ["model.options.chunks", "tuple[int, ...]"]),
        ({"limit": 6}, ["model.options.limit", "at most 5", "6"]),
        ({"weights": {"a": "b"}}, ["model.options.weights", "dict[str, float]"]),
        ({"on": 1}, ["model.options.on", "bool", "1"]),
        (["layers"], ["model.options", "table"]),
    ],
)
def test_wrong_options_are_refused_by_name(given, words):
    with pytest.raises(ValueError) as error:
        plugins.make_options(Options, given, "model.options")
    for word in words:
        assert word in str(error.value)


def test_an_error_lists_some_of_hundreds_of_names():
    with pytest.raises(ValueError) as told:
        plugins.check_name("run-7x", [f"run-{n}" for n in range(300)], "run")
    assert "did you mean 'run-7" in str(
        told.value
    ) and "run-19 and 280 more (python -m core list)" in str(told.value)
    assert "run-20," not in str(told.value)


def test_near_names_are_at_most_five():
    runs = [f"dense-{n:08x}" for n in range(100)]
    with pytest.raises(ValueError, match="all: python -m core list$") as told:
        plugins.check_name("dense-0000001", runs, "run", "python -m core list")
    assert str(told.value).count("dense-000000") == 6
    with pytest.raises(ValueError, match="called 'x'; near names: none; all: "):
        plugins.check_name("x", runs, "run", "python -m core list")


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("int", 10**6000, "expected a number from 0 to 2147483647, got a number of over 40"),
        ("int", 2**31, "expected a number from 0 to 2147483647, got 2147483648"),
        (
            "int",
            "9" * 6000,
            "expected int, got '9{199}… .str.; allowed are numbers from 0 to 2147483647",
        ),
        ("float", 10**400, "expected float, got a number of over 40 digits"),
    ],
    ids=range(4),
)
def test_numbers_without_end_are_refused_and_shown_cut(kind, value, words):
    with pytest.raises(ValueError, match=f"^seed: {words}"):
        plugins.check_value("seed", kind, value, 0, 2**31 - 1)
