"""Measuring and searching as Ray tasks: subnets, or a search's candidates, x parts of the speech,
on whatever machines are free.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import ray

from core.evaluation import conditions, evaluate as evaluation
from core.evaluation.conditions import Options as MeasureOptions
from core.evaluation.evaluate import Hypotheses
from core.evaluation.fitness import Fitness
from core.evaluation.material import Material
from core.evaluation.provenance import hardware
from core.jobs.runners._ray_words import say
from core.records import Subnet


@ray.remote(max_retries=3)
def hear(
    data: bytes, features: list, waves: list, options: MeasureOptions, dense: bytes | None
) -> tuple[Hypotheses, str]:
    """What one packed subnet understands of one part of a split, and where; its speed on `waves`,
    where there are some, also in turn
    with `dense`.
    """
    opened = conditions.load_recognizer(data, replace(options, threads=1))
    facts = conditions.speed_on(data, waves, options, dense) if waves else None
    texts, tokens = zip(*opened.recognize(features), strict=True)
    return Hypotheses(list(texts), facts, hardware(), list(tokens)), node()


@ray.remote(max_retries=3)
def part_of_loss(
    fitness: Fitness, keep: dict[str, float], number: int, of: int
) -> tuple[float, float, str]:
    """(loss, encoder frames) of one candidate on one part of the speech, and where."""
    import torch

    torch.set_num_threads(1)
    return *fitness.sums(keep, number, of), node()


def node() -> str:
    """The machine of the cluster this runs on: two may share an address."""
    return f"{ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:6]})"


class Spread:
    """Measurements as Ray tasks over subnet x part of the speech; at most `shards` parts."""

    def __init__(self, o: dict[str, Any]) -> None:
        self.shards = o["shards"]
        self.spread = {"num_cpus": o["cpus"], "scheduling_strategy": "SPREAD"}
        self.places: set[str] = set()

    def evaluate(
        self,
        subnets: list[tuple[Subnet, bytes]],
        material: Material,
        options: MeasureOptions,
        dense: bytes | None,
    ) -> Any:
        """Begins all subnets; the function it returns waits for one of them. Only the first part is
        timed, and needs `dense` for that.
        """
        parts = min(self.shards, len(material.ids))
        features = [
            ray.put([np.array(f) for f in material.features[i::parts]]) for i in range(parts)
        ]
        waves = [ray.put(material.waves(options.speed_utterances))] + [ray.put([])] * (parts - 1)
        dense_files = [ray.put(dense)] + [None] * (parts - 1)
        begun = {
            subnet.name: [
                hear.options(name=f"{subnet.name} on {material.split}", **self.spread).remote(
                    data, f, w, options, None if subnet.name == evaluation.DENSE else r
                )
                for f, w, r in zip(features, waves, dense_files)
            ]
            for subnet, data in subnets
        }

        def listen(subnet: Subnet) -> Hypotheses:
            transcripts, places = zip(*ray.get(begun.pop(subnet.name)))
            self._placed(places)
            texts, tokens = [""] * len(material.ids), [list[int]()] * len(material.ids)
            for i, part in enumerate(transcripts):
                texts[i::parts], tokens[i::parts] = part.texts, part.tokens
            return Hypotheses(texts, transcripts[0].speed, transcripts[0].hardware, tokens)

        return listen

    def search(self, fitness: Fitness) -> Any:
        """A function that measures several candidates at once."""
        parts = max(1, min(self.shards, len(fitness.held_out.batches)))
        bare = copy.copy(fitness)
        bare.held_out = copy.copy(fitness.held_out)
        # the speech itself goes, not the files it came from
        vars(bare.held_out)["prepared"] = None
        held = ray.put(bare)

        def many(keeps: list[dict[str, float]]) -> list[float]:
            begun = [
                [
                    part_of_loss.options(**self.spread).remote(held, keep, i, parts)
                    for i in range(parts)
                ]
                for keep in keeps
            ]
            sums = []
            for losses, frames, places in (zip(*ray.get(parts_of)) for parts_of in begun):
                self._placed(places)
                sums.append(sum(losses) / sum(frames))
            return sums

        return many

    def _placed(self, places: Any) -> None:
        """Tell where, whenever a machine is new."""
        if not self.places.issuperset(places):
            self.places |= set(places)
            say(place=", ".join(sorted(self.places)))
