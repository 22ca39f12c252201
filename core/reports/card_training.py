"""The model card's parts on training: the speech, the stages with their commands, the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core import paths
from core.reports import chain, tables
from core.storage import metrics

CURVE_ROWS = 8


def data(stages: list[dict[str, Any]]) -> str:
    known: dict[str, str] = {}
    hours: dict[str, float] = {}
    for stage in stages:
        known |= {name: license for name, license in stage.get("attributions") or []}
        hours |= stage.get("data_hours") or {}
    rows = [
        (name, f"{hours[name]:.2f}" if name in hours else "-", license)
        for name, license in known.items()
    ]
    if not rows:
        return "The records name no corpora."
    total = (
        f" Together {sum(hours.values()):.1f} h of different speech; it was used more than once."
        if hours
        else ""
    )
    return (
        "Speech it was trained and measured on, with license and authors. Recordings were"
        " selected, resampled to 16 kHz and partly transcoded; none is shipped here, nor any"
        f" reference text.{total}\n\n"
        + tables.table(("corpus", "hours in training", "license and authors"), rows)
    )


def training(folder: Path, stages: list[dict[str, Any]]) -> str:
    head = (
        "stage",
        "run",
        "method",
        "updates",
        "training audio, h",
        "minutes of training",
        "learning rate",
        "seed",
        "hardware",
    )
    rows = [_stage_row(i, s) for i, s in enumerate(stages, 1)]
    known = [s for s in stages if not s.get("missing")]
    lost = [s["run"] for s in stages if s.get("missing")]
    said = "Each stage continues from the weights of the one before."
    if len(stages) == 1:
        said = "One stage, from random weights."
    if lost:
        said += (
            f" The records of {', '.join(f'`{r}`' for r in lost)} are not here, nor of what came"
            " before."
        )
    if all(s.get("audio_hours") is not None and s.get("seconds") is not None for s in known):
        said += (
            f" Altogether {sum(s['audio_hours'] for s in known):.1f} hours of training audio in "
            f"{sum(s['seconds'] for s in known) / 60:.0f} minutes of training."
        )
    commands = "\n".join(chain.commands(folder, stages))
    return (
        f"{said}\n\n{tables.table(head, rows)}\n\n{_curve(folder)}The commands, in order (speech"
        f" below `$SPEECH_ROOT` where the recipe says so):\n\n```sh\n{commands}\n```\n\nThe curves"
        f" are in `{paths.METRICS}`, the options in `{paths.RECIPE}`, the stages in"
        f" `{paths.CHAIN}`."
    )


def _curve(folder: Path) -> str:
    """WER over hours of training audio, at most CURVE_ROWS rows a stage, the last among them; ""
    where nothing was noted.
    """
    chosen, known = [], metrics.learning(folder)
    for number in sorted({r["stage"] for r in known}):
        rows = [r for r in known if r["stage"] == number]
        step = -(-len(rows) // CURVE_ROWS) or 1
        chosen += rows[::-1][::step][::-1]
    if not chosen:
        return ""
    columns = list(
        dict.fromkeys(
            (kind, corpus) for r in chosen for kind, by in r["wer"].items() for corpus in by
        )
    )
    cells = [
        [f"{100 * r['wer'][k][c]:.0f} %" if c in r["wer"].get(k, {}) else "-" for k, c in columns]
        for r in chosen
    ]
    return (
        "WER on a little speech held out of training (the split `search`), noted along the"
        " way; the columns are the passes of a step, under the masks of that moment:\n\n"
        + tables.table(
            ("stage", "training audio, h", *(f"{k}, {c}" for k, c in columns)),
            [(str(r["stage"]), f"{r['audio_hours']:.1f}", *line) for r, line in zip(chosen, cells)],
        )
        + "\n\n"
    )


def _stage_row(place: int, s: dict[str, Any]) -> tuple[str, ...]:
    if s.get("missing"):
        return (str(place), f"`{s['run']}`", *["not recorded"] * 7)
    minutes = None if s["seconds"] is None else s["seconds"] / 60
    machine = (
        ", ".join(str(v) for v in (s["hardware"], s["device"], s["precision"]) if v)
        or "not recorded"
    )
    return (
        str(place),
        f"`{s['run']}` ({s['title']})",
        s["method"],
        str(s["updates"] or "not recorded"),
        tables.number(s["audio_hours"]),
        tables.number(minutes, 0),
        f"{s['peak_lr']:g}",
        str(s["seed"]),
        machine,
    )
