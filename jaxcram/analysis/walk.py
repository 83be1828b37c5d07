"""The shape of a trajectory: a row a lane, and what the rows of several lanes say together.

Figures named without more are of the exact stages; those under `as_published` are counted as the tables of
Tarasov et al. 2026 were, with the stage that failed. That stage takes as many steps as it may and often moves
far, so it alone can make the largest jump. Those tables also measure distances in the space of the components
that have 99% of the variance, but of at least two.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcram.analysis import interval
from jaxcram.analysis.jumps import LEAST, jumps
from jaxcram.analysis.spread import Line, Spread
from jaxcram.analysis.trajectory import components, grid, lengths, principal, random_walk

Row = dict[str, Any]

_MEASURES = ("gap_ratio", "autocorrelation", "shuffled", "shuffled_95")
NUMBERS = (  # of a lane, whose means are a summary
    *("horizon", "stages", "trajectory_length", "pca99", "first_two"),
    *(f"{kind}_{name}" for kind in ("distance", "step") for name in _MEASURES),
)
NULLS = ("random_walk_pca99", "random_walk_5", "random_walk_95")
DWELLS = ("distance_dwells", "step_dwells")


def walk(
    points_RxKxD: np.ndarray, tokens_R: np.ndarray, steps_R: np.ndarray, exact_R: np.ndarray, *, seed: int = 0
) -> Row:
    """What one lane's trajectory says.

    Args:
        points_RxKxD: the measured embedding of each stage, in order.
        tokens_R: tokens of the prefix of each stage.
        steps_R: optimiser steps of each stage.
        exact_R: whether it became exact; only the last one may not have.
        seed: of the null distributions.

    Returns:
        `walk`: `horizon` (tokens), `stages`, `trajectory_length`, `pca99`, `first_two` (share of the variance
        of the first two components); for `distance_` and `step_` jumps `gap_ratio`, `autocorrelation`,
        `shuffled` and `shuffled_95` (mean and 95th percentile of the autocorrelation of shuffled jumps) and
        `dwells` (see `jaxcram.analysis.jumps`); `random_walk_pca99`, `random_walk_5` and `random_walk_95`
        (mean and percentiles, see `trajectory.random_walk`); and `as_published`, which has all but the random
        walks again. None stands for what these stages do not have.
        `path`: a row an exact stage with `tokens`, and `pc1` and `pc2`, its first two principal components.
        `growth`: a row for each of the first `trajectory.grid` numbers of exact stages, with `stages`,
        `tokens` and `pca99`.
    """
    exact_R = np.asarray(exact_R, bool)
    points, tokens, steps = points_RxKxD[exact_R], tokens_R[exact_R], steps_R[exact_R]
    finite = bool(np.all(np.isfinite(points)))
    null = None
    if finite and len(points) > LEAST:
        null = random_walk(np.diff(lengths(points)), points[0].size, seed=seed)
    shape = _shape(points, tokens, steps, seed)
    published = _shape(points_RxKxD, tokens_R, steps_R, seed, in_components=True)
    return {
        "walk": {
            **shape,
            **dict(zip(NULLS, null or (None,) * len(NULLS), strict=True)),
            "as_published": published,
        },
        "path": _path(points, tokens) if finite else [],
        "growth": [
            {"stages": count, "tokens": int(tokens[count - 1]), "pca99": components(points[:count])}
            for count in (grid(len(points)) if finite else [])
        ],
    }


def _shape(
    points_RxKxD: np.ndarray,
    tokens_R: np.ndarray,
    steps_R: np.ndarray,
    seed: int,
    *,
    in_components: bool = False,
) -> Row:
    """Of these stages; jumps are measured in all numbers of the points, or in the components of PCA 99%."""
    row: Row = dict.fromkeys((*NUMBERS, *DWELLS))
    row |= {"horizon": int(tokens_R[-1]) if len(tokens_R) else 0, "stages": len(tokens_R)}
    series = {"step": steps_R[1:]}
    if np.all(np.isfinite(points_RxKxD)):
        length_R = lengths(points_RxKxD)
        row |= {"trajectory_length": float(length_R[-1]) if len(length_R) else 0.0}
        row |= {"pca99": (pca99 := components(points_RxKxD))}
        found = principal(points_RxKxD, max(pca99, 2))
        if pca99:
            row["first_two"] = float(np.sum(found.shares_C[:2]))
        series["distance"] = np.diff(lengths(found.coordinates_RxC) if in_components else length_R)
    for kind, sizes in series.items():
        if (jumped := jumps(sizes, seed=seed)) is not None:
            row |= {f"{kind}_gap_ratio": jumped.gap_ratio, f"{kind}_autocorrelation": jumped.autocorrelation}
            if jumped.shuffled is not None:
                row |= {f"{kind}_shuffled": jumped.shuffled.mean, f"{kind}_shuffled_95": jumped.shuffled.high}
            row[f"{kind}_dwells"] = jumped.dwells
    return row


def _path(points_RxKxD: np.ndarray, tokens_R: np.ndarray) -> list[Row]:
    coordinates_Rx2 = principal(points_RxKxD).coordinates_RxC
    return [
        {"tokens": int(tokens), "pc1": float(x), "pc2": float(y)}
        for tokens, (x, y) in zip(tokens_R, coordinates_Rx2, strict=True)
    ]


def summary(rows: Sequence[Mapping[str, Any]], texts: Sequence[Hashable] | None = None) -> Row:
    """What the rows of `walk` of several lanes say together.

    Args:
        rows: of lanes; nothing but `walk` and `growth` is read.
        texts: what each is of (see `jaxcram.analysis.interval.of_mean`).

    Returns:
        `lanes`, their number; mean and deviation (`Spread`, as a dict) of every number; `distance_dwells`
        and `step_dwells`, the shares of the lanes with jumps enough; `pca99_minus_random_walk`, mean and
        deviation of the difference, and their `interval` (95%, over texts); `below_random_walk`, the share of
        lanes with fewer components than 95% of their random walks, and `below_random_walk_interval`;
        `as_published`, the same but for random walks; and `fits`, see `fits`.
    """
    lanes = [row["walk"] for row in rows]
    walked = [lane["random_walk_pca99"] is not None for lane in lanes]
    of_walked = None if texts is None else list(itertools.compress(texts, walked))
    compared = list(itertools.compress(lanes, walked))
    below = [lane["pca99"] < lane["random_walk_5"] for lane in compared]
    minus = [lane["pca99"] - lane["random_walk_pca99"] for lane in compared]
    return {
        "lanes": len(lanes),
        **_means(lanes),
        **{name: dataclasses.asdict(Spread.of(lane[name] for lane in lanes)) for name in NULLS},
        "pca99_minus_random_walk": interval.spread(minus, of_walked),
        "below_random_walk": _share(below),
        "below_random_walk_interval": interval.of_mean(below, of_walked),
        "as_published": _means([lane["as_published"] for lane in lanes]),
        "fits": fits([row["growth"] for row in rows]),
    }


def _means(lanes: Sequence[Mapping[str, Any]]) -> Row:
    means = {name: dataclasses.asdict(Spread.of(lane[name] for lane in lanes)) for name in NUMBERS}
    return means | {name: _share(lane[name] for lane in lanes) for name in DWELLS}


def _share(values: Iterable[bool | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def fits(growths: Sequence[Sequence[Mapping[str, Any]]]) -> Row:
    """PCA 99% by prefix length n as a + b log n, and as a + b n: least squares over the points of all lanes.

    Args:
        growths: of each lane, see `walk`.

    Returns:
        `logarithmic` and `linear`, each with `a`, `b` and `r2` (the share of the variance explained), or None
        for fewer than three points or a constant; `points`; and `logarithmic_better`, the share of the lanes
        with three points or more whose own logarithmic fit has the larger R^2.
    """
    points_Px2 = _points(itertools.chain.from_iterable(growths))
    of_lanes = [(_fit(points, np.log), _fit(points, np.asarray)) for points in map(_points, growths)]
    better = [log["r2"] > linear["r2"] for log, linear in of_lanes if log is not None and linear is not None]
    return {
        "logarithmic": _fit(points_Px2, np.log),
        "linear": _fit(points_Px2, np.asarray),
        "points": len(points_Px2),
        "logarithmic_better": _share(better),
    }


def _points(growth: Iterable[Mapping[str, Any]]) -> np.ndarray:
    return np.array([(row["tokens"], row["pca99"]) for row in growth], np.float64).reshape(-1, 2)


def _fit(points_Px2: np.ndarray, scale: Any) -> Row | None:
    tokens, counts = points_Px2.T
    line = Line.of(scale(tokens), counts)
    return None if line is None else {"a": line.intercept, "b": line.slope, "r2": line.r2}


def mean_growth(growths: Sequence[Sequence[Mapping[str, Any]]]) -> list[Row]:
    """PCA 99% by prefix length: a row a length with `tokens`, `lanes`, and mean and deviation of `pca99`.

    Args:
        growths: of each lane, see `walk`.
    """
    points_Px2 = _points(itertools.chain.from_iterable(growths))
    by_length = ((n, Spread.of(points_Px2[points_Px2[:, 0] == n, 1])) for n in np.unique(points_Px2[:, 0]))
    return [
        {"tokens": int(n), "lanes": spread.count, "pca99": spread.mean, "std": spread.std}
        for n, spread in by_length
    ]
