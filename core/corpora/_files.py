"""Files and folders that the options of a corpus name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from core import paths
from core.corpora._speakers import ROLES
from core.jobs import confinement


def resolve(path: str, where: str = "path") -> Path:
    """A path from options: $VARIABLES and ~ expanded (see core/jobs/confinement.py), relative ones
    from the project root.
    """
    expanded = confinement.expanded(path)
    confinement.check(paths.ROOT / expanded, where, path)
    if unknown := re.search(r"\$\{?\w+\}?", expanded):
        raise ValueError(
            f"{where} = '{path}': the environment variable {unknown.group()} is not set; export it"
            " or write the path itself"
        )
    return Path(os.path.normpath(paths.ROOT / expanded))


def named_files(
    where: str, roles: dict[str, list[str]], tests: dict[str, list[str] | str]
) -> dict[str, list[Path]]:
    """{split: files or folders} that options name; ValueError if there are none, one is missing or
    a name is taken.
    """
    clash = sorted(set(tests) & set(ROLES))
    if clash:
        raise ValueError(
            f"{where}: tests has a split {clash}; these names are roles: choose another name"
        )
    given = {
        **roles,
        **{name: [files] if isinstance(files, str) else files for name, files in tests.items()},
    }
    files = {
        split: [resolve(name, f"{where} {split}") for name in names]
        for split, names in given.items()
        if names
    }
    if not files:
        raise ValueError(f"{where}: nothing is given; fill {', '.join(roles)} or tests")
    missing = [str(f) for split in files.values() for f in split if not f.exists()]
    if missing:
        raise ValueError(f"{where}: missing files or folders: {', '.join(missing)}")
    return files
