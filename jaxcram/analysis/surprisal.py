"""What a token costs, held against how much it surprises the model alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from jaxcram.analysis.spread import Spread

if TYPE_CHECKING:
    import pyarrow as pa

_LANE = ("sample_id", "learning_rate", "seed")
COLUMNS = (*_LANE, "stage_seq_len", "steps", "exact", "surprisal_bits")  # of the rows, which are read here
RESAMPLES = 1_000


class StageCosts(NamedTuple):
    """One entry a stage [R].

    Attributes:
        lane: a number, the same for the stages of one lane.
        sample_id, learning_rate, seed: of that lane.
        prefix: tokens of the stage's prefix, n.
        surprisal: bits per token under the model alone.
        cost: optimiser steps per token.
    """

    lane: np.ndarray
    sample_id: np.ndarray
    learning_rate: np.ndarray
    seed: np.ndarray
    prefix: np.ndarray
    surprisal: np.ndarray
    cost: np.ndarray

    def where(self, kept_R: np.ndarray) -> StageCosts:
        """The stages of a boolean mask."""
        return StageCosts(*(values[kept_R] for values in self))

    def by_lane(self) -> list[StageCosts]:
        """The stages of each lane, in order of the lanes' numbers."""
        order = np.argsort(self.lane, kind="stable")
        _, starts = np.unique(self.lane[order], return_index=True)
        return [self.where(part) for part in np.split(order, starts[1:]) if len(part)]


def of_texts(lanes: Sequence[StageCosts], texts: Sequence[str]) -> StageCosts:
    """Stages of lanes from any runs as one; equal texts, however they are named, have one `sample_id`."""
    if not lanes:
        return StageCosts(*(np.zeros(0) for _ in StageCosts._fields))
    _, numbers = np.unique(np.asarray(texts), return_inverse=True)
    parts = [
        lane._replace(lane=np.full(len(lane.lane), i), sample_id=np.full(len(lane.lane), number))
        for i, (lane, number) in enumerate(zip(lanes, numbers, strict=True))
    ]
    return StageCosts(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def stage_costs(rows: pa.Table) -> StageCosts:
    """Surprisal and steps per token of every stage that has both, by lane and stage.

    A stage that did not become exact has no known cost, and the first token no surprisal: both are left out.
    The published counts of stages leave out the same two.

    Args:
        rows: of a run, in any order; `COLUMNS` are enough.
    """
    order = [(name, "ascending") for name in (*_LANE, "stage_seq_len")]
    table = rows.select(COLUMNS).sort_by(order)
    column = {name: table[name].to_numpy() for name in COLUMNS}
    first = np.ones(len(table), bool)
    for name in _LANE:
        first[1:] &= column[name][1:] == column[name][:-1]
    first[1:] = ~first[1:]
    added = np.where(first, column["stage_seq_len"], np.diff(column["stage_seq_len"], prepend=0))
    predicted = added - first  # the tokens among them that the model alone predicts
    bits = column["surprisal_bits"].astype(float)  # null becomes NaN
    kept = column["exact"].astype(bool) & (predicted > 0) & np.isfinite(bits)
    return StageCosts(
        np.cumsum(first)[kept],
        column["sample_id"][kept],
        column["learning_rate"][kept],
        column["seed"][kept],
        column["stage_seq_len"][kept],
        bits[kept] / predicted[kept],
        column["steps"][kept] / added[kept],
    )


def correlations(stages: StageCosts) -> np.ndarray:
    """Spearman's rank correlation of surprisal and cost over the stages of each lane [N].

    Lanes in which either does not vary have none and are left out.
    """
    of_lanes = (spearman(lane.surprisal, lane.cost) for lane in stages.by_lane())
    return np.array([value for value in of_lanes if value is not None])


def spearman(x_R: np.ndarray, y_R: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where either does not vary."""
    if len(x_R) < 2 or np.ptp(x_R) == 0 or np.ptp(y_R) == 0:
        return None
    return float(stats.spearmanr(x_R, y_R).statistic)


@dataclasses.dataclass(frozen=True)
class Correlation:
    """How surprisal and marginal steps go together over the stages of several lanes.

    Attributes:
        stages, texts: how many.
        spearman: rank correlation over all stages; None where surprisal or cost does not vary.
        interval: its 95% interval, from a bootstrap that draws whole texts; None for fewer than two texts.
        partial: rank correlation given the position of the token, n.
        lanes: mean and standard deviation of the lanes' own correlations.
        positive_share: share of those lanes whose correlation is above 0.
    """

    stages: int
    texts: int
    spearman: float | None
    interval: tuple[float, float] | None
    partial: float | None
    lanes: Spread
    positive_share: float | None


def correlation(stages: StageCosts, *, resamples: int = RESAMPLES, seed: int = 0) -> Correlation:
    """The correlation of surprisal and cost over stages, and how sure it is.

    Args:
        stages: of any lanes; stages with one `sample_id` are of one text.
        resamples: of the bootstrap over texts.
        seed: of the bootstrap.
    """
    of_lanes = correlations(stages)
    whole = spearman(stages.surprisal, stages.cost)
    return Correlation(
        stages=len(stages.lane),
        texts=len(np.unique(stages.sample_id)),
        spearman=whole,
        interval=None if whole is None else _interval(stages, resamples, seed),
        partial=partial(stages.surprisal, stages.cost, stages.prefix),
        lanes=Spread.of(of_lanes),
        positive_share=float(np.mean(of_lanes > 0)) if len(of_lanes) else None,
    )


def partial(x_R: np.ndarray, y_R: np.ndarray, given_R: np.ndarray) -> float | None:
    """Spearman's partial rank correlation of x and y given a third variable; None where it has none."""
    xy, xz, yz = spearman(x_R, y_R), spearman(x_R, given_R), spearman(y_R, given_R)
    if xy is None or xz is None or yz is None:
        return None
    left = (1 - xz**2) * (1 - yz**2)  # of the variances
    return (xy - xz * yz) / math.sqrt(left) if left > 1e-12 else None


def _interval(stages: StageCosts, resamples: int, seed: int) -> tuple[float, float] | None:
    """Percentiles 2.5 and 97.5 of the rank correlation over resampled texts."""
    _, text_R = np.unique(stages.sample_id, return_inverse=True)
    texts = int(text_R.max()) + 1
    if texts < 2:
        return None
    x_R, y_R = (np.unique(values, return_inverse=True)[1] for values in (stages.surprisal, stages.cost))
    draws = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), size=resamples)
    found = [_weighted(x_R, y_R, counts[text_R]) for counts in draws.astype(float)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def _weighted(x_R: np.ndarray, y_R: np.ndarray, times_R: np.ndarray) -> float:
    """Rank correlation of values that each occur a number of times; NaN where one does not vary.

    Sorting anew for each resample would take ten times as long.

    Args:
        x_R, y_R: the values as their places among the distinct ones, from 0.
        times_R: how often each pair occurs.
    """
    ranks = []
    for code_R in (x_R, y_R):
        count_U = np.bincount(code_R, times_R)
        rank_U = np.cumsum(count_U) - count_U / 2  # tied values share the mean of their ranks
        ranks.append((rank_U - times_R.sum() / 2)[code_R])
    x, y = ranks
    weighted = times_R * x
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weighted @ y) / np.sqrt((weighted @ x) * (times_R @ (y * y)))
