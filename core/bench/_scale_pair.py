"""One of two processes that add up gradients for `bench scale`: `python -m core.bench._scale_pair
VALUES ROUNDS`, started with the variables of core/training/distributed.py. The first prints how
long the sums took, as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

from core.training import distributed as processes

TENSORS = 300  # about as many as a large network has


def main(values: int, rounds: int) -> None:
    torch.set_num_threads(1)
    group = processes.joined()
    sizes = {"whole_s": max(1, values // TENSORS), "least_s": 1}
    told = {}
    for name, size in sizes.items():
        parameters = [
            torch.nn.Parameter(torch.zeros(size))
            for _ in range(TENSORS if name == "whole_s" else 1)
        ]
        for p in parameters:
            p.grad = torch.ones(size)
        times = []
        for _ in range(rounds + 1):
            group.gather(None)  # both begin together
            began = time.perf_counter()
            group.add_up(parameters)
            times.append(time.perf_counter() - began)
        told[name] = statistics.median(times[1:])  # the first one makes room
    sums = sorted(group.gather(float(parameters[0].grad)))
    if group.rank == 0:
        print(json.dumps(told | {"sum": sums}), flush=True)
    processes.leave(group)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
