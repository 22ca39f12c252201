"""The words everything else is said in: plain frozen records, no torch, no files.

Letters in shapes: B utterances, T frames, F feature bins, U tokens, R rows (outputs), C columns
(inputs). Sizes are in bytes or MB = 10^6 bytes, times in ms unless a name says otherwise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

# (share done 0..1, message, seconds left if known) -> whether to go on
ProgressCallback = Callable[[float, str, float | None], bool]
CountCallback = Callable[[int, int, str], None]  # (items done, items in all, what is counted)

# consecutive outputs of one input that are kept or pruned together (METHODS: 8x1 blocks), unless a
# method wants others
BLOCK = 8
BRANCH_KINDS = (
    "feed-forward",
    "attention",
    "convolution",
    "input",
    "recurrent",
    "projection",
    "predictor",
    "joiner",
)


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
    table: str = "",
) -> Any:
    """A field of a plug-in's `Options`; `low` and `high` are allowed, too; `table`: whose Options a
    dict holds, a file of core or "corpora/{corpus}", the plug-in that the option `corpus` names.
    The catalog reads these calls from the source with `ast`, so arguments must be literals.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "choices": choices}
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Choice:
    """One plug-in and the options given to it, e.g. Choice("omni_sparsity", {"sparsest": 0.95})."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. `title` is for people and is not hashed."""

    corpus: Choice
    model: Choice
    method: Choice
    features: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    init_from: str = ""  # run id whose released weights this stage continues from
    title: str = ""


@dataclass(frozen=True)
class Utterance:
    """A piece of speech with its words. `offset` and `seconds` are in s within the file `audio`."""

    id: str
    audio: str
    offset: float
    seconds: float
    text: str
    speaker: str


@dataclass(frozen=True)
class PrunableMatrix:
    """One prunable weight matrix [R, C]; `name` is its parameter's name without '.weight'."""

    name: str
    kind: str  # one of BRANCH_KINDS
    layer: int  # block index, from 0
    branch: str  # its residual branch, e.g. "blocks.3.attention"; "" = none: it is always run
    rows: int  # outputs, a multiple of `block`
    columns: int  # inputs
    rate: float = 1.0  # how often it is multiplied per encoder frame
    block: int = BLOCK  # consecutive outputs that are kept or pruned together
    group: int = 0  # inputs among which zeros are shared out evenly (4 of 2:4), 0 = all inputs

    @property
    def parameters(self) -> int:
        return self.rows * self.columns

    @property
    def blocks(self) -> int:
        return self.rows // self.block * self.columns


@dataclass(frozen=True)
class FixedTensor:
    """Tensors that are never pruned, or work without weights (attention products)."""

    name: str
    parameters: int
    macs_per_second: float  # multiply-accumulates per second of audio


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made of, for cost, masks and charts; stored as units.json."""

    model: str
    frame_ms: float  # one encoder frame
    lookahead_ms: float  # of the front-end, beyond the chunk
    left_context_ms: float
    units: tuple[PrunableMatrix, ...]
    fixed: tuple[FixedTensor, ...]


class Origin(StrEnum):
    """How a subnet's shares kept were chosen; the values are those of stored files."""

    UNIFORM = "uniform"  # the same sparsity everywhere
    SEARCHED = "searched"  # by evolution
    RANDOM = "random search"
    MAGNITUDE = "global magnitude"  # one threshold for the whole model
    TRAINED = "trained"  # by the method, while it trained
    BETWEEN = "between"  # interpolated between two stored subnets, not measured


# prefixes of names in files older than `origin`, which name a byte budget: s70, u70, ...
_OLD_NAME = re.compile(r"([surm])\d+(\.\d+)?")
_OLD_ORIGIN = dict(
    zip("surm", (Origin.SEARCHED, Origin.UNIFORM, Origin.RANDOM, Origin.MAGNITUDE), strict=True)
)


@dataclass(frozen=True)
class Subnet:
    """One size of a supernet: the share kept of every unit.

    A block of a unit is kept when its rank < cost.blocks_kept(unit, keep[unit]).
    """

    name: str  # e.g. "s70", "dense"
    run: str
    keep: dict[str, float]  # {unit name: share kept, 0..1}; a missing unit is kept whole
    sparsity: float  # share of zeros in prunable weights, as reached
    pattern: str = "8x1"  # of its zeros, one of cost.PATTERNS
    head: int = 0
    bits: int = 16
    ranks_sha256: str = ""  # of ranks/final.safetensors
    origin: Origin = Origin.UNIFORM

    def __post_init__(self) -> None:
        """ValueError for an origin that does not exist; its name as text becomes the enum."""
        if self.origin not in list(Origin):
            raise ValueError(
                f"origin: expected {', '.join(Origin)}, got {self.origin!r}: measure the size anew"
            )
        object.__setattr__(self, "origin", Origin(self.origin))


@dataclass(frozen=True)
class Report:
    """One subnet measured on one split, with every condition needed to compare it."""

    run: str
    subnet: str
    split: str  # e.g. "librispeech/test-clean"
    method: str
    title: str
    # errors, corpus level
    utterances: int
    audio_seconds: float
    words: int
    insertions: int
    deletions: int
    substitutions: int
    wer: float  # 0..1 and above
    wer_low: float  # 95 % bootstrap over speakers, then utterances
    wer_high: float
    cer: float
    delta_wer: float | None  # against this run's dense subnet, paired; None for dense itself
    delta_low: float | None
    delta_high: float | None
    p_value: float | None
    # size
    parameters: int
    nonzero_parameters: int
    sparsity: float  # zeros in prunable weights, counted
    sparsity_whole: float  # zeros in all weights, counted
    file_bytes: int  # of the file that was read back and measured
    zstd_bytes: int  # of its zstd -19 download
    mmacs_per_second: float  # executed, per second of audio
    mmacs_nonzero_per_second: float
    # speed, streaming, batch 1
    rtf: float | None
    chunk_median_ms: float | None
    chunk_p95_ms: float | None
    load_ms: float | None
    peak_rss_mb: float | None
    threads: int
    # conditions
    chunk_ms: float  # 0 = full context
    lookahead_ms: float
    left_context_ms: float
    decoder: str
    language_model: str
    precision: str
    runtime: str
    hardware: str
    normaliser: str
    file_sha256: str
    code_version: str
    seed: int
    date: str
    resampled: str = ""  # what the intervals resample; "" in reports older than this field
    # phoneme error rate of the model alone, greedily; None where tokens are no phonemes
    per: float | None = None
    bytes_read: int | None = None  # from files while loading; None where nobody counted
    # time of this run's dense subnet over this one's (evaluation/latency.py): above 1 = faster;
    # median, lowest and highest of the rounds. None for dense, and where not timed in turn
    speed_ratio: float | None = None
    speed_ratio_low: float | None = None
    speed_ratio_high: float | None = None
    engine: str = "torch"


@dataclass(frozen=True)
class SpokenWord:
    """A word, where in the sound it lies (s), and how sure the network is of it, 0..1."""

    text: str
    begin_s: float
    end_s: float
    confidence: float


class RunProgress(Protocol):
    """A ProgressCallback that is also told which run the work belongs to, once that is known."""

    def __call__(self, progress: float, message: str, eta_s: float | None, /) -> bool: ...

    def belongs_to(self, run: str) -> None: ...


class Interrupted(Exception):
    """Work stopped because it was asked to; what it had reached is stored and can be resumed."""


def as_dict(record: Any) -> dict[str, Any]:
    """A record as plain JSON-ready data."""
    return dataclasses.asdict(record)


def from_dict(kind: type, data: dict[str, Any]) -> Any:
    """A record from JSON data; raises ValueError that names unknown and missing fields."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(data) - set(fields))
    missing = sorted(
        n
        for n, f in fields.items()
        if n not in data
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise ValueError(
            f"{kind.__name__}: unknown fields {unknown}, missing fields {missing}; "
            f"allowed are {sorted(fields)}"
        )
    nested = dict.fromkeys(("corpus", "model", "method"), Choice) if kind is Recipe else {}
    values = {
        k: from_dict(nested[k], v) if k in nested and isinstance(v, dict) else v
        for k, v in data.items()
    }
    if kind is Subnet and "origin" not in data:
        match = _OLD_NAME.fullmatch(data["name"])
        values["origin"] = _OLD_ORIGIN[match[1]] if match else Origin.UNIFORM
    if kind is ModelSpec:
        values["units"] = tuple(from_dict(PrunableMatrix, u) for u in data["units"])
        values["fixed"] = tuple(from_dict(FixedTensor, f) for f in data["fixed"])
    return kind(**values)
