"""Registers the live component with Streamlit and mounts it; the drawing is component.js."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).resolve().parent
MOUNT = '<div class="live"></div>'


def source(name: str) -> str:
    """The text of component.js or component.css."""
    return (HERE / name).read_text(encoding="utf-8")


@st.cache_resource(show_spinner=False)
def _registered(changed: tuple[int, ...]) -> Any:
    return st.components.v2.component(
        "supernet_live", html=MOUNT, css=source("component.css"), js=source("component.js")
    )


def live(payload: dict[str, Any], key: str, on_size: Callable[[], None]) -> None:
    """Mount the component with a payload of data.py; `on_size` runs when a size was chosen, which
    `chosen_size` then tells.
    """
    files = tuple((HERE / name).stat().st_mtime_ns for name in ("component.js", "component.css"))
    _registered(files)(key=key, data=payload, on_size_change=on_size, on_limits_change=lambda: None)


def chosen_size(key: str) -> tuple[float, str] | None:
    """(percent sparsity, name of the measured size or "") as released last; None before that."""
    state = st.session_state.get(key) or {}
    size = state.get("size")
    return None if not size else (float(size["percent"]), str(size["name"]))
