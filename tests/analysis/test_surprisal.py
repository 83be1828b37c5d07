"""What tokens cost: which stages have a known cost, per which tokens, and how it goes with surprisal."""

import numpy as np
import pyarrow as pa
import pytest

from jaxcram.analysis.surprisal import COLUMNS, StageCosts, correlations, stage_costs

ROWS = [  # sample, learning rate, seed, tokens, steps, exact, bits
    (0, 0.1, 0, 1, 9, True, 0.0),
    (0, 0.1, 0, 2, 4, True, 1.5),
    (0, 0.1, 0, 3, 0, True, 0.5),
    (0, 0.1, 0, 4, 10, True, 6.0),
    (0, 0.1, 0, 5, 1000, False, 9.0),
    (0, 1.0, 0, 3, 6, True, 2.0),
    (0, 1.0, 0, 5, 8, True, 7.0),
    (7, 0.1, 0, 1, 2, True, 0.0),
    (7, 1.0, 0, 1, 1000, False, 0.0),
]


def test_costs_are_per_token_without_the_first_token_and_inexact_stages():
    rows = pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in ROWS])
    stages = stage_costs(rows)
    assert list(zip(*stages, strict=True)) == [
        (1, 0, 0.1, 1.5, 4.0),
        (1, 0, 0.1, 0.5, 0.0),
        (1, 0, 0.1, 6.0, 10.0),
        (2, 0, 1.0, 1.0, 2.0),  # three tokens in one stage, of which two have a surprisal
        (2, 0, 1.0, 3.5, 4.0),
    ]
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    np.testing.assert_array_equal(stage_costs(shuffled), stages)


def test_seeds_are_lanes_of_their_own():
    rows = [(0, 0.1, 0, 1, 9, True, 0.0), (0, 0.1, 0, 2, 4, True, 1.5), (0, 0.1, 1, 2, 6, True, 1.5)]
    stages = stage_costs(pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows]))
    assert list(zip(stages.lane, stages.surprisal, stages.cost, strict=True)) == [
        (1, 1.5, 4.0),
        (2, 1.5, 3.0),
    ]


def stages_of(*lanes: tuple[list[float], list[float]]) -> StageCosts:
    """Stages of lanes, given as (surprisals, costs)."""
    number = np.concatenate([np.full(len(x), i) for i, (x, _) in enumerate(lanes)])
    surprisal, cost = (np.concatenate([lane[i] for lane in lanes]) for i in (0, 1))
    return StageCosts(number, number, number, surprisal, cost)


def test_the_correlation_of_each_lane_gives_ties_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5: covariance 2.25, variances 4.5 and 4.5.
    x, y = [1.0, 2.0, 2.0, 5.0], [10.0, 30.0, 20.0, 20.0]
    falling = [-(value**3) for value in y]
    assert correlations(stages_of((x, y), (x, falling), (y, y))) == pytest.approx([0.5, -0.5, 1.0])


def test_lanes_in_which_something_does_not_vary_have_no_correlation():
    x = [1.0, 2.0, 3.0]
    assert correlations(stages_of((x, [1.0] * 3), ([2.0] * 3, x), ([1.0], [2.0]))).tolist() == []
