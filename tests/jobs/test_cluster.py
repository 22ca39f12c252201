"""A cluster's answers over HTTP become records, in bounded time, and what is no cluster is said."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from core.jobs import ray_client

pytestmark = pytest.mark.slow

# as Ray 2.60 answers, shortened
RAYLET = {
    "nodeId": "ab12",
    "state": "ALIVE",
    "isHeadNode": True,
    "resourcesTotal": {"CPU": 2.0, "memory": 8e9},
    "nodeManagerAddress": "10.0.0.1",
}
WORKERS = [
    {"pid": 7, "cmdline": ["ray::RayTrainWorker", "", ""]},
    {"pid": 8, "cmdline": ["ray::IDLE", ""]},
]
ANSWERS = {
    "/api/version": {"version": "4", "ray_version": "2.60.0"},
    "/nodes?view=summary": {
        "data": {
            "summary": [
                {"raylet": {"nodeId": "cd34", "state": "DEAD", "nodeManagerAddress": "10.0.0.2"}},
                {"ip": "10.0.0.1", "raylet": RAYLET},
            ],
            "nodeLogicalResources": {"ab12": "1.0/2.0 CPU\n0B/7.45GiB memory"},
        }
    },
    "/nodes/ab12": {
        "data": {
            "detail": {
                "ip": "10.0.0.1",
                "raylet": RAYLET,
                "gpus": [{"name": "NVIDIA T4"}],
                "workers": WORKERS,
            }
        }
    },
    "/api/jobs/core-1": {"status": "RUNNING", "message": None},
    "/api/jobs/core-1/logs": {"logs": "one\n"},
}


@pytest.fixture(scope="module")
def server():
    class Answers(BaseHTTPRequestHandler):
        posted: list[str] = []

        def do_GET(self):
            found = ANSWERS.get(self.path)
            self.send_response(200 if found else 500 if self.path == "/broken" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode() if found else b"out of order")

        def do_POST(self):
            self.posted.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    made = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}", Answers.posted
    made.shutdown()


def test_machines_jobs_and_versions(server):
    address, posted = server
    assert ray_client.version(address) == "2.60.0"
    head, gone = ray_client.nodes(address)
    assert head == ray_client.Node(
        "10.0.0.1",
        True,
        True,
        2.0,
        ("NVIDIA T4",),
        8e9,
        {"CPU": "1 of 2"},
        ("ray::RayTrainWorker",),
    )
    assert (gone.address, gone.alive, gone.running) == ("10.0.0.2", False, ())
    assert (
        ray_client.status(address, "core-1") == ("RUNNING", "")
        and ray_client.status(address, "core-2") is None
    )
    assert ray_client.log(address, "core-1") == "one\n"
    ray_client.stop(address, "core-1")
    assert posted == ["/api/jobs/core-1/stop"]


def test_what_is_no_cluster_is_said_in_bounded_time(server):
    with pytest.raises(ray_client.Unreachable, match="answers /broken with 500: out of order"):
        ray_client.ask(server[0], "/broken")
    with pytest.raises(
        ray_client.Unreachable, match="no Ray cluster answers at http://127.0.0.1:9"
    ):
        ray_client.version("http://127.0.0.1:9")
    with pytest.raises(ray_client.Unreachable, match="its dashboard's is needed"):
        ray_client.version("head:6379")
    with socket.socket() as silent:  # takes the call and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(ray_client.Unreachable, match="timed out"):
            ray_client.ask(
                f"http://127.0.0.1:{silent.getsockname()[1]}", "/api/version", wait_s=0.3
            )
        assert time.monotonic() - began < 30
