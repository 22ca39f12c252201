"""Searched subnets against uniform, global-magnitude and randomly searched ones of the same bytes,
paired.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from core import paths
from core.data.prepared import Prepared
from core.evaluation import scoring
from core.records import Origin, Report
from core.reports import chain, tables
from core.search import allocation
from core.storage import store

OTHERS = (Origin.UNIFORM, Origin.MAGNITUDE, Origin.RANDOM)  # what searched subnets are held against
SAME_BYTES = 0.01  # files further apart than this are no fair pair and are marked
SPEAKERS, UTTERANCES = (
    "speakers, then utterances",
    "utterances only (the speakers' names were not at hand)",
)


def compare(folder: Path) -> dict[str, Any]:
    """Every pair of one size and one split, with p-values corrected over all pairs of the run.

    "delta" is WER of the searched minus WER of the other subnet, so negative means that the search
    helped. Speakers are
    rejoined from the prepared data; where those are not here, utterances are resampled and
    "resampled" says so.
    """
    prepared = _prepared(folder)
    searched = {s.name: s for s in store.subnets(folder) if s.origin is Origin.SEARCHED}
    rows = []
    for same in tables.by_condition(store.reports(folder)).values():
        by_name = {r.subnet: r for r in same}
        for report in same:
            subnet = searched.get(report.subnet)
            rows += [
                _pair(folder, report, by_name[name], origin, prepared)
                for origin in OTHERS
                if subnet and (name := allocation.counterpart(subnet, origin)) in by_name
            ]
    for row, holm in zip(rows, scoring.holm([r["p"] for r in rows])):
        row["holm"] = holm
    return {
        "pairs": len(rows),
        "repetitions": scoring.REPETITIONS,
        "seed": scoring.SEED,
        "rows": rows,
    }


def _prepared(folder: Path) -> list[Prepared]:
    """Prepared data of this machine, what the run was trained on first: another machine's has
    another name and the same speakers.
    """
    local = str(chain.finished(folder).get("prepared"))
    places = sorted(
        (p for p in paths.prepared().glob("*") if p.is_dir()), key=lambda p: p.name != local
    )
    prepared = []
    for place in places:
        with contextlib.suppress(ValueError):  # half-made, or changed since: as good as absent
            prepared.append(Prepared(place))
    return prepared


def _speakers(prepared: list[Prepared], split: str, ids: list[str]) -> list[str] | None:
    """The speaker of every utterance, or None when no prepared data tells all of them."""
    for entry in prepared:
        for name in (
            split,
            split.rpartition("/")[2],
        ):  # a single corpus' splits are stored without its name
            if name in entry.splits:
                known = {row.id: row.speaker for row in entry.rows(name)}
                if all(i in known for i in ids):
                    return [known[i] for i in ids]
    return None


def _pair(
    folder: Path, searched: Report, other: Report, origin: str, prepared: list[Prepared]
) -> dict[str, Any]:
    mine, theirs = (store.hypotheses(folder, *paths.report_key(r)) for r in (searched, other))
    ids = [row["id"] for row in mine]
    base = {row["id"]: _errors(row) for row in theirs}
    if set(ids) != set(base):
        raise ValueError(
            f"{searched.subnet} and {other.subnet} were measured on other utterances of"
            f" {searched.split}: evaluate both again"
        )
    speakers = _speakers(prepared, searched.split, ids)
    delta, low, high, p = scoring.paired(
        np.array([_errors(r) for r in mine]),
        np.array([base[i] for i in ids]),
        np.array([r["words"] for r in mine]),
        speakers or [""] * len(ids),
    )
    keeps = [store.subnet(folder, r.subnet).keep for r in (searched, other)]
    return {
        **{n: getattr(searched, n) for n in tables.CONDITION},
        "searched": searched.subnet,
        "other": other.subnet,
        "origin": origin,
        "bytes": searched.file_bytes,
        "bytes_other": other.file_bytes,
        "wer": searched.wer,
        "wer_other": other.wer,
        "delta": delta,
        "low": low,
        "high": high,
        "p": p,
        "same_net": keeps[0] == keeps[1],
        "resampled": SPEAKERS if speakers else UTTERANCES,
    }


def _errors(row: dict[str, Any]) -> int:
    return row["insertions"] + row["deletions"] + row["substitutions"]


def text(facts: dict[str, Any]) -> str:
    """The comparison as Markdown: one sentence that says how it fell, and the table."""
    rows = facts["rows"]
    if not rows:
        return "Not measured: this run has no searched subnet beside others of the same bytes."
    lines = [
        (
            r["split"],
            f"{r['chunk_ms']:g}",
            r["searched"],
            tables.megabytes(r["bytes"]),
            f"{r['other']} ({r['origin']})",
            tables.megabytes(r["bytes_other"]) + (" (not the same bytes)" if _unequal(r) else ""),
            tables.percent(r["wer"]),
            tables.percent(r["wer_other"]),
            "the same subnet" if r["same_net"] else tables.points(r["delta"], r["low"], r["high"]),
            tables.p_text(r["p"]),
            tables.p_text(r["holm"]),
        )
        for r in rows
    ]
    head = (
        "split",
        "chunk ms",
        "searched",
        "MB",
        "against",
        "MB",
        "WER searched",
        "WER other",
        "difference in points (95 % CI)",
        "p",
        "p after Holm",
    )
    units = ", ".join(sorted({r["resampled"] for r in rows}))
    return "\n".join(
        [
            verdict(rows),
            "",
            (
                f"Negative differences favor the search. Paired bootstrap, {facts['repetitions']}"
                f" resamples (seed {facts['seed']}) of {units}; Holm's correction over all"
                f" {facts['pairs']} pairs of this run."
            ),
            "",
            tables.table(head, lines),
        ]
    )


def _unequal(row: dict[str, Any]) -> bool:
    return abs(row["bytes"] / row["bytes_other"] - 1) > SAME_BYTES


def verdict(rows: list[dict[str, Any]]) -> str:
    """How often the search was better or worse after Holm's correction, for each of its
    opponents.
    """
    said = []
    for origin in dict.fromkeys(r["origin"] for r in rows):
        local = [r for r in rows if r["origin"] == origin and not _unequal(r)]
        better = sum(r["holm"] < 0.05 and r["delta"] < 0 for r in local)
        worse = sum(r["holm"] < 0.05 and r["delta"] > 0 for r in local)
        said.append(
            f"against {origin}: better in {better}, worse in {worse}, undecided in"
            f" {len(local) - better - worse} of {len(local)} pairs"
        )
    return "At equal bytes and a corrected 5 % level, the search was, " + "; ".join(said) + "."
