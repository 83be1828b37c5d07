"""What tokens cost: which stages have a known cost, per which tokens, and how it goes with surprisal."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from jaxcram.analysis.surprisal import (
    COLUMNS,
    StageCosts,
    correlation,
    correlations,
    of_texts,
    partial,
    stage_costs,
)

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
        (1, 0, 0.1, 0, 2, 1.5, 4.0),
        (1, 0, 0.1, 0, 3, 0.5, 0.0),
        (1, 0, 0.1, 0, 4, 6.0, 10.0),
        (2, 0, 1.0, 0, 3, 1.0, 2.0),  # three tokens in one stage, of which two have a surprisal
        (2, 0, 1.0, 0, 5, 3.5, 4.0),
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
    prefix = np.concatenate([np.arange(2, 2 + len(x)) for x, _ in lanes])
    return StageCosts(number, number, number, number, prefix, surprisal, cost)


def test_the_correlation_of_each_lane_gives_ties_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5: covariance 2.25, variances 4.5 and 4.5.
    x, y = [1.0, 2.0, 2.0, 5.0], [10.0, 30.0, 20.0, 20.0]
    falling = [-(value**3) for value in y]
    assert correlations(stages_of((x, y), (x, falling), (y, y))) == pytest.approx([0.5, -0.5, 1.0])


def test_lanes_in_which_something_does_not_vary_have_no_correlation():
    x = [1.0, 2.0, 3.0]
    assert correlations(stages_of((x, [1.0] * 3), ([2.0] * 3, x), ([1.0], [2.0]))).tolist() == []


def test_a_stage_of_unknown_surprisal_is_left_out():
    rows = [(0, 0.1, 0, 1, 9, True, 0.0), (0, 0.1, 0, 2, 4, True, None), (0, 0.1, 0, 3, 5, True, 1.0)]
    stages = stage_costs(pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows]))
    assert stages.prefix.tolist() == [3]


def random_stages(texts: int, length: int = 30) -> StageCosts:
    """Costs that follow the surprisal and the position, with ties among both."""
    rng = np.random.default_rng(texts)
    lanes = []
    for _ in range(texts):
        x = np.round(rng.exponential(3.0, length), 1)
        lanes.append((x.tolist(), np.round(x + 0.1 * np.arange(length) + rng.normal(0, 3, length)).tolist()))
    return stages_of(*lanes)


def test_the_correlation_over_all_stages_and_given_the_position():
    stages = random_stages(5)
    found = correlation(stages)
    x, y, n = (stats.rankdata(values) for values in (stages.surprisal, stages.cost, stages.prefix))
    assert (found.stages, found.texts) == (150, 5)
    assert found.spearman == pytest.approx(np.corrcoef(x, y)[0, 1])
    # Partial correlation in another way: of what a line in the position leaves of the ranks.
    left = [ranks - np.polyval(np.polyfit(n, ranks, 1), n) for ranks in (x, y)]
    assert found.partial == pytest.approx(np.corrcoef(*left)[0, 1])
    assert abs(found.partial - found.spearman) > 0.02
    assert (found.lanes.mean, found.lanes.std, found.lanes.count) == pytest.approx(
        (np.mean(correlations(stages)), np.std(correlations(stages), ddof=1), 5)
    )
    assert found.positive_share == 1.0


def test_the_interval_is_the_percentiles_of_resampled_texts():
    """Against the plain way: concatenate the texts that were drawn, and correlate."""
    stages = random_stages(4, 12)
    rng = np.random.default_rng(3)
    plain = []
    for counts in rng.multinomial(4, np.full(4, 0.25), size=200):
        drawn = np.concatenate([np.flatnonzero(stages.lane == i) for i in range(4) for _ in range(counts[i])])
        plain.append(stats.spearmanr(stages.surprisal[drawn], stages.cost[drawn]).statistic)
    expected = np.quantile(plain, [0.025, 0.975])
    assert correlation(stages, resamples=200, seed=3).interval == pytest.approx(tuple(expected))


def test_the_lanes_of_one_text_are_drawn_together():
    lane = random_stages(1, 20)
    lanes = of_texts([lane] * 6, ["a", "b"] * 3)
    assert np.unique(lanes.lane).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.unique(lanes.sample_id).tolist() == [0, 1]
    found = correlation(lanes)
    assert found.texts == 2
    assert found.interval == pytest.approx((found.spearman, found.spearman))  # any draw is the same
    assert correlation(of_texts([lane] * 6, ["a"] * 6)).interval is None


def test_without_anything_to_correlate_there_is_no_correlation():
    for stages in (of_texts([], []), stages_of(([1.0, 2.0, 3.0], [4.0] * 3))):
        found = correlation(stages)
        assert (found.spearman, found.interval, found.partial, found.positive_share) == (None,) * 4
        assert (found.lanes.mean, found.lanes.count) == (None, 0)
    assert partial(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None


def published(shared: Path, name: str) -> StageCosts:
    """The published stages of three texts: those that became exact, without the first token."""
    lanes = []
    for sample in json.loads((shared / "reference" / f"{name}.json").read_text())["samples"].values():
        base = sample["variants"]["base"]
        kept = slice(1, base["horizon"])
        lanes.append((sample["surprisal"][kept], base["steps"][kept]))
    return stages_of(*lanes)


@pytest.mark.parametrize(
    ("name", "stages", "spearman", "given_position"),
    # Published of 50 texts, of which these are three: 0.59, 0.56, 0.53, 0.44; given n 0.61, 0.66, 0.63, 0.49.
    [
        ("llama31_8b", 3996, 0.584, 0.595),
        ("pythia_1.4b", 1307, 0.616, 0.688),
        ("smollm2_1.7b", 1114, 0.587, 0.669),
        ("gemma3_4b", 678, 0.472, 0.504),
    ],
)
def test_published_stages_of_three_texts(shared, name, stages, spearman, given_position):
    read = published(shared, name)
    found = correlation(read, resamples=200)
    assert read.cost.min() == 1  # their procedure steps first, so no stage has none
    assert (found.stages, found.texts, found.positive_share) == (stages, 3, 1.0)
    assert (found.spearman, found.partial) == pytest.approx((spearman, given_position), abs=5e-4)
