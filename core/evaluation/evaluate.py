"""A subnet on a split becomes a Report: errors with intervals, bytes of the file itself, speed, and
every condition.

The weights measured are those of the packed file, read back. `Material` holds a split's features
and words once, for as many subnets as wanted. Intervals resample speakers, then utterances (only
utterances where a split has one speaker).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from core import cost, paths, runtime
from core.data.prepared import TRAIN, Prepared
from core.decoding import ctc as decoding
from core.decoding.graph_search import Weights
from core.evaluation import provenance, scoring
from core.evaluation.latency import Speed, measure
from core.jobs import confinement
from core.lm import languages
from core.lm.languages import Language
from core.records import Anatomy, Interrupted, ProgressCallback, Report, Subnet, option
from core.runtime.base import NO_LANGUAGE, PackedRecognizer
from core.speech import audio
from core.storage import packing, store

NOT_TESTED = (TRAIN, "search", "dev")
DENSE = "dense"  # the subnet that the others of a run are paired with, and timed in turn with
TIMES = tuple(f.name for f in fields(Speed))  # fields of a Report, too
SPEED_SECONDS = 60.0  # of sound at most: enough chunks (190 of 320 ms) for a 95th percentile


@dataclass(frozen=True)
class Options:
    """What is measured, and under which decoding conditions."""

    splits: list[str] = option([], "splits to measure; empty = all test splits")
    default_split: str = option(
        "", "split the dashboard shows first; empty = the first measured one"
    )
    chunk_ms: float = option(
        320.0, "attention chunk; 0 = full context", unit="ms", low=0.0, high=2560.0
    )
    precision: str = option("fp32", "arithmetic of the forward pass", choices=("fp32", "bf16"))
    decoder: str = option(
        "",
        "greedy; graph = words over a decoding graph (CTC); modified_beam_search (transducers);"
        " empty = graph where tokens are phonemes, else greedy",
        choices=("", "greedy", "graph", "modified_beam_search"),
    )
    beam: int = option(0, "hypotheses of a transducer's beam search; 0 = 4", low=0, high=1000)
    lm: str = option(
        "open",
        "language model of a decoding graph: open = the shipped one, or an ARPA file; empty = none,"
        " only the grammar",
    )
    grammar: str = option(
        "",
        "what a decoding graph understands beside it: commands = the built-in ones, or a file of"
        " sentence patterns",
    )
    scale: float = option(
        0.8, "how much the sound counts beside the words of a decoding graph", low=0.01, high=10.0
    )
    blank_penalty: float = option(
        3.0,
        "taken off the blank's log-probability before a decoding graph (ln)",
        low=-10.0,
        high=20.0,
    )
    threads: int = option(
        2, "CPU threads for the errors; speed is always measured with one", low=1, high=256
    )
    speed_utterances: int = option(
        12, "utterances streamed for the speed, 60 s at most; 0 = none", low=0, high=1000
    )
    repetitions: int = option(10000, "bootstrap resamples", low=100, high=1000000)
    seed: int = option(1, "of the bootstrap", low=0, high=2147483647)


@dataclass(frozen=True)
class Hypotheses:
    """What a subnet understood elsewhere: one text per utterance of a split, how fast it was
    there, and each utterance's token ids, greedily, where a decoding graph made the texts.
    """

    texts: list[str]
    speed: Speed | None
    hardware: str
    tokens: Sequence[list[int]] = ()


# begins all (the last argument: the run's dense subnet, packed, to time them in turn with), waits
# for one
Spread = Callable[
    ["list[tuple[Subnet, bytes]]", "Material", Options, "bytes | None"],
    "Callable[[Subnet], Hypotheses]",
]


@dataclass(frozen=True)
class Material:
    """One split, ready to be measured often. features: raw fbank [F, 80] each; sounds: (file,
    offset s, seconds).
    """

    split: str  # as it is called in reports, e.g. "librispeech/test-clean"
    ids: list[str]
    references: list[str]
    speakers: list[str]
    seconds: float
    features: list[np.ndarray]
    sounds: list[tuple[str, float, float]]

    def waves(self, count: int) -> list[np.ndarray]:
        """`count` sounds, evenly spread over the split, SPEED_SECONDS at most."""
        chosen, left = [], SPEED_SECONDS
        for i in (
            np.unique(np.linspace(0, len(self.sounds) - 1, count).round().astype(int))
            if count
            else []
        ):
            file, offset, seconds = self.sounds[i]
            if seconds <= left:
                chosen.append(audio.read(file, offset, seconds))
                left -= seconds
        return chosen


def material(prepared: Prepared, split: str) -> Material:
    """A split of prepared data, by its prepared name or by the name that reports give it.
    ValueError for unknown and empty ones.
    """
    rows = prepared.rows(split if split in prepared.splits else split.split("/", 1)[-1])
    if not rows:
        raise ValueError(f"split {split!r} holds no utterance to measure")
    corpora = {row.corpus for row in rows}
    name = f"{corpora.pop()}/{split}" if len(corpora) == 1 and "/" not in split else split
    return Material(
        name,
        [r.id for r in rows],
        [r.text for r in rows],
        [r.speaker for r in rows],
        sum(r.seconds for r in rows),
        [prepared.features(r, 1.0) for r in rows],
        [(r.audio, r.offset, r.seconds) for r in rows],
    )


def evaluate(
    run: str | Path,
    subnet: Subnet,
    material: Material,
    options: Options | None = None,
    *,
    dense: Sequence[dict] | None = None,
    speed: Speed | None = None,
    heard: Hypotheses | None = None,
) -> tuple[Report, list[dict]]:
    """Measures one subnet on one split -> (Report, one row per utterance as the store keeps it).

    dense: rows of this run's dense subnet on the same split, for the paired test. speed: measured
    earlier for the same
    file on this machine; None = measured now, if options ask for it. heard: what it understood
    elsewhere; None = it listens now.
    """
    options = options or Options()
    folder = store.folder_of(run)
    data = packing.pack(folder, subnet)
    listener = opened(data, options)
    said = (
        listener.recognize(material.features)
        if heard is None
        else list(zip(heard.texts, heard.tokens or [[]] * len(heard.texts), strict=True))
    )
    texts = [text for text, _ in said]
    if heard is not None:
        speed = heard.speed or (speed if heard.hardware == provenance.hardware() else None)
    elif (
        speed is None
        and options.speed_utterances
        and (waves := material.waves(options.speed_utterances))
    ):
        speed = speed_on(data, waves, options, rival(folder, subnet))
    edits = scoring.word_edits(material.references, texts)
    counts = np.stack(
        [edits.insertions, edits.deletions, edits.substitutions, edits.words], 1
    ).tolist()
    rows = [
        {
            "id": id,
            "hypothesis": text,
            **dict(zip(("insertions", "deletions", "substitutions", "words"), four)),
        }
        for id, text, four in zip(material.ids, texts, counts)
    ]
    conditions = listener.conditions
    recipe = store.recipe(folder)
    report = Report(
        run=folder.name,
        subnet=subnet.name,
        split=material.split,
        method=recipe.method.name,
        title=recipe.title or folder.name,
        **_errors(edits, texts, material, options, dense),
        per=_phoneme_errors(listener, said, material),
        **sizes(data, store.anatomy(folder), subnet),
        **(asdict(speed) if speed else dict.fromkeys(TIMES) | {"threads": options.threads}),
        **{
            n: conditions[n]
            for n in (
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
        },
        hardware=heard.hardware if heard else provenance.hardware(),
        code_version=provenance.code_version(),
        date=datetime.date.today().isoformat(),
        resampled=scoring.resampled_unit(material.speakers),
    )
    return report, rows


def _phoneme_errors(
    listener: PackedRecognizer, said: list[tuple[str, list[int]]], material: Material
) -> float | None:
    """Phoneme error rate of the net alone, greedily, against each word's likeliest pronunciation;
    None where tokens are others.
    """
    tokens = listener.tokenizer
    if tokens.unit != "phonemes" or listener.graph is None or not said:
        return None
    return scoring.word_edits(
        [tokens.reference(text) for text in material.references],
        [tokens.decode(ids) for _, ids in said],
    ).rate


def language(options: Options) -> Language | None:
    """What the options' decoding graph understands; None for other decoders, and where neither
    decoder, model nor grammar is named.
    """
    named = options.decoder or options.grammar or options.lm not in ("", languages.OPEN)
    if not named or options.decoder not in ("", decoding.GRAPH):
        return None
    grammar = options.grammar
    if grammar not in ("", languages.COMMANDS):
        grammar = _pattern_file(Path(grammar))
    return Language(options.lm, grammar)


def _pattern_file(file: Path) -> str:
    confinement.check(file, "evaluation.grammar")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"evaluation.grammar = {str(file)!r} cannot be read"
            f" ({getattr(error, 'strerror', None) or error}); give UTF-8 text, a sentence pattern a"
            f" line, or {languages.COMMANDS!r}"
        ) from None


def opened(data: bytes, options: Options) -> PackedRecognizer:
    """The recognizer under the options' conditions; ValueError for conditions that cannot be."""
    opened = runtime.load(
        data,
        engine="torch",
        chunk_ms=options.chunk_ms,
        precision=options.precision,
        threads=options.threads,
        decoder=options.decoder,
        beam=options.beam,
        language=language(options),
        weights=Weights(options.scale, options.blank_penalty),
    )
    if opened.tokenizer.unit != "words" and opened.graph is None:
        raise ValueError(
            f"decoder {opened.decoder!r} gives the {opened.tokenizer.unit} of this model, not"
            " words, which are scored: use decoder 'graph', or leave it empty"
        )
    return opened


def rival(folder: Path, subnet: Subnet | None = None) -> bytes | None:
    """The run's dense subnet as a file, to time `subnet` in turn with; None for dense itself and
    where the run has none.
    """
    wanted = has_dense(folder) and (subnet is None or subnet.name != DENSE)
    return packing.pack(folder, store.subnet(folder, DENSE)) if wanted else None


def has_dense(folder: Path) -> bool:
    """Whether the run has a dense subnet; one that was only pruned to a size or two has none."""
    return any(file.stem == DENSE for file in store.files(folder, paths.SUBNETS, "*.json"))


def speed_on(
    data: bytes, waves: list[np.ndarray], options: Options, dense: bytes | None = None
) -> Speed:
    """Speed of a packed subnet on these sounds, one thread; also against `dense`, if given."""
    return measure(
        data,
        waves,
        options.chunk_ms,
        1,
        options.precision,
        options.decoder,
        options.beam,
        language(options),
        dense,
        Weights(options.scale, options.blank_penalty),
    )


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


def sizes(data: bytes, anatomy: Anatomy, subnet: Subnet) -> dict:
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
        "sparsity": float(1 - kept / max(cost.prunable_parameters(anatomy), 1)),
        "sparsity_whole": float(1 - nonzero / cost.parameters(anatomy)),
        "file_bytes": len(data),
        "zstd_bytes": packing.zstd_bytes(data),
        "mmacs_per_second": cost.macs_per_second(anatomy, subnet.keep) / 1e6,
        "mmacs_nonzero_per_second": cost.macs_nonzero_per_second(anatomy, subnet.keep) / 1e6,
    }


def evaluate_many(
    run: str | Path,
    subnets: Sequence[Subnet],
    prepared: Prepared,
    options: Options | None = None,
    progress: ProgressCallback = lambda *_: True,
    again: bool = False,
    spread: Spread | None = None,
) -> list[Report]:
    """Measures subnets on splits and stores the reports; dense comes first, so that the others are
    paired with it.

    What is already measured (same file, split and conditions) is kept unless `again`. Speed is
    measured once a subnet, in turn with dense. `spread` has other processes decode, all subnets of
    a split at once. Raises Interrupted when `progress` says stop; what is finished is stored.
    """
    options, folder = options or Options(), store.folder_of(run)
    if subnets:  # reports bear the decoder's own name
        opened_first = opened(packing.pack(folder, subnets[0]), options)
        options = replace(options, decoder=opened_first.decoder)
    splits = options.splits or [s for s in prepared.splits if s not in NOT_TESTED]
    ordered = sorted(subnets, key=lambda s: (s.name != DENSE, s.sparsity, s.name))
    reports, began, speeds = list[Report](), time.monotonic(), dict[str, Speed]()
    for split in splits:
        a_split = _Split(folder, material(prepared, split), options, again, speeds)
        decode = a_split.spread(ordered, spread) if spread else {}
        for subnet in ordered:
            count, total = len(reports), len(splits) * len(ordered)
            left = (time.monotonic() - began) / count * (total - count) if count else None
            text = f"{subnet.name} on {a_split.material.split} ({count + 1} of {total})"
            if not progress(count / total, text, left):
                raise Interrupted(f"stopped after {count} of {total} measurements; they are stored")
            reports.append(a_split.report(subnet, decode.get(subnet.name)))
    progress(1.0, f"{len(reports)} measurements are stored", 0.0)
    return reports


@dataclass(frozen=True)
class _Split:
    """One split in the course of measuring many subnets."""

    folder: Path
    material: Material
    options: Options
    again: bool
    speeds: dict[str, Speed]  # {subnet: its speed, once measured}; shared by the splits

    def spread(
        self, subnets: Sequence[Subnet], spread: Spread
    ) -> dict[str, Callable[[Subnet], Hypotheses]]:
        """Other processes begin to decode what is not measured yet -> {subnet: waits for its}."""
        todo = [
            s
            for s in subnets
            if self.again or _measured(self.folder, s, self.material, self.options) is None
        ]
        if not todo:
            return {}
        packed = [(s, packing.pack(self.folder, s)) for s in todo]
        wait = spread(packed, self.material, self.options, rival(self.folder))
        return {s.name: wait for s in todo}

    def report(self, subnet: Subnet, decode: Callable[[Subnet], Hypotheses] | None) -> Report:
        """The subnet's stored report, or a new one, which is stored."""
        dense = _dense_rows(self.folder, subnet, self.material, self.options)
        known = None
        if not self.again:
            known = _measured(self.folder, subnet, self.material, self.options)
        if known is None or (known.delta_wer is None and dense is not None):
            # not measured, or before dense was
            known, rows = evaluate(
                self.folder,
                subnet,
                self.material,
                self.options,
                speed=self.speeds.get(subnet.name),
                dense=dense,
                heard=decode(subnet) if decode else None,
            )
            store.save_report(self.folder, known, rows)
        self._keep_speed(subnet, known)
        return known

    def _keep_speed(self, subnet: Subnet, report: Report) -> None:
        """For the next split, unless it was timed elsewhere or, long ago, alone."""
        in_turn = (
            report.speed_ratio is not None or subnet.name == DENSE or not has_dense(self.folder)
        )
        if report.rtf is not None and report.hardware == provenance.hardware() and in_turn:
            self.speeds[subnet.name] = Speed(**{name: getattr(report, name) for name in TIMES})


def _measured(folder: Path, subnet: Subnet, material: Material, options: Options) -> Report | None:
    """The stored report of this very file on this split under these conditions, if there is one."""
    asked = (subnet.name, material.split, options.chunk_ms, *_decoding(options))
    report = next(
        (
            r
            for r in store.reports(folder)
            if (r.subnet, r.split, r.chunk_ms, r.decoder, r.language_model) == asked
        ),
        None,
    )
    if report is None:
        return None
    try:
        heard = [row["id"] for row in store.hypotheses(folder, *asked)]
    except ValueError:  # damaged or lost: measured again
        return None
    same = heard == material.ids and (report.precision, report.file_sha256) == (
        options.precision,
        packing.sha256(packing.pack(folder, subnet)),
    )
    return report if same else None


def _decoding(options: Options) -> tuple[str, str]:
    """Decoder and language model, as reports name them."""
    understood = language(options)
    return (
        decoding.labelled(options.decoder, options.beam),
        (
            f"{understood.name()}, {Weights(options.scale, options.blank_penalty).text()}"
            if understood
            else NO_LANGUAGE
        ),
    )


def _dense_rows(
    folder: Path, subnet: Subnet, material: Material, options: Options
) -> list[dict] | None:
    asked = (DENSE, material.split, options.chunk_ms, *_decoding(options))
    measured = any(
        (r.subnet, r.split, r.chunk_ms, r.decoder, r.language_model) == asked
        for r in store.reports(folder)
    )
    if not measured or subnet.name == DENSE:
        return None
    try:
        return store.hypotheses(folder, *asked)
    except ValueError:
        return None
