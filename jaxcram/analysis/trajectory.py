"""How far the embedding of a lane travels over its stages, and in how many directions.

A trajectory has one point per stage, in order: the embedding that was measured there, its K x D numbers as
one vector. The initial embedding is not a point. A stage that came free with the one before has the same
embedding: its point adds nothing to the length, but counts in the mean and the variance.

jaxcram's own figures are of the exact stages; the tables of Tarasov et al. 2026 include the failed last one.
"""

from __future__ import annotations

import numpy as np


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


def _flat(points: np.ndarray) -> np.ndarray:
    """A float64 copy [R, KD]."""
    return np.array(points, np.float64).reshape(len(points), int(np.prod(points.shape[1:])))
