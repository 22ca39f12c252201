"""Evidence: what has been claimed and how it was tested, every experiment, and models side by side
on one chart.
"""

from __future__ import annotations

import streamlit as st

from dashboard.components import claims, experiments, models

TITLE = "Evidence"
ICON = ":material/balance:"
ORDER = 10
FORMER = "compare"  # its address before
PARTS = {
    "Claims": claims.shown,
    "All experiments": experiments.shown,
    "Models side by side": models.shown,
}


def main() -> None:
    st.title("Evidence")
    st.markdown("What we claim about models that are made small, and how each claim was tested.")
    tabs = st.tabs(list(PARTS), key="evidence_part", on_change="rerun", bind="query-params")
    for tab, show in zip(tabs, PARTS.values()):
        if tab.open:
            with tab:
                show()


main()
