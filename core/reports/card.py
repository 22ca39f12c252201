"""The model card of a released run, README.md in its folder: every number in it comes from the
run's records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core import cost, paths
from core.records import ModelSpec, Report
from core.registry import catalog
from core.reports import card_training, comparisons, tables
from core.storage import run_files, store

NESTED = (
    "It is a *supernet*: one set of weights out of which every size below is cut by leaving out"
    " blocks of 8 numbers (8x1), the least important ones first, without training again."
)
SHALLOWER = (
    "It is a *supernet*: one set of weights out of which every size below is cut without training"
    " again, by leaving out whole parts ({parts}) that it learned to do without while it was"
    " trained. What is left out is not computed, so its smaller sizes are faster, too."
)
BOTH = (
    "It is a *supernet*: one set of weights out of which every size below is cut without training"
    " again, by leaving out blocks of 8 numbers (8x1), the least important ones first, or whole"
    " parts ({parts}), or both. Only parts that are left out save time, too."
)
CURVE_ROWS = 8
SPEED_NOTE = (
    "Sparsity saves bytes, not time: the runtime multiplies zeros like other numbers, which is"
    " why the"
    " executed MMACs are the same for every size that runs all branches. Times are those of the"
    " machine named, one stream, one thread."
)
TURN_NOTE = (
    "Times of different rows come from different minutes and differ by as much; whether a size is"
    " faster is said only by the last column: the two were timed in turn, it is the median, lowest"
    " and highest of several rounds."
)


def text(folder: Path, stages: list[dict[str, Any]]) -> str:
    """The card of the run in `folder`, whose other files are all in place."""
    reports = store.reports(folder)
    facts = run_files.read_json(folder / paths.COMPARISONS)
    parts = [
        ("", _what(folder, reports)),
        ("What it is for, and what not", _use(reports)),
        ("Results", _results(reports)),
        ("Search against simpler ways at the same bytes", comparisons.text(facts)),
        ("Data", card_training.data(stages)),
        ("How it was trained", card_training.training(folder, stages)),
        ("Decoding conditions", _conditions(reports)),
        ("What limits it", _limits(folder, reports, stages)),
        ("How to use it", _how(folder)),
    ]
    if not facts["rows"]:
        parts = [p for p in parts if not p[0].startswith("Search against")]
    return "\n\n".join((f"## {title}\n\n" if title else "") + body for title, body in parts) + "\n"


def _what(folder: Path, reports: list[Report]) -> str:
    recipe, spec = store.recipe(folder), store.spec(folder)
    sizes = [r.file_bytes for r in reports]
    measured = len({r.subnet for r in reports})
    span = (
        f"one size of {tables.megabytes(sizes[0])} MB is measured"
        if measured == 1
        else (
            f"{measured} sizes from {tables.megabytes(min(sizes))} to"
            f" {tables.megabytes(max(sizes))} MB are measured"
        )
    )
    keeps = [store.subnet(folder, name).keep for name in {r.subnet for r in reports}]
    shallower, zeros = (
        any(cost.branches_off(spec, k) for k in keeps),
        any(0 < share < 1 for k in keeps for share in k.values()),
    )
    parts = ", ".join(f"{kind}s" for kind in dict.fromkeys(u.kind for u in spec.units if u.branch))
    kind = catalog.card("methods", recipe.method.name).display.sentence or (
        (BOTH if zeros else SHALLOWER).format(parts=parts) if shallower else NESTED
    )
    return (
        f"# {recipe.title or folder.name}\n\nA streaming speech recognizer for English: it"
        f" transcribes what"
        f" is said while it is said. {kind} {span[0].upper()}{span[1:]} below; a size is the file"
        f" that a user downloads.\n\nRun `{folder.name}`. Model `{recipe.model.name}`, method"
        f" `{recipe.method.name}`: {cost.parameters(spec) / 1e6:.2f} million parameters,"
        f" {tables.percent(cost.prunable_parameters(spec) / cost.parameters(spec))} of them"
        f" prunable; one output every {spec.frame_ms:g} ms. Never pruned:"
        f" {_never_pruned(spec)}."
    )


def _never_pruned(spec: ModelSpec) -> str:
    """Kinds of tensors that no mask touches, with their parameters, the largest first."""
    kinds: dict[str, int] = {}
    for tensor in spec.fixed:
        parts = [p for p in tensor.name.split(".") if not p.isdigit()]
        kind = (
            "normalizations"
            if any("norm" in p for p in parts)
            else (
                "biases"
                if parts[-1] == "bias"
                else " ".join(p for p in parts if p not in ("blocks", "weight")).replace("_", " ")
            )
        )
        kinds[kind] = kinds.get(kind, 0) + tensor.parameters
    return ", ".join(
        f"{kind} ({count:,})" for kind, count in sorted(kinds.items(), key=lambda k: -k[1]) if count
    )


def _use(reports: list[Report]) -> str:
    best = min(reports, key=lambda r: r.wer)
    worst = max((r for r in reports if r.subnet == best.subnet), key=lambda r: r.wer)
    return (
        "For: seeing, hearing and studying what a recognizer loses when it becomes smaller, and"
        " short spoken commands and strings of words in English.\n\nNot for: dictation, other"
        " languages, telephone speech, several people talking at once, or anything in which a"
        " wrong word does harm. It does not tell speakers apart and must not be used to. Its best"
        f" measured split is {best.split} ({tables.percent(best.wer)} WER with subnet"
        f" `{best.subnet}`), its hardest for the same subnet {worst.split}"
        f" ({tables.percent(worst.wer)})."
    )


def _results(reports: list[Report]) -> str:
    parts = [
        "WER = word error rate with its 95 % CI (bootstrap over speakers, then"
        " utterances). Sparsity = share of prunable weights set to zero. MB = 10^6 bytes of"
        " the file that was"
        " read back and measured."
    ]
    for same in tables.by_condition(reports).values():
        first = same[0]
        parts += [
            f"### {first.split}\n\n{tables.size_of_split(first)}; {tables.condition_text(first)}.",
            result_table(same),
        ]
        parts += tables.split_notes(first.split)
    in_turn = [TURN_NOTE] if any(r.speed_ratio is not None for r in reports) else []
    return "\n\n".join([*parts, SPEED_NOTE, *in_turn])


def result_table(same: list[Report]) -> str:
    """One condition's reports, a row each."""
    head = (
        "subnet",
        "sparsity",
        "MB file",
        "MB zstd",
        "WER % (95 % CI)",
        "against dense, points",
        "CER %",
        "MMACs/s executed",
        "MMACs/s non-zero",
        "ms per chunk, median / p95",
    )
    in_turn = any(r.speed_ratio is not None for r in same)
    head += ("times as fast as dense",) if in_turn else ()
    return tables.table(
        head,
        [
            (
                f"`{r.subnet}`",
                tables.percent(r.sparsity),
                tables.megabytes(r.file_bytes),
                tables.megabytes(r.zstd_bytes),
                tables.wer(r),
                tables.against_dense(r),
                f"{100 * r.cer:.1f}",
                f"{r.mmacs_per_second:.0f}",
                f"{r.mmacs_nonzero_per_second:.0f}",
                _chunk_ms(r),
                *([_times_as_fast(r)] if in_turn else []),
            )
            for r in same
        ],
    )


def _times_as_fast(report: Report) -> str:
    if report.speed_ratio is None:
        return "-"
    return (
        f"{report.speed_ratio:.2f} ({report.speed_ratio_low:.2f} to {report.speed_ratio_high:.2f})"
    )


def _chunk_ms(report: Report) -> str:
    if report.chunk_median_ms is None or report.chunk_p95_ms is None:
        return "-"
    return f"{report.chunk_median_ms:.1f} / {report.chunk_p95_ms:.1f}"


def _conditions(reports: list[Report]) -> str:
    texts = dict.fromkeys(tables.condition_text(r) for r in reports)
    facts = [
        ("measured on", "hardware"),
        ("runtime", "runtime"),
        ("threads for the speed", "threads"),
        ("code version", "code_version"),
        ("date", "date"),
    ]
    data = [
        f"{what}: {', '.join(sorted({str(getattr(r, n)) for r in reports}))}" for what, n in facts
    ]
    return "\n".join(f"- {t}" for t in [*texts, *data])


def _limits(folder: Path, reports: list[Report], stages: list[dict[str, Any]]) -> str:
    known = [s for s in stages if s.get("audio_hours") is not None]
    hours = {c: h for s in stages for c, h in (s.get("data_hours") or {}).items()}
    lines = []
    if known:
        of = f" of {sum(hours.values()):.1f} different hours" if hours else ""
        lines.append(
            f"Speech: {sum(s['audio_hours'] for s in known):.1f} hours of training audio{of}."
            f" Recognizers in"
            " daily use learn from thousands of hours and more."
        )
    unit = store.recipe(folder).tokens.get("kind", "pieces").replace("pieces", "word pieces")
    lines += [
        "Words: those of the decoding graph alone; others become what sounds alike."
        if unit == "phonemes"
        else f"Words: spelled with {unit} of the training text; no language model corrects the"
        " spelling.",
        (
            "Voices: read and commanded English by mostly adult speakers, and synthetic voices;"
            " accents, ages and rooms beyond those were not measured."
        ),
        "Reports hold hypotheses and edit counts, no reference text of third-party corpora.",
    ]
    options = catalog.card("methods", store.recipe(folder).method.name).options
    if any(o.name == "sparsest" for o in options):
        lines.append(
            "Sizes sparser than the sparsest trained are not offered: they were never trained."
        )
    return "\n".join(f"- {line}" for line in lines)


def _how(folder: Path) -> str:
    sample = next(
        (
            f"artifacts/released/{paths.SAMPLES}/{f.name}"
            for f in sorted((paths.RELEASED / paths.SAMPLES).glob("*.opus"))
        ),
        "FILE",
    )
    names = [s.name for s in store.subnets(folder)]
    return (
        f"```sh\npython -m core transcribe {folder.name} {names[0]} {sample}\n```\n\nSubnets: "
        + ", ".join(f"`{n}`" for n in names)
        + ". In the dashboard, Explore gives each of them as one file; Transcribe lets you hear"
        " them."
    )
