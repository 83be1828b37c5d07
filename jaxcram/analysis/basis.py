"""The principal components of points, with their directions."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Basis:
    """Points in their own principal components; C = min(S, K x D) of them, the largest first.

    Attributes:
        mean_KxD: of the points.
        directions_CxKxD: the components, orthonormal over their K x D numbers.
        shares_C: of the variance; 0 where the points have none.
        coordinates_SxC: of the points, along the components.
    """

    mean_KxD: np.ndarray
    directions_CxKxD: np.ndarray
    shares_C: np.ndarray
    coordinates_SxC: np.ndarray

    @classmethod
    def of(cls, points_SxKxD: np.ndarray) -> Basis:
        """Of at least one finite point; float64."""
        points = np.asarray(points_SxKxD, np.float64)
        mean = points.mean(axis=0)
        left, values, right = np.linalg.svd((points - mean).reshape(len(points), -1), full_matrices=False)
        total = np.sum(values**2)
        shares = values**2 / total if total > 0 else np.zeros_like(values)
        return cls(mean, right.reshape(-1, *mean.shape), shares, left * values)

    def count(self, share: float = 0.99) -> int:
        """The fewest components with a share of the variance; 0 where the points have none."""
        explained = np.cumsum(self.shares_C)
        return int(np.searchsorted(explained, share * explained[-1])) + 1 if explained[-1] > 0 else 0

    def rebuilt(self, components: int) -> np.ndarray:
        """The points from their first components alone, float64 [S, K, D]."""
        directions = self.directions_CxKxD[:components]
        return self.mean_KxD + np.tensordot(self.coordinates_SxC[:, :components], directions, axes=1)

    def __repr__(self) -> str:
        points, components = self.coordinates_SxC.shape
        return f"Basis({points} points, {components} components; {self.count()} have 99% of the variance)"
