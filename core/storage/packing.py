"""The file a user downloads: one subnet's weights, masks, tokens and settings in one safetensors
file; NumPy, no torch.

Layout: every unit as `<unit>.values` fp16 [kept * b] (kept blocks of b = 8 or 1 rows,
row-block-major, then column order) beside `<unit>.mask` uint8 [ceil(blocks / 8)] (bits in the same
order, first block in the highest bit), or `<unit>.weight` fp16 raw where a mask does not pay; every
other tensor fp16; `bpe.model` uint8 unless tokens are phonemes. Of branches of which nothing is
kept, and of output layers of other sizes (`heads.<k>.`), nothing is stored. The single metadata key
"supernet" is JSON: one key, because safetensors writes several in random order and the file must be
the same each time. A release keeps the weights of an individually pruned model as such a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import zstandard
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors, save as save_tensors

from core import cost, paths
from core.common import writing
from core.records import BLOCK, ModelSpec, PrunableMatrix, Subnet, as_dict
from core.storage import block_arrays, checksums, run_files, store

FORMAT = "supernet-1"
KEY = "supernet"
HEADS = "heads."  # models name their output layers heads.<k>.
NORMALIZER = (  # when the run does not say; a test holds it equal to core.speech.normalizer's
    "plain-1"
)
ZSTD_LEVEL = 19
BROKEN = (
    SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)  # what damaged bytes lead to


def weights(run: str | Path) -> dict[str, np.ndarray]:
    """A run's final weights {parameter name: array}, as training left them. A release of one pruned
    size holds them as that size's
    packed file. ValueError when they are damaged.
    """
    folder = store.folder_of(run)
    data, path = _read(folder, paths.WEIGHTS), folder / paths.WEIGHTS
    try:
        values = (
            _unpacked(*_opened(data))[0]
            if KEY in _header(data).get("__metadata__", {})
            else _tensors(data)
        )
    except BROKEN as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    for unit in store.spec(folder).units:
        name = unit.name + ".weight"
        if name not in values:
            raise ValueError(f"{path} lacks {name!r}, which {paths.UNITS} names")
        if values[name].size != unit.rows * unit.columns:
            raise ValueError(
                f"{path} is damaged: {name!r} is {list(values[name].shape)}, but {paths.UNITS} says"
                f" {[unit.rows, unit.columns]}"
            )
    return values


def ranks(run: str | Path, known: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """A run's final block ranks {unit: uint32 [R / b, C]}: as stored, or told by the weights
    (`known` when they were read already) of a
    release that leaves them out.
    """
    folder = store.folder_of(run)
    if not store.ranks_left_out(folder):
        return store.ranks(folder)
    values = weights(folder) if known is None else known
    return {
        u.name: block_arrays.ranks_by_size(
            values[u.name + ".weight"].reshape(u.rows, u.columns), u.block
        )
        for u in store.spec(folder).units
    }


def _ranks(run_folder: Path, subnet: Subnet, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The run's final ranks, or {} when it has none; ValueError when the subnet was made for other
    ranks.
    """
    if not (paths.ranks_file(run_folder).is_file() or store.ranks_left_out(run_folder)):
        return {}
    if subnet.ranks_sha256 and store.ranks_sha256(run_folder) != subnet.ranks_sha256:
        raise ValueError(
            f"subnet {subnet.name!r} was made for other ranks than run {run_folder.name!r} holds"
            " now (sha256 differs): search or measure it again"
        )
    return ranks(run_folder, known)


def _read(run_folder: Path, name: str) -> bytes:
    path = run_folder / name
    if not path.is_file():
        raise ValueError(
            f"run {run_folder.name!r} has no {name} (yet): it is written when training ends"
        )
    return run_files.read(path)


def _metadata(
    run_folder: Path, subnet: Subnet, spec: ModelSpec, shapes: dict[str, list[int]]
) -> dict:
    recipe = store.recipe(run_folder)
    statistics = json.loads(_read(run_folder, paths.FEATURE_STATISTICS))
    kept = cost.counts(spec, subnet.keep)
    return {
        "format": FORMAT,
        "run": run_folder.name,
        "method": recipe.method.name,
        "model": as_dict(recipe.model),
        "anatomy": {n: v for n, v in as_dict(spec).items() if n not in ("units", "fixed")},
        "units": {u.name: [u.rows, u.columns, k] for u, k in zip(spec.units, kept)},
        "subnet": {n: v for n, v in as_dict(subnet).items() if n != "keep"},
        "tokens": _read(run_folder, paths.TOKENS).decode("utf-8"),
        "features": recipe.features,
        "statistics": statistics,
        "normaliser": statistics.get("normaliser", NORMALIZER),
        "seed": recipe.seed,
        "shapes": shapes,
        **({"block": block} if (block := spec.units[0].block) != BLOCK else {}),
    }


def pack(run_folder: str | Path, subnet: Subnet) -> bytes:
    """The bytes of the file a user downloads; the same run and subnet give the same bytes."""
    run_folder = store.folder_of(run_folder)
    spec = store.spec(run_folder)
    values = weights(run_folder)
    order = _ranks(run_folder, subnet, values)
    tensors, shapes = {}, {}
    off = cost.branches_off(spec, subnet.keep)
    for unit, kept in zip(spec.units, cost.counts(spec, subnet.keep)):
        name = unit.name + ".weight"
        weight = values.pop(name).astype(np.float16)
        if unit.branch in off:
            continue
        if weight.ndim != 2:
            shapes[name] = list(weight.shape)
        tensors.update(
            _pack_unit(unit, weight.reshape(unit.rows, unit.columns), order.get(unit.name), kept)
        )
    tensors.update(
        {
            name: value.astype(np.float16)
            for name, value in values.items()
            if not cost.belongs(name, off) and not _of_another_head(name, subnet.head)
        }
    )
    if (run_folder / paths.BPE).is_file():  # phonemes do without
        tensors[paths.BPE] = np.frombuffer(_read(run_folder, paths.BPE), np.uint8)
    text = json.dumps(
        _metadata(run_folder, subnet, spec, shapes),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return save_tensors(
        {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}, {KEY: text}
    )


def _of_another_head(name: str, head: int) -> bool:
    return name.startswith(HEADS) and not name.startswith(f"{HEADS}{head}.")


def _pack_unit(
    unit: PrunableMatrix, weight: np.ndarray, ranks: np.ndarray | None, kept: int
) -> dict[str, np.ndarray]:
    """One unit's tensors: values and mask, or the raw matrix (zeros written out) where a mask does
    not pay.
    """
    if kept == unit.blocks:
        return {unit.name + ".weight": weight}
    if ranks is None or ranks.shape != (unit.rows // unit.block, unit.columns):
        got = "none" if ranks is None else f"shape {ranks.shape}"
        raise ValueError(
            f"unit {unit.name!r} is pruned, so the run needs block ranks "
            f"[{unit.rows // unit.block}, {unit.columns}] for it; got {got}"
        )
    mask = block_arrays.unit_mask(ranks, kept)
    values = block_arrays.blocks_of(weight, unit.block)[mask].reshape(-1)
    if not cost.mask_pays(unit, kept):
        return {unit.name + ".weight": block_arrays.dense_of(values, mask, unit.block)}
    return {unit.name + ".values": values, unit.name + ".mask": np.packbits(mask.reshape(-1))}


def unpack(source: bytes | Path | str) -> tuple[dict[str, np.ndarray], dict]:
    """Packed bytes or a path -> ({parameter name: float32 dense array}, metadata). What was not
    stored is not there.

    metadata holds format, run, method, model {name, options}, anatomy (its times), units {name: [R,
    C, kept blocks]}, block (its rows),
    subnet, tokens (text), bpe (base64 of bpe.model, not of phonemes), features, statistics,
    normaliser, seed. ValueError for anything
    that is not such a file.
    """
    data = source if isinstance(source, bytes | bytearray) else read(Path(source))
    try:
        stored, metadata = _opened(data)
        if metadata.get("format") == FORMAT:
            return _unpacked(stored, metadata)
    except BROKEN as error:
        raise ValueError(
            f"this is no packed subnet, or a damaged one ({type(error).__name__}: {error}); "
            "packed files come from Download on the Explore page or python -m core export"
        ) from None
    raise ValueError(
        f"packed format {metadata.get('format')!r} is not {FORMAT!r}: pack the subnet again"
    )


def _opened(data: bytes) -> tuple[dict[str, np.ndarray], dict]:
    return _tensors(bytes(data)), json.loads(_header(data)["__metadata__"][KEY])


def _tensors(data: bytes) -> dict[str, np.ndarray]:
    """ValueError for values that are not finite: random bytes have some, and give empty text."""
    tensors = load_tensors(data)
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values of {name!r} are"
                " not finite: the file was damaged, or its training diverged"
            )
    return tensors


def _unpacked(stored: dict[str, np.ndarray], metadata: dict) -> tuple[dict[str, np.ndarray], dict]:
    if paths.BPE in stored:
        metadata["bpe"] = base64.b64encode(stored.pop(paths.BPE).tobytes()).decode()
    tensors, block = {}, metadata.get("block", BLOCK)  # not said in files of the usual blocks
    keep = metadata["subnet"]["keep"] = {}
    for unit, (rows, columns, kept) in metadata["units"].items():
        name, blocks = unit + ".weight", rows // block * columns
        keep[unit] = kept / blocks
        if kept == 0 and not {name, unit + ".mask"} & set(stored):
            continue  # of a branch that is not run
        if name in stored:
            weight = stored.pop(name)
        else:
            bits = np.unpackbits(stored.pop(unit + ".mask"), count=blocks).astype(bool)
            weight = block_arrays.dense_of(
                stored.pop(unit + ".values"), bits.reshape(rows // block, columns), block
            )
        tensors[name] = weight.reshape(metadata["shapes"].get(name, weight.shape)).astype(
            np.float32
        )
    tensors.update({name: value.astype(np.float32) for name, value in stored.items()})
    return tensors, metadata


def _header(data: bytes) -> dict:
    return json.loads(bytes(data[8 : 8 + int.from_bytes(data[:8], "little")]))


def read(path: Path) -> bytes:
    """The bytes of a packed file; ValueError when the checksum file beside it names others."""
    if not path.is_file():
        raise ValueError(f"no packed file at {path}")
    data = path.read_bytes()
    checksums.check_beside(path, data)
    return data


def write(run_folder: Path | str, subnet: Subnet, path: Path | str) -> Path:
    """Packs into `path` (written aside, then renamed) and returns it."""
    writing.write_bytes(Path(path), pack(run_folder, subnet))
    return Path(path)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zstd_bytes(data: bytes) -> int:
    """Size of the download: zstd at level 19."""
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data))
