"""Capacity of small lanes with known bits, steps and gains."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize

from jaxcram.analysis.capacity import COLUMNS, capacities, capacity

ROWS = [  # sample, learning rate, seed, tokens, steps so far, exact, surprisal, gain
    (3, 0.1, 0, 1, 10, True, 0.0, 0.0),
    (3, 0.1, 0, 2, 16, True, 4.0, 3.0),
    (3, 0.1, 0, 3, 16, True, 2.0, 4.5),
    (3, 0.1, 0, 4, 1016, False, 9.0, 12.0),
    (3, 0.5, 0, 2, 0, True, 4.0, 1.0),
    (4, 0.1, 0, 1, 500, False, 0.0, -2.0),
    (4, 0.1, 1, 1, 7, True, 0.0, 0.0),
    (5, 0.1, 0, 1, 2, True, 0.0, 0.0),
    (5, 0.1, 0, 2, 4, True, None, None),
]
NAMES = (
    *("sample_id", "learning_rate", "seed", "horizon", "horizon_bits", "horizon_steps"),
    *("bits_per_step", "information_gain_bits", "gain_share"),
)


def test_a_lane_holds_the_bits_of_its_exact_stages():
    rows = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in reversed(ROWS)])
    assert [tuple(row[name] for name in NAMES) for row in capacities(rows)] == [
        (3, 0.1, 0, 3, 6.0, 16, 6 / 16, 4.5, 0.75),
        (3, 0.5, 0, 2, 4.0, 0, None, 1.0, 0.25),
        (4, 0.1, 0, 0, 0.0, 0, None, 0.0, None),
        (4, 0.1, 1, 1, 0.0, 7, 0.0, 0.0, None),
        (5, 0.1, 0, 2, None, 4, None, None, None),
    ]


def lanes(horizons, gains):
    names = ("horizon", "information_gain_bits", "horizon_bits", "bits_per_step", "gain_share")
    return [
        dict(zip(names, (n, gain, 2.0 * n, None, 0.5), strict=True))
        for n, gain in zip(horizons, gains, strict=True)
    ]


def test_gain_is_a_line_in_the_horizon():
    rng = np.random.default_rng(0)
    horizons = rng.integers(5, 60, 20)
    gains = 3.0 * horizons - 4.0 + rng.normal(0, 9, 20)
    found = capacity([*lanes(horizons, gains), *lanes([9], [None])])
    line = found.gain_by_horizon
    (slope, intercept), _ = optimize.curve_fit(lambda x, a, b: a * x + b, horizons, gains)
    left = gains - slope * horizons - intercept
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert line.r2 == pytest.approx(1 - left.var() / gains.var())
    assert found.horizon_bits.mean == pytest.approx((2 * horizons.sum() + 18) / 21)
    assert found.horizon_bits.std == pytest.approx(np.std([*(2 * horizons), 18], ddof=1))
    assert (found.bits_per_step.mean, found.bits_per_step.count) == (None, 0)


@pytest.mark.parametrize("horizons", [[], [4, 4, 4], [3, 9]])
def test_too_few_horizons_make_no_line(horizons):
    assert capacity(lanes(horizons, horizons)).gain_by_horizon is None
