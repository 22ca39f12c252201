"""Many subnets on many splits: each is measured once, stored, and paired with the dense subnet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core import paths
from core.common import stages
from core.data.prepared import TRAIN, Prepared
from core.evaluation import provenance
from core.evaluation.conditions import Options, decoding_labels, load_recognizer
from core.evaluation.evaluate import (
    DENSE,
    TIMES,
    Hypotheses,
    evaluate,
    has_dense,
    packed_dense,
    speed_of,
)
from core.evaluation.latency import Speed
from core.evaluation.material import Material, load_material
from core.records import Interrupted, ProgressCallback, Report, Subnet
from core.storage import packing, store

NOT_TESTED = (TRAIN, "search", "dev")
# begins all (the last argument: the run's dense subnet, packed, to time them in turn with), waits
# for one
Spread = Callable[
    ["list[tuple[Subnet, bytes]]", "Material", Options, "bytes | None"],
    "Callable[[Subnet], Hypotheses]",
]


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
        recognizer = load_recognizer(packing.pack(folder, subnets[0]), options)
        options = replace(options, decoder=recognizer.decoder)
    splits = options.splits or [s for s in prepared.splits if s not in NOT_TESTED]
    ordered = sorted(subnets, key=lambda s: (s.name != DENSE, s.sparsity, s.name))
    reports, began, speeds = list[Report](), time.monotonic(), dict[str, Speed]()
    for split in splits:
        a_split = _Split(folder, load_material(prepared, split), options, again, speeds)
        decode = a_split.spread(ordered, spread) if spread else {}
        for subnet in ordered:
            count, total = len(reports), len(splits) * len(ordered)
            left = (time.monotonic() - began) / count * (total - count) if count else None
            what = f"{subnet.name} on {a_split.material.split}"
            unit = "sizes" if len(splits) == 1 else "measurements"
            text = stages.counted(stages.MEASURING, count, total, unit, what)
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
        wait = spread(packed, self.material, self.options, packed_dense(self.folder))
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
                hypotheses=decode(subnet) if decode else None,
            )
            store.save_report(self.folder, known, rows)
        elif known.rtf is None and known.hardware == provenance.hardware():
            known = self._timed(subnet, known)
        self._keep_speed(subnet, known)
        return known

    def _timed(self, subnet: Subnet, known: Report) -> Report:
        """A report that was stored without speed gets it; nothing is decoded again."""
        data = packing.pack(self.folder, subnet)
        speed = self.speeds.get(subnet.name) or speed_of(
            self.folder, subnet, data, self.material, self.options
        )
        if speed is None:
            return known
        rows = store.hypotheses(self.folder, *paths.report_key(known))
        timed = replace(known, **asdict(speed))
        store.save_report(self.folder, timed, rows)
        return timed

    def _keep_speed(self, subnet: Subnet, report: Report) -> None:
        """For the next split, unless it was timed elsewhere or, long ago, alone."""
        in_turn = (
            report.speed_ratio is not None or subnet.name == DENSE or not has_dense(self.folder)
        )
        if report.rtf is not None and report.hardware == provenance.hardware() and in_turn:
            self.speeds[subnet.name] = Speed(**{name: getattr(report, name) for name in TIMES})


def _measured(folder: Path, subnet: Subnet, material: Material, options: Options) -> Report | None:
    """The stored report of this very file on this split under these conditions, if there is one."""
    key = (subnet.name, material.split, options.chunk_ms, *decoding_labels(options))
    report = next((r for r in store.reports(folder) if paths.report_key(r) == key), None)
    if report is None:
        return None
    try:
        ids = [row["id"] for row in store.hypotheses(folder, *key)]
    except ValueError:  # damaged or lost: measured again
        return None
    same = ids == material.ids and (report.precision, report.file_sha256) == (
        options.precision,
        packing.sha256(packing.pack(folder, subnet)),
    )
    return report if same else None


def _dense_rows(
    folder: Path, subnet: Subnet, material: Material, options: Options
) -> list[dict] | None:
    key = (DENSE, material.split, options.chunk_ms, *decoding_labels(options))
    measured = any(paths.report_key(r) == key for r in store.reports(folder))
    if not measured or subnet.name == DENSE:
        return None
    try:
        return store.hypotheses(folder, *key)
    except ValueError:
        return None
