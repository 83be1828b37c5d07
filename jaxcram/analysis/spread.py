"""Means over lanes, and what else several analyses share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of the values that are known.

    Attributes:
        mean: None if none is known.
        std: with n - 1; None for fewer than two.
        count: values that are known.
    """

    mean: float | None
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Of values, of which those that are None or not finite are left out."""
        known = np.array([value for value in values if value is not None and math.isfinite(value)], float)
        return cls(
            float(known.mean()) if len(known) else None,
            float(known.std(ddof=1)) if len(known) > 1 else None,
            len(known),
        )


@dataclasses.dataclass(frozen=True)
class Line:
    """A least-squares line.

    Attributes:
        slope, intercept: of the line.
        r2: share of the variance that it explains.
    """

    slope: float
    intercept: float
    r2: float

    @classmethod
    def of(cls, x_R: np.ndarray, y_R: np.ndarray) -> Line | None:
        """Through points; None for fewer than three, or where either value does not vary."""
        if len(x_R) < 3 or np.ptp(x_R) == 0 or np.ptp(y_R) == 0:
            return None
        fit = stats.linregress(x_R, y_R)
        return cls(float(fit.slope), float(fit.intercept), float(fit.rvalue) ** 2)


class Column(NamedTuple):
    """What an analysis found about some lanes, as a column of a table or a colour of a figure.

    Attributes:
        label: model and learning rate, and the run where several have one model.
        rows: of the analysis.
        summary: of these rows.
    """

    label: str
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


def finite(value: float | None) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None
