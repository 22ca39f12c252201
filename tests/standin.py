"""A complete small run folder with random weights and made-up reports, for tests; NumPy alone."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import zstandard
from safetensors.numpy import save_file

from core import cost, paths
from core.records import BLOCK, FixedTensor, ModelSpec, PrunableMatrix, Report, Subnet, as_dict
from core.speech import tokenizer
from core.storage import block_arrays, packing

SPLITS = ("speech_commands/test-strings", "librispeech/test-clean")
SIZES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
STEPS = (100, 200)
WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "yes",
    "no",
    "stop",
    "go",
)
SYMBOLS = 29  # blank, word start, apostrophe, a-z


def shapes(blocks: int, width: int, hidden: int, kernel: int) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of core/models/conformer_ctc.py by name, in its order (test_recognizer holds
    them equal).
    """
    found = {
        "subsampling.first.weight": (width, 80, 3),
        "subsampling.first.bias": (width,),
        "subsampling.second.weight": (width, width, 3),
        "subsampling.second.bias": (width,),
    }

    def norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (width,), (width,)

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = (rows, columns)
        if bias:
            found[f"{name}.bias"] = (rows,)

    for i in range(blocks):
        at = f"blocks.{i}"
        for branch in ("feed_forward_1", "convolution", "attention", "feed_forward_2"):
            norm(f"{at}.{branch}.norm")
            if branch == "convolution":
                linear(f"{at}.{branch}.expand", 2 * width, width)
                found[f"{at}.{branch}.depthwise.weight"] = (width, 1, kernel)
                found[f"{at}.{branch}.depthwise.bias"] = (width,)
                norm(f"{at}.{branch}.inner_norm")
                linear(f"{at}.{branch}.project", width, width)
            elif branch == "attention":
                for name in ("query", "key", "value", "out"):
                    linear(f"{at}.{branch}.{name}", width, width, bias=name != "key")
            else:
                linear(f"{at}.{branch}.up", hidden, width)
                linear(f"{at}.{branch}.down", width, hidden)
        norm(f"{at}.norm")
    linear("heads.0", SYMBOLS, width)
    return found


def spec(blocks: int = 4, width: int = 32, expansion: int = 2, kernel: int = 5) -> ModelSpec:
    """Matrices and fixed tensors of a small conformer_ctc."""
    units, fixed = [], []
    for name, shape in shapes(blocks, width, width * expansion, kernel).items():
        unit, _, what = name.rpartition(".")
        if unit.startswith("blocks.") and what == "weight" and len(shape) == 2:
            _, layer, branch, _ = unit.split(".")
            kind = branch.rstrip("_12").replace("_", "-")
            units.append(PrunableMatrix(unit, kind, int(layer), f"blocks.{layer}.{branch}", *shape))
        else:
            fixed.append(
                FixedTensor(name, math.prod(shape), math.prod(shape) * 25.0 * (len(shape) > 1))
            )
    fixed += [
        FixedTensor(f"blocks.{i}.attention.products", 0, 72 * 2 * width * 25.0)
        for i in range(blocks)
    ]
    return ModelSpec("conformer_ctc", 40.0, 7.5, 2560.0, tuple(units), tuple(fixed))


def weights(
    blocks: int = 4, width: int = 32, expansion: int = 2, kernel: int = 5, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random fp16 weights by parameter name."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes(blocks, width, width * expansion, kernel).items():
        if "norm" in name:
            value = np.full(shape, float(name.endswith("weight")))
        else:
            value = rng.normal(
                0, 1.5 / math.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.1, shape
            )
        made[name] = value.astype(np.float16)
    return made


def ranks_of(shape_of: ModelSpec, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Block ranks uint32 [R/8, C] by L2 norm, 0 = largest."""
    ranks = {}
    for unit in shape_of.units:
        norms = np.linalg.norm(
            block_arrays.blocks_of(values[unit.name + ".weight"].astype(np.float32), unit.block),
            axis=2,
        )
        order = np.argsort(-norms.reshape(-1), kind="stable")
        rank = np.empty(unit.blocks, np.uint32)
        rank[order] = np.arange(unit.blocks, dtype=np.uint32)
        ranks[unit.name] = rank.reshape(unit.rows // BLOCK, unit.columns)
    return ranks


def make_run(
    folder: Path | str,
    name: str = "standin",
    *,
    method: str = "omni_sparsity",
    title: str = "",
    blocks: int = 4,
    width: int = 32,
    expansion: int = 2,
    seed: int = 0,
    utterances: int = 40,
) -> Path:
    """Writes the run `folder`/`name` and returns its path: 6 subnets, reports on 2 splits, ranks,
    curves, marker.
    """
    run = Path(folder) / name
    for sub in ("", paths.RANKS, paths.SUBNETS, paths.REPORTS):
        (run / sub).mkdir(parents=True, exist_ok=True)
    shape, values = spec(blocks, width, expansion), weights(blocks, width, expansion, seed=seed)
    model = {"blocks": blocks, "width": width, "expansion": expansion, "heads": 2, "kernel": 5}
    recipe = _recipe(method, model, title or f"stand-in {method}")
    _json(run / paths.RECIPE, recipe)
    _json(run / paths.UNITS, as_dict(shape))
    _as_trained(run, shape, values)
    sha = hashlib.sha256(paths.ranks_file(run).read_bytes()).hexdigest()
    for subnet in subnets(name, shape, sha):
        _json(paths.subnet_file(run, subnet.name), as_dict(subnet))
        data = packing.pack(run, subnet)
        sizes = {
            "file_bytes": len(data),
            "zstd_bytes": packing.zstd_bytes(data),
            "file_sha256": packing.sha256(data),
        }
        for split in SPLITS:
            rows = _hypotheses(subnet, split, seed, utterances)
            _report(run, subnet, split, shape, recipe, sizes, rows)
    _json(
        run / paths.FINISHED,
        {"finished": True, "date": "2025-01-01T00:00:00", "hours": 0.1, "steps": STEPS[-1]},
    )
    return run


def _recipe(method: str, model: dict, title: str) -> dict:
    return {
        "corpus": {"name": "voice_commands", "options": {}},
        "model": {"name": "conformer_ctc", "options": model},
        "method": {"name": method, "options": {}},
        "features": {},
        "tokens": {"kind": "characters"},
        "training": {"updates": STEPS[-1]},
        "search": {},
        "evaluation": {},
        "seed": 1,
        "init_from": "",
        "title": title,
    }


def _as_trained(run: Path, shape: ModelSpec, values: dict[str, np.ndarray]) -> None:
    """What a training leaves: weights, tokens, statistics, ranks on the way, curves, log, card."""
    save_file(values, run / paths.WEIGHTS)
    tokenizer.train(
        [*WORDS, "the quick brown fox jumps over the lazy dog", "it's"],
        tokenizer.Options(kind="characters"),
        run,
    )
    _json(run / paths.FEATURE_STATISTICS, {"mean": [0.0] * 80, "std": [4.0] * 80})
    for step in (*STEPS, None):
        noise = np.random.default_rng(step or 0)
        shaken = {
            k: v + noise.normal(0, 0.05, v.shape) * (step is not None) for k, v in values.items()
        }
        save_file(ranks_of(shape, shaken), paths.ranks_file(run, step))
    (run / paths.METRICS).write_text("".join(json.dumps(row) + "\n" for row in _metrics()))
    (run / paths.LOG).write_text("step 100 loss 3.1\nstep 200 loss 1.9\n")
    (run / paths.CARD).write_text(f"# {run.name}\n\nA stand-in: random weights, made-up numbers.\n")


def subnets(run: str, shape: ModelSpec, ranks_sha256: str) -> list[Subnet]:
    """Dense, then searched-looking sizes: deeper layers and attention are pruned more."""
    made = []
    for size in SIZES:
        keep = cost.uniform(shape, size)
        if size:
            bend = {
                u.name: min(
                    max(
                        keep[u.name] * (1.15 - 0.1 * u.layer - 0.1 * (u.kind == "attention")), 0.02
                    ),
                    1.0,
                )
                for u in shape.units
            }
            sparsity = cost.sparsity_reached(shape, bend)
            keep = cost.between(
                shape, bend, cost.uniform(shape, 0.0 if sparsity > size else 1.0), size
            )
        made.append(
            Subnet(
                name=f"s{size * 100:.0f}" if size else "dense",
                run=run,
                keep=keep,
                sparsity=cost.sparsity_reached(shape, keep),
                ranks_sha256=ranks_sha256,
                origin="searched" if size else "uniform",
            )
        )
    return made


def _metrics() -> list[dict]:
    rows = []
    for step in range(10, STEPS[-1] + 1, 10):
        loss = 1.5 + 4 * math.exp(-step / 60)
        rows.append(
            {
                "step": step,
                "epoch": 0,
                "loss": {"dense": loss, "sparsest": loss * 1.3, "random": loss * 1.1},
                "lr": 1e-3 * step / STEPS[-1],
                "audio_hours": step / 100,
                "hours": step / 2000,
            }
        )
    return rows


def _hypotheses(subnet: Subnet, split: str, seed: int, utterances: int) -> list[dict]:
    """Rows of sentences of six words, of which a smaller subnet gets more wrong."""
    rng = np.random.default_rng([seed, SPLITS.index(split)])  # the same sentences for every subnet
    hard = 1.0 if split == SPLITS[0] else 3.5
    rate = hard * (0.08 + 0.45 * subnet.sparsity**4)
    rows = []
    for i in range(utterances):
        words = list(rng.choice(WORDS, size=6))
        wrong = rng.random(6) < rate * 0.6
        gone = ~wrong & (rng.random(6) < rate * 0.2)
        texts = [("oh" if w else word) for word, w, g in zip(words, wrong, gone) if not g]
        rows.append(
            {
                "id": f"utterance-{i:03d}",
                "hypothesis": " ".join(texts),
                "insertions": 0,
                "deletions": int(gone.sum()),
                "substitutions": int(wrong.sum()),
                "words": 6,
            }
        )
    return rows


def _errors(subnet: Subnet, rows: list[dict]) -> dict:
    """The fields of a report that are counted or estimated from `rows`."""
    counts = {n: sum(r[n] for r in rows) for n in ("insertions", "deletions", "substitutions")}
    wer = sum(counts.values()) / (6 * len(rows))
    dense = subnet.name == "dense"
    return counts | {
        "utterances": len(rows),
        "audio_seconds": 3.0 * len(rows),
        "words": 6 * len(rows),
        "wer": wer,
        "wer_low": max(wer - 0.03, 0.0),
        "wer_high": wer + 0.03,
        "cer": wer * 0.6,
        "delta_wer": None if dense else 0.4 * subnet.sparsity**4,
        "delta_low": None if dense else 0.0,
        "delta_high": None if dense else 0.5,
        "p_value": None if dense else 0.04,
    }


def _report(
    run: Path,
    subnet: Subnet,
    split: str,
    shape: ModelSpec,
    recipe: dict,
    sizes: dict,
    rows: list[dict],
) -> None:
    report = Report(
        run=run.name,
        subnet=subnet.name,
        split=split,
        method=recipe["method"]["name"],
        title=recipe["title"],
        parameters=cost.parameters(shape),
        nonzero_parameters=cost.nonzero_parameters(shape, subnet.keep),
        sparsity=subnet.sparsity,
        sparsity_whole=cost.whole_sparsity(shape, subnet.keep),
        mmacs_per_second=cost.macs_per_second(shape) / 1e6,
        mmacs_nonzero_per_second=cost.macs_nonzero_per_second(shape, subnet.keep) / 1e6,
        rtf=0.05,
        chunk_median_ms=12.0,
        chunk_p95_ms=15.0,
        load_ms=200.0,
        peak_rss_mb=400.0,
        threads=1,
        chunk_ms=320.0,
        lookahead_ms=shape.lookahead_ms,
        left_context_ms=shape.left_context_ms,
        decoder="greedy",
        language_model="none",
        precision="fp32",
        runtime="torch",
        hardware="stand-in CPU",
        normaliser="plain-1",
        code_version="0",
        seed=1,
        date="2025-01-01",
        **_errors(subnet, rows),
        **sizes,
    )
    _json(paths.report_file(run, subnet.name, split, 320.0), as_dict(report))
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    paths.hypotheses_file(run, subnet.name, split, 320.0).write_bytes(
        zstandard.ZstdCompressor().compress(lines)
    )


def only_runs(made: Path, monkeypatch, released: Path) -> None:
    """The runs of `made` become the only ones there are, for pages that have cached nothing."""
    import streamlit as st

    paths.artifacts().mkdir(parents=True)
    shutil.copytree(made, paths.runs())
    monkeypatch.setattr(paths, "RELEASED", released)
    st.cache_data.clear()
    st.cache_resource.clear()


def _json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1))


def reference(*given, **asked):
    """core.runtime.load with the engine that the others are held against."""
    from core import runtime

    return runtime.load(*given, engine="torch", **asked)
