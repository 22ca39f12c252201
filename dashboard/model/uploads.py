"""Recordings with transcripts that a visitor uploads, as a test set on this machine: files or a zip
of them, checked and unpacked within limits. No Streamlit.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from core import paths
from core.common import writing

MOST_MB = 100
MOST_UNPACKED_MB = 1000
MOST_FILES = 5000
BLOCK = 1 << 20  # bytes that are unpacked at a time
SKIPPED = ("__MACOSX", ".DS_Store", "Thumbs.db")

FOLDERS = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"]+/)+")  # of an absolute path

Upload = tuple[str, bytes]  # file name, content


def store(title: str, files: Sequence[Upload], owner: str = "") -> str:
    """Keep the files as a test set -> its name. ValueError, in words for people, for what cannot be
    used; nothing is kept then.
    """
    from core.data import test_sets

    name = test_sets.named(title)
    if name in test_sets.names():
        raise ValueError(
            f"there are recordings called {name} already: choose another name, or delete those"
        )
    folder = test_sets.copies(name)
    aside = writing.beside(folder)
    try:
        _write(aside, files)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
        test_sets.add(name, folder, owner)
        return name
    # damage, a password, a way of packing that is not known
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise ValueError(
            f"a zip cannot be unpacked ({error}): save it as a plain zip without a password"
        ) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, files: Sequence[Upload]) -> None:
    """All files and members of zips below the folder; never more than the limits, whatever a zip
    says of its sizes.
    """
    left = int(MOST_UNPACKED_MB * 1e6)
    folder.mkdir(parents=True)
    for count, (name, source) in enumerate(_opened(files), 1):
        file = folder / _inside(name)
        if file.exists():
            raise ValueError(f"two files are called {name}: rename one")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            while block := source.read(BLOCK):
                left -= len(block)
                if left < 0 or count > MOST_FILES:
                    raise ValueError(
                        f"these recordings unfold to more than {MOST_UNPACKED_MB} MB or"
                        f" {MOST_FILES} files: take fewer"
                    )
                target.write(block)


def _opened(files: Sequence[Upload]) -> Iterator[tuple[str, IO[bytes]]]:
    for name, content in files:
        if not name.lower().endswith(".zip"):
            yield name, io.BytesIO(content)
            continue
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise ValueError(
                f"{name} is no zip file: pack the recordings anew, or choose them one by one"
            )
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                parts = PurePosixPath(member.filename).parts
                if not member.is_dir() and not any(part in SKIPPED for part in parts):
                    with archive.open(member) as source:
                        yield member.filename, source


def without_paths(text: str) -> str:
    """An error without the folders of this machine, which are nothing to a visitor: of a path its
    last part is left.
    """
    for folder in {str(paths.test_sets()), str(paths.test_sets().resolve())}:
        text = text.replace(f"{folder}{os.sep}", "")
    return FOLDERS.sub("", text)


def _inside(name: str) -> Path:
    """A relative path below the set's folder. ValueError for one that leads elsewhere."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or any("\0" in p for p in parts):
        raise ValueError(f"the file name {name!r} leads out of the recordings' folder: rename it")
    return Path(*parts)
