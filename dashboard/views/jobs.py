"""Jobs: the list of jobs alone, which the Train page shows below its form."""

from __future__ import annotations

import streamlit as st

from core.jobs import queue
from dashboard import visit
from dashboard.components import board, links

TITLE = "Jobs"
ICON = ":material/monitoring:"
ORDER = 50
HIDDEN = True  # from the menu; the address stays


def main() -> None:
    st.title("Jobs")
    st.markdown(
        "Work that goes on in the background, one job at a time. You may close this page; the work"
        " goes on."
    )
    visit.may(visit.JOBS)
    board.show()
    try:
        empty = not queue.list_jobs(1)
    except (ValueError, OSError):  # said above
        empty = False
    if empty:
        st.info(
            "No job has been started yet. **Train** starts one, and so does “Measure this size” on"
            " **Explore**."
        )
    links.to_page("train", "Start a training", ":material/school:")


main()
