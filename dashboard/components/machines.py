"""The machines of Ray clusters as a table: what each has, how much of it is in use, and what runs
there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pandas as pd
import streamlit as st

from core.jobs import ray_client
from core.jobs.job import Job
from dashboard.markdown import escape

WAIT_S = 2.0  # a page waits no longer for a cluster
KEPT_S = 5.0  # seconds until a cluster is asked again


def addresses(jobs: Iterable[Job]) -> list[str]:
    """Where clusters are: the one of the environment, and those of the jobs that wait or run."""
    known = [os.environ.get("RAY_API_SERVER_ADDRESS", "")]
    known += [job.settings.get("address", "") for job in jobs if job.state in ("queued", "running")]
    return [address for address in dict.fromkeys(known) if address.startswith("http")]


@st.cache_data(ttl=KEPT_S, max_entries=8, show_spinner=False)
def nodes(address: str) -> tuple[list[ray_client.Node], str]:
    """The machines, and why they cannot be told."""
    try:
        return ray_client.nodes(address, WAIT_S), ""
    except ValueError as problem:
        return [], str(problem)


def gigabytes(byte_count: float) -> str:
    return f"{byte_count / 1e9:.1f} GB"


def table(machines: list[ray_client.Node]) -> pd.DataFrame:
    """A row per machine."""
    return pd.DataFrame(
        [
            {
                "machine": node.address + (" (head)" if node.head else ""),
                "state": "alive" if node.alive else "gone",
                "devices": ", ".join([*node.gpus, f"{node.cpus:g} processors"]),
                "memory": gigabytes(node.memory_bytes),
                "in use": (
                    ", ".join(f"{name} {share}" for name, share in node.busy.items()) or "nothing"
                ),
                "runs": ", ".join(name.removeprefix("ray::") for name in node.running) or "nothing",
            }
            for node in machines
        ]
    )


def show(jobs: list[Job]) -> None:
    """A table for every cluster, under it which of these jobs are on which of its machines."""
    for address in addresses(jobs):
        st.subheader("Cluster")
        machines, problem = nodes(address)
        if problem:
            st.warning(escape(problem))
            continue
        alive = [node for node in machines if node.alive]
        gpus, processors = sum(len(node.gpus) for node in alive), sum(node.cpus for node in alive)
        st.caption(
            f"{escape(address)}: {len(alive)} machine{'s' if len(alive) != 1 else ''}, {gpus}"
            f" GPU{'s' if gpus != 1 else ''}, {processors:g} processors"
        )
        st.dataframe(table(machines), hide_index=True, width="stretch")
        for job in jobs:
            if (
                job.state == "running"
                and job.settings.get("address") == address
                and job.place != job.runner
            ):
                st.caption(f"Job {job.id} is on {escape(job.place)}")
