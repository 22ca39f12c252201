"""Mounts the components of this folder: NAME.js draws, NAME.css is its look. The live page's is
component.js.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).resolve().parent
MOUNT = '<div class="live"></div>'


def source(name: str) -> str:
    """The text of a file of this folder, such as component.js."""
    return (HERE / name).read_text(encoding="utf-8")


@st.cache_resource(show_spinner=False)
def _registered(name: str, stem: str, html: str, changed: tuple[int, ...]) -> Any:
    css, js = source(f"{stem}.css"), source(f"{stem}.js")
    return st.components.v2.component(name, html=html, css=css, js=js)


def mounted(name: str, stem: str, html: str) -> Any:
    """The mounting command of the component that STEM.js draws into `html`, registered once."""
    files = tuple((HERE / f"{stem}.{ending}").stat().st_mtime_ns for ending in ("js", "css"))
    return _registered(name, stem, html, files)


def live(
    payload: dict[str, Any], key: str, on_size: Callable[[], None], on_limits: Callable[[], None]
) -> None:
    """Mount the live page with a payload of data.py; `on_size` runs when a size was chosen, which
    `chosen_size` then tells, `on_limits` when the box was dragged (`chosen_limits`).
    """
    command = mounted("supernet_live", "component", MOUNT)
    command(key=key, data=payload, on_size_change=on_size, on_limits_change=on_limits)


def chosen_size(key: str) -> tuple[float, str] | None:
    """(percent sparsity, name of the measured size or "") as released last; None before that."""
    state = st.session_state.get(key) or {}
    size = state.get("size")
    return None if not size else (float(size["percent"]), str(size["name"]))


def chosen_limits(key: str) -> dict[str, float] | None:
    """{"mb": of the file, "wer": in %} as the box was dragged last; None before that."""
    state = st.session_state.get(key) or {}
    limits = state.get("limits")
    return limits and {name: float(limits[name]) for name in ("mb", "wer")}
