"""What is known of a measured point, as the text of its hover box."""

from __future__ import annotations

import math

import pandas as pd

from dashboard.markdown import plot_text


def predicted(row) -> bool:
    """Whether the row's times are predicted from those of other sizes."""
    return bool(getattr(row, "predicted", False))


def hover(row) -> str:
    """Everything that is known of a measured point, as the text of its hover box."""

    def number(value, form: str, missing: str = "not measured") -> str:
        return (
            missing
            if value is None or (isinstance(value, float) and math.isnan(value))
            else form.format(value)
        )

    chunk = (
        "full context"
        if row.chunk_ms == 0
        else (
            f"{row.chunk_ms:g} ms chunks, look-ahead {row.lookahead_ms:g} ms, left context"
            f" {row.left_context_ms:g} ms"
        )
    )
    against = (
        ()
        if pd.isna(row.delta_wer)
        else (
            (
                f"{100 * row.delta_wer:+.1f} points against its dense subnet"
                f" ({100 * row.delta_low:+.1f} to {100 * row.delta_high:+.1f}, p"
                f" {'< 0.001' if row.p_value < 0.001 else f'{row.p_value:.3f}'})"
            ),
        )
    )
    in_turn = (
        ""
        if pd.isna(row.speed_ratio)
        else (
            f", {row.speed_ratio:.2f} times as fast as its dense subnet"
            f" ({row.speed_ratio_low:.2f} to"
            f" {row.speed_ratio_high:.2f})"
        )
    )
    return "<br>".join(
        (
            f"<b>{plot_text(row.subnet)}</b> · {plot_text(row.title or row.run)}",
            (
                f"WER {100 * row.wer:.1f} % (95 % CI {100 * row.wer_low:.1f} to"
                f" {100 * row.wer_high:.1f}), CER {100 * row.cer:.1f} %"
            ),
            *against,
            (
                f"{row.insertions} ins, {row.deletions} del, {row.substitutions} sub in {row.words}"
                f" words, {row.utterances} utterances"
            ),
            f"{row.file_bytes / 1e6:.2f} MB on disk, {row.zstd_bytes / 1e6:.2f} MB to download",
            (
                f"{row.nonzero_parameters / 1e6:.2f} of {row.parameters / 1e6:.2f} M parameters are"
                " not zero"
            ),
            (
                f"zeros: {100 * row.sparsity:.1f} % of prunable, {100 * row.sparsity_whole:.1f} %"
                " of all weights"
            ),
            (
                f"{row.mmacs_nonzero_per_second:.0f} MMAC/s needed, {row.mmacs_per_second:.0f}"
                " executed"
            ),
            (
                f"{'≈ predicted: ' if predicted(row) else ''}"
                f"chunk {number(row.chunk_median_ms, '{:.1f} ms')} (p95"
                f" {number(row.chunk_p95_ms, '{:.1f} ms')}), RTF {number(row.rtf, '{:.3f}')},"
                f" {row.threads} thread(s){in_turn}"
            ),
            (
                f"loaded in {number(row.load_ms, '{:.0f} ms')},"
                f" {number(row.bytes_read, '{:,.0f} bytes')} read, at most"
                f" {number(row.peak_rss_mb, '{:.0f} MB')} of memory"
            ),
            plot_text(f"{row.hardware}, {row.runtime}, {row.precision}"),
            plot_text(f"{row.split}, {chunk}"),
            plot_text(
                f"decoder {row.decoder}, language model {row.language_model or 'none'}, normaliser"
                f" {row.normaliser}"
            ),
            plot_text(
                f"seed {row.seed}, {row.date}, code {row.code_version}, file {row.file_sha256[:12]}"
            ),
        )
    )
