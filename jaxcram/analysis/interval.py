"""Intervals of means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def of_mean(values: Sequence[float]) -> list[float] | None:
    """The 95% interval [low, high] of the mean of independent values, by Student's t; None for one value."""
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return [mean, mean]
    return [float(end) for end in stats.t.interval(0.95, len(values) - 1, mean, error)]
