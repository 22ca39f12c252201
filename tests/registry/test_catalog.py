"""Cards say what the source says, agree with the real classes, and one broken file hides no
other.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

from core import paths
from core.registry import catalog, plugins

GOOD = '''"""A title line.

More words."""
from dataclasses import dataclass
from core.records import option
raise RuntimeError("a card is read without running the file")
VERSION = 3

@dataclass(frozen=True)
class Options:
    hours: float = option(2.0, "how many", unit="h", low=-1, high=10)
    kind: str = option("a", "which", choices=("a", "b"))
    limit: "int | None" = option(None, help="most")
'''


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CORE", tmp_path)
    (tmp_path / "methods").mkdir()
    return tmp_path / "methods"


def test_a_card_is_read_from_the_source(room):
    (room / "good.py").write_text(GOOD)
    card = catalog.card("methods", "good")
    assert (card.title, card.version, card.broken, card.room) == ("A title line.", 3, "", "methods")
    hours, kind, limit = card.options
    assert (hours.name, hours.type, hours.default, hours.unit) == ("hours", "float", 2.0, "h")
    assert (hours.low, hours.high) == (-1, 10)
    assert (kind.choices, limit.type, limit.default, limit.help) == (
        ("a", "b"),
        "int | None",
        None,
        "most",
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class Options(\n", "line 1"),
        ('"""Title."""\n', "VERSION"),
        (GOOD.replace("option(2.0,", "option(DEFAULT,"), "DEFAULT"),
        (GOOD.replace('option(2.0, "how many", unit="h", low=-1, high=10)', "2.0"), "hours"),
        (GOOD.replace("VERSION = 3", "VERSION = 'x'"), "VERSION"),
        (GOOD.replace('"how many", unit', '"how many", unti'), "unti"),
    ],
)
def test_a_broken_file_is_listed_with_its_reason_beside_the_others(room, source, reason):
    (room / "bad.py").write_text(source)
    (room / "good.py").write_text(GOOD)
    bad, good = catalog.cards("methods")
    assert reason in bad.broken and good.broken == ""
    with pytest.raises(ValueError, match="bad.py is broken"):
        catalog.check(bad, {"hours": 1}, "method.options")


def test_check_refuses_what_the_options_refuse(room):
    (room / "good.py").write_text(GOOD)
    card = catalog.card("methods", "good")
    catalog.check(card, {"hours": 1, "kind": "b"}, "method.options")
    for given, words in (
        ({"huors": 1}, "did you mean 'hours'"),
        ({"hours": 11}, "method.options.hours.*from -1 to"),
    ):
        with pytest.raises(ValueError, match=words):
            catalog.check(card, given, "method.options")


def test_unknown_room_and_card_list_what_exists():
    with pytest.raises(ValueError, match="'metods'.*methods"):
        catalog.cards("metods")
    with pytest.raises(ValueError, match="runners plug-in called 'x'.*local"):
        catalog.card("runners", "x")


ALL = [(room, c.name) for room in catalog.ROOMS for c in catalog.cards(room)]


@pytest.mark.parametrize(("room", "name"), ALL)
def test_every_card_equals_its_class(room, name):
    """The contract of all plug-ins: readable, titled, frozen Options whose defaults pass their own
    ranges.
    """
    card = catalog.card(room, name)
    assert card.broken == "" and card.title
    module = importlib.import_module(
        ".".join(Path(card.path).relative_to(paths.ROOT).with_suffix("").parts)
    )
    assert card.version == getattr(module, "VERSION", 1)
    cls = getattr(module, "Options", None)
    if cls is None:
        assert card.options == ()
        return
    assert cls.__dataclass_params__.frozen
    fields, made = dataclasses.fields(cls), cls()
    assert [o.name for o in card.options] == [f.name for f in fields]
    for o, f in zip(card.options, fields):
        default = getattr(made, o.name)
        assert (o.default, o.type) == (
            default,
            f.type if isinstance(f.type, str) else f.type.__name__,
        )
        assert o.help and {
            k: getattr(o, k) for k in ("help", "unit", "low", "high", "choices")
        } == dict(f.metadata)
        plugins.check_value(o.name, o.type, o.default, o.low, o.high, o.choices)
