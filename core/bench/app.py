"""How quick and how large the dashboard is: a real server and a real headless browser on the
shipped run.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.bench import _browser
from core.bench._relay import Relay
from core.records import option
from core.storage import store

TITLE = "the dashboard in a real browser"
BARE = (  # the least such a page can be
    "import streamlit as st\nst.slider('x', 0, 10)\nst.plotly_chart({'data': [{'y': [1, 2]}]})\n"
)
BARE_DRAWN = ('[data-testid="stSlider"]', ".js-plotly-plot .main-svg")
DRAWN = (".live canvas",)
DRAG_S = 4.0
FRAMES = """() => { window.frames_ = []; let last = 0;
  const step = (now) => { if (last) frames_.push(now - last); last = now;
    window.frame_ = requestAnimationFrame(step); };
  window.frame_ = requestAnimationFrame(step); }"""
AIMS = {
    "frame_ms": 17.0,
    "frame_p95_ms": 34.0,
    "first_page_s": 3.0,
    "slider_ms": 100.0,
    "sent_MB": 2.0,
    "memory_before_MB": 400.0,
    "memory_after_MB": 1500.0,
}
MEANING = {
    "first_page_s": "time to the first page after the server is up, s",
    "bare_page_s": "the same for a page of one slider and one chart: Streamlit's own share, s",
    "frame_ms": "between two frames while the slider is dragged, median, ms",
    "frame_p95_ms": "the same, 95th percentile, ms",
    "slider_ms": "server time from slider release to updated page, median, ms",
    "sent_MB": "sent for the first page by the app (messages and media), MB",
    "memory_before_MB": "server memory before the first transcription, MB",
    "memory_after_MB": "server memory after the first transcription, MB",
    "slider_worst_ms": "the slowest slider release, ms",
    "slider_seen_ms": (
        "from slider release until the browser has taken everything in, drawing included,"
        " median, ms"
    ),
    "slider_kB": "sent per slider release, median, kB",
    "program_MB": "Streamlit's own program files, sent once and then cached by the browser, MB",
    "transcription_s": "first transcription from click to text, loading included, s",
}


@dataclass(frozen=True)
class Options:
    moves: int = option(12, "slider releases to time", low=3, high=200)
    visits: int = option(3, "fresh visits to the first page, the median counts", low=1, high=20)
    browser: str = option("", "the browser's program; empty: found on the path")


def run(options: Options | dict[str, Any]) -> dict[str, Any]:
    """Measures and prints a table with the aims. ValueError without a run or without a browser to
    drive.
    """
    options = Options(**options) if isinstance(options, dict) else options
    if not any(info.finished for info in store.runs()):
        raise ValueError(
            "there is no finished run to show: train one first, or copy one to artifacts/released"
        )
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (bare := Path(folder) / "bare.py").write_text(BARE, encoding="utf-8")
        with _browser.served(script=bare) as server, _browser.browser(options.browser) as chromium:
            figures["bare_page_s"] = round(
                statistics.median(
                    visit(chromium, server.address, BARE_DRAWN)["seconds"]
                    for _ in range(options.visits)
                ),
                2,
            )
    with _browser.served() as server, _browser.browser(options.browser) as chromium:
        first = [visit(chromium, server.address, DRAWN) for _ in range(options.visits)]
        figures["first_page_s"] = round(statistics.median(v["seconds"] for v in first), 2)
        figures["sent_MB"] = round(max(v["app"] for v in first) / 1e6, 3)
        figures["program_MB"] = round(max(v["program"] for v in first) / 1e6, 2)
        figures |= drag(chromium, server.address)
        figures |= slide(chromium, server.address, options.moves)
        figures["memory_before_MB"] = round(server.memory() / 1e6)
        figures["transcription_s"] = transcribe(chromium, server.address)
        figures["memory_after_MB"] = round(server.memory() / 1e6)
    print(TITLE, *table(figures), sep="\n", file=sys.stderr)
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """Lines for people: what was measured, its value, the aim where there is one."""
    width = max(len(text) for text in MEANING.values())
    lines = []
    for name, text in MEANING.items():
        if name in figures:
            aim = (
                f"aim {AIMS[name]:g}: {'reached' if figures[name] <= AIMS[name] else 'missed'}"
                if name in AIMS
                else ""
            )
            lines.append(f"  {text:<{width}}  {figures[name]:>8g}  {aim}".rstrip())
    return lines


# the server


# the browser


def visit(chromium: Any, address: str, drawn: Sequence[str]) -> dict[str, float]:
    """One visit with an empty cache: seconds until everything of `drawn` is there, bytes sent."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    try:
        traffic, start = _browser.Traffic().watch(page), time.perf_counter()
        page.goto(address)
        for part in drawn:
            page.wait_for_selector(part, timeout=_browser.PATIENCE_S * 1000)
        seconds = time.perf_counter() - start
        _browser.settled(page)
        return {"seconds": seconds, "app": traffic.app, "program": traffic.program}
    finally:
        page.close()


def drag(chromium: Any, address: str) -> dict[str, float]:
    """Times between frames while the thumb goes back and forth under the mouse for DRAG_S."""
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    try:
        page.goto(address)
        page.wait_for_selector(DRAWN[0], timeout=_browser.PATIENCE_S * 1000)
        _browser.settled(page)
        box = page.locator(".live input[type=range]").bounding_box()
        middle, end = box["y"] + box["height"] / 2, time.monotonic() + DRAG_S
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.evaluate(FRAMES)
        for step in itertools.count():
            share = abs((step % 100) / 50 - 1)
            page.mouse.move(box["x"] + (0.02 + 0.96 * share) * box["width"], middle)
            if time.monotonic() > end:
                break
        times = page.evaluate("() => { cancelAnimationFrame(window.frame_); return frames_; }")
        page.mouse.up()
        return {
            "frame_ms": round(statistics.median(times), 1),
            "frame_p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
        }
    finally:
        page.close()


def slide(chromium: Any, address: str, moves: int) -> dict[str, float]:
    """Slider releases: the server's time from question to last answer, and the time by the
    browser's own log.
    """
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    try:
        with Relay(int(address.rsplit(":", 1)[1])) as relay:
            traffic = _browser.Traffic().watch(page)
            page.goto(relay.address)
            page.wait_for_selector(DRAWN[0], timeout=_browser.PATIENCE_S * 1000)
            _browser.settled(page)
            thumb = page.locator(".live input[type=range]")
            times, seen, sizes = [], [], []
            for move in range(moves):
                traffic.sent.clear(), traffic.received.clear(), relay.clear()
                before = traffic.app
                thumb.press("ArrowLeft" if move % 2 else "ArrowRight")
                page.wait_for_timeout(400)  # the component waits for more keys before it reports
                _browser.settled(page)
                answers = [t for t in traffic.received if traffic.sent and t >= traffic.sent[0]]
                if answers and (took := relay.took()) is not None:
                    times.append(1000 * took)
                    seen.append(1000 * (answers[-1] - traffic.sent[0]))
                    sizes.append(traffic.app - before)
        if not times:
            raise RuntimeError("the slider moved, but the server did not answer")
        return {
            "slider_ms": round(statistics.median(times), 1),
            "slider_worst_ms": round(max(times), 1),
            "slider_seen_ms": round(statistics.median(seen), 1),
            "slider_kB": round(statistics.median(sizes) / 1000, 1),
        }
    finally:
        page.close()


def transcribe(chromium: Any, address: str) -> float:
    """Seconds from the click to the text for a sample, or a second of noise where none is
    shipped.
    """
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    try:
        page.goto(address + "/transcribe")
        page.wait_for_selector("h1", timeout=_browser.PATIENCE_S * 1000)
        _browser.settled(page)
        page.get_by_text("A sample", exact=True).click()
        _browser.settled(page)
        if not page.locator(".speech canvas").count():
            with tempfile.TemporaryDirectory() as folder:
                _browser.upload(page, noise(Path(folder) / "noise.wav"))
                _browser.settled(page)
        start = time.perf_counter()
        page.get_by_role("button", name="Transcribe and play").click()
        page.get_by_text("Transcripts").wait_for(timeout=_browser.PATIENCE_S * 1000)
        return round(time.perf_counter() - start, 2)
    finally:
        page.close()


def noise(file: Path, seconds: float = 1.0) -> Path:
    """A quiet noise as a 16 kHz WAV."""
    samples = np.random.default_rng(0).normal(0, 2000, int(16000 * seconds)).astype("<i2")
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(16000)
        out.writeframes(samples.tobytes())
    return file
