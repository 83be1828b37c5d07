"""Intervals of means over lanes, and of medians."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxcram.analysis.spread import Spread

RESAMPLES = 9_999
MEDIAN_RESAMPLES = 2_000


def of_mean(values: Sequence[float], texts: Sequence[Hashable] | None = None) -> list[float] | None:
    """The 95% interval [low, high] of a mean over lanes, from percentiles of a bootstrap over texts.

    Lanes of one text are not independent: they are resampled together.

    Args:
        values: of the lanes.
        texts: what each lane is of; None if each is of a text of its own.

    Returns:
        None for fewer than two texts.
    """
    of_texts = _of_texts(values, range(len(values)) if texts is None else texts)
    if len(of_texts) < 2:
        return None
    found = stats.bootstrap(
        ([one.sum() for one in of_texts], [len(one) for one in of_texts]),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(0),
    )
    return [float(end) for end in found.confidence_interval]


def of_median(values: Sequence[float], texts: Sequence[Hashable]) -> list[float] | None:
    """The 95% interval [low, high] of a median, from percentiles of a bootstrap over texts.

    Args:
        values: of anything that has a text.
        texts: what each value is of; the values of a text are resampled together.

    Returns:
        None for fewer than two texts.
    """
    of_texts = _of_texts(values, texts)
    if len(of_texts) < 2:
        return None
    drawn = np.random.default_rng(0).integers(len(of_texts), size=(MEDIAN_RESAMPLES, len(of_texts)))
    medians = [np.median(np.concatenate([of_texts[text] for text in row])) for row in drawn]
    return [float(end) for end in np.percentile(medians, (2.5, 97.5))]


def spread(values: Sequence[float | None], texts: Sequence[Hashable] | None = None) -> dict[str, Any]:
    """A `Spread` as a dict, with `interval`, that of its mean.

    Args:
        values: of the lanes; those that are None or not finite are left out.
        texts: as of `of_mean`.
    """
    texts = range(len(values)) if texts is None else texts
    known = [
        (value, text)
        for value, text in zip(values, texts, strict=True)
        if value is not None and math.isfinite(value)
    ]
    of_known = [value for value, _ in known], [text for _, text in known]
    return {**dataclasses.asdict(Spread.of(values)), "interval": of_mean(*of_known)}


def _of_texts(values: Sequence[float], texts: Sequence[Hashable]) -> list[np.ndarray]:
    """The values of each text."""
    by_text: dict[Hashable, list[float]] = {}
    for text, value in zip(texts, values, strict=True):
        by_text.setdefault(text, []).append(value)
    return [np.array(one, float) for one in by_text.values()]
