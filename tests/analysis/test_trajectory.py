"""Lengths and components of small trajectories with known answers, and of random ones in another way."""

import numpy as np
import pytest

from jaxcram.analysis.trajectory import components, lengths


def test_the_length_up_to_each_point_sums_euclidean_distances():
    points = np.array([[[1, 1], [0, 0]], [[4, 1], [0, 4]], [[4, 1], [0, 4]], [[4, 1], [12, 4]]], np.float32)
    assert lengths(points).tolist() == [0.0, 5.0, 5.0, 17.0]  # over all K x D numbers of a point
    assert lengths(points[:1]).tolist() == [0.0]
    assert lengths(points[:0]).tolist() == []


@pytest.mark.parametrize(
    ("spread", "count"),
    [
        ((10.0, 1.0), 1),  # variances 100 : 1, a share of 0.9901
        ((9.9, 1.0), 2),  # 98.01 : 1, 0.9899
        ((10.0, 0.5, 0.9), 2),  # the largest two first: 100 : 0.81 : 0.25
        ((1.0, 1.0, 1.0, 1.0), 4),
        ((3.0,), 1),
        ((0.0, 0.0), 0),
    ],
)
@pytest.mark.parametrize("width", [4, 50])  # fewer and more numbers than points
def test_components_of_points_on_the_axes(spread, count, width):
    points = np.zeros((2 * len(spread), width), np.float32)
    for axis, half in enumerate(spread):
        points[2 * axis : 2 * axis + 2, axis] = half, -half
    assert components(points) == count
    shuffled = np.random.default_rng(0).permutation(points + np.float32(1024))  # centred before
    assert components(shuffled.reshape(len(points), 2, -1)) == count


@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (40, 40), (2, 5)])
@pytest.mark.parametrize("share", [0.5, 0.99, 0.9999])
def test_components_are_those_of_the_covariance(shape, share):
    """A random walk, against the eigenvalues of its covariance matrix."""
    points = np.cumsum(np.random.default_rng(shape[0]).standard_normal(shape), axis=0).astype(np.float32)
    variances = sorted(np.linalg.eig(np.cov(points.astype(np.float64), rowvar=False))[0].real, reverse=True)
    count, explained = 0, 0.0
    while explained < share * sum(variances):
        explained += variances[count]
        count += 1
    assert components(points, share) == count


def test_points_without_variance_have_no_component():
    assert components(np.zeros((0, 1, 3), np.float32)) == 0
    assert components(np.ones((1, 1, 3), np.float32)) == 0
    assert components(np.full((7, 1, 3), 0.1, np.float32)) == 0


def test_points_are_left_as_they_were():
    points = np.arange(12.0).reshape(3, 4)
    before = points.copy()
    components(points)
    lengths(points)
    np.testing.assert_array_equal(points, before)
