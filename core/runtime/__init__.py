"""From a packed file to text: `load` opens it with the torch, onnx or sparse engine, plug-ins of
this folder. No torch but in torch.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.records import Subnet
from core.registry import plugins
from core.runtime import base
from core.speech.frontends import base as frontends
from core.storage import packing, store

AUTO = "auto"
ORDER = (  # what AUTO tries: first what needs no compiler, so that every machine gives the same
    "onnx",
    "torch",
)


def load(
    source: str | Path | bytes,
    subnet: str | Subnet = "dense",
    chunk_ms: float | None = None,
    *,
    engine: str = AUTO,
    **asked: Any,
) -> base.Recognizer:
    """A recognizer of a run's subnet (`source` = run id or folder) or of a packed file (path or
    bytes).

    `asked`: the other fields of base.Setup (precision, threads, decoder, language ...). `engine`
    "auto" = the first of ORDER that is installed and can run this model so. ValueError for unknown
    runs, subnets and engines (lists what exists), and for what the engine cannot do (says which
    can).
    """
    if engine != AUTO:
        plugins.check_name(engine, plugins.names("runtime"), "engine")
    setup = base.Setup(chunk_ms, **asked)
    data = packed(source, subnet)
    tensors, metadata = packing.unpack(data)
    reasons = {}
    for name in ORDER if engine == AUTO else (engine,):
        if not (reason := _why_not(name, metadata, setup)):
            return plugins.load("runtime", name).load(data, tensors, metadata, setup)
        reasons[name] = reason
    others = [n for n in plugins.names("runtime") if n not in reasons]
    able = [n for n in others if not _why_not(n, metadata, setup)]
    said = [f"engine {name!r} cannot run this: {why}" for name, why in reasons.items()]
    said += [f"engine {' or '.join(map(repr, able))} can: name it with --engine"] if able else []
    raise base.NotPossible("; ".join(said))


def _why_not(engine: str, metadata: dict, setup: base.Setup) -> str:
    """Why the engine cannot run this file so, "" where it can."""
    try:
        plugin = plugins.load("runtime", engine)
    except ValueError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            missing = error.__cause__.name
            return f"{missing} is not installed: pip install {missing}"
        return str(error)
    return plugin.why_not(metadata, setup)


def packed(source: str | Path | bytes, subnet: str | Subnet = "dense") -> bytes:
    """The bytes of the packed file: read, or made from a run."""
    if isinstance(source, bytes | bytearray):
        return bytes(source)
    if Path(source).is_file():
        return packing.read(Path(source))
    if isinstance(source, str) and "/" in source and Path(source).is_dir():
        source = Path(source)
    if isinstance(source, Path) and not source.is_dir():
        raise ValueError(f"{source} is neither a packed file nor a run's folder")
    folder = store.folder_of(source)
    return packing.pack(folder, store.subnet(folder, subnet) if isinstance(subnet, str) else subnet)


def flat(
    source: str | Path | bytes, subnet: str | Subnet = "dense", precision: str = "fp32"
) -> bytes:
    """The file that C reads (native/supernet.h) of the same sources; "int8" rounds the blocks'
    matrices. ValueError for models that C cannot run.
    """
    from core.runtime import _conformer, _flat

    tensors, metadata = packing.unpack(packed(source, subnet))
    kind = frontends.kind_of(metadata["features"])
    other = "" if kind == frontends.USUAL else f"C computes no features of kind {kind!r}"
    wrong = base.known_precision(precision, _flat.PRECISIONS)
    if why := _conformer.why_not(metadata) or other or wrong:
        raise base.NotPossible(f"there is no flat file of this: {why}")
    return _flat.flat(tensors, metadata, precision)
