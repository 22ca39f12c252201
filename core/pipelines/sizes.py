"""The sizes that a training stores: those of its method, and uniform ones; and whether a name is
one of them, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from core import cost
from core.methods.base import Method
from core.records import ModelSpec, Subnet

# sparsities of the uniform sizes that are listed for a nested run
LADDER = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


def stored(method: Method, trained: list[Subnet], sparsest: float) -> list[Subnet]:
    """The sizes that are stored of a run: the method's own, and uniform ones where any sparsity may
    be chosen.
    """
    if method.nested:
        trained = trained + [_uniform(method.spec, s) for s in LADDER if s <= sparsest]
    return trained or [_uniform(method.spec, 0.0)]


def _uniform(spec: ModelSpec, sparsity: float) -> Subnet:
    keep = cost.uniform(spec, sparsity)
    name = "dense" if sparsity == 0 else f"u{100 * sparsity:.0f}"
    return Subnet(name, "", keep, cost.sparsity_reached(spec, keep))


def names(method: Method, sparsest: float) -> list[str]:
    """Names of the sizes that a training by this method will store."""
    trained = method.results(dict(method.model.named_parameters())).subnets
    return [s.name for s in stored(method, trained, sparsest)]


def check(wanted: Sequence[str], known: Sequence[str], who: str) -> None:
    """ValueError where `who` measures a size that is none of the `known` ones, which its training
    stores.
    """
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(
            f"{who} measures {missing[0]!r}, but its training stores {', '.join(known)}"
        )
