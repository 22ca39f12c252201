"""What is known of a measured point, as the text of its hover box."""

from __future__ import annotations

import math

import pandas as pd

from dashboard.markdown import plot_text


def hover(row) -> str:
    """Everything that is known of a measured point, as the text of its hover box."""
    return "<br>".join((*_errors(row), *_size(row), *_speed(row), *_conditions(row)))


def _number(value, form: str, missing: str = "not measured") -> str:
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    return missing if absent else form.format(value)


def _errors(row) -> list[str]:
    lines = [
        f"<b>{plot_text(row.subnet)}</b> · {plot_text(row.title or row.run)}",
        f"WER {100 * row.wer:.1f} % (95 % CI {100 * row.wer_low:.1f} to"
        f" {100 * row.wer_high:.1f}), CER {100 * row.cer:.1f} %",
    ]
    if not pd.isna(row.delta_wer):
        p = "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
        lines.append(
            f"{100 * row.delta_wer:+.1f} points against its dense subnet"
            f" ({100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f}, p {p})"
        )
    edits = f"{row.insertions} ins, {row.deletions} del, {row.substitutions} sub"
    return [*lines, f"{edits} in {row.words} words, {row.utterances} utterances"]


def _size(row) -> list[str]:
    return [
        f"{row.file_bytes / 1e6:.2f} MB on disk, {row.zstd_bytes / 1e6:.2f} MB to download",
        f"{row.nonzero_parameters / 1e6:.2f} of {row.parameters / 1e6:.2f} M parameters are"
        " not zero",
        f"sparsity: {100 * row.sparsity:.1f} % of prunable weights, {100 * row.sparsity_whole:.1f}"
        " % of all",
    ]


def _speed(row) -> list[str]:
    in_turn = ""
    if not pd.isna(row.speed_ratio):
        in_turn = (
            f", {row.speed_ratio:.2f} times as fast as its dense subnet"
            f" ({row.speed_ratio_low:.2f} to {row.speed_ratio_high:.2f})"
        )
    return [
        f"{row.mmacs_nonzero_per_second:.0f} MMAC/s needed, {row.mmacs_per_second:.0f} executed",
        f"chunk {_number(row.chunk_median_ms, '{:.1f} ms')}"
        f" (p95 {_number(row.chunk_p95_ms, '{:.1f} ms')}), RTF {_number(row.rtf, '{:.3f}')},"
        f" {row.threads} thread(s){in_turn}",
        f"loaded in {_number(row.load_ms, '{:.0f} ms')},"
        f" {_number(row.bytes_read, '{:,.0f} bytes')} read, at most"
        f" {_number(row.peak_rss_mb, '{:.0f} MB')} of memory",
    ]


def _conditions(row) -> list[str]:
    chunk = "full context"
    if row.chunk_ms != 0:
        chunk = (
            f"{row.chunk_ms:g} ms chunks, look-ahead {row.lookahead_ms:g} ms, left context"
            f" {row.left_context_ms:g} ms"
        )
    return [
        plot_text(f"{row.hardware}, {row.runtime}, {row.precision}"),
        plot_text(f"{row.split}, {chunk}"),
        plot_text(
            f"decoder {row.decoder}, language model {row.language_model or 'none'}, normalizer"
            f" {row.normaliser}"
        ),
        plot_text(
            f"seed {row.seed}, {row.date}, code {row.code_version}, file {row.file_sha256[:12]}"
        ),
    ]
