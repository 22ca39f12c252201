"""What a subnet's time and memory hang on, and the cost model that predicts both from a few subnets
that were measured; knows no profiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core import cost
from core.records import ModelSpec, option

MOST = 1e9  # of any number
CLOSE = 1.1  # how far outside the measured subnets' work a prediction goes


@dataclass(frozen=True)
class Work:
    """What a subnet computes."""

    branches: int = option(0, "residual branches that are run", low=0, high=MOST)
    mmacs: float = option(
        0.0, "multiply-accumulates executed per second of audio, millions", low=1e-6, high=MOST
    )
    mmacs_nonzero: float = option(0.0, "those of them that meet a kept weight", low=1e-6, high=MOST)


def work(spec: ModelSpec, keep: dict[str, float]) -> Work:
    """What a subnet with these shares kept computes."""
    off = cost.branches_off(spec, keep)
    return Work(
        branches=len({u.branch for u in spec.units if u.branch} - off),
        mmacs=cost.macs_per_second(spec, keep) / 1e6,
        mmacs_nonzero=cost.macs_nonzero_per_second(spec, keep) / 1e6,
    )


@dataclass(frozen=True)
class Estimate:
    """One subnet's times; `ms_p95` and `load_ms` None where it was not measured."""

    ms: float
    rss_mb: float
    measured: bool
    ms_p95: float | None = None
    load_ms: float | None = None


@dataclass(frozen=True)
class CostModel:
    """ms per chunk and MB of memory: a constant, so much for each branch that is run, so much for
    each multiplication; none of them negative. `low`, `high`: of the work it was fitted to.
    """

    engine: str
    of_ms: np.ndarray  # [3], as _row()
    of_mb: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(
        cls, engine: str, works: Sequence[Work], ms: Sequence[float], mb: Sequence[float]
    ) -> CostModel:
        """Least squares of the relative errors."""
        rows = np.array([_row(engine, one) for one in works])
        return cls(engine, _fitted(rows, ms), _fitted(rows, mb), rows.min(0), rows.max(0))

    def ms(self, of: Work) -> float:
        return float(_row(self.engine, of) @ self.of_ms)

    def estimate(self, of: Work) -> Estimate | None:
        """None for a subnet that is much larger or smaller than those that were measured."""
        row = _row(self.engine, of)
        if (row < self.low / CLOSE).any() or (row > self.high * CLOSE).any():
            return None
        return Estimate(self.ms(of), float(row @ self.of_mb), measured=False)


def _row(engine: str, of: Work) -> np.ndarray:
    """[constant, branches, MMAC]; only the engine "sparse" leaves zeros out."""
    return np.array([1.0, of.branches, of.mmacs_nonzero if engine == "sparse" else of.mmacs])


def _fitted(rows: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Coefficients [3] of rows [N, 3] for values [N]."""
    from scipy.optimize import nnls  # a quarter of a second, which pages without devices save

    scale = np.maximum(rows.max(0), 1e-9)
    found, _ = nnls(rows / scale / np.maximum(values, 1e-6)[:, None], np.ones(len(rows)))
    return np.asarray(found / scale)
