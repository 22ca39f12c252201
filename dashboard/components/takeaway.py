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
from core.storage import packing, store
from dashboard import data, measurements
from dashboard.charts import explore as charts
from dashboard.components import choice, links
from dashboard.live import data as live_data, report as live_report
from dashboard.markdown import escape
from dashboard.model import errors, fits, test_sets

NEEDED = (
    paths.WEIGHTS,
    paths.TOKENS,
    paths.FEATURE_STATISTICS,
)  # without these no file can be packed


def _preset() -> None:
    limits = fits.PRESETS.get(st.session_state.get("preset"))
    if limits:
        st.session_state.update({f"limit_{n}": v for n, v in vars(limits).items()})


LEAST = 0.1  # of a limit
FIELDS = {  # of Limits: (label, step)
    "mb": ("MB of the file", 1.0),
    "ram": ("MB of RAM", 50.0),
    "ms": ("ms per chunk", 5.0),
    "wer": ("% WER", 5.0),
}


def limits_now() -> fits.Limits:
    """What the form says, or will say where it is yet to be drawn."""
    start = vars(fits.START)
    return fits.Limits(**{n: st.session_state.get(f"limit_{n}", v) for n, v in start.items()})


def limit(limits: dict[str, float]) -> None:
    """Put limits into the form, in a callback."""
    st.session_state.update({f"limit_{n}": max(LEAST, v) for n, v in limits.items()})
    st.session_state["preset"] = None


def fits_my_device(chosen: choice.Chosen, points: pd.DataFrame) -> None:
    """Limits and presets; lists the best measured sizes, or the nearest miss, to compare, choose
    and export.
    """
    with st.container(border=True):
        st.markdown("#### Fits my device")
        for name, value in vars(limits_now()).items():
            st.session_state.setdefault(f"limit_{name}", value)
        st.segmented_control(
            "Start from",
            list(fits.PRESETS),
            key="preset",
            on_change=_preset,
            help="; ".join(
                f"{name}: {x.mb:g} MB as a file, {x.ram:g} MB of RAM, {x.ms:g} ms, {x.wer:g} % WER"
                for name, x in fits.PRESETS.items()
            ),
        )
        limits = {}
        columns = [*st.columns(2), *st.columns(2)]
        for column, (name, (label, step)) in zip(columns, FIELDS.items()):
            limits[name] = column.number_input(
                label,
                LEAST,
                100_000.0,
                step=step,
                key=f"limit_{name}",
                format="%g",
                help="Of the machine under “Times of”." if name in fits.TIMED else None,
            )
        if "times_of" in points:
            st.caption(f"RAM and ms: {escape(points.iloc[0]['times_of'])}.")
        answer = fits.pick(points, fits.Limits(**limits))
        show, icon = (st.success, "check_circle") if answer.fits else (st.warning, "block")
        show(answer.text, icon=f":material/{icon}:")
        if answer.row:
            row = _short_list(answer)
            against(row, chosen, points)
            _take(row, answer.fits)


def _short_list(answer: fits.Answer) -> dict:
    """The size that the visitor picks among those that fit; the best at first."""
    if len(answer.rows) < 2:
        return answer.rows[0]
    by_name = {row["subnet"]: row for row in answer.rows}
    name = st.radio(
        "Short list, fewest errors first",
        list(by_name),
        format_func=lambda name: fits.listed(by_name[name]),
        key=f"short_list:{answer.row['run']}:{':'.join(by_name)}",
    )
    return by_name[name]


def against(row: dict, chosen: choice.Chosen, points: pd.DataFrame) -> None:
    """The picked size against that of the slider, paired by utterance; read when somebody looks."""
    if row["subnet"] == chosen.subnet:
        return
    label = f"{row['subnet']} against {chosen.subnet}, the size of the slider"
    with st.expander(escape(label), key="against_box", on_change="rerun") as box:
        if not box.open:
            return
        sizes = {size.name: size for size in errors.sizes(points[points["run"] == chosen.run])}
        pair = [sizes[name] for name in (chosen.subnet, row["subnet"]) if name in sizes]
        try:
            kept = [errors.hypotheses(size) for size in pair]
        except ValueError as problem:
            st.warning(escape(problem))
            return
        if len(pair) < 2 or not all(map(len, kept)):
            st.info("Both sizes must have been measured on this test set, with every utterance.")
            return
        rows = errors.table(*kept, {})
        st.markdown(escape(errors.headline(*pair, rows, errors.interval(*pair, rows))))
        links.to_page("errors", "Utterance by utterance", ":material/spellcheck:")


def _take(row: dict, fitting: bool) -> None:
    """Choose the size of a row, or export it."""
    st.button(
        "Choose it" if fitting else "Choose it anyway",
        key="choose_fit",
        on_click=choice.choose,
        kwargs={"run": row["run"], "subnet": row["subnet"]},
    )
    file, mime = f"{row['run']}-{row['subnet']}.safetensors", "application/octet-stream"
    Download(
        f"Export {row['subnet']}",
        "download",
        file,
        mime,
        lambda: exported(row["run"], data.subnet(row["run"], row["subnet"])),
        "The packed file of exactly this size, as it was measured.",
        key="export_fit",
    ).show()


def exported(run: str, subnet: Subnet) -> bytes:
    """The packed file that `core export` writes. ValueError where it is not the one measured."""
    from core import export

    content = data.packed(run, subnet)
    export.check_measured(run, subnet.name, packing.sha256(content), data.reports(run))
    return content


def front_csv(drawn: pd.DataFrame) -> bytes:
    """The measured points of the chart as CSV, all fields, `on_front` marked; estimates are never
    in it.
    """
    columns = ["on_front", "beaten", "origin", *Report.__dataclass_fields__]
    return drawn[[c for c in columns if c in drawn]].to_csv(index=False).encode()


def stakeholders(
    chosen: choice.Chosen, points: pd.DataFrame, timed: pd.DataFrame, percent: float
) -> str:
    """The live screen of this model and test set as one HTML file; `timed`: the points with the
    times of the device that was chosen.
    """
    feed = live_data.payload(chosen.run, timed, percent, [], limits_now())
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
    if "times_of" in timed:
        facts["Times of"] = str(timed.iloc[0]["times_of"])
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
    key: str = ""  # of its widget; "" = the label's

    def show(self, main: bool = False, disabled: bool = False) -> None:
        st.download_button(
            self.label,
            self.make,
            file_name=self.file,
            mime=self.mime,
            key=self.key or f"get:{self.label}",
            on_click="ignore",
            icon=f":material/{self.icon}:",
            type="primary" if main else "secondary",
            width="stretch",
            disabled=disabled,
            help=self.help,
        )


def downloads(
    chosen: choice.Chosen, subnet: Subnet, points: pd.DataFrame, timed: pd.DataFrame
) -> None:
    """The size as its file and as JSON, the measured points, and everything as a report, with the
    times of the device that was chosen.
    """
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
            lambda: exported(chosen.run, subnet),
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
            lambda: stakeholders(chosen, points, timed, 100 * subnet.sparsity),
            "One HTML file with the slider inside: opens offline, e.g. from a mail.",
        ).show()
        graph = " --lm open" if (points["decoder"] == "graph").all() else ""
        st.code(
            f"python -m core transcribe {name}.safetensors {subnet.name} FILES{graph}",
            language=None,
            wrap_lines=True,
        )
        if missing:
            st.caption(
                f"No file can be made of this run: {escape(', '.join(missing))} is missing from its"
                " folder."
            )
