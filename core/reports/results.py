"""RESULTS.md under artifacts/released/: every released measurement in tables, each with the
commands that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.records import Report
from core.reports import chain, comparisons, tables
from core.storage import run_files, store

PREFERRED = {"d": 0, "s": 1, "u": 2}  # dense, searched, uniform; then the others
NEAR = 0.02  # a goal's share of zeros may be missed by this much


@dataclass(frozen=True)
class Goal:
    """WER aimed at, at dense, 70 % and 90 % zeros; greedy, 320 ms, no language model."""

    split: str  # the end of a split's name
    people: str  # what it is, for people
    wers: tuple[float, float, float]
    when: str = ""


GOALS = (
    Goal("voice_commands/test", "voice_commands, unseen voices", (0.03, 0.05, 0.12)),
    Goal("strings", "speech_commands strings", (0.10, 0.12, 0.20)),
    Goal("test-clean", "test-clean", (0.65, 0.70, 0.85), "one stage on two cores"),
    Goal("test-clean", "test-clean", (0.45, 0.48, 0.62), "a chain of stages, or a GPU"),
)
ZEROS = (0.0, 0.7, 0.9)


def write() -> Path:
    """(Re)write RESULTS.md from all released runs and return its path."""
    folders = [r.folder for r in store.runs() if r.released and r.finished]
    path = paths.RELEASED / paths.RESULTS
    writing.write_bytes(path, text(folders).encode())
    return path


def text(folders: list[Path]) -> str:
    reports = [r for f in folders for r in store.reports(f, added=False)]
    parts = [
        "# Results",
        (
            "Every measurement of the released runs, written by `python -m core release --results`"
            " from their records; no number is typed by hand. A table holds one split under one set"
            " of decoding conditions. WER = word error rate with its 95 % CI"
            " (bootstrap over speakers, then utterances); sparsity = share of prunable weights"
            " set to zero; MB"
            " = 10^6 bytes of the file a user downloads."
        ),
        (
            "Books are tested on LibriSpeech test-clean and on a seeded noisy, reverberant copy of"
            " it (not test-other). For TED-LIUM v2 there are a reader, recipes and dry runs, and no"
            " numbers. All of it is small: hours of training on a processor, some tens of hours of"
            " speech. One training each, so nothing here is a claim about a method; those are"
            " tested over several seeds in [the claims](comparison/CLAIMS.md)."
        ),
    ]
    if not reports:
        return "\n\n".join([*parts, "Nothing is released yet."]) + "\n"
    parts += ["## Goals and what was reached", goals(reports), "## All measurements"]
    for same in tables.by_condition(reports).values():
        first = same[0]
        parts += [
            f"### {first.split}: "
            + (f"{first.chunk_ms:g} ms" if first.chunk_ms else "full context"),
            f"{tables.size_of_split(first)}; {tables.condition_text(first)}.",
            _table(same),
        ]
        parts += tables.split_notes(first.split)
    parts += ["## Search, uniform, global magnitude and random search at equal bytes"]
    for folder in folders:
        facts = (
            run_files.read_json(folder / paths.COMPARISONS)
            if (folder / paths.COMPARISONS).is_file()
            else {"rows": []}
        )
        if facts["rows"]:
            parts += [f"### {folder.name}", comparisons.text(facts)]
    if parts[-1].startswith("## "):
        parts.append("Not measured yet.")
    parts += ["## Where the numbers come from", *(_provenance(f) for f in folders)]
    return "\n\n".join(parts) + "\n"


def _table(same: list[Report]) -> str:
    head = (
        "run",
        "subnet",
        "sparsity",
        "sparsity, whole model",
        "MB file",
        "MB zstd",
        "WER % (95 % CI)",
        "against its dense, points",
        "insertions / deletions / substitutions",
        "RTF",
    )
    return tables.table(
        head,
        [
            (
                r.run,
                f"`{r.subnet}`",
                tables.percent(r.sparsity),
                tables.percent(r.sparsity_whole),
                tables.megabytes(r.file_bytes),
                tables.megabytes(r.zstd_bytes),
                tables.wer(r),
                tables.against_dense(r),
                f"{r.insertions} / {r.deletions} / {r.substitutions}",
                "-" if r.rtf is None else f"{r.rtf:.3f}",
            )
            for r in same
        ],
    )


def goals(reports: list[Report]) -> str:
    """The goals beside what every run reached; at a size, the searched subnet if there is one: none
    is picked.
    """
    head = ("goal", "sparsity", "aim", "reached, % (95 % CI)", "run", "subnet", "met")
    rows = []
    for goal in GOALS:
        name = goal.people + (f" ({goal.when})" if goal.when else "")
        for zeros, aim in zip(ZEROS, goal.wers):
            result = reached(reports, goal.split, zeros)
            rows += [
                (
                    name,
                    tables.percent(zeros, 0),
                    tables.percent(aim, 0),
                    tables.wer(r),
                    r.run,
                    f"`{r.subnet}`",
                    "yes" if r.wer <= aim else "no",
                )
                for r in result
            ] or [
                (
                    name,
                    tables.percent(zeros, 0),
                    tables.percent(aim, 0),
                    "not measured",
                    "-",
                    "-",
                    "-",
                )
            ]
    return (
        "Greedy, 320 ms chunks, no language model. Where a run has several subnets of a size, the"
        " searched one counts, else the uniform one: none is picked by its test score.\n\n"
        + tables.table(head, rows)
        + "\n\n"
        + tables.OPUS_NOTE
    )


def reached(reports: list[Report], split: str, zeros: float) -> list[Report]:
    """One report of every run for this split and share of zeros, under the goals' conditions."""
    best: dict[str, tuple] = {}
    for r in reports:
        fits = (
            (r.split == split or r.split.endswith("/" + split))
            and (r.chunk_ms, r.decoder) == (320.0, "greedy")
            and r.language_model in ("", "none")
            and abs(r.sparsity - zeros) <= (NEAR if zeros else 1e-3)
        )
        if fits:
            kind = (
                "" if "-between" in r.subnet else r.subnet[0]
            )  # a size somebody asked for is no searched one
            rank = (PREFERRED.get(kind, len(PREFERRED)), abs(r.sparsity - zeros), r.subnet)
            best[r.run] = min(best.get(r.run, (rank, r)), (rank, r), key=lambda pair: pair[0])
    return [r for _, r in best.values()]


def _provenance(folder: Path) -> str:
    stages, reports = chain.chain(folder), store.reports(folder, added=False)
    recipe = store.recipe(folder)
    last: dict[str, Any] = stages[-1]
    facts = [
        f"method `{recipe.method.name}`, seed {recipe.seed}",
        "stages: " + " -> ".join(f"`{s['run']}`" for s in stages),
        (
            f"trained on: {last.get('hardware') or 'not recorded'}"
            f" ({last.get('device') or 'device not recorded'})"
        ),
        f"prepared data: {last.get('prepared') or 'not recorded'}; corpora: "
        + (", ".join(name for name, _ in last.get("attributions") or []) or "not recorded"),
        *(
            f"{what}: {', '.join(sorted({str(getattr(r, n)) for r in reports}))}"
            for what, n in (
                ("measured on", "hardware"),
                ("runtime", "runtime"),
                ("date", "date"),
                ("code version of the measurement", "code_version"),
            )
        ),
    ]
    return (
        f"### {folder.name}\n\n{recipe.title}. Its [model card]({folder.name}/{paths.CARD}).\n\n"
        + "\n".join(f"- {f}" for f in facts)
        + "\n\n```sh\n"
        + "\n".join(chain.commands(folder, stages))
        + "\n```"
    )
