"""A subnet on a split becomes a Report: errors with intervals, bytes of the file itself, speed, and
every condition.

The weights measured are those of the packed file, read back. Intervals resample speakers, then
utterances (only utterances where a split has one speaker).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from core import cost, paths
from core.evaluation import provenance, scoring
from core.evaluation.conditions import EXPORTED, Options, load_recognizer, speed_on
from core.evaluation.latency import Speed
from core.evaluation.material import Material
from core.records import ModelSpec, Report, Subnet
from core.runtime.base import PackedRecognizer
from core.storage import packing, store

DENSE = "dense"  # the subnet that the others of a run are paired with, and timed in turn with
TIMES = tuple(f.name for f in fields(Speed))  # fields of a Report, too
CONDITIONS = (  # fields of a Report, as the recognizer gives them
    "chunk_ms",
    "lookahead_ms",
    "left_context_ms",
    "decoder",
    "language_model",
    "precision",
    "runtime",
    "normaliser",
    "file_sha256",
    "seed",
)
EDITS = ("insertions", "deletions", "substitutions", "words")  # of a row per utterance


@dataclass(frozen=True)
class Hypotheses:
    """What a subnet understood elsewhere: one text per utterance of a split, how fast it was
    there, and each utterance's token ids, greedily, where a decoding graph made the texts.
    `differs`: fields of the Report that are not those of the packed file and its engine.
    """

    texts: list[str]
    speed: Speed | None
    hardware: str
    tokens: Sequence[list[int]] = ()
    differs: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    run: str | Path,
    subnet: Subnet,
    material: Material,
    options: Options | None = None,
    *,
    dense: Sequence[dict] | None = None,
    speed: Speed | None = None,
    hypotheses: Hypotheses | None = None,
) -> tuple[Report, list[dict]]:
    """Measures one subnet on one split -> (Report, one row per utterance as the store keeps it).

    dense: rows of this run's dense subnet on the same split, for the paired test. speed: measured
    earlier for the same file on this machine; None = measured now, if options ask for it.
    hypotheses: decoded elsewhere; None = decoded now.
    """
    options = options or Options()
    folder = store.folder_of(run)
    data = packing.pack(folder, subnet)
    recognizer = load_recognizer(data, options)
    if hypotheses is None:
        if options.engine in EXPORTED:
            raise ValueError(f"engine {options.engine!r} decodes elsewhere: pass its hypotheses")
        hypotheses = _recognize(recognizer, material)
        speed = speed or speed_of(folder, subnet, data, material, options)
    else:
        same_machine = hypotheses.hardware == provenance.hardware()
        speed = hypotheses.speed or (speed if same_machine else None)
    edits = scoring.word_edits(material.references, hypotheses.texts)
    recipe = store.recipe(folder)
    report = Report(
        run=folder.name,
        subnet=subnet.name,
        split=material.split,
        method=recipe.method.name,
        title=recipe.title or folder.name,
        **_errors(edits, hypotheses.texts, material, options, dense),
        per=_phoneme_errors(recognizer, hypotheses, material),
        **sizes(data, store.spec(folder), subnet),
        **(asdict(speed) if speed else dict.fromkeys(TIMES) | {"threads": options.threads}),
        **{name: recognizer.conditions[name] for name in CONDITIONS},
        engine=options.engine,
        hardware=hypotheses.hardware,
        code_version=provenance.code_version(),
        date=datetime.date.today().isoformat(),
        resampled=scoring.resampled_unit(material.speakers),
    )
    return replace(report, **hypotheses.differs), _rows(material.ids, hypotheses.texts, edits)


def _recognize(recognizer: PackedRecognizer, material: Material) -> Hypotheses:
    decoded = recognizer.recognize(material.features)
    texts, tokens = [text for text, _ in decoded], [ids for _, ids in decoded]
    return Hypotheses(texts, None, provenance.hardware(), tokens)


def speed_of(
    folder: Path, subnet: Subnet, data: bytes, material: Material, options: Options
) -> Speed | None:
    """How fast a subnet is on a split's speech, in turn with dense; None where the options ask for
    no utterance.
    """
    waves = material.waves(options.speed_utterances)
    return speed_on(data, waves, options, packed_dense(folder, subnet)) if waves else None


def _rows(ids: list[str], texts: list[str], edits: scoring.Edits) -> list[dict]:
    """What the store keeps of each utterance."""
    counts = np.stack(
        [edits.insertions, edits.deletions, edits.substitutions, edits.words], 1
    ).tolist()
    return [
        {"id": id, "hypothesis": text, **dict(zip(EDITS, four))}
        for id, text, four in zip(ids, texts, counts)
    ]


def _phoneme_errors(
    recognizer: PackedRecognizer, hypotheses: Hypotheses, material: Material
) -> float | None:
    """Phoneme error rate of the net alone, greedily, against each word's likeliest pronunciation;
    None for other tokens, and for hypotheses without them.
    """
    tokenizer = recognizer.tokenizer
    if tokenizer.unit != "phonemes" or recognizer.graph is None or not hypotheses.tokens:
        return None
    return scoring.word_edits(
        [tokenizer.reference(text) for text in material.references],
        [tokenizer.decode(ids) for ids in hypotheses.tokens],
    ).rate


def packed_dense(folder: Path, subnet: Subnet | None = None) -> bytes | None:
    """The run's dense subnet as a file, to time `subnet` in turn with; None for dense itself and
    where the run has none.
    """
    wanted = has_dense(folder) and (subnet is None or subnet.name != DENSE)
    return packing.pack(folder, store.subnet(folder, DENSE)) if wanted else None


def has_dense(folder: Path) -> bool:
    """Whether the run has a dense subnet; one that was only pruned to a size or two has none."""
    return any(file.stem == DENSE for file in store.files(folder, paths.SUBNETS, "*.json"))


def _errors(
    edits: scoring.Edits,
    texts: list[str],
    material: Material,
    options: Options,
    dense: Sequence[dict] | None,
) -> dict:
    """The error fields of a Report."""
    again = (options.repetitions, options.seed)
    low, high = scoring.bootstrap(edits.errors, edits.words, material.speakers, *again)
    delta: tuple[float | None, ...] = (None, None, None, None)
    if dense is not None:
        base = {
            row["id"]: row["insertions"] + row["deletions"] + row["substitutions"] for row in dense
        }
        missing = [i for i in material.ids if i not in base]
        if missing:
            raise ValueError(
                f"the dense subnet was measured on other utterances of {material.split}:"
                f" {len(missing)} are missing, e.g. {missing[0]!r}; measure it again first"
            )
        delta = scoring.paired(
            edits.errors,
            np.array([base[i] for i in material.ids]),
            edits.words,
            material.speakers,
            *again,
        )
    return {
        "utterances": len(texts),
        "audio_seconds": material.seconds,
        "words": int(edits.words.sum()),
        "insertions": int(edits.insertions.sum()),
        "deletions": int(edits.deletions.sum()),
        "substitutions": int(edits.substitutions.sum()),
        "wer": edits.rate,
        "wer_low": low,
        "wer_high": high,
        "cer": scoring.character_edits(material.references, texts).rate,
        "delta_wer": delta[0],
        "delta_low": delta[1],
        "delta_high": delta[2],
        "p_value": delta[3],
    }


def sizes(data: bytes, spec: ModelSpec, subnet: Subnet) -> dict:
    """The size fields of a Report: bytes of the file, zeros counted in the weights read back from
    it.
    """
    tensors, metadata = packing.unpack(data)
    total, nonzero = (sum(f(t) for t in tensors.values()) for f in (np.size, np.count_nonzero))
    kept = sum(
        np.count_nonzero(tensors[f"{unit}.weight"])
        for unit in metadata["units"]
        if f"{unit}.weight" in tensors
    )
    return {
        "parameters": int(total),
        "nonzero_parameters": int(nonzero),
        "sparsity": float(1 - kept / max(cost.prunable_parameters(spec), 1)),
        "sparsity_whole": float(1 - nonzero / cost.parameters(spec)),
        "file_bytes": len(data),
        "zstd_bytes": packing.zstd_bytes(data),
        "mmacs_per_second": cost.macs_per_second(spec, subnet.keep) / 1e6,
        "mmacs_nonzero_per_second": cost.macs_nonzero_per_second(spec, subnet.keep) / 1e6,
    }
