"""How long the work of a recipe will take on this machine, from what such work has cost here.

Costs come from earlier jobs, and before the first one from a trial (core/pipelines/trial.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core import paths
from core.common import machine
from core.common.stages import FEATURES, MEASURING, OF_KIND, SPEECH, TRAINING
from core.records import Choice, Recipe
from core.registry import catalog
from core.storage import speeds

FASTER, SLOWER = 0.75, 1.5  # other programs come and go on a machine: from and to, of one value
SURER = (0.85, 1.2)  # beside the smallest and the largest of several measurements
# options of a training that do not change what a second of training audio costs
FREE = (
    *("updates", "peak_lr", "rise", "muon_rate", "weight_decay", "clip", "average", "shares"),
    *("log_every", "checkpoint_every", "wer_every", "wer_seconds", "snapshots"),
)
UNITS = (("second", 1.0, 90.0), ("minute", 60.0, 90 * 60.0), ("hour", 3600.0, 48 * 3600.0))


@dataclass(frozen=True)
class Estimate:
    """Seconds of every stage whose cost is known (lowest, highest), the training's among them."""

    stages: dict[str, tuple[float, float]]

    @property
    def low(self) -> float:
        return sum(low for low, _ in self.stages.values())

    @property
    def high(self) -> float:
        return sum(high for _, high in self.stages.values())

    def words(self) -> str:
        """ "about 4 to 8 minutes on this machine"."""
        return f"about {between(self.low, self.high)} on this machine"

    def detail(self) -> str:
        """ "training 2 to 4 minutes, measuring 1 to 2 minutes": what takes a second or more."""
        shown = [(s, low, high) for s, (low, high) in self.stages.items() if high >= 1]
        return ", ".join(f"{stage} {between(low, high)}" for stage, low, high in shown)

    def after(self, stage: str) -> tuple[float, float]:
        """Seconds of the stages of a training that come after this one."""
        order = list(OF_KIND["train"])
        later = order[order.index(stage) + 1 :] if stage in order else order
        spans = [self.stages[name] for name in later if name in self.stages]
        return sum(low for low, _ in spans), sum(high for _, high in spans)


def between(low: float, high: float) -> str:
    """Two lengths in s as one range: "4 to 8 minutes", "1 to 2 hours", "20 seconds"."""
    name, size = next(((n, s) for n, s, most in UNITS if high < most), ("day", 86400.0))
    texts = [_number(value / size) for value in (low, high)]
    plural = "" if texts[1] == "1" else "s"
    return f"{' to '.join(dict.fromkeys(texts))} {name}{plural}"


def _number(value: float) -> str:
    """One or two digits that count: 0.4, 2.5, 7, 35, 180."""
    if value >= 100:
        return f"{round(value, -1):.0f}"
    return f"{value:.0f}" if value >= 9.5 else f"{round(2 * value) / 2 or 0.5:g}"


def of(recipe: Recipe, device: str = "") -> Estimate | None:
    """The estimate of a training job; None while nothing is known of what its updates cost here.

    `device`: "cpu" or "cuda"; "" as a job of the queue chooses.
    """
    options = training_options(recipe)
    spent = speeds.costs(training_work(recipe, device))
    if not spent:
        return None
    audio = options["updates"] * options["batch_seconds"]
    stages = {TRAINING: spread(spent, audio)}
    speech = speeds.amounts_of(speech_key(recipe))
    if not ready(speech):
        parts = {SPEECH: "made_seconds", FEATURES: "feature_seconds"}
        works = {SPEECH: f"{SPEECH} {recipe.corpus.name}", FEATURES: FEATURES}
        for stage, amount in parts.items():
            if speech.get(amount) and (each := speeds.costs(works[stage])):
                stages[stage] = spread(each, speech[amount] / machine.cores())
    if each := speeds.costs(measuring_work(recipe)):
        stages[MEASURING] = spread(each, 1.0)
    return Estimate({name: stages[name] for name in OF_KIND["train"] if name in stages})


def spread(costs: Iterable[float], amount: float) -> tuple[float, float]:
    """(lowest, highest) seconds for an amount, from the costs of one."""
    known = sorted(costs)
    if len(known) == 1:
        return FASTER * known[0] * amount, SLOWER * known[0] * amount
    return SURER[0] * known[0] * amount, SURER[1] * known[-1] * amount


def ready(speech: dict[str, Any]) -> bool:
    """Whether a corpus of this kind was prepared here and still is."""
    return bool(speech.get("folder")) and (paths.prepared() / str(speech["folder"])).is_dir()


# what kinds of work there are


def training_options(recipe: Recipe) -> dict[str, Any]:
    return catalog.defaults(catalog.card("settings", "training")) | recipe.training


def training_work(recipe: Recipe, device: str = "") -> str:
    """Seconds of such updates, for a second of training audio."""
    options = {n: v for n, v in training_options(recipe).items() if n not in FREE}
    choices = [_full("models", recipe.model), _full("methods", recipe.method)]
    key = speeds.digest(choices, options, recipe.tokens, recipe.corpus.name)
    return f"{TRAINING} {device or ('cuda' if machine.cards() else 'cpu')} {key}"


def measuring_work(recipe: Recipe) -> str:
    """Measuring all sizes of such a run once."""
    parts = [recipe.corpus, recipe.model, recipe.method, recipe.tokens, recipe.evaluation]
    return f"{MEASURING} {speeds.digest(*(vars(p) if isinstance(p, Choice) else p for p in parts))}"


def speech_key(recipe: Recipe) -> str:
    """A corpus with all that decides how much speech there is."""
    return corpus_key(recipe.corpus, recipe.features)


def corpus_key(corpus: Choice, features: dict[str, Any]) -> str:
    full = catalog.defaults(catalog.card("settings", "features")) | features
    return speeds.digest(_full("corpora", corpus), full)


def _full(room: str, choice: Choice) -> list[Any]:
    """A choice with every option, so that a default that is written out changes nothing; as it is
    where its plug-in's file cannot be read.
    """
    cards = [card for card in catalog.cards(room) if card.name == choice.name]
    return [choice.name, (catalog.defaults(cards[0]) if cards else {}) | choice.options]
