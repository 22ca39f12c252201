"""Exported files measured in the stock runtime that loads them: a `spread` of evaluate_many."""

from __future__ import annotations

import functools
import importlib.metadata
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from core import export
from core.evaluation import conditions, provenance
from core.evaluation.evaluate import Hypotheses
from core.evaluation.material import Material
from core.evaluation.sweep import Spread
from core.export.base import PRECISIONS, PackedSubnet
from core.records import Subnet
from core.speech import audio
from core.storage import packing

CHUNK_MS = 320.0  # of the exported graphs
FIXED = (
    "decoder",
    "beam",
    "lm",
    "grammar",
    "scale",
    "blank_penalty",
)  # they lie in the exported files


def spread(run: Path, subnets: Sequence[Subnet], options: conditions.Options) -> Spread:
    """Decodes with the format that `options.engine` names. ValueError where the format cannot hold
    a subnet, its runtime is not installed, or what is asked for lies fixed in its files.
    """
    usual = conditions.Options()
    other = [n for n in FIXED if getattr(options, n) != getattr(usual, n)]
    other += ["chunk_ms"] if options.chunk_ms != CHUNK_MS else []
    if other:
        raise ValueError(
            f"evaluation.{other[0]} = {getattr(options, other[0])!r} cannot be measured with engine"
            f" {options.engine!r}, whose files are exported with the usual one: leave it out, or"
            " use engine 'onnx'"
        )
    package = export.check_format(options.engine, options.precision == PRECISIONS[1]).package
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"engine {options.engine!r} needs {package}, which is not installed: pip install"
            f" {package}"
        ) from None
    export.check(
        run.name, [s.name for s in subnets], options.engine, options.precision == PRECISIONS[1]
    )
    return functools.partial(_begin, run, f"{package} {version}")


def _begin(
    run: Path,
    runtime: str,
    packed: list[tuple[Subnet, bytes]],
    material: Material,
    options: conditions.Options,
    dense: bytes | None,
) -> Callable[[Subnet], Hypotheses]:
    """See sweep.Spread: each subnet is decoded when it is waited for."""
    contents = {subnet.name: data for subnet, data in packed}
    form = export.check_format(options.engine, options.precision == PRECISIONS[1])
    sounds = [functools.partial(audio.read, *sound) for sound in material.sounds]

    def wait(subnet: Subnet) -> Hypotheses:
        with tempfile.TemporaryDirectory() as folder:
            source = PackedSubnet(run, subnet, contents[subnet.name])
            for name, content in form.files(source, options.precision):
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            model = next(f for f in Path(folder).rglob("*") if f.suffix in export.WEIGHTS)
            texts = form.transcribe(model.parent, sounds, options.threads)
            data = model.read_bytes()
        differs = {
            "runtime": runtime,
            "file_bytes": len(data),
            "zstd_bytes": packing.zstd_bytes(data),
        }
        return Hypotheses(texts, None, provenance.hardware(), differs=differs)

    return wait
