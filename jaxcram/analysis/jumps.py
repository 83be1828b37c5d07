"""Whether a trajectory dwells and leaps: the sizes of its jumps from stage to stage, and their order.

A jump's size is the distance between the embeddings of consecutive stages, or the optimiser steps that the
later one took.
"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
from scipy import stats

from jaxcram.analysis.trajectory import Null

LEAST = 4  # jumps, as in the published tables; fewer have no shape
_SHUFFLES = 1000
_ROUNDING = 1e-9  # of the largest jump: less is what free stages move by rounding


@dataclasses.dataclass(frozen=True)
class Jumps:
    """The shape of a series of jumps.

    Attributes:
        gap_ratio: the largest over the median; None if the median is 0, up to rounding.
        autocorrelation: Pearson's correlation of each jump with the next one; None if the jumps are equal.
        shuffled: the same of the same jumps in random orders; None where `autocorrelation` is.
    """

    gap_ratio: float | None
    autocorrelation: float | None
    shuffled: Null | None

    @property
    def dwells(self) -> bool | None:
        """Whether large jumps follow large ones and small ones small ones, more than in 95% of the orders."""
        if self.autocorrelation is None or self.shuffled is None:
            return None
        return self.autocorrelation > self.shuffled.high


def jumps(sizes_J: np.ndarray, *, shuffles: int = _SHUFFLES, seed: int = 0) -> Jumps | None:
    """The shape of a series of jumps; None if it has fewer than `LEAST`.

    Args:
        sizes_J: distances or steps, in order.
        shuffles: random orders.
        seed: of the orders.
    """
    if len(sizes_J) < LEAST:
        return None
    sizes = np.asarray(sizes_J, np.float64)
    median = float(np.median(sizes))
    ratio = float(sizes.max()) / median if median > _ROUNDING * sizes.max() else None
    autocorrelation = float(_lag_one(sizes))
    if not np.isfinite(autocorrelation):
        return Jumps(ratio, None, None)
    orders = np.random.default_rng(seed).permuted(np.tile(sizes, (shuffles, 1)), axis=1)
    return Jumps(ratio, autocorrelation, Null.of(_lag_one(orders)))


def _lag_one(sizes: np.ndarray) -> np.ndarray:
    """Of each row; NaN where all jumps but the first, or all but the last, are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return stats.pearsonr(sizes[..., :-1], sizes[..., 1:], axis=-1).statistic
