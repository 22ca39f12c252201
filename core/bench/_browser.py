"""A real dashboard server and a headless Chromium that visits it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import paths

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


QUIET_S = 0.4  # without a message for this long, an update is over


PATIENCE_S = 60.0


@dataclass
class Server:
    """A running dashboard."""

    address: str
    process: subprocess.Popen
    log: Path

    def memory(self) -> int:
        """Resident bytes of the server and its children."""
        import psutil

        local = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in (local, *local.children(recursive=True)))


@contextlib.contextmanager
def served(
    environment: dict[str, str] | None = None, script: Path | None = None
) -> Iterator[Server]:
    """The dashboard (or another script) on a free port, up when the block begins, ended with it.
    RuntimeError with its log if it dies.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log, policy = Path(folder) / "log.txt", Path(folder) / "server.toml"
        policy.write_text("build_ahead = false\n")  # no work beside what is looked at
        asked = {"SUPERNET_SERVER": str(policy)} | (environment or {})
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "streamlit",
                    "run",
                    str(script or paths.ROOT / "dashboard" / "app.py"),
                    "--server.headless=true",
                    f"--server.port={port}",
                    "--server.address=127.0.0.1",
                    "--server.fileWatcherType=none",
                    "--browser.gatherUsageStats=false",
                ],
                cwd=paths.ROOT,
                env=os.environ | asked,
                stdout=out,
                stderr=out,
            )
        try:
            server = Server(f"http://127.0.0.1:{port}", process, log)
            _wait_until_up(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_up(server: Server) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.address + "/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(
        f"the dashboard did not start:\n{server.log.read_text(errors='replace')[-2000:]}"
    )


@contextlib.contextmanager
def browser(program: str = "", flags: Sequence[str] = ()) -> Iterator[Any]:
    """A headless Chromium driven by playwright. ValueError when one of the two is missing."""
    program = program or next((path for name in BROWSERS if (path := shutil.which(name))), "")
    if not program:
        raise ValueError(
            f"no browser found: install one of {', '.join(BROWSERS)}, or say browser=<program>"
        )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("playwright is missing: pip install -r tests/requirements.txt") from None
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass
class Traffic:
    """What one page sends and gets, as the browser's own network log tells it."""

    app: int = 0  # bytes of messages and media made by the dashboard
    program: int = 0  # bytes of Streamlit's own files
    sent: list[float] = field(default_factory=list)  # times of messages to the server, s
    received: list[float] = field(default_factory=list)  # times of messages from the server, s

    def watch(self, page: Any) -> Traffic:
        log, urls = page.context.new_cdp_session(page), {}
        log.on(
            "Network.requestWillBeSent",
            lambda e: urls.update({e["requestId"]: e["request"]["url"]}),
        )
        log.on(
            "Network.loadingFinished",
            lambda e: self._loaded(urls.get(e["requestId"], ""), e["encodedDataLength"]),
        )
        log.on("Network.webSocketFrameSent", lambda e: self.sent.append(e["timestamp"]))
        log.on("Network.webSocketFrameReceived", self._frame)
        log.send("Network.enable")
        return self

    def _loaded(self, url: str, byte_count: float) -> None:
        if "/media/" in url:
            self.app += int(byte_count)
        else:
            self.program += int(byte_count)

    def _frame(self, event: dict[str, Any]) -> None:
        data, binary = event["response"]["payloadData"], event["response"]["opcode"] == 2
        self.app += len(data) * 3 // 4 if binary else len(data)  # binary frames are told in base64
        self.received.append(event["timestamp"])


def settled(page: Any) -> None:
    """Wait until the page's script has run and nothing has arrived for a moment."""
    page.wait_for_selector(
        '[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=PATIENCE_S * 1000
    )
    page.wait_for_timeout(QUIET_S * 1000)
    page.wait_for_selector(
        '[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=PATIENCE_S * 1000
    )


def upload(page: Any, file: Path) -> None:
    """Hand a file to the Transcribe page."""
    page.get_by_text("A file", exact=True).click()
    page.locator('input[type="file"]').set_input_files(str(file))
    page.locator(".speech canvas").wait_for(timeout=PATIENCE_S * 1000)
