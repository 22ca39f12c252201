"""Device profiles for tests: times by a formula of a stand-in run's sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.records import as_dict
from core.storage import device_cost, devices, packing, store

SIZES = ("dense", "s50", "s70", "s90")


def times(engine: str, work: device_cost.Work) -> float:
    """ms per chunk on the made-up machine."""
    macs = work.mmacs_nonzero if engine == "sparse" else work.mmacs
    return 0.5 + 0.01 * work.branches + 2 * macs


def made(run: Path, sizes: tuple[str, ...] = SIZES, **changed: Any) -> dict[str, Any]:
    """A whole profile of the run, as JSON data; onnx with 1 and 2 threads, sparse with one."""
    spec, shapes, timings = store.spec(run), [], []
    for size in sizes:
        subnet = store.subnet(run, size)
        data = packing.pack(run, subnet)
        work = device_cost.work(spec, subnet.keep)
        facts = {"run": run.name, "subnet": size, "model": spec.model, "chunk_ms": 320.0}
        files = {"packed_sha256": packing.sha256(data), "file_bytes": len(data)}
        shapes.append(as_dict(work) | facts | files)
        for engine, threads in (("onnx", 1), ("onnx", 2), ("sparse", 1)):
            ms = times(engine, work) / threads
            arm = {"subnet": size, "engine": engine, "precision": "fp32", "threads": threads}
            facts = {"ms": ms, "ms_p95": 2 * ms, "load_ms": 3.0, "rss_mb": 10 + ms, "chunks": 50}
            timings.append(arm | facts | {"agreement": 1.0})
    return {
        "format": devices.FORMAT,
        "version": devices.VERSION,
        "name": "Board 4",
        "date": "2026-01-01",
        "machine": {
            "processor": "Core X",
            "cores": 4,
            "memory_mb": 4000.0,
            "system": "Linux aarch64",
            "python": "3.11.2",
        },
        "runtimes": {"onnx": "onnxruntime 1.0", "sparse": "gcc"},
        "shapes": shapes,
        "timings": timings,
    } | changed


def write(file: Path, data: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), encoding="utf-8")
    return file
