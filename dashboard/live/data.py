"""What the live component is fed: stops of the slider, one small map per matrix, transcripts.

Letters: S stops, M matrices, K = SIDE * SIDE cells of a map.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import cost
from core.records import PrunableMatrix, Subnet
from core.storage import spoken
from dashboard import data
from dashboard.model import fits, ladder

SIDE = 32  # cells of a map, each way
SAME = 0.01  # sizes within one percent of each other count as the same number of bytes
PRESETS = (  # name, sparsity in percent that it means, how to say it
    ("Dense", 0.0, "The whole network"),
    ("Half", 50.0, "Half of the prunable weights"),
    ("Phone", 70.0, "Thirty of a hundred prunable weights are left"),
    ("Tiny", 100.0, "The smallest size of this network"),
)


def payload(
    run: str,
    points: pd.DataFrame,
    percent: float,
    others: list[dict[str, Any]],
    limits: fits.Limits = fits.START,
) -> dict[str, Any] | None:
    """Everything the component draws, JSON-ready; None with fewer than two measured sizes.

    `points` are rows of data.points under one condition; `percent` is the sparsity to show first;
    `others` are further curves {title, color, marker, points: [{name, file, wer}]}, file in MB;
    `limits` are those of the box in the chart.
    """
    stops = stops_of(run, points)
    if len(stops) < 2:
        return None
    same = json.dumps([stops, others, machine(points, run)], sort_keys=True)
    stamps = data.stamp(run), spoken.stamp(run)
    return _content(run, same, stamps) | {
        "percent": percent,
        "limits": {"mb": limits.mb, "wer": limits.wer},
    }


@st.cache_resource(max_entries=16, show_spinner=False)
def _content(run: str, same: str, stamps: tuple) -> dict[str, Any]:
    """What stays as it is while only the thumb moves; `same` and `stamps` decide all of it."""
    stops, others, note = json.loads(same)
    known = data.subnets(run)
    matrices, maps, grid = network(run, [known[stop["name"]] for stop in stops])
    content = {
        "stops": stops,
        "matrices": matrices,
        "maps": maps,
        "grid": grid,
        "samples": samples(run),
        "samplesNote": samples_note(run),
        "presets": presets(stops),
        "between": ladder.mixable(run),
        "others": others,
        "msTitle": "Computing per chunk",
        "msNote": note,
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return content | {"key": f"{run}:{key}"}


def stops_of(run: str, points: pd.DataFrame) -> list[dict[str, Any]]:
    """The measured stops of the slider, densest first, each with whether another one beats it."""
    own = points[points["run"] == run].drop_duplicates("subnet").set_index("subnet")
    stops = []
    for rung in ladder.rungs(run):
        if rung.name not in own.index:
            continue
        row = own.loc[rung.name]
        ms, per = row["chunk_median_ms"], row["per"]
        stops.append(
            {
                "name": rung.name,
                "percent": round(100 * rung.sparsity, 2),
                "wer": float(row["wer"]),
                "low": float(row["wer_low"]),
                "high": float(row["wer_high"]),
                "mb": round(float(row["zstd_bytes"]) / 1e6, 4),
                "file": round(float(row["file_bytes"]) / 1e6, 4),
                "ms": None if pd.isna(ms) else float(ms),
                "predicted": bool(row.get("predicted", False)),  # the ms
                "per": None if pd.isna(per) else float(per),
            }
        )
    mark_beaten(stops)
    return stops


def mark_beaten(stops: list[dict[str, Any]]) -> None:
    """A stop is beaten by one that has no more bytes (to 1 %) and fewer errors."""
    for stop in stops:
        stop["beaten"] = any(
            other["file"] <= stop["file"] * (1 + SAME) and other["wer"] < stop["wer"]
            for other in stops
        )


def presets(stops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """PRESETS at the nearest measured stops; those that would fall on the same stop are left
    out.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for name, percent, why in PRESETS:
        stop = min(stops, key=lambda s: abs(s["percent"] - percent))
        chosen.setdefault(stop["name"], {"name": name, "percent": stop["percent"], "why": why})
    return list(chosen.values())


def machine(points: pd.DataFrame, run: str) -> str:
    """Where the times come from, in a few words; they compare within one report set only."""
    timed = points[(points["run"] == run) & points["chunk_median_ms"].notna()]
    if timed.empty:
        return "of a 320 ms chunk"
    row = timed.iloc[0]
    if "times_of" in timed:
        return str(row["times_of"])
    threads = int(row["threads"])
    return f"{row['chunk_ms']:g} ms chunk, {threads} thread{'s' if threads > 1 else ''}"


# the network


def network(run: str, sizes: list[Subnet]) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """({row, block, rows, columns, keep per stop} of every matrix, their maps [M, K] as base64,
    the grid they stand in).

    A cell of a map is alive while its value < 256 * keep: it holds how early its weights go, as
    uint8 ranks. Every size is drawn from the same map because masks are nested.
    """
    units = data.spec(run).units
    kinds = list(dict.fromkeys(row_name(unit) for unit in units))
    several = len({size.ranks_sha256 for size in sizes}) > 1
    ranks = {} if several else _ranks_or_none(run)
    matrices, maps = [], []
    for unit in units:
        matrices.append(
            {
                "row": kinds.index(row_name(unit)),
                "block": unit.layer,
                "rows": unit.rows,
                "columns": unit.columns,
                "keep": [share(unit, size) for size in sizes],
            }
        )
        maps.append(cell_ranks(ranks.get(unit.name)))
    grid = {"blocks": 1 + max(unit.layer for unit in units), "kinds": kinds, "side": SIDE}
    return matrices, base64.b64encode(np.stack(maps).tobytes()).decode(), grid


def _ranks_or_none(run: str) -> dict[str, np.ndarray]:
    try:
        return data.ranks(run)
    except ValueError:
        return {}


def share(unit: PrunableMatrix, size: Subnet) -> float:
    """Share of the matrix' blocks that a size keeps, 0..1."""
    kept = cost.blocks_kept(unit, size.keep.get(unit.name, 1.0))
    return round(kept / max(1, unit.blocks), 4)


def row_name(unit: PrunableMatrix) -> str:
    """How the picture calls a matrix within its block, e.g. "feed forward 1 up"."""
    parts = [part for part in unit.name.split(".") if not part.isdigit()]
    return " ".join(parts[1:] or parts).replace("_", " ")


def cell_ranks(ranks: np.ndarray | None) -> np.ndarray:
    """uint8 [K]: the order in which the cells of a matrix go, spread evenly over 0..255.

    A cell is the mean rank of the blocks under it; spreading the order evenly keeps the share of
    cells alive equal to the share of blocks kept. Without ranks [R/b, C] an even grain is shown.
    """
    if ranks is None:
        order = np.random.default_rng(0).permutation(SIDE * SIDE)
    else:
        order = np.argsort(_shrunk(ranks.astype(np.float64)).ravel(), kind="stable")
    cells = np.empty(SIDE * SIDE, np.uint8)
    cells[order] = np.arange(SIDE * SIDE) * 256 // (SIDE * SIDE)
    return cells


def _shrunk(values: np.ndarray) -> np.ndarray:
    """[SIDE, SIDE] means over equal parts of [R, C]; a side shorter than SIDE is repeated."""
    for axis in (0, 1):
        edges = np.linspace(0, values.shape[axis], SIDE + 1)
        starts = np.minimum(edges[:-1].astype(int), values.shape[axis] - 1)
        ends = np.maximum(np.ceil(edges[1:]).astype(int), starts + 1)
        sums = np.cumsum(np.insert(values, 0, 0.0, axis), axis)
        parts = np.take(sums, ends, axis) - np.take(sums, starts, axis)
        widths = (ends - starts).reshape((-1, 1) if axis == 0 else (1, -1))
        values = parts / widths
    return values


# words


def samples(run: str) -> list[dict[str, Any]]:
    """Spoken sentences {title, text, audio, hypotheses by size} that were transcribed at the run's
    sizes; [] where none were.
    """
    try:
        found, _ = spoken.read(run)
    except ValueError:
        return []
    return [
        {
            "title": name.split("_", 1)[-1].replace("_", " "),
            "text": text,
            "audio": sound(spoken.sound_file(name)),
            "hypotheses": {size: texts[name] for size, texts in found.items() if name in texts},
        }
        for name, text in spoken.texts().items()
    ]


def samples_note(run: str) -> str:
    """How the samples' words were found, which is not how the test set's errors were counted."""
    try:
        _, decoder = spoken.read(run)
    except ValueError:
        return ""
    return {"graph": "with the open-speech language model"}.get(decoder, f"decoder: {decoder}")


@functools.lru_cache(maxsize=32)
def sound(file: Path) -> str:
    """A sound file as a data address, "" where it is missing."""
    try:
        return f"data:audio/ogg;base64,{base64.b64encode(file.read_bytes()).decode()}"
    except OSError:
        return ""
