"""Lengths and components of small trajectories with known answers, and of random ones in another way."""

import numpy as np
import pytest

from jaxcram.analysis.trajectory import components, grid, lengths, principal, random_walk


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
    principal(points)
    np.testing.assert_array_equal(points, before)


def test_the_numbers_of_stages_double_in_four_steps_and_have_the_published_points():
    assert grid(3) == []
    assert grid(33) == [4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert set(range(128, 1025, 128)) <= set(grid(1024))
    assert grid(1024)[-1] == 1024


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_principal_coordinates_are_those_of_the_covariance(shape):
    points = np.cumsum(np.random.default_rng(1).standard_normal(shape), axis=0).astype(np.float32) + 100
    variances, axes = np.linalg.eigh(np.cov(points.astype(np.float64), rowvar=False))
    expected = (points - points.mean(axis=0, dtype=np.float64)) @ axes[:, :-4:-1]
    coordinates, shares = principal(points.reshape(len(points), 1, -1), 3)
    np.testing.assert_allclose(coordinates, expected * np.sign(expected[-1]), atol=1e-6)
    np.testing.assert_allclose(shares, variances[:-4:-1] / variances.sum(), rtol=1e-9)


def test_principal_components_of_few_points():
    coordinates, shares = principal(np.array([[1.0, 1.0], [4.0, 5.0]]))
    np.testing.assert_allclose(coordinates, [[-2.5, 0], [2.5, 0]], atol=1e-6)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)
    coordinates, shares = principal(np.ones((1, 1, 3)))
    assert (coordinates.tolist(), np.isnan(shares).tolist()) == ([[0, 0]], [True, True])


def test_random_walks_need_the_components_of_orthogonal_jumps():
    """In a wide space random directions are orthogonal, and the walk's variances those of one exact walk."""
    jumps = np.random.default_rng(0).lognormal(size=25)
    exact = np.cumsum(np.concatenate([np.zeros((1, 25)), np.diag(jumps)]), axis=0)
    null = random_walk(jumps, 3_000)
    assert null.low == null.mean == null.high == components(exact)
    spread = random_walk(jumps, 30)
    assert spread.low <= spread.mean <= spread.high < components(exact)


@pytest.mark.parametrize(("jumps", "walks"), [(25, 50), (80, 25), (150, 20), (1100, 20)])
def test_the_percentiles_are_of_twenty_walks_or_more(jumps, walks):
    lengths_J, rng = np.random.default_rng(1).lognormal(size=jumps), np.random.default_rng(0)
    counts = []
    for _ in range(walks):
        directions = rng.standard_normal((jumps, 12))
        steps = directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths_J[:, None]
        counts.append(components(np.concatenate([np.zeros((1, 12)), np.cumsum(steps, axis=0)])))
    expected = np.mean(counts), *np.percentile(counts, (5, 95))
    assert random_walk(lengths_J, 12) == pytest.approx(expected)


def test_on_a_line_random_walks_have_one_component_and_without_jumps_there_are_none():
    assert random_walk(np.array([1.0, 0.0, 2.0]), 1) == (1.0, 1.0, 1.0)
    assert random_walk(np.zeros(3), 8) is None
    assert random_walk(np.zeros(0), 8) is None


def test_walks_with_equal_jumps_have_the_components_of_their_cosines():
    """The variances of R orthogonal jumps of length 1 are 1 / (2 sin(k pi / 2R))^2, k = 1, .., R - 1."""
    jumps = 150
    walk = np.cumsum(np.concatenate([np.zeros((1, jumps)), np.eye(jumps)]), axis=0)
    variances = 1 / (2 * np.sin(np.arange(1, jumps + 1) * np.pi / (2 * (jumps + 1)))) ** 2
    share = np.cumsum(variances) / variances.sum()
    assert components(walk) == int(np.searchsorted(share, 0.99)) + 1 == 54
