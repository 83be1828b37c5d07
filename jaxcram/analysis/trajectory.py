"""How far the embedding of a lane travels over its stages, and in how many directions.

A trajectory has one point per stage, in order: the embedding that was measured there, its K x D numbers as
one vector. The initial embedding is not a point. A stage that came free with the one before has the same
embedding: its point adds nothing to the length, but counts in the mean and the variance.

jaxcram's own figures are of the exact stages; the tables of Tarasov et al. 2026 include the failed last one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MOST_WALKS, _LEAST_WALKS, _WALKED_POINTS = 50, 20, 2000


def lengths(points_RxKxD: np.ndarray) -> np.ndarray:
    """Length of the path up to each point: summed Euclidean distances of consecutive points, float64 [R].

    Args:
        points_RxKxD: R points, of any shape and dtype; 0 is the length up to the first.
    """
    flat_RxKD = _flat(points_RxKxD)
    steps = np.diff(flat_RxKD, axis=0, prepend=flat_RxKD[:1])
    return np.cumsum(np.linalg.norm(steps, axis=1))


def components(points_RxKxD: np.ndarray, share: float = 0.99) -> int:
    """The fewest principal components, mean-centred, that have a share of the points' variance.

    0 for points that are all the same, or fewer than two.

    The variances are the eigenvalues of the smaller of the two Gram matrices, R x R or KD x KD, which takes a
    third of the time of singular values; squaring costs digits only of components far too small to matter.
    1,400 points of 4,096 numbers take 110 MB.

    Args:
        points_RxKxD: R finite points, of any shape and dtype.
        share: of the variance, above 0 and at most 1.
    """
    if len(points_RxKxD) < 2:
        return 0
    centred = _flat(points_RxKxD)
    centred -= centred.mean(axis=0)
    gram = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    variances = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    explained = np.cumsum(variances)
    return int(np.searchsorted(explained, share * explained[-1])) + 1 if explained[-1] > 0 else 0


def grid(count: int) -> list[int]:
    """Numbers of stages at which trajectories are compared, ascending, from 4 to `count`.

    4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ...: four for each doubling. They include the multiples of 128 up to
    1,024 at which the published curves have their points.
    """
    octaves = max(count, 1).bit_length()
    return [m << k for k in range(octaves) for m in range(4, 8) if m << k <= count]


class Principal(NamedTuple):
    """Points in their own principal components, mean-centred.

    Attributes:
        coordinates_RxC: along the first C components; each is positive for the last point.
        shares_C: of the variance; NaN if the points have none.
    """

    coordinates_RxC: np.ndarray
    shares_C: np.ndarray


def principal(points_RxKxD: np.ndarray, count: int = 2) -> Principal:
    """The points in their first principal components, float64.

    From the R x R Gram matrix, as the directions themselves are not needed.

    Args:
        points_RxKxD: R finite points, of any shape and dtype.
        count: C, of the components; coordinates beyond the rank of the points are 0.
    """
    centred = _flat(points_RxKxD)
    centred -= centred.mean(axis=0) if len(centred) else 0.0
    variances, vectors_RxR = np.linalg.eigh(centred @ centred.T)
    variances, vectors_RxR = np.maximum(variances[::-1][:count], 0.0), vectors_RxR[:, ::-1][:, :count]
    coordinates = np.zeros((len(centred), count))
    coordinates[:, : len(variances)] = vectors_RxR * np.sqrt(variances)
    coordinates *= np.where(coordinates[-1:] < 0, -1.0, 1.0)
    total = np.sum(centred**2)
    shares = np.full(count, np.nan)
    if total > 0:
        shares[:] = 0.0
        shares[: len(variances)] = variances / total
    return Principal(coordinates, shares)


class Null(NamedTuple):
    """A statistic under a null hypothesis: its mean, and the 5th and 95th percentile."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Null:
        """Of draws, of which some may be NaN."""
        return cls(float(np.nanmean(values)), *map(float, np.nanpercentile(values, (5, 95))))


def random_walk(jumps_J: np.ndarray, width: int, *, share: float = 0.99, seed: int = 0) -> Null | None:
    """`components` of random walks: jumps as long as a trajectory's, in its order, in random directions.

    A walk needs few components too: the variances along them fall as 1, 1/4, 1/9, .., so 61 have 99% of the
    variance of any long walk with equal jumps in a wide space. Fewer than these walks need is what makes a
    trajectory low-dimensional. Long walks differ little from one another and cost the cube of their length,
    so fewer are drawn: 50 of up to 40 jumps, 20 from 100 jumps on, the fewest that have a 5th percentile. 20
    walks of 1,400 jumps in 4,096 numbers take 12 s of one core, one walk's points (46 MB) at a time.

    Args:
        jumps_J: Euclidean lengths of the jumps.
        width: K x D, the numbers of a point.
        share: of the variance.
        seed: of the directions.

    Returns:
        None without jumps.
    """
    if not np.any(jumps_J):
        return None
    rng = np.random.default_rng(seed)
    counts = []
    for _ in range(min(_MOST_WALKS, max(_LEAST_WALKS, _WALKED_POINTS // len(jumps_J)))):
        directions_JxKD = rng.standard_normal((len(jumps_J), width))
        directions_JxKD *= (jumps_J / np.linalg.norm(directions_JxKD, axis=1))[:, None]
        steps = np.concatenate([np.zeros((1, width)), directions_JxKD])
        counts.append(components(np.cumsum(steps, axis=0), share))
    return Null.of(np.array(counts))


def _flat(points: np.ndarray) -> np.ndarray:
    """A float64 copy [R, KD]."""
    return np.array(points, np.float64).reshape(len(points), int(np.prod(points.shape[1:])))
