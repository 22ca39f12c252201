"""The menu “Times of”: the machines that the reports name, or a device with a profile."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.markdown import escape
from dashboard.model import device_times

KEY = "times_of"
REPORTS = "Times of the machines that measured WER"


def pick(points: pd.DataFrame, row: DeltaGenerator) -> device_times.Source | None:
    """The chosen device, by a menu in `row`, which begins with what zeros save in time; None for
    the reports' own times. Without any profile there is no menu.
    """
    found, wrong = device_times.profiles()
    for text in wrong:
        st.warning(f"Device profile {escape(text)}", icon=":material/warning:")
    if not found:
        return None
    offered = device_times.sources(found, points)
    sources = {f"Times of {s.text()}": s for s in offered}
    if not sources:
        mode = f"{points.iloc[0]['chunk_ms']:g} ms chunks in {points.iloc[0]['precision']}"
        st.caption(f"No device was measured at {escape(mode)}.")
        return None
    names = [REPORTS, *sources]
    if st.session_state.get(KEY) not in names:
        start = device_times.start(offered, points)
        st.session_state[KEY] = f"Times of {start.text()}" if start else REPORTS
    name = row.selectbox("Times of", names, key=KEY, label_visibility="collapsed", width=380)
    source = sources.get(name)
    if source:
        lack = device_times.lack(points.iloc[0]["decoder"])
        st.caption(escape(source.note() + (f" Times and RAM{lack}." if lack else "")))
    return source
