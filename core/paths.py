"""Every file and folder name of the project, said once. No file is opened here."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "core"
RECIPES = CORE / "recipes"
COMPARISONS_FOLDER = CORE / "comparisons"  # recipe sets
RELEASED = ROOT / "artifacts" / "released"
COMPARED = RELEASED / "comparison"  # what their arms left: records without weights, and a page each
CLAIMS, CLAIMS_PAGE = "claims.json", "CLAIMS.md"  # in it: what the comparisons say of the claims


def artifacts() -> Path:
    """Where this machine's runs, prepared data and queue live; SUPERNET_ARTIFACTS moves it (tests
    do).
    """
    return Path(os.environ.get("SUPERNET_ARTIFACTS", ROOT / "artifacts"))


def runs() -> Path:
    return artifacts() / "runs"


def added() -> Path:
    """What this machine adds to released runs; no run's name begins with a dot."""
    return runs() / ".added"


def prepared() -> Path:
    return artifacts() / "prepared"


def language_models() -> Path:
    """ARPA files that `core lm` writes and the Transcribe page offers."""
    return artifacts() / "lm"


def graphs() -> Path:
    """Decoding graphs, each in a folder named by a hash of what it was built from."""
    return artifacts() / "graphs"


def native() -> Path:
    """C code compiled for this machine's processor, by a hash of what it was built from."""
    return artifacts() / "native"


def speeds() -> Path:
    """What work has cost on this machine, for estimates."""
    return artifacts() / "speeds.json"


def devices() -> Path:
    """Profiles of machines, DEVICE.json, that `core bench device` writes there or elsewhere."""
    return artifacts() / "devices"


def test_sets() -> Path:
    """A user's own recordings to measure on: NAME.json, and NAME/ where they were uploaded."""
    return artifacts() / "test_sets"


def released_devices() -> Path:
    """Profiles of the machines on which the released supernet was timed."""
    return RELEASED / "devices"


def exports(run: str) -> Path:
    """Files of a run's sizes that `core export` writes, to be taken elsewhere."""
    return artifacts() / "exports" / run


def export_file(folder: Path, subnet: str) -> Path:
    return folder / f"{subnet}.safetensors"


def checksum_file(file: Path) -> Path:
    """Beside a packed file that was exported: its SHA-256, as sha256sum writes and checks it."""
    return file.with_name(f"{file.name}.sha256")


def jobs_database() -> Path:
    return artifacts() / "jobs.db"


def job_log(job_id: int) -> Path:
    return runs() / f"job-{job_id}.log"


def worker_log() -> Path:
    return artifacts() / "worker.log"


# inside a run's folder
RECIPE = "recipe.json"
UNITS = "units.json"
WEIGHTS = "weights.safetensors"  # the averaged dense set, fp16
METRICS = "metrics.jsonl"
LOG = "log.txt"
TOGETHER = "together.txt"  # of runs of several processes: what it is called on any machine
CARD = "README.md"  # the model card
CHAIN = "chain.json"  # of released runs: the stages that led to it
COMPARISONS = (  # of released runs: searched subnets against others of the same bytes
    "comparisons.json"
)
RANKS = "ranks"  # final.safetensors and step-<n>.safetensors
CHECKPOINT = "checkpoint"
TENSORBOARD = "tensorboard"
SEARCHES = ("search.json", "random.json")  # where a search of sizes goes on
SUBNETS = "subnets"  # <name>.json
REPORTS = "reports"  # <subnet>.<split with / as _>.<chunk ms>.json and .jsonl.zst
FINISHED = "finished.json"  # marker, written last
SAMPLES = "samples"  # under released/: spoken samples
RESULTS = "RESULTS.md"  # under released/: every measurement in tables
SCALE = "SCALE.md"  # under released/: what many GPUs would take, worked out
TOKENS = "tokens.txt"
BPE = "bpe.model"
FEATURE_STATISTICS = "statistics.json"  # global mean and standard deviation per bin

# Every file that a finished run may have, by its relative name: what is copied between machines,
# and nothing else.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_SPLIT = (  # of reports, which begin with a subnet's name: splits are called as people like
    r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*"
)
_PLAIN = "|".join(
    map(
        re.escape,
        (
            RECIPE,
            UNITS,
            WEIGHTS,
            METRICS,
            LOG,
            TOGETHER,
            CARD,
            CHAIN,
            COMPARISONS,
            FINISHED,
            TOKENS,
            BPE,
            FEATURE_STATISTICS,
            *SEARCHES,
        ),
    )
)
RUN_FILE = re.compile(
    rf"{_PLAIN}|{RANKS}/(final|step-\d+)\.safetensors|{RANKS}/left_out\.json|{SUBNETS}/{_NAME}\.json"
    rf"|{REPORTS}/{_SPLIT}\.(json|jsonl\.zst)"
)


def ranks_file(run: Path, step: int | None = None) -> Path:
    return run / RANKS / ("final.safetensors" if step is None else f"step-{step}.safetensors")


def left_out_file(run: Path) -> Path:
    """Of a release whose weights tell its block ranks: the SHA-256 of the file of ranks that it
    leaves out.
    """
    return run / RANKS / "left_out.json"


def subnet_file(run: Path, name: str) -> Path:
    return run / SUBNETS / f"{name}.json"


def engine_label(engine: str, precision: str) -> str:
    """What a report of an engine is called by, "sparse-int8"; "" for torch, the reference."""
    return "" if engine == "torch" else f"{engine}-{precision}"


def report_key(report: Any) -> tuple[str, str, float, str, str, str]:
    """What tells a records.Report from the others of its run; the two functions below take it."""
    engine = engine_label(report.engine, report.precision)
    condition = (report.chunk_ms, report.decoder, report.language_model)
    return report.subnet, report.split, *condition, engine


def report_file(
    run: Path,
    subnet: str,
    split: str,
    chunk_ms: float,
    decoder: str = "greedy",
    language_model: str = "none",
    engine: str = "",
) -> Path:
    """`engine`: engine_label."""
    other = "" if decoder in ("", "greedy") else f".{decoder.replace(' ', '-')}"
    if language_model not in ("", "none"):
        other += (  # its weights, too: each is a condition of its own
            f".lm-{hashlib.sha256(language_model.encode()).hexdigest()[:8]}"
        )
    other += f".{engine}" if engine else ""
    return run / REPORTS / f"{subnet}.{split.replace('/', '_')}.{chunk_ms:g}{other}.json"


def hypotheses_file(
    run: Path,
    subnet: str,
    split: str,
    chunk_ms: float,
    decoder: str = "greedy",
    language_model: str = "none",
    engine: str = "",
) -> Path:
    report = report_file(run, subnet, split, chunk_ms, decoder, language_model, engine)
    return report.with_suffix(".jsonl.zst")
