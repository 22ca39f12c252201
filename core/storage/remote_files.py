"""Reading of a storage that is not trusted: lists and files, through fsspec, with limits."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from core import paths

LIST = "stored-"


BOUNDED = {
    "s3": {
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
    }
}  # no endless waiting


LARGE = (paths.WEIGHTS, paths.RANKS)  # the beginnings of the files that may be large


MOST_BYTES, MOST_LARGE = (
    256 << 20,
    4 << 30,
)  # of one file; of weights and ranks: 2 G parameters in half precision


MOST_LIST, MOST_FILES = 16 << 20, 20_000  # bytes of one list, files of one run


DIGEST = re.compile("[0-9a-f]{64}")


def content(system: Any, place: str, byte_count: int) -> bytes:
    """A stored file that is no link and has no more than `size` bytes."""
    facts = system.info(place)
    if facts.get("islink") or facts.get("type") == "link":
        raise ValueError(f"{place} is a link: only files are read from a storage")
    if (facts.get("size") or 0) > byte_count:
        raise ValueError(
            f"{place} is damaged: expected {byte_count} bytes at most, got {facts['size']}"
        )
    return system.cat_file(place)


def listed_files(system: Any, folder: str) -> dict[str, list]:
    """{name: [bytes, SHA-256]} of all lists of a run; where two name the same file the first stored
    one is right, for it never changes.
    ValueError for a list that names anything but files of a run.
    """
    files: dict[str, list] = {}
    for place in sorted(matching(system, folder, f"{LIST}*.json")):
        try:
            facts = json.loads(content(system, place, MOST_LIST))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place} is no list of stored files: {error}") from None
        if not isinstance(facts, dict):
            raise ValueError(
                f"{place} is no list of stored files: expected an object, got"
                f" {type(facts).__name__}"
            )
        for name, entry in facts.items():
            _check_entry(place, name, entry)
        files = facts | files
        if len(files) > MOST_FILES:
            raise ValueError(
                f"the lists in {folder} name more than {MOST_FILES} files: this is no run that was"
                " stored by `core store`"
            )
    return files


def _check_entry(place: str, name: str, entry: Any) -> None:
    """ValueError unless one line of a list names a file that a run may have, its length and its
    SHA-256.
    """
    advice = "nothing was fetched; is the storage's address right, and who may write there?"
    if not paths.RUN_FILE.fullmatch(name):
        raise ValueError(f"{place} names {name!r}, which is no file of a run: {advice}")
    if not (
        isinstance(entry, list)
        and len(entry) == 2
        and type(entry[0]) is int
        and DIGEST.fullmatch(str(entry[1]))
    ):
        raise ValueError(
            f"{place}: expected [bytes, SHA-256] for {name}, got {str(entry)[:100]}: {advice}"
        )
    most = MOST_LARGE if name.startswith(LARGE) else MOST_BYTES
    if not 0 <= entry[0] <= most:
        raise ValueError(
            f"{place}: expected at most {most} bytes for {name}, got {entry[0]}: {advice}"
        )


def matching(system: Any, folder: str, pattern: str) -> list[str]:
    """Names below a folder, none where it is not there; a storage that does not answer is no empty
    one, as exists() would have it.
    """
    try:
        system.ls(folder)
    except FileNotFoundError:
        return []
    return system.glob(f"{folder}/{pattern}")


@contextlib.contextmanager
def opened(where: str) -> Iterator[tuple[Any, str]]:
    """(file system, root in it); what a storage says against being used is a ValueError."""
    import fsspec

    protocol = where.split("://")[0] if "://" in where else "file"
    try:
        system, root = fsspec.core.url_to_fs(
            where, use_listings_cache=False, **BOUNDED.get(protocol, {})
        )
        yield system, root.rstrip("/")
    except ValueError:
        raise
    except ImportError as error:
        raise ValueError(
            f"{where} cannot be used: {error}. For s3:// say pip install s3fs"
        ) from None
    except Exception as error:  # every storage has its own
        raise ValueError(
            f"the storage {where} cannot be used now ({type(error).__name__}: {error}); is its"
            " address right and its key set?"
        ) from error
