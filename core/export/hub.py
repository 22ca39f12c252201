"""Hugging Face Hub: the run as a folder for a model repository, with a card, the chosen subnets as
packed files, and samples. The folder is a run: every command opens it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core import paths
from core.export import base
from core.records import Report, Subnet
from core.storage import run_files, store

VERSION = 1
PRIVATE = (paths.LOG, paths.TOGETHER)  # what a machine printed
LICENSE = "apache-2.0"  # of this project and the runs it ships


class Format(base.Format):
    """RUN/."""

    def why_not(self, run: Path, subnet: Subnet) -> str:
        finished = (run / paths.FINISHED).is_file()
        return "" if finished else "expected a finished run, got one that is still trained"

    def files(self, packed: base.PackedSubnet, precision: str) -> base.Files:
        name = paths.export_file(Path(), packed.subnet.name).name
        yield f"{packed.run.name}/packed/{name}", packed.data

    def run_files(self, run: Path, subnets: Sequence[Subnet]) -> base.Files:
        for name, file in sorted(_stored(run).items()):
            yield f"{run.name}/{name}", run_files.read(file)
        for file in sorted((paths.RELEASED / paths.SAMPLES).glob("*")):
            if file.is_file():
                yield f"{run.name}/{paths.SAMPLES}/{file.name}", file.read_bytes()
        yield f"{run.name}/{paths.CARD}", _card(run, subnets).encode()


def _stored(run: Path) -> dict[str, Path]:
    """{name: file} of all that a run is, what was added to a shipped one included."""
    found = {p.relative_to(run).as_posix(): p for p in run.rglob("*") if p.is_file()}
    for part in (paths.SUBNETS, paths.REPORTS):
        found = {n: p for n, p in found.items() if not n.startswith(f"{part}/")}
        for pattern in ("*.json", "*.jsonl.zst"):
            found |= {f"{part}/{p.name}": p for p in store.files(run, part, pattern)}
    left_out = (paths.CARD, *PRIVATE)
    return {n: p for n, p in found.items() if paths.RUN_FILE.fullmatch(n) and n not in left_out}


def _card(run: Path, subnets: Sequence[Subnet]) -> str:
    """The model card with the header that the Hub reads; JSON is YAML."""
    recipe = store.recipe(run)
    header = {
        "license": run_files.read_json(run / paths.FINISHED).get("license", LICENSE),
        "language": ["en"],
        "library_name": "supernet-asr",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["streaming", "pruning", "supernet", recipe.model.name, recipe.method.name],
        "model-index": _index(run, {s.name for s in subnets}),
    }
    lines = [f"{n}: {json.dumps(value, ensure_ascii=False)}\n" for n, value in header.items()]
    card = run / paths.CARD
    body = card.read_text(encoding="utf-8") if card.is_file() else f"# {recipe.title or run.name}\n"
    return f"---\n{''.join(lines)}---\n{body.rstrip()}\n\n{_use(run.name, subnets[0].name)}"


def _index(run: Path, subnets: set[str]) -> list[dict[str, Any]]:
    """WER of the exported subnets, as model cards list it."""
    measured = [r for r in store.reports(run) if r.subnet in subnets]
    results = [
        {
            "task": {"type": "automatic-speech-recognition"},
            "dataset": {"name": split, "type": split},
            "metrics": [_metric(r) for r in measured if r.split == split],
        }
        for split in sorted({r.split for r in measured})
    ]
    return [{"name": run.name, "results": results}] if results else []


def _metric(report: Report) -> dict[str, Any]:
    words = "" if report.language_model == "none" else f", {report.language_model}"
    chunk = f"{report.chunk_ms:g} ms chunks" if report.chunk_ms else "full context"
    name = f"WER, {report.subnet}, {chunk}, {report.decoder}{words}"
    return {"type": "wer", "value": round(100 * report.wer, 2), "name": name}


def _use(run: str, subnet: str) -> str:
    return f"""## From the Hub

Upload this folder, or open it again where the project is installed; keep its name, which is the
run's.

```
pip install huggingface_hub
hf upload USER/{run} .
hf download USER/{run} --local-dir {run}
python -m core transcribe ./{run} {subnet} ./{run}/{paths.SAMPLES}/*.opus
```

In `artifacts/runs/` the folder is a run like any other, on the dashboard, too. `packed/` holds
single sizes, each with its checksum.
"""
