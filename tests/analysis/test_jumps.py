"""The shape of series of jumps: known answers, and the null against all orders of a short series."""

import itertools

import numpy as np
import pytest

from jaxcram.analysis.jumps import jumps


def test_the_ratio_is_the_largest_over_the_median_and_the_correlation_pearson_s():
    found = jumps(np.array([1, 2, 3, 4, 12]))
    assert found.gap_ratio == 4.0
    x, y = np.array([1.0, 2, 3, 4]), np.array([2.0, 3, 4, 12])
    covariance = np.mean(x * y) - x.mean() * y.mean()
    assert found.autocorrelation == pytest.approx(covariance / (x.std() * y.std()))


def test_the_null_is_that_of_all_orders():
    sizes = np.array([1.0, 1, 2, 5, 9, 30, 41])
    orders = [np.corrcoef(one[:-1], one[1:])[0, 1] for one in itertools.permutations(sizes)]
    found = jumps(sizes, shuffles=40_000)
    assert found.shuffled.mean == pytest.approx(np.mean(orders), abs=0.02)
    assert found.shuffled.low == pytest.approx(np.percentile(orders, 5), abs=0.02)
    assert found.shuffled.high == pytest.approx(np.percentile(orders, 95), abs=0.02)


@pytest.mark.parametrize(
    ("sizes", "dwells"),
    [
        ([1, 1, 1, 1, 1, 9, 9, 9, 9, 9], True),
        ([1, 9, 1, 9, 1, 9, 1, 9, 1, 9], False),
    ],
)
def test_jumps_that_keep_their_company_dwell(sizes, dwells):
    assert jumps(np.array(sizes)).dwells is dwells


def test_equal_jumps_have_no_correlation_zeros_no_ratio_and_few_jumps_no_shape():
    equal = jumps(np.full(6, 2.0))
    assert (equal.gap_ratio, equal.autocorrelation, equal.shuffled, equal.dwells) == (1.0, None, None, None)
    free = jumps(np.array([0, 0, 0, 7, 0]))
    assert free.gap_ratio is None
    assert free.autocorrelation == pytest.approx(-1 / 3)
    assert jumps(np.array([1, 2, 3])) is None
    assert jumps(np.zeros(0)) is None
