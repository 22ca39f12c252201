"""What a visitor takes home: the size that fits a device, the front as a table, the subnet as JSON
and as its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from core import paths
from core.records import Report, Subnet, as_dict
from core.storage import store
from dashboard import data, measurements
from dashboard.charts import explore as charts
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


@dataclass(frozen=True)
class Download:
    """A button: its file is made when it is clicked."""

    label: str
    icon: str
    file: str
    mime: str
    make: Callable[[], bytes | str]
    help: str

    def show(self, main: bool = False, disabled: bool = False) -> None:
        st.download_button(
            self.label,
            self.make,
            file_name=self.file,
            mime=self.mime,
            key=f"get:{self.label}",
            on_click="ignore",
            icon=f":material/{self.icon}:",
            type="primary" if main else "secondary",
            width="stretch",
            disabled=disabled,
            help=self.help,
        )


def downloads(chosen: choice.Chosen, subnet: Subnet, points: pd.DataFrame) -> None:
    """The size as its file and as JSON, the measured points, and everything as a report."""
    name = f"{chosen.run}-{subnet.name}"
    folder = store.run_folder(chosen.run)
    missing = [part for part in NEEDED if not (folder / part).is_file()]
    with st.container(border=True):
        st.markdown("#### Export")
        Download(
            "This size as a file",
            "download",
            f"{name}.safetensors",
            "application/octet-stream",
            lambda: data.packed(chosen.run, subnet),
            "The very file that is measured: kept values in half precision, masks, tokens,"
            " settings.",
        ).show(main=True, disabled=bool(missing))
        Download(
            "This size as JSON",
            "data_object",
            f"{name}.json",
            "application/json",
            lambda: json.dumps(as_dict(subnet), indent=1),
            "Which share of every layer is kept: a few kilobytes of text.",
        ).show()
        Download(
            "Measured points as CSV",
            "table",
            "front.csv",
            "text/csv",
            lambda: front_csv(charts.front(points, charts.AXES["MB on disk"])),
            "Every measured size with its conditions; estimates (≈) are left out.",
        ).show()
        Download(
            "Report for stakeholders",
            "description",
            f"{name}.html",
            "text/html",
            lambda: stakeholders(chosen, points, 100 * subnet.sparsity),
            "One HTML file with the slider inside: opens offline, e.g. from a mail.",
        ).show()
        if missing:
            st.caption(
                f"No file can be made of this run: {escape(', '.join(missing))} is missing from its"
                " folder."
            )
