"""What a job that was queued from a page may read: speech below folders that the operator named,
and no environment variables.

The command line is not confined: there `$VARIABLES` and `~` are the user's own. A confined job
carries its folders in the environment, which every process that it starts inherits.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from core import paths

VARIABLE = "SUPERNET_CONFINED"
SPEECH = re.compile(
    r"^\$(SPEECH_ROOT|\{SPEECH_ROOT\})(?=/|$)"
)  # the one variable that recipes may begin a path with
OUTSIDE = "its audio file lies outside of the folders that this server offers"
ADVICE = "its operator names them as speech_folders in server.toml (dashboard/README.md)"


def confine(payload: dict[str, Any]) -> None:
    """From now on this process reads only what the job of this payload may; nothing changes for
    jobs of the command line.
    """
    if "visitor" in payload:
        os.environ[VARIABLE] = json.dumps([str(folder) for folder in payload.get("folders", [])])


def folders() -> list[Path] | None:
    """The operator's folders, None where everything may be read."""
    given = os.environ.get(VARIABLE)
    return None if given is None else [Path(folder) for folder in json.loads(given)]


def _project_folders() -> list[Path]:
    """Where this project itself keeps speech and language models."""
    return [
        root / name
        for root in (paths.artifacts(), paths.ROOT / "artifacts")
        for name in ("data", "lm", "prepared", "test_sets", "released/language")
    ]


def expanded(path: str) -> str:
    """A path with $VARIABLES and ~ expanded; in a confined job with nothing but $SPEECH_ROOT at its
    beginning.
    """
    if folders() is None:
        return os.path.expanduser(os.path.expandvars(path))
    return SPEECH.sub(lambda match: os.environ.get("SPEECH_ROOT", match.group()), path)


def inside(path: str | Path) -> bool:
    """Whether this process may read there; links count as what they point to."""
    allowed = folders()
    return allowed is None or _below(Path(path), [*allowed, *_project_folders()])


def offered(path: str | Path, allowed: Iterable[Path]) -> bool:
    """Whether a file lies below folders that the operator allows, or the project's own."""
    return _below(Path(path), [*allowed, *_project_folders()])


def check(path: str | Path, where: str, given: str = "") -> None:
    """ValueError that names what was given, and nothing of what is there, unless `path` may be
    read.
    """
    if not inside(path):
        raise ValueError(_refusal(where, given or str(path), folders() or []))


def check_audio(path: str | Path) -> None:
    """ValueError with OUTSIDE, as the reason why an utterance is dropped."""
    if not inside(path):
        raise ValueError(OUTSIDE)


def check_recipe(recipe: dict[str, Any], allowed: Iterable[Path]) -> None:
    """ValueError at once, before a job is queued, for paths of a recipe that it would not be
    allowed to read.
    """
    allowed = list(allowed)
    named = dict(_texts(recipe.get("corpus", {}).get("options", {}), "corpus.options"))
    measured = recipe.get("evaluation", {})
    named |= {
        f"evaluation.{n}": measured[n]
        for n in ("lm", "grammar")
        if isinstance(measured.get(n), str) and measured[n]
    }
    for where, text in named.items():
        path = SPEECH.sub(lambda match: os.environ.get("SPEECH_ROOT", match.group()), text)
        if SPEECH.search(path):
            raise ValueError(
                f"{where} = {text!r}: SPEECH_ROOT is not set on this server; set it to the folder"
                " of recordings and start the server again, or choose a recipe that needs none,"
                " e.g. voice_commands"
            )
        if "$" in path or path.startswith("~"):
            raise ValueError(
                f"{where} = {text!r}: from a page no environment variables but $SPEECH_ROOT (where"
                " the server has it) and no ~ are expanded; write the path itself"
            )
        if (os.path.isabs(path) or ".." in Path(path).parts) and not _below(
            paths.ROOT / path, [*allowed, *_project_folders()]
        ):
            raise ValueError(_refusal(where, text, allowed))


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(place, text) of every text in a table of options but the licence, which is for people."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for name, nested in value.items():
            if name != "licence":
                yield from _texts(nested, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, nested in enumerate(value):
            yield from _texts(nested, f"{where}[{number}]")


def _below(path: Path, allowed: Iterable[Path]) -> bool:
    real = os.path.realpath(path)
    return any(os.path.commonpath([real, root]) == root for root in map(os.path.realpath, allowed))


def _refusal(where: str, given: str, allowed: Iterable[Path]) -> str:
    shown = ", ".join(map(str, allowed)) or "none"
    return f"{where} = {given!r} is not below a folder that this server offers ({shown}): {ADVICE}"
