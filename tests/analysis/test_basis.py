"""Principal components against eigenvectors of the covariance, and points rebuilt from them."""

import numpy as np
import pytest

from jaxcram.analysis.basis import Basis
from jaxcram.analysis.trajectory import components


@pytest.mark.parametrize("shape", [(30, 1, 6), (7, 2, 20)])
def test_components_are_eigenvectors_of_the_covariance(shape):
    points = np.cumsum(np.random.default_rng(0).standard_normal(shape), axis=0).astype(np.float32)
    basis = Basis.of(points)
    flat = points.reshape(len(points), -1).astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    count = min(len(points) - 1, flat.shape[1])
    np.testing.assert_allclose(basis.shares_C[:count], variances[::-1][:count] / variances.sum())
    directions = basis.directions_CxKxD.reshape(-1, flat.shape[1])
    np.testing.assert_allclose(
        np.abs(np.sum(directions[:count] * vectors.T[::-1][:count], axis=1)), 1.0, rtol=1e-6
    )
    np.testing.assert_allclose(basis.coordinates_SxC, (flat - flat.mean(axis=0)) @ directions.T, atol=1e-10)
    assert basis.mean_KxD.shape == shape[1:]
    assert basis.count() == components(points)
    assert basis.count(0.5) == components(points, 0.5)


def test_points_come_back_from_all_components_and_their_mean_from_none():
    points = np.random.default_rng(1).standard_normal((9, 2, 3))
    basis = Basis.of(points)
    np.testing.assert_allclose(basis.rebuilt(6), points)
    np.testing.assert_allclose(basis.rebuilt(0), np.broadcast_to(points.mean(axis=0), points.shape))
    one = points - points.mean(axis=0)
    left, values, right = np.linalg.svd(one.reshape(9, 6))
    expected = points.mean(axis=0) + (values[0] * np.outer(left[:, 0], right[0])).reshape(points.shape)
    np.testing.assert_allclose(basis.rebuilt(1), expected)


def test_points_that_are_all_the_same_have_no_variance():
    basis = Basis.of(np.full((4, 1, 3), 0.5))
    assert (basis.count(), basis.shares_C.tolist()) == (0, [0.0] * 3)
    assert repr(basis) == "Basis(4 points, 3 components; 0 have 99% of the variance)"
