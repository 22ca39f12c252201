"""What a Ray cluster says about itself and its jobs, over HTTP in bounded time; needs neither Ray
nor torch.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

WAIT_S = 10.0
DETAILED = 32  # machines of which it is asked what runs there
ENDED = {
    "SUCCEEDED": 0,
    "FAILED": 1,
    "STOPPED": 75,
}  # Ray's words for a job that has ended, as exit codes


class Unreachable(ValueError):
    """The cluster's address does not answer, or not as Ray does."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster. Numbers of devices, not shares of them."""

    address: str
    alive: bool
    head: bool
    cpus: float
    gpus: tuple[str, ...]  # names of the GPUs
    memory_bytes: float
    busy: dict[str, str]  # {"CPU": "1 of 2"} of what is in use
    running: tuple[str, ...]  # what runs on it: names of tasks' and actors' processes


def ask(address: str, path: str, data: dict[str, Any] | None = None, wait_s: float = WAIT_S) -> Any:
    """The JSON answer to GET `path`, or to POST of `data`; None for 404. Unreachable when nothing
    answers within `wait_s`.
    """
    if not address.startswith(("http://", "https://")):
        raise Unreachable(
            f"the cluster's address is {address!r}: its dashboard's is needed, e.g."
            " http://head:8265"
        )
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(
        address.rstrip("/") + path, body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=wait_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Unreachable(
            f"the cluster at {address} answers {path} with {error.code}: "
            f"{' '.join(error.read(300).decode('utf-8', 'replace').split())}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(
            f"no Ray cluster answers at {address} ({reason}): is it running, and is this its"
            " dashboard's address (`ray start --head` prints it)?"
        ) from None


def version(address: str) -> str:
    """Ray's version on the cluster."""
    answer = ask(address, "/api/version")
    if not isinstance(answer, dict) or "ray_version" not in answer:
        raise Unreachable(
            f"what answers at {address} is no Ray cluster: it does not tell its version"
        )
    return answer["ray_version"]


def status(address: str, submission: str) -> tuple[str, str] | None:
    """(Ray's word, its message) of a submitted job; None when the cluster does not know it."""
    answer = ask(address, f"/api/jobs/{submission}")
    return None if answer is None else (answer["status"], answer.get("message") or "")


def log(address: str, submission: str) -> str:
    """All that a submitted job has printed."""
    answer = ask(address, f"/api/jobs/{submission}/logs")
    return (answer or {}).get("logs") or ""


def stop(address: str, submission: str) -> None:
    """SIGTERM for the job; SIGKILL after the time it was submitted with."""
    ask(address, f"/api/jobs/{submission}/stop", {})


def nodes(address: str, wait_s: float = WAIT_S) -> list[Node]:
    """The machines of the cluster, the head first."""
    facts = (ask(address, "/nodes?view=summary", wait_s=wait_s) or {}).get("data", {})
    usage, known = facts.get("nodeLogicalResources") or {}, []
    for number, facts_of_node in enumerate(facts.get("summary", [])):
        name = facts_of_node.get("raylet", {}).get("nodeId", "")
        if (
            number < DETAILED and facts_of_node.get("raylet", {}).get("state") == "ALIVE"
        ):  # the summary does not tell what runs there
            facts_of_node = (ask(address, f"/nodes/{name}", wait_s=wait_s) or {}).get(
                "data", {}
            ).get("detail") or facts_of_node
        known.append(_node(facts_of_node, usage.get(name, "")))
    return sorted(known, key=lambda node: (not node.head, not node.alive, node.address))


def _node(facts: dict[str, Any], usage: str) -> Node:
    raylet = facts.get("raylet", {})
    total = raylet.get("resourcesTotal", {})
    names = tuple(gpu.get("name", "GPU") for gpu in facts.get("gpus") or ())
    counted = int(total.get("GPU", 0))
    running = sorted(" ".join(p.get("cmdline", [""])).strip() for p in facts.get("workers") or ())
    return Node(
        facts.get("ip") or raylet.get("nodeManagerAddress", "?"),
        raylet.get("state") == "ALIVE",
        bool(raylet.get("isHeadNode")),
        total.get("CPU", 0.0),
        names or ("GPU",) * counted,
        float(total.get("memory", 0.0)),
        _busy(usage),
        tuple(
            name
            for name in running
            if name.startswith("ray::") and not name.startswith("ray::IDLE")
        ),
    )


def _busy(usage: str) -> dict[str, str]:
    """{"CPU": "1 of 2"} from lines like "1.0/2.0 CPU"."""
    busy = {}
    for line in usage.splitlines():
        numbers, _, name = line.strip().partition(" ")
        used, slash, total = numbers.partition("/")
        if slash and name in ("CPU", "GPU"):
            busy[name] = f"{float(used):g} of {float(total):g}"
    return busy
