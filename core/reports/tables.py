"""Reports as Markdown: tables that never mix decoding conditions, and how a number is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from core.records import Report

CONDITION = (
    "split",
    "chunk_ms",
    "lookahead_ms",
    "left_context_ms",
    "decoder",
    "language_model",
    "precision",
    "engine",
    "normaliser",
)
OPUS_NOTE = (
    "test-clean is stored as Opus at 24 kbit/s here: 2.6 % of its log-mel variance differs from the"
    " original FLAC files, so these numbers are not exactly those of the official set."
)
SYNTHETIC_NOTE = (
    "These voices are synthetic (espeak-ng); voices and sentences do not occur in training. The"
    " number says nothing about human speech and is never averaged with one that does."
)
NOISY_NOTE = "A seeded copy of the clean split with reverberation and noise added."
STRINGS_NOTE = (
    "Single words spoken by people, joined per speaker into strings: continuous in time, not in"
    " speaking."
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what looks like a number is set right by the renderer's own rules."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines
    )


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.2f}"


def wer(report: Report) -> str:
    """WER with its 95 % CI, in %."""
    return f"{100 * report.wer:.1f} ({100 * report.wer_low:.1f} to {100 * report.wer_high:.1f})"


def points(delta: float, low: float, high: float) -> str:
    """A difference of error rates with its 95 % CI, in percentage points."""
    return f"{100 * delta:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def against_dense(report: Report) -> str:
    if report.delta_wer is None:
        return "-"
    return (
        f"{points(report.delta_wer, report.delta_low, report.delta_high)}, p"
        f" {p_text(report.p_value)}"
    )


def p_text(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None, digits: int = 1) -> str:
    return "not recorded" if value is None else f"{value:.{digits}f}"


def by_condition(reports: Iterable[Report]) -> dict[tuple, list[Report]]:
    """{condition: reports measured under exactly it, dense to sparse}, human speech first."""
    groups: dict[tuple, list[Report]] = {}
    for report in reports:
        groups.setdefault(tuple(getattr(report, n) for n in CONDITION), []).append(report)
    order = sorted(groups, key=lambda c: (_place(c[0]), *map(str, c)))
    return {c: sorted(groups[c], key=lambda r: (r.sparsity, r.subnet)) for c in order}


def _place(split: str) -> int:
    """Strings of words first, then read speech, then noisy copies, then synthetic voices."""
    return (
        3
        if "voice_commands" in split
        else 2
        if "noisy" in split
        else 0
        if "strings" in split
        else 1
    )


def condition_text(report: Report) -> str:
    chunk = f"{report.chunk_ms:g} ms chunks" if report.chunk_ms else "full context (not streaming)"
    model = (
        "no language model"
        if report.language_model in ("", "none")
        else f"language model {report.language_model}"
    )
    engine = "" if report.engine == "torch" else f" engine {report.engine},"
    return (
        f"{chunk}, {report.lookahead_ms:g} ms look-ahead beyond the chunk,"
        f" {report.left_context_ms:g} ms left context, {report.decoder} decoding, {model},"
        f"{engine} {report.precision}, normaliser {report.normaliser}"
    )


def split_notes(split: str) -> list[str]:
    """What a reader must know beside a split's numbers."""
    notes = [
        ("voice_commands", SYNTHETIC_NOTE),
        ("strings", STRINGS_NOTE),
        ("noisy", NOISY_NOTE),
        ("test-clean", OPUS_NOTE),
    ]
    return [text for key, text in notes if key in split]


def size_of_split(report: Report) -> str:
    intervals = f"; intervals resample {report.resampled}" if report.resampled else ""
    return (
        f"{report.utterances} utterances, {report.words} words, {report.audio_seconds / 3600:.2f}"
        f" h{intervals}"
    )
