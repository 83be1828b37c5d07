"""What a token costs, held against how much it surprises the model alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pyarrow as pa

_LANE = ("sample_id", "learning_rate", "seed")
COLUMNS = (*_LANE, "stage_seq_len", "steps", "exact", "surprisal_bits")  # of the rows, which are read here


class StageCosts(NamedTuple):
    """One entry a stage [R].

    Attributes:
        lane: a number, the same for the stages of one lane.
        sample_id, learning_rate: of that lane.
        surprisal: bits per token under the model alone.
        cost: optimiser steps per token.
    """

    lane: np.ndarray
    sample_id: np.ndarray
    learning_rate: np.ndarray
    surprisal: np.ndarray
    cost: np.ndarray


def stage_costs(rows: pa.Table) -> StageCosts:
    """Surprisal and steps per token of every stage that has both, by lane and stage.

    A stage that did not become exact has no known cost, and the first token no surprisal: both are left out.

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
    kept = column["exact"].astype(bool) & (predicted > 0)
    return StageCosts(
        np.cumsum(first)[kept],
        column["sample_id"][kept],
        column["learning_rate"][kept],
        column["surprisal_bits"][kept] / predicted[kept],
        column["steps"][kept] / added[kept],
    )


def correlations(stages: StageCosts) -> np.ndarray:
    """Spearman's rank correlation of surprisal and cost over the stages of each lane [N].

    Lanes in which either does not vary have none and are left out.
    """
    lanes = [stages.lane == lane for lane in np.unique(stages.lane)]
    of_lanes = ((stages.surprisal[here], stages.cost[here]) for here in lanes)
    return np.array([stats.spearmanr(x, y).statistic for x, y in of_lanes if np.ptp(x) > 0 and np.ptp(y) > 0])
