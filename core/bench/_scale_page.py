"""What a training would take on many GPUs, as arithmetic on measured work and assumed GPUs, and the
page that says so. No torch.

Ours: an update lasts as long as the largest part of its batch needs (a process gets whole
utterances), or as long as the host needs to start its operators, then the ring adds up, then every
process does the same optimiser step; nothing overlaps, for core/training/trainer.py overlaps
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from core.reports import tables

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
WISHED = 64
STOPS = 0.10  # a doubling that saves less than this share of the hours is no gain
FLOPS_PER_MAC = 6  # 2 forward, 4 backward
# times every fp32 value is read or written after the passes: clipping 3, AdamW 7, averaging 3
TOUCHED_ALONE = 13
TOUCHED = 17  # and to be added up with others: into one row and back, 4
# a masked copy 2, the gradient back through the mask and added up 3; as if every parameter had a
# mask
TOUCHED_A_PASS = 5
PARTS = {
    "work": "the largest part of the batch",
    "start": "starting operators",
    "reduce": "adding up gradients",
    "repeat": "optimiser and masks, which every process repeats",
    "wait": "word errors and checkpoints, for which all wait",
}


@dataclass(frozen=True)
class Work:
    """What one update is. Counted from the recipe, or measured here."""

    batch_seconds: float  # speech of all parts
    utterance_s: float
    updates: int
    macs: float  # of all passes, per second of speech, averaged over the training
    operators: float  # that touch memory, of all passes
    values: int  # numbers whose gradients are added up
    wer_every: int
    checkpoint_every: int
    checkpoint_bytes: float
    passes: float = 0.0  # averaged over the training


@dataclass(frozen=True)
class Step:
    """Seconds of one update by PARTS: only the longer one of `work` and `start` counts."""

    work: float
    start: float
    reduce: float
    repeat: float
    wait: float

    @property
    def seconds(self) -> float:
        return max(self.work, self.start) + self.reduce + self.repeat + self.wait

    @property
    def longest(self) -> str:
        """The name of the part that is not the work itself and takes longest."""
        return max(
            (n for n in PARTS if n != "work"),
            key=lambda n: getattr(self, n) if n != "start" or self.start > self.work else 0.0,
        )


def largest_part(work: Work, processes: int) -> float:
    """Seconds of speech of the process that has most: whole utterances, dealt out one after the
    other.
    """
    utterances = max(1, round(work.batch_seconds / work.utterance_s))
    return work.batch_seconds * math.ceil(utterances / processes) / utterances


def ring_bytes(values: int, processes: int) -> float:
    """Bytes that each process sends (and receives) in a ring all-reduce of fp32: 2 (N-1)/N of them
    (Patarasuk & Yuan 2009).
    """
    return 2 * (processes - 1) / processes * 4 * values


def step(work: Work, processes: int, o: Any) -> Step:
    """One update of `processes` GPUs with the assumptions `o` (options of core/bench/scale.py)."""
    rate = o.gpu_tflops * 1e12 * o.gpu_share
    wire = (
        o.node_GBs if processes <= o.gpus_a_node else min(o.node_GBs, o.network_GBs)
    )  # a ring is as fast as its slowest link
    return Step(
        FLOPS_PER_MAC * work.macs * largest_part(work, processes) / rate,
        work.operators * o.launch_us * 1e-6,
        ring_bytes(work.values, processes) / (1e9 * wire)
        + 2 * (processes - 1) * o.latency_us * 1e-6,
        (TOUCHED + TOUCHED_A_PASS * work.passes) * 4 * work.values / (1e9 * o.memory_GBs),
        (o.evaluation_s / work.wer_every if work.wer_every else 0.0)
        + work.checkpoint_bytes / (1e9 * o.disk_GBs) / work.checkpoint_every,
    )


def grown(work: Work, processes: int) -> Work:
    """The same hours heard with a batch that grows with the processes: fewer, larger updates."""
    return Work(
        **vars(work)
        | {
            "batch_seconds": work.batch_seconds * processes,
            "updates": math.ceil(work.updates / processes),
        }
    )


def hours(work: Work, processes: int, o: Any) -> float:
    return step(work, processes, o).seconds * work.updates / 3600


def stops(times: list[float]) -> int | None:
    """The place of the first count whose doubling saves less than STOPS of the hours."""
    return next(
        (i for i, (now, then) in enumerate(zip(times, times[1:])) if then > (1 - STOPS) * now), None
    )


def table(work: Work, o: Any, growing: bool) -> tuple[str, list[float]]:
    rows, times = [], []
    for n in COUNTS:
        own = grown(work, n) if growing else work
        one = step(own, n, o)
        times.append(hours(own, n, o))
        rows.append(
            (
                str(n),
                f"{own.batch_seconds:,.0f}",
                f"{largest_part(own, n):.0f}",
                f"{1000 * one.seconds:.0f}",
                f"{one.reduce / one.seconds:.0%}",
                _hours(times[-1]),
                f"{times[0] / times[-1] / n:.0%}",
                PARTS[
                    (
                        "work"
                        if one.work >= max(one.start, one.reduce)
                        else "start"
                        if one.start > one.reduce
                        else "reduce"
                    )
                ],
            )
        )
    head = [
        "GPUs",
        "s of speech an update",
        "s of the largest part",
        "ms an update",
        "of it adding up",
        "hours in all",
        "efficiency",
        "what takes longest",
    ]
    return tables.table(head, rows), times


def why(work: Work, o: Any, growing: bool) -> str:
    """The sentence on where it stops scaling."""
    times = [hours(grown(work, n) if growing else work, n, o) for n in COUNTS]
    at = stops(times)
    name = "With a batch that grows" if growing else "As it is written"
    if at is None:
        return (
            f"{name}, every doubling up to {COUNTS[-1]} still saves {STOPS:.0%} of the hours or"
            " more."
        )
    here, beyond = ((grown(work, n) if growing else work) for n in COUNTS[at : at + 2])
    now, then = step(here, COUNTS[at], o), step(beyond, COUNTS[at + 1], o)
    if growing:
        reason = (
            f"{PARTS[then.longest]} takes {getattr(then, then.longest) / then.seconds:.0%} of an"
            " update there"
        )
    elif then.start >= then.work:
        reason = (
            f"starting {work.operators:,.0f} operators takes the host {1000 * then.start:.0f} ms,"
            f" the work itself {1000 * then.work:.0f} ms"
        )
    elif largest_part(work, COUNTS[at + 1]) == largest_part(work, COUNTS[at]):
        reason = "some processes have no utterance then, and those that have one are no faster"
    else:
        reason = (
            f"{PARTS[then.longest]} takes {getattr(then, then.longest) / then.seconds:.0%} of an"
            " update there"
        )
    return (
        f"{name}, it stops scaling at {COUNTS[at]} GPU{'s' * (COUNTS[at] > 1)} ({_hours(times[at])}"
        f" h; an update takes {1000 * now.seconds:.0f} ms): {COUNTS[at + 1]} would take"
        f" {_hours(times[at + 1])} h, for {reason}."
    )


def _hint(work: Work, o: Any) -> str:
    """What a GPU that waits for its host could hear without taking longer."""
    one = step(work, 1, o)
    if one.start <= one.work:
        return ""
    return (
        f" On one GPU already, starting the {work.operators:,.0f} operators of an update"
        f" ({1000 * one.start:.0f} ms) takes longer than their work ({1000 * one.work:.0f} ms): up"
        f" to about {work.batch_seconds * one.start / one.work:,.0f} s of speech for each GPU would"
        " take no more time."
    )


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2f}"


def page(work: Work, facts: dict[str, Any], o: Any, command: str) -> str:
    """Markdown: plain words, what was measured, what was counted, what is assumed, what follows,
    where it ends.
    """
    (fixed, as_is), (more, growing) = table(work, o, False), table(work, o, True)
    wished = COUNTS.index(WISHED)
    heard = work.updates * work.batch_seconds / 3600
    utterances = round(work.batch_seconds / work.utterance_s)
    busy = (
        f" The machine was busy (load {facts['load']:.1f} on {facts['cores']} cores before it"
        " began): times are too long."
        if facts["load"] > 0.5 * facts["cores"]
        else " The machine was quiet."
    )
    plain = (
        f"**No GPU was ever measured by this project, and `{o.recipe}` was never trained.** This"
        " page is arithmetic: the work of its updates, counted and measured on a processor,"
        f" divided by what GPUs are assumed to do. The recipe hears {heard:,.0f} hours"
        f" ({work.updates:,} updates of {work.batch_seconds:g} s; 960 hours about {heard / 960:.0f}"
        f" times over). With the assumptions below one GPU would take {as_is[0]:,.1f} hours."
        f" {WISHED} GPUs would take {as_is[wished]:,.1f} hours with the recipe as it is written,"
        f" and no more than {utterances} of them would have anything to do: its batch of"
        f" {work.batch_seconds:g} s is about {utterances} utterances, and a process gets whole"
        f" ones. If the batch grew with them ({WISHED} x {work.batch_seconds:g} s, {WISHED} times"
        f" fewer updates) they would take {_hours(growing[wished])} hours; whether such large"
        " batches learn as well was not tried."
    )
    where = f"{why(work, o, False)} {why(work, o, True)}{_hint(work, o)}"
    measured = [
        (f"an update of {seconds:.1f} s of speech, last phase", f"{took:.2f} s")
        for seconds, took in facts["updates_took"]
    ]
    measured += [
        (
            (
                f"so, by a line through them ({facts['off']:.0%} off at most): the part that does"
                " not depend on the batch (optimiser, averaging, masks; every process repeats it)"
            ),
            f"{facts['fixed']:.2f} s",
        ),
        (
            (
                f"the least it could be: {TOUCHED_ALONE} times 4 bytes of each of"
                f" {work.values / 1e6:.1f} million numbers at this machine's memory traffic"
                f" ({facts['stream'] / 1e9:.0f} GB/s, a sum of two rows)"
            ),
            f"{facts['least']:.2f} s",
        ),
        (
            (
                f"so: the recipe's update ({work.batch_seconds:g} s, average phase), by executed"
                " multiply-accumulates"
            ),
            f"{facts['whole']:.1f} s",
        ),
        (f"the 4096^3 product, {facts['precision']}", f"{facts['peak'] / 1e9:.0f} GFLOP/s"),
        ("share of it that the longest update reached", f"{facts['share']:.0%}"),
        (
            (
                f"adding up {work.values / 1e6:.1f} million gradients between two processes of this"
                " machine (core/training/distributed.py, gloo)"
            ),
            f"{facts['pair_whole']:.2f} s",
        ),
        ("adding up one number between them", f"{1000 * facts['pair_least']:.1f} ms"),
    ]
    counted = [
        ("parameters, and what a method trains beside them", f"{work.values / 1e6:.1f} million"),
        ("gradients of an update, fp32", f"{4 * work.values / 1e6:,.0f} MB"),
        (
            f"of them sent by each of {WISHED} processes of a ring an update, 2 (N-1)/N",
            f"{ring_bytes(work.values, WISHED) / 1e6:,.0f} MB",
        ),
        (
            "multiply-accumulates of an update, average over the training",
            f"{work.macs * work.batch_seconds / 1e12:.2f} x 10^12",
        ),
        (
            "operators of an update that touch memory (counted while one ran)",
            f"{work.operators:,.0f}",
        ),
        (
            "features read an update, half precision",
            f"{facts['feature_bytes'] / 1e6:.1f} MB, shared by the processes",
        ),
        (
            "a checkpoint",
            f"{work.checkpoint_bytes / 1e9:.1f} GB every {work.checkpoint_every:,} updates",
        ),
    ]
    return (
        "\n\n".join(
            (
                "# What many GPUs would make of the largest recipe",
                plain,
                where,
                f"```sh\n{command}\n```",
                (
                    f"{facts['date']}, {facts['hardware']}, {facts['threads']} threads,"
                    f" {facts['precision']}.{busy}"
                ),
                "## Measured here",
                tables.table(["what", "value"], measured),
                "## Counted",
                tables.table(["what", "value"], counted),
                "## Assumed",
                (
                    "Nobody here has seen these numbers on a machine; every one is an option of the"
                    " command."
                ),
                tables.table(["option", "value", "meaning"], facts["assumed"]),
                "## What follows: the recipe as it is written",
                "The run is the one that a single GPU would make of it, up to rounding.",
                fixed,
                f"## What follows: {work.batch_seconds:g} s of speech for each GPU",
                (
                    "The same hours heard, in fewer and larger updates; the learning rate would"
                    " have to be found again."
                ),
                more,
                "## What this leaves out",
                (
                    "Padding, reading speech (a few MB an update for all processes together),"
                    " machines that differ or fail, search and the final measuring, and everything"
                    " about GPUs that the assumptions do not say. All-reduce is taken as one flat"
                    " ring after the passes, as core/training/distributed.py does it; a library may"
                    " do better with a tree or by overlapping. Efficiency is the hours of one GPU"
                    " over the hours of all of them together."
                ),
            )
        )
        + "\n"
    )
