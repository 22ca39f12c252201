"""A folder that `core export RUN --format hub` wrote, e.g. downloaded from the Hugging Face Hub:
the run it was, with its sizes and measurements. WHAT is the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from core import paths
from core.imports import base
from core.storage import checksums, run_files, store

PRIVATE = (paths.LOG, paths.TOGETHER)  # listed, but never exported: what a machine printed
USE = "## From the Hub"  # begins what the export added to the card


class Source(base.Source):
    renames = False  # sizes and measurements carry the name

    def name(self, what: str) -> str:
        folder = Path(what)
        if not (folder / paths.FINISHED).is_file():
            raise ValueError(
                f"hub: expected a folder written by `core export RUN --format hub`, got {what},"
                f" which has no {paths.FINISHED}"
            )
        sizes = store.subnets(folder)
        if not sizes:
            raise ValueError(f"hub: {what} holds no {paths.SUBNETS}/: copy the whole folder")
        return sizes[0].run

    def read(self, what: str, given: Mapping[str, Path]) -> base.Imported:
        folder = Path(what)
        names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        listed = run_files.read_json(folder / paths.FINISHED).get(checksums.FILES, {})
        missing = sorted({*listed, paths.RECIPE, paths.UNITS, paths.WEIGHTS} - names - {*PRIVATE})
        if missing:
            raise ValueError(f"hub: {what} lacks {', '.join(missing[:5])}: copy the whole folder")
        kept = sorted(n for n in names if paths.RUN_FILE.fullmatch(n) and n not in PRIVATE)
        files = {name: run_files.read(folder / name) for name in kept}
        if paths.CARD in files:
            files[paths.CARD] = _card(files[paths.CARD])
        return base.Imported(files)


def _card(card: bytes) -> bytes:
    """Without the header and the end that the export added."""
    text = card.decode("utf-8", "replace")
    if text.startswith("---\n"):
        text = text.split("\n---\n", 1)[-1]
    return text.split(USE)[0].rstrip().encode() + b"\n"
