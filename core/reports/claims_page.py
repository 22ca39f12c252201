"""The table of claims as a page for people and as JSON for the dashboard."""

from __future__ import annotations

from typing import Any

from core import paths
from core.common.writing import write_bytes, write_json
from core.registry import recipe_sets
from core.registry.comparison import KEPT_MOST
from core.reports import arms_page, claims, tables

SMALLER = (
    "\n## The same claims from smaller trainings\n\nEach of these comparisons was repeated with"
    " more speech: that one, above, decides. This table is corrected by itself.\n\n"
)


COSTS = (
    ("megabytes", 2),
    ("minutes", 1),
    ("selection_minutes", 1),
    ("tmacs", 2),
    ("selection_tmacs", 2),
)  # part of a row, digits
HEAD = [
    "claim",
    "what",
    "verdict",
    "WER, relative",
    "p",
    "WER % of each seed",
    "tested on",
    "MB",
    "minutes a training",
    "minutes of selection",
    "10^12 MACs a training",
    "10^12 MACs of selection",
    "comparison",
]


def text(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    large, small = ([_cells(r) for r in rows if r["smaller"] == table] for table in (False, True))
    return (
        _introduction()
        + tables.table(HEAD, large)
        + "\n"
        + (SMALLER + tables.table(HEAD, small) + "\n" if small else "")
    )


def _cells(r: dict[str, Any]) -> tuple[str, ...]:
    return (
        r["number"],
        f"{r['text']} ({r['arm']} against {r['against']}, {r['size']})",
        r["verdict"],
        (
            "-"
            if r["relative"] is None
            else (f"{100 * r['relative']:+.1f} % ({100 * r['low']:+.1f} to {100 * r['high']:+.1f})")
        ),
        "-" if r["p"] is None else tables.p_text(r["p"]),
        "; ".join(f"{100 * a:.1f} / {100 * b:.1f}" for a, b in r["seeds"]) or "-",
        "-" if r["kind"] == KEPT_MOST else r["split"] or "-",
        *(" / ".join(f"{m:.{digits}f}" for m in r[part]) or "-" for part, digits in COSTS),
        f"[{r['set']}]({r['set']}.md)" if r["seeds"] else r["set"],
    )


def _introduction() -> str:
    return (
        "# Claims\n\nTested on a fixed half hour of LibriSpeech test-clean and one of a seeded"
        " noisy, reverberant copy of it (not test-other), pooled, where a row does not say"
        " otherwise; of TED-LIUM v2 there are a reader, recipes and dry runs, and no numbers. Small"
        " scale: minutes of training, some hours of speech. What is confirmed or refuted here may"
        " come out otherwise with more of both: claims 1, 3, 5 and 6 stayed undecided with 12"
        " times the speech, in comparisons that are not shown because every arm was above 85 %"
        " WER.\n\n"
        + " ".join(claims.__doc__.split("\n\n")[1].split())
        + " The relative difference stands with its 95 % CI; WER, megabytes, minutes and"
        " executed multiply-accumulates (of the training, and of choosing sizes after it) of the"
        ' arm stand before those of what it is held against; for "kept most" the share of its'
        " branches that are kept, and of the others. That an advantage by more bytes is tested"
        " again with a smaller size, and what counts at every size at once, was made the rule"
        " when claim 5's trainings of Simple-Top-k had been seen. Rows that have not been run are"
        " not in the correction yet, so verdicts may change when they are. Made by `python -m"
        " core compare SET` whenever a set is finished; each set's page has its command.\n\n"
    )


def write_all() -> None:
    """The pages of all sets that have been run, here or elsewhere, and the claims, anew from the
    arms' records.
    """
    for name in recipe_sets.names():
        if (paths.COMPARED / name).is_dir():
            write_bytes(
                paths.COMPARED / f"{name}.md", arms_page.text(recipe_sets.load(name)).encode()
            )
    write()


def write() -> None:
    """Both files beside the sets' pages: CLAIMS.md for people, claims.json for the dashboard."""
    rows = claims.rows()
    paths.COMPARED.mkdir(parents=True, exist_ok=True)
    write_json(paths.COMPARED / paths.CLAIMS, rows)
    write_bytes(paths.COMPARED / paths.CLAIMS_PAGE, text(rows).encode())
