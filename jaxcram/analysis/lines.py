"""Accuracy along the straight lines between solutions of one prefix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxcram.analysis.solutions import ACROSS, Row, Solution, matched

_THRESHOLD = 0.9


def segment(first_KxD: np.ndarray, second_KxD: np.ndarray, count: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Points evenly spaced on the straight line between two embeddings, which are its ends to the bit.

    Returns:
        Shares of the way, float64 [P]; points, float32 [P, K, D].
    """
    share_P = np.linspace(0.0, 1.0, count)
    share_Px1x1 = share_P[:, None, None]
    points_PxKxD = (1 - share_Px1x1) * first_KxD[None] + share_Px1x1 * second_KxD[None]
    return share_P, points_PxKxD.astype(np.float32)


Accuracy = Callable[[Solution, np.ndarray], np.ndarray]


def lines(
    solutions: Sequence[Solution],
    accuracy: Accuracy,
    *,
    across: str = "learning_rate",
    count: int = 21,
    most: int = 6,
) -> list[Row]:
    """Accuracy along the straight lines between the solutions of the longest prefix that lanes share.

    Args:
        solutions: of lanes, see `of_lane`.
        accuracy: (a solution, points [P, K, D]) to the teacher-forced accuracies [P] over its prefix.
        across: what the lanes of a line differ in, "learning_rate" or "seed".
        count: points of a line, its ends included.
        most: lines of a text, evenly spread over all pairs of its solutions.

    Returns:
        A row a line: `sample_id`, the other of `ACROSS`, `tokens`, `first` and `second` (learning rates or
        seeds), `shares` and `accuracies` (lists [P]), `least` (the lowest accuracy) and `above`, the share of
        the points between the ends with an accuracy above 0.9.
    """
    longest: dict[tuple[Any, ...], list[Solution]] = {}
    (fixed,) = set(ACROSS) - {across}
    for members, _ in matched(solutions, across):  # in order of the prefix
        longest[members[0].job.sample_id, getattr(members[0].job, fixed)] = members
    rows = []
    for members in longest.values():
        pairs = list(itertools.combinations(members, 2))
        for i in np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int)):
            first, second = pairs[i]
            share_P, points_PxKxD = segment(first.point_KxD, second.point_KxD, count)
            accuracy_P = np.asarray(accuracy(first, points_PxKxD), np.float64)
            rows.append(
                {
                    "sample_id": first.job.sample_id,
                    fixed: getattr(first.job, fixed),
                    "tokens": first.tokens,
                    "first": getattr(first.job, across),
                    "second": getattr(second.job, across),
                    "shares": share_P.tolist(),
                    "accuracies": accuracy_P.tolist(),
                    "least": float(accuracy_P.min()),
                    "above": float(np.mean(accuracy_P[1:-1] > _THRESHOLD)) if count > 2 else None,
                }
            )
    return rows
