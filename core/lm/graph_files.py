"""Decoding graphs as files: each in a folder, written aside and renamed, its marker the words file;
built by one process while others wait; the last few stay in memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import kaldifst

from core.lm import graph
from core.speech.tokenizer import Tokenizer

FST, WORDS = "HLG.fst", "words.json"
MOST_IN_MEMORY = 4
STATE_BYTES, ARC_BYTES = 20, 16  # of OpenFst's ConstFst
_IN_MEMORY: dict[Path, graph.Graph] = {}


def opened(folder: Path, build: Callable[[], graph.Graph], tokenizer: Tokenizer) -> graph.Graph:
    """The graph of a folder, of memory or, where there is none or it is damaged, as `build` makes
    it. OSError where the disk is full.
    """
    if folder in _IN_MEMORY:
        return _IN_MEMORY[folder]
    loaded = _read(folder, tokenizer.size)
    if loaded is None:
        with _alone(folder):
            loaded = _read(folder, tokenizer.size) or _built(folder, build)
    loaded = replace(loaded, space=tokenizer.space)
    while len(_IN_MEMORY) >= MOST_IN_MEMORY:
        _IN_MEMORY.pop(next(iter(_IN_MEMORY)))
    _IN_MEMORY[folder] = loaded
    return loaded


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One thread of one process builds a graph, others wait for it; where nothing may be stored
    each builds its own.
    """
    path = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # the next one finds the graph itself


def _built(folder: Path, build: Callable[[], graph.Graph]) -> graph.Graph:
    loaded = build()
    try:
        _write(folder, loaded)
    except OSError as error:  # where nothing may be stored it is built each time
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return loaded


def _read(folder: Path, tokens: int) -> graph.Graph | None:
    """The graph of a folder, or None where there is none or it is damaged (then it is built
    again).
    """
    try:
        facts = json.loads((folder / WORDS).read_text(encoding="utf-8"))
        words, said = facts["words"], [[tuple(form) for form in forms] for forms in facts["said"]]
        if zlib.crc32((folder / FST).read_bytes()) != facts["crc32"] or facts["tokens"] != tokens:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fst = kaldifst.StdConstFst.read(str(folder / FST))
    return None if fst is None else graph.Graph(fst, words, said, tokens)


def _write(folder: Path, loaded: graph.Graph) -> None:
    """OSError where the disk is full; nothing half is left behind."""
    aside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        try:  # its room is taken first: where OpenFst finds none it prints a line of its own
            (aside / FST).write_bytes(bytes(_file_bytes(loaded.fst)))
            written = loaded.fst.write(str(aside / FST))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            written = False
        if not written:
            raise OSError(
                errno.ENOSPC,
                f"the decoding graph could not be written to {aside}: make room on that disk",
            )
        facts = {
            "crc32": zlib.crc32((aside / FST).read_bytes()),
            "tokens": loaded.tokens,
            "words": loaded.words,
            "said": loaded.said,
        }
        (aside / WORDS).write_text(json.dumps(facts), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _file_bytes(fst: kaldifst.StdConstFst) -> int:
    """About the size of its file."""
    arcs = sum(fst.num_arcs(state) for state in range(fst.num_states))
    return STATE_BYTES * fst.num_states + ARC_BYTES * arcs
