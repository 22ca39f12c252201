"""Recordings with transcripts that a visitor uploads, as a test set on this machine: files or a zip
of them, checked and unpacked within limits. No Streamlit.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

MOST_MB = 100
MOST_UNPACKED_MB = 1000
MOST_FILES = 5000
SKIPPED = ("__MACOSX", ".DS_Store", "Thumbs.db")

Upload = tuple[str, bytes]  # file name, content


def store(title: str, files: Sequence[Upload], owner: str = "") -> str:
    """Keep the files as a test set -> its name. ValueError, in words for people,
    for what cannot be used; nothing is kept then.
    """
    from core.data import test_sets

    name = test_sets.named(title)
    if name in test_sets.names():
        raise ValueError(
            f"there are recordings called {name} already: choose another name, or delete those"
        )
    folder = test_sets.copies(name)
    aside = folder.with_name(f"{name}.tmp-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _write(aside, files)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
        test_sets.add(name, folder, owner)
        return name
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, files: Sequence[Upload]) -> None:
    left, count = MOST_UNPACKED_MB * 1e6, 0
    folder.mkdir(parents=True)
    for name, content in _unpacked(files):
        left, count = left - len(content), count + 1
        if left < 0 or count > MOST_FILES:
            raise ValueError(
                f"these recordings unfold to more than {MOST_UNPACKED_MB} MB or {MOST_FILES} files:"
                " take fewer"
            )
        file = folder / _inside(name)
        if file.exists():
            raise ValueError(f"two files are called {name}: rename one")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _unpacked(files: Sequence[Upload]) -> Iterator[Upload]:
    for name, content in files:
        if not zipfile.is_zipfile(io.BytesIO(content)) or not name.lower().endswith(".zip"):
            yield name, content
            continue
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                yield from _members(archive)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise ValueError(
                f"{name} cannot be unpacked ({error}): save it as a plain zip without a password"
            ) from None


def _members(archive: zipfile.ZipFile) -> Iterator[Upload]:
    """Read no further than the limit, whatever a member says of its size."""
    most = int(MOST_UNPACKED_MB * 1e6)
    for member in archive.infolist():
        if member.is_dir() or any(part in SKIPPED for part in PurePosixPath(member.filename).parts):
            continue
        with archive.open(member) as opened:
            yield member.filename, opened.read(most + 1)


def _inside(name: str) -> Path:
    """A relative path below the set's folder. ValueError for one that leads elsewhere."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or any("\0" in p for p in parts):
        raise ValueError(f"the file name {name!r} leads out of the recordings' folder: rename it")
    return Path(*parts)
