"""Test sets of a user's own: recordings with what was said in them, measured like any other speech.

A set is a folder of recordings (core/corpora/folder.py says in which forms) and is known by its
name; wherever a split is named it is "yours/NAME".
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from core import paths
from core.common import groups, writing
from core.corpora import base
from core.records import Choice, Utterance

PREFIX = "yours"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
AGAIN = "add it again with `python -m core evaluate RUN --recordings FOLDER`"


@dataclass(frozen=True)
class Content:
    """What a set holds. dropped: the reasons why recordings cannot be used."""

    utterances: int
    seconds: float
    dropped: tuple[str, ...]


def names() -> list[str]:
    """The sets of this machine."""
    return sorted(path.stem for path in paths.test_sets().glob("*.json"))


def split(name: str) -> str:
    return f"{PREFIX}/{name}"


def is_own(name_of_split: str) -> bool:
    return name_of_split.startswith(f"{PREFIX}/")


def named(text: str) -> str:
    """A name for a set, as near to `text` as names can be. ValueError where nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    if not NAME.fullmatch(name) or name in ("train", "search", "dev"):
        raise ValueError(
            f"expected a name of letters and digits for these recordings, got {text!r}; train,"
            " search and dev mean something else"
        )
    return name


def add(name: str, root: Path, owner: str = "") -> Content:
    """Make a folder known as a set, under a name from `named`; the same folder may be added again.
    `owner`: the visitor whose it is. ValueError where nothing in it can be used, or the name is
    another folder's.
    """
    known = _file(name)
    if known.is_file() and Path(_facts(name)["root"]).resolve() != root.resolve():
        raise ValueError(
            f"there is another test set called {name}: choose another name, or remove that one"
        )
    found = _content(_choice(name, root), name)
    writing.write_json(known, {"root": str(root.resolve()), "owner": owner})
    return found


def content(name: str) -> Content:
    """What a set holds today. ValueError for one that is not here or cannot be used."""
    return _content(corpus(split(name)), name)


def remove(name: str) -> None:
    """Forget a set; recordings that were copied for it are deleted, a user's own folder is not.
    What was measured on it stays.
    """
    _file(name).unlink(missing_ok=True)
    shutil.rmtree(copies(name), ignore_errors=True)


def copies(name: str) -> Path:
    """Where the recordings of a set lie that were not in a folder of this machine before."""
    return paths.test_sets() / name


def corpus(own: str) -> Choice:
    """The corpus of an own split. ValueError for a set that is not here."""
    name = own.partition("/")[2]
    if name not in names():
        here = ", ".join(map(split, names())) or "none"
        raise ValueError(f"there is no test set {own} here, only {here}: {AGAIN}")
    return _choice(name, Path(_facts(name)["root"]))


def owner(name: str) -> str:
    """The visitor who uploaded a set, "" for one of the command line."""
    return _facts(name)["owner"]


def _choice(name: str, root: Path) -> Choice:
    part = {"corpus": "folder", "prefix": PREFIX, "options": {"root": str(root), "split": name}}
    return Choice("mixture", {"parts": [part]})


def _content(choice: Choice, name: str) -> Content:
    items = list(base.make(choice).utterances(split(name)))
    good = [item for item in items if isinstance(item, Utterance)]
    dropped = [item for item in items if isinstance(item, base.Dropped)]
    reasons = tuple(groups.lines((item.id, item.reason) for item in dropped))
    if not good:
        raise groups.Several(("none of these recordings can be used", *reasons))
    return Content(len(good), sum(item.seconds for item in good), reasons)


def _file(name: str) -> Path:
    return paths.test_sets() / f"{name}.json"


def _facts(name: str) -> dict[str, str]:
    try:
        facts = json.loads(_file(name).read_text(encoding="utf-8"))
        return {key: str(facts[key]) for key in ("root", "owner")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the test set {name} is damaged ({error}): {AGAIN}") from None
