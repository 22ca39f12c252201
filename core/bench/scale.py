"""What the largest recipe would take on many GPUs: one formula with measured inputs. Writes
SCALE.md.

    update(N) = max(work * part(N), floor) + 2 (N-1)/N * gradients / network

`part` is the largest share of the batch that one of N processes gets (whole utterances), `floor`
what a GPU needs for the smallest batch, and a ring sends the gradients (Patarasuk & Yuan 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import paths
from core.common import writing
from core.pipelines import build, dry_run
from core.pipelines.resolved import ResolvedRecipe
from core.records import option
from core.registry import recipes
from core.reports import tables
from core.training import pace

TITLE = "what many GPUs would take"
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
GAIN = 0.10  # a doubling that saves less than this share of the hours is no gain
FLOPS_PER_MAC = 6  # 2 forward, 4 backward


@dataclass(frozen=True)
class Options:
    recipe: str = option("paper_librispeech", "recipe whose training is worked out")
    out: str = option("", "file that is written; empty: artifacts/released/SCALE.md")
    pass_ms: float = option(205.0, "least time of a pass on a GPU", unit="ms", low=0.0)
    tflops: float = option(78.0, "what a large batch reaches on a GPU", unit="TFLOP/s", low=0.1)
    network_GBs: float = option(20.0, "a ring between machines", unit="GB/s", low=0.01)


def run(options: Options) -> dict[str, Any]:
    """A dry run of the recipe (minutes on two cores) and the page from it; returns the inputs with
    {"fixed", "grown"}: hours by number of GPUs. ValueError for a recipe that cannot be.
    """
    recipe = replace(recipes.load_recipe(options.recipe), init_from="")
    resolved = ResolvedRecipe(recipe)
    settings = resolved.training
    facts = dry_run.estimate(recipe)
    vocabulary = resolved.speech.vocabulary()
    _, method = build.build(resolved.built(vocabulary), vocabulary, settings.updates)
    macs = pace.average(method, settings.updates, pace.macs)
    passes = pace.average(method, settings.updates, lambda m, step: len(m.plan(step)))
    work = FLOPS_PER_MAC * macs * settings.batch_seconds
    facts |= {"recipe": options.recipe, "updates": settings.updates, "passes": passes}
    facts |= {"utterances": max(1, round(settings.batch_seconds / facts["utterance_s"]))}
    facts |= {"work_s": work / (1e12 * options.tflops), "work": work}
    facts |= {"floor_s": passes * options.pass_ms / 1000}
    facts |= {"ring_s": 2 * 4 * facts["parameters"] / (1e9 * options.network_GBs)}
    facts |= {"fixed": hours(facts, grows=False), "grown": hours(facts, grows=True)}
    target = Path(options.out or paths.RELEASED / paths.SCALE)
    writing.write_bytes(target, page(facts, options).encode())
    return facts | {"page": str(target)}


def hours(facts: dict[str, Any], grows: bool) -> dict[int, float]:
    """{GPUs: hours}; `grows`: the batch grows with the GPUs, and updates become fewer."""
    figures = {}
    for n in COUNTS:
        share = 1.0 if grows else math.ceil(facts["utterances"] / n) / facts["utterances"]
        update_s = max(facts["work_s"] * share, facts["floor_s"]) + facts["ring_s"] * (n - 1) / n
        figures[n] = facts["updates"] / (n if grows else 1) * update_s / 3600
    return figures


def stops(hours: dict[int, float]) -> int:
    """The number of GPUs whose doubling saves less than GAIN of the hours; else the largest."""
    pairs = zip(COUNTS, COUNTS[1:])
    return next((a for a, b in pairs if hours[b] > (1 - GAIN) * hours[a]), COUNTS[-1])


def page(facts: dict[str, Any], o: Options) -> str:
    """Markdown: the answer, the formula's inputs, the table."""
    fixed, grown, epochs = facts["fixed"], facts["grown"], facts["audio_hours"] / 960
    inputs = [
        ("parameters", f"{facts['parameters'] / 1e6:.1f} million", "counted"),
        ("work of an update", f"{facts['work'] / 1e12:.2f} TFLOP", "counted"),
        ("utterances of a batch", f"{facts['utterances']}", "counted"),
        ("passes of an update", f"{facts['passes']:.2f}", "counted"),
        ("an update here", f"{facts['seconds_per_update']:.1f} s", facts["hardware"]),
        ("least time of a pass", f"{o.pass_ms:g} ms", "NVIDIA H200: 137 ms for 8 blocks, here 12"),
        ("what a GPU reaches", f"{o.tflops:g} TFLOP/s", "assumed: a quarter of an A100's bf16"),
        ("a ring between machines", f"{o.network_GBs:g} GB/s", "assumed: 200 Gbit/s, less a fifth"),
    ]
    head = ["GPUs", "hours, batch as written", "hours, batch grows", "efficiency, batch grows"]
    rows = [
        (n, f"{fixed[n]:.3g}", f"{grown[n]:.3g}", f"{grown[1] / grown[n] / n:.0%}") for n in COUNTS
    ]
    return PAGE.format(
        **facts,
        inputs=tables.table(["input", "value", "from"], inputs),
        table=tables.table(head, rows),
        least_ms=1000 * facts["floor_s"],
        work_ms=1000 * facts["work_s"],
        sixty_four=fixed[64],
        grown_64=grown[64],
        epochs=epochs,
        epoch_64=grown[64] / epochs,
        stop=stops(fixed),
        stop_grown=stops(grown),
    )


PAGE = """# What many GPUs would make of the largest recipe

`{recipe}` was never trained. This page divides the work of its updates, counted from the recipe, by
what GPUs do. Its {audio_hours:,.0f} hours of training audio are {epochs:.0f} epochs of the 960
hours of LibriSpeech.

- **64 GPUs, 960 hours**: {grown_64:.2g} hours in all, {epoch_64:.2g} per epoch, if the batch grows
  64 times. Whether so large a batch learns as well was not tried.
- **As written**, 64 GPUs would take {sixty_four:.0f} hours: a batch has {utterances} utterances,
  and a GPU gets whole ones.
- **It stops scaling** at {stop} GPU as written: starting the operators of an update takes
  {least_ms:.0f} ms, their work on one GPU {work_ms:.0f} ms. With a growing batch every doubling up
  to {stop_grown} GPUs saves 10 % of the hours or more.

```text
update(N) = max(work x part(N), floor) + 2 (N-1)/N x gradients / network
```

{inputs}

{table}

```sh
python -m core bench scale
```

Left out: padding, reading speech, evaluation, checkpoints, and machines that fail.
"""
