"""Decisions and accuracies from scores: rows in, numbers out.

An ending is chosen by its log-probability: the `sum` (lm-evaluation-harness' `acc`), the mean per `token`
([P]), or per `character` (its `acc_norm`). The first of equals is chosen, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcram.evaluate.multiple_choice import Score

NORMALIZATIONS = ("sum", "token", "character")
RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean, and the 95% interval of its bootstrap; NaN if there is nothing to average."""

    mean: float
    low: float
    high: float


def chosen(score: Score, by: str) -> int | None:
    """Index of the ending that a score prefers; None if none of them has a token that is scored.

    An ending without a scored token is never preferred to one that has some.
    """
    if not any(score.tokens):
        return None
    ones = (1,) * len(score.tokens)
    counts_E = np.asarray({"sum": ones, "token": score.tokens, "character": score.characters}[by])
    values_E = np.full(len(ones), -np.inf)
    np.divide(np.asarray(score.log_probs), counts_E, out=values_E, where=np.asarray(score.tokens) > 0)
    return int(np.argmax(values_E))


def right(scores: Sequence[Score], by: str) -> np.ndarray:
    """Whether each score prefers the right ending, bool [S]; not if it prefers none."""
    return np.array([chosen(score, by) == score.label for score in scores], bool)


def accuracy(right_S: np.ndarray, seed: int = 0) -> Interval:
    """The share of right decisions."""
    return mean(np.asarray(right_S, np.float64), seed)


def difference(right_S: np.ndarray, base_S: np.ndarray, seed: int = 0) -> Interval:
    """The accuracy minus another one of the same items, which are resampled together.

    Args:
        right_S: decisions on S items.
        base_S: the others, on the same items in the same order.
        seed: of the bootstrap.
    """
    if len(right_S) != len(base_S):
        raise ValueError(f"{len(right_S)} decisions cannot be paired with {len(base_S)}")
    return mean(np.asarray(right_S, np.float64) - np.asarray(base_S, np.float64), seed)


def mean(values_S: np.ndarray, seed: int = 0) -> Interval:
    """The mean of values, with percentiles of its bootstrap; quickest where few of them differ.

    A resample is a multinomial draw of how often each value occurs, so the order of items does not matter.
    """
    if not len(values_S):
        return Interval(np.nan, np.nan, np.nan)
    values_U, counts_U = np.unique(values_S, return_counts=True)
    draws_RxU = np.random.default_rng(seed).multinomial(
        len(values_S), counts_U / len(values_S), size=RESAMPLES
    )
    low, high = np.quantile(draws_RxU @ values_U / len(values_S), [0.025, 0.975])
    return Interval(float(values_S.mean()), float(low), float(high))
