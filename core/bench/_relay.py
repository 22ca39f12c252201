"""A relay between browser and server that notes when the server is asked and when it has answered.

The browser's own log is no clock for the server: it notes a message when its page gets round to it,
and on two cores the page is busy drawing the chart for 100 to 150 ms in the midst of an update
(seen in the notes of ten releases).
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Relay:
    """Listens on `address` while the block lasts and passes everything on to `port`; notes times of
    WebSocket traffic only.
    """

    port: int
    sent: list[float] = field(default_factory=list)  # times of bytes from the browser, s
    answered: list[float] = field(default_factory=list)  # times of bytes from the server, s

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def clear(self) -> None:
        self.sent.clear()
        self.answered.clear()

    def took(self) -> float | None:
        """Seconds from the first question to the last byte of the answer since `clear`; None when
        nothing was asked or answered.
        """
        answers = [t for t in self.answered if self.sent and t >= self.sent[0]]
        return answers[-1] - self.sent[0] if answers else None

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            live = threading.Event()  # this connection became a WebSocket
            for start, end, times in (
                (browser, server, self.sent),
                (server, browser, self.answered),
            ):
                threading.Thread(
                    target=_pass_on, args=(start, end, times, live), daemon=True
                ).start()


def _pass_on(
    start: socket.socket, end: socket.socket, times: list[float], live: threading.Event
) -> None:
    try:
        while data := start.recv(1 << 16):
            if live.is_set():
                times.append(time.perf_counter())
            elif b"upgrade: websocket" in data[:4096].lower():
                live.set()
            end.sendall(data)
        end.shutdown(socket.SHUT_WR)
    except OSError:  # one side went away; so does the other
        end.close()
