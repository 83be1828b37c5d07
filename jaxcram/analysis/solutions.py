"""How far apart the embeddings lie that make one prefix of one text exact.

Solutions that differ in learning rate alone start from one initial embedding, as in Tarasov et al. 2026;
solutions that differ in seed have each their own. They are compared at the prefix lengths of
`trajectory.grid`, which start at 4 tokens and double in four steps. The published comparison takes 24 lengths
with equal ratios, from 4 to the shortest horizon of a text.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist

from jaxcram.analysis import interval
from jaxcram.analysis.spread import finite
from jaxcram.analysis.trajectory import components, grid
from jaxcram.results.table import Job

Row = dict[str, Any]

ACROSS = ("learning_rate", "seed")
MEASURES = ("gain_cv", "distance", "cosine")


class Solution(NamedTuple):
    """An embedding that makes a prefix of a text exact.

    Attributes:
        job: the lane that found it.
        tokens: of the prefix.
        gain: information gain over these tokens, bits; NaN if unknown.
        point_KxD: the measured embedding, float32.
        start_KxD: the lane's initial embedding.
        stages: of the lane's trajectory up to here.
        pca99: components with 99% of the variance of that trajectory.
    """

    job: Job
    tokens: int
    gain: float
    point_KxD: np.ndarray
    start_KxD: np.ndarray
    stages: int
    pca99: int


def of_lane(
    job: Job,
    points_RxKxD: np.ndarray,
    tokens_R: np.ndarray,
    exact_R: np.ndarray,
    gain_R: np.ndarray,
    start_KxD: np.ndarray,
) -> list[Solution]:
    """The solutions of one lane at the lengths of the grid: what is kept of it, so that others can be read.

    Args:
        job: which lane.
        points_RxKxD: the measured embedding of each stage, in order.
        tokens_R, exact_R: tokens of each stage, and whether it became exact.
        gain_R: its information gain, bits.
        start_KxD: the initial embedding.
    """
    compared = set(grid(int(np.max(tokens_R, initial=0))))
    return [
        Solution(
            job,
            int(tokens_R[i]),
            float(gain_R[i]),
            points_RxKxD[i].copy(),
            start_KxD,
            int(i) + 1,
            components(points_RxKxD[: i + 1]),
        )
        for i in np.flatnonzero(np.asarray(exact_R, bool))
        if int(tokens_R[i]) in compared and np.all(np.isfinite(points_RxKxD[: i + 1]))
    ]


def groups(solutions: Sequence[Solution], across: str = "learning_rate") -> list[Row]:
    """A row for each prefix that two lanes or more made exact which differ in one thing alone.

    Args:
        solutions: of lanes, see `of_lane`.
        across: what they differ in, "learning_rate" or "seed".

    Returns:
        Rows by text, then the other of `ACROSS`, then `tokens`, each with these three; `lanes`, how many;
        `complete`, whether every learning rate (or seed) that any solution has is among them;
        `shared_start`, whether they have one initial embedding; `gain_cv`, standard deviation over mean of
        the information gains (None if unknown or 0); `distance`, the mean Euclidean distance of two of them
        over their mean displacement, each from its own initial embedding; `cosine`, the mean cosine of two
        displacements; and `displacements`, by learning rate (or seed). None where nothing moved.
    """
    return [_group(members, across, complete) for members, complete in matched(solutions, across)]


def matched(solutions: Sequence[Solution], across: str) -> Iterator[tuple[list[Solution], bool]]:
    """Two or more solutions of one prefix of a text, and whether none is missing, in order of the prefix.

    Args:
        solutions: of lanes.
        across: what the solutions of a prefix differ in; they are in order of it.
    """
    (fixed,) = set(ACROSS) - {across}

    def of(solution: Solution) -> tuple[int, float, int]:
        return solution.job.sample_id, getattr(solution.job, fixed), solution.tokens

    def place(solution: Solution) -> tuple[Any, ...]:
        return *of(solution), getattr(solution.job, across)

    in_all = {getattr(solution.job, across) for solution in solutions}
    for _, found in itertools.groupby(sorted(solutions, key=place), key=of):
        members = list(found)
        if len(members) > 1:
            yield members, len(members) == len(in_all)


def _group(members: Sequence[Solution], across: str, complete: bool) -> Row:
    job = members[0].job
    (fixed,) = set(ACROSS) - {across}
    points_SxKD = np.stack([one.point_KxD.ravel() for one in members]).astype(np.float64)
    starts_SxKD = np.stack([one.start_KxD.ravel() for one in members]).astype(np.float64)
    moved_SxKD = points_SxKD - starts_SxKD
    displacement_S = np.linalg.norm(moved_SxKD, axis=1)
    cosine = np.mean(1 - pdist(moved_SxKD, "cosine"))
    with np.errstate(invalid="ignore", divide="ignore"):
        gain_cv = stats.variation([solution.gain for solution in members])
        spread = np.mean(pdist(points_SxKD)) / np.mean(displacement_S)
    return {
        "sample_id": job.sample_id,
        fixed: getattr(job, fixed),
        "tokens": members[0].tokens,
        "lanes": len(members),
        "complete": complete,
        "shared_start": bool(np.all(starts_SxKD == starts_SxKD[0])),
        "gain_cv": finite(abs(gain_cv)),
        "distance": finite(spread),
        "cosine": finite(cosine),
        "displacements": {
            getattr(solution.job, across): float(norm)
            for solution, norm in zip(members, displacement_S, strict=True)
        },
    }


def summary(rows: Sequence[Mapping[str, Any]], texts: Sequence[Hashable] | None = None) -> Row:
    """What `groups` say together.

    Args:
        rows: of `groups`, also of several runs.
        texts: what each is of; None if they are of one run, whose texts have different `sample_id`s.

    Returns:
        `groups` and `texts`, how many; for `gain_cv`, `distance` and `cosine` a dict with `mean`, `median`
        and `quartiles` over the groups, and `interval`, the 95% interval of the median (bootstrap over texts,
        whose groups are resampled together; None for fewer than two); `displacement_ratio`, the mean
        displacement of the largest learning rate (or seed) over that of the smallest, with `of` (the two),
        `ratio` and `groups` (those that have both), or None; and `as_published`, the same of the groups that
        are complete, as the published ones are, though at other prefix lengths.
    """
    texts = [row["sample_id"] for row in rows] if texts is None else texts
    of_texts = list(zip(rows, texts, strict=True))
    complete = [(row, text) for row, text in of_texts if row["complete"]]
    return _together(of_texts) | {"as_published": _together(complete)}


def _together(of_texts: Sequence[tuple[Mapping[str, Any], Hashable]]) -> Row:
    """Of groups, each with its text."""
    return {
        "groups": len(of_texts),
        "texts": len({text for _, text in of_texts}),
        **{name: _measure(of_texts, name) for name in MEASURES},
        "displacement_ratio": _displacement_ratio([row for row, _ in of_texts]),
    }


def _measure(of_texts: Sequence[tuple[Mapping[str, Any], Hashable]], name: str) -> Row:
    known = [(row[name], text) for row, text in of_texts if row[name] is not None]
    if not known:
        return {"mean": None, "median": None, "quartiles": None, "interval": None}
    values, texts = zip(*known, strict=True)
    low, high = np.quantile(values, (0.25, 0.75))
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "quartiles": (float(low), float(high)),
        "interval": interval.of_median(values, texts),
    }


def _displacement_ratio(rows: Sequence[Mapping[str, Any]]) -> Row | None:
    occurring = {key for row in rows for key in row["displacements"]}
    if len(occurring) < 2:
        return None
    small, large = min(occurring), max(occurring)
    both = [row["displacements"] for row in rows if {small, large} <= row["displacements"].keys()]
    total = sum(one[small] for one in both)
    if not total:
        return None
    return {"of": (small, large), "ratio": sum(one[large] for one in both) / total, "groups": len(both)}


def wideness(solutions: Sequence[Solution]) -> list[Row]:
    """PCA 99% of the solutions of several seeds for one prefix, beside that of the trajectories to it.

    Returns:
        A row for each text, learning rate and prefix of three seeds or more: `sample_id`, `learning_rate`,
        `tokens`, `seeds`; `set_pca99` of the solutions; `stages` and `trajectory_pca99`, means over the
        seeds; and `matched_pca99` of only as many solutions as their shortest trajectory has stages (of all
        where there are fewer), since S points have at most S - 1 components.
    """
    rows = []
    for members, _ in matched(solutions, "seed"):
        points_SxKxD = np.stack([one.point_KxD for one in members])
        if len(members) > 2:
            rows.append(
                {
                    "sample_id": members[0].job.sample_id,
                    "learning_rate": members[0].job.learning_rate,
                    "tokens": members[0].tokens,
                    "seeds": len(members),
                    "set_pca99": components(points_SxKxD),
                    "matched_pca99": components(points_SxKxD[: min(one.stages for one in members)]),
                    "trajectory_pca99": float(np.mean([one.pca99 for one in members])),
                    "stages": float(np.mean([one.stages for one in members])),
                }
            )
    return rows
