"""A link to another page that keeps the visitor's session, or a plain one where pages are run on
their own.
"""

from __future__ import annotations

import streamlit as st
from streamlit.errors import StreamlitAPIException


def open_page(name: str) -> None:
    """Go to views/<name>.py at once; outside the router the present page is drawn anew."""
    try:
        st.switch_page(f"views/{name}.py")
    except (StreamlitAPIException, KeyError):
        st.rerun()


def to_page(name: str, label: str, icon: str | None = None) -> None:
    """Link to views/<name>.py; outside the router (tests of one page) an ordinary link to
    /<name>.
    """
    try:
        st.page_link(f"views/{name}.py", label=label, icon=icon)
    except (StreamlitAPIException, KeyError):  # no such page is registered
        st.markdown(f"[{label}]({name})")
