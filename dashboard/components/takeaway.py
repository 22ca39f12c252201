"""What a visitor takes home: the size that fits a device, the front as a table, the subnet as JSON
and as its file.
"""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from core import paths
from core.records import Report, Subnet, as_dict
from core.storage import store
from dashboard import data, measurements
from dashboard.components import choice
from dashboard.live import data as live_data, report as live_report
from dashboard.markdown import escape
from dashboard.model import fits, test_sets

NEEDED = (
    paths.WEIGHTS,
    paths.TOKENS,
    paths.FEATURE_STATISTICS,
)  # without these no file can be packed


def _preset() -> None:
    limits = fits.PRESETS.get(st.session_state.get("preset"))
    if limits:
        st.session_state.update(limit_mb=limits.mb, limit_ms=limits.ms, limit_wer=limits.wer)


def fits_my_device(points: pd.DataFrame) -> None:
    """Limits and presets; picks the best measured size or says why none fits."""
    with st.container(border=True):
        st.markdown("#### Fits my device")
        for key, value in zip(("mb", "ms", "wer"), (8.0, 40.0, 25.0)):
            st.session_state.setdefault(f"limit_{key}", value)
        st.segmented_control(
            "Start from",
            list(fits.PRESETS),
            key="preset",
            on_change=_preset,
            help="; ".join(
                f"{name}: {x.mb:g} MB, {x.ms:g} ms, {x.wer:g} % WER"
                for name, x in fits.PRESETS.items()
            ),
        )
        columns = st.columns(3)
        mb = columns[0].number_input(
            "MB at most", 0.1, 10_000.0, step=1.0, key="limit_mb", format="%g"
        )
        ms = columns[1].number_input(
            "ms per chunk",
            0.1,
            10_000.0,
            step=5.0,
            key="limit_ms",
            format="%g",
            help=(
                "Median time for one piece of sound on the machine that measured, "
                "not on your device."
            ),
        )
        wer = columns[2].number_input("% WER", 0.1, 200.0, step=5.0, key="limit_wer", format="%g")
        answer = fits.pick(points, fits.Limits(mb, ms, wer))
        if answer.best is None:
            st.warning(answer.text, icon=":material/block:")
            return
        st.success(answer.text, icon=":material/check_circle:")
        st.button(
            "Choose it",
            key="choose_fit",
            on_click=choice.choose,
            kwargs={"run": answer.best["run"], "subnet": answer.best["subnet"]},
        )


def front_csv(drawn: pd.DataFrame) -> bytes:
    """The measured points of the chart as CSV, all fields, `on_front` marked; estimates are never
    in it.
    """
    columns = ["on_front", "beaten", "origin", *Report.__dataclass_fields__]
    return drawn[[c for c in columns if c in drawn]].to_csv(index=False).encode()


def stakeholders(chosen: choice.Chosen, points: pd.DataFrame, percent: float) -> str:
    """The live screen of this model and test set as one HTML file."""
    feed = live_data.payload(chosen.run, points, percent, [])
    if feed is None:
        raise ValueError("a report needs at least two measured sizes")
    rows = points[points["run"] == chosen.run]
    row = rows.iloc[(100 * rows["sparsity"] - percent).abs().argmin()]
    facts = {
        "Model": chosen.run,
        "Test set": f"{test_sets.name(row['split'])}: {row['utterances']} utterances,"
        f" {row['audio_seconds'] / 60:.0f} minutes",
        "Streaming mode": test_sets.mode(tuple(row[name] for name in measurements.CONDITION[1:])),
        "Measured": f"{row['date']} on {row['hardware']}, {row['runtime']}",
        "SHA-256 of the file measured": str(row["file_sha256"]),
    }
    commands = [
        f"python -m core evaluate {chosen.run} --subnets {row['subnet']} --splits {row['split']}",
        f"python -m core export {chosen.run} --subnets {row['subnet']}",
    ]
    return live_report.document(
        feed, data.run_title(chosen.run), test_sets.name(row["split"]), facts, commands
    )


def downloads(
    chosen: choice.Chosen, subnet: Subnet, point: dict, drawn: pd.DataFrame, points: pd.DataFrame
) -> None:
    """Front as CSV (and as picture by the chart's own button), subnet as JSON, subnet as its
    file, everything as a report.
    """
    with st.container(border=True):
        st.markdown("#### Take it with you")
        name = f"{chosen.run}-{subnet.name}"
        folder = store.run_folder(chosen.run)
        missing = [part for part in NEEDED if not (folder / part).is_file()]
        st.download_button(
            "This size as a file",
            lambda: data.packed(chosen.run, subnet),  # made when clicked
            file_name=f"{name}.safetensors",
            mime="application/octet-stream",
            key="get_file",
            on_click="ignore",
            icon=":material/download:",
            type="primary",
            width="stretch",
            disabled=bool(missing),
            help=(
                "The very file that is measured: kept values in half precision, masks, tokens, "
                "settings. Packed when you click."
            ),
        )
        st.download_button(
            "This size as JSON",
            lambda: json.dumps(as_dict(subnet), indent=1),
            file_name=f"{name}.json",
            mime="application/json",
            key="get_json",
            on_click="ignore",
            icon=":material/data_object:",
            width="stretch",
            help="Which share of every layer is kept: a few kilobytes of text.",
        )
        st.download_button(
            "Measured points as CSV",
            lambda: front_csv(drawn),
            file_name="front.csv",
            mime="text/csv",
            key="get_csv",
            on_click="ignore",
            icon=":material/table:",
            width="stretch",
            help=(
                "Every measured point of the chart with its conditions; estimates (≈) are left out."
            ),
        )
        st.download_button(
            "Report for stakeholders",
            lambda: stakeholders(chosen, points, 100 * subnet.sparsity),
            file_name=f"{name}.html",
            mime="text/html",
            key="get_report",
            on_click="ignore",
            icon=":material/description:",
            width="stretch",
            help="One HTML file with the slider inside: opens offline, e.g. from a mail.",
        )
        if missing:
            st.caption(
                f"No file can be made of this run: {escape(', '.join(missing))} is missing from its"
                " folder."
            )
        st.caption(
            "The camera :material/photo_camera: in the chart's upper right corner saves it as a PNG"
            " picture."
            if point["measured"]
            else (
                "This size is not measured yet: its file is complete, but the chart has no camera"
                " :material/photo_camera: until a measured size is chosen, because estimates are"
                " never exported."
            )
        )
