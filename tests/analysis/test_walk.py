"""The rows of trajectories with known answers, ours and as published, and what they say together."""

import numpy as np
import pytest

from jaxcram.analysis.walk import NUMBERS, fits, mean_growth, summary, walk

EXACT = [True] * 6 + [False]
TOKENS = np.arange(1, 8)
STEPS = np.array([50, 2, 4, 0, 6, 8, 1000])


@pytest.fixture(scope="module")
def corner() -> np.ndarray:
    """Along one axis to 16, then far away along the second in the stage that fails."""
    line = np.zeros((7, 1, 4), np.float32)
    line[:, 0, 0] = [0, 1, 3, 6, 10, 16, 16]
    line[-1, 0, 1] = 40
    return line


@pytest.fixture(scope="module")
def row(corner) -> dict:
    return walk(corner, TOKENS, STEPS, np.array(EXACT))


def test_ours_are_of_the_exact_stages(row):
    found = row["walk"]
    assert (found["horizon"], found["stages"], found["trajectory_length"]) == (6, 6, 16.0)
    assert (found["pca99"], found["first_two"]) == (1, pytest.approx(1.0))
    assert found["distance_gap_ratio"] == 2.0  # 6 over the median of 1, 2, 3, 4, 6
    assert found["step_gap_ratio"] == 2.0  # 8 over the median of 2, 4, 0, 6, 8; the first stage is no jump
    expected = np.corrcoef([2, 4, 0, 6], [4, 0, 6, 8])[0, 1]
    assert found["step_autocorrelation"] == pytest.approx(expected)
    assert found["random_walk_95"] >= found["random_walk_pca99"] >= found["random_walk_5"] > 1


def test_the_published_ones_have_the_stage_that_failed(row):
    found = row["walk"]["as_published"]
    assert (found["horizon"], found["stages"], found["trajectory_length"]) == (7, 7, 56.0)
    assert found["pca99"] == 2
    assert found["distance_gap_ratio"] == pytest.approx(40 / 3.5)
    assert found["step_gap_ratio"] == 200.0  # 1000 over the median of 2, 4, 0, 6, 8, 1000
    assert found.keys() == {*NUMBERS, "distance_dwells", "step_dwells"}


def test_published_distances_are_those_within_the_components():
    """A detour that 99% of the variance do without is shorter there."""
    points = np.zeros((8, 1, 5), np.float32)
    points[:, 0, 0] = 10 * np.arange(8)
    points[:, 0, 1] = [0, 20, 0, 20, 0, 20, 0, 20]
    points[3, 0, 2] = 6
    found = walk(points, np.arange(1, 9), np.ones(8, int), np.ones(8, bool))["walk"]
    assert (found["pca99"], found["as_published"]["pca99"]) == (2, 2)
    assert found["distance_gap_ratio"] == pytest.approx(np.sqrt(536 / 500))
    within = points[:, 0] @ np.linalg.eigh(np.cov(points[:, 0], rowvar=False))[1][:, -2:]
    distances = np.linalg.norm(np.diff(within, axis=0), axis=1)
    expected = distances.max() / np.median(distances)
    assert found["as_published"]["distance_gap_ratio"] == pytest.approx(expected) != np.sqrt(536 / 500)


def test_the_path_and_the_growth(row):
    assert [one["tokens"] for one in row["path"]] == [1, 2, 3, 4, 5, 6]
    assert [one["pc1"] for one in row["path"]] == pytest.approx([-6, -5, -3, 0, 4, 10])
    assert [one["pc2"] for one in row["path"]] == pytest.approx([0] * 6, abs=1e-6)
    assert row["growth"] == [{"stages": n, "tokens": n, "pca99": 1} for n in (4, 5, 6)]


def test_lanes_without_stages_or_with_infinite_points_have_what_they_have(corner):
    empty = walk(corner[-1:], TOKENS[-1:], STEPS[-1:], np.array([False]))
    assert empty["walk"]["horizon"] == empty["walk"]["trajectory_length"] == empty["walk"]["pca99"] == 0
    assert empty["walk"]["first_two"] is empty["walk"]["random_walk_5"] is None
    assert empty["walk"]["as_published"]["horizon"] == 7
    assert (empty["path"], empty["growth"]) == ([], [])
    far = corner.copy()
    far[-1] = np.inf
    diverged = walk(far, TOKENS, STEPS, np.array(EXACT))
    assert diverged["walk"]["trajectory_length"] == 16.0
    published = diverged["walk"]["as_published"]
    assert (published["trajectory_length"], published["pca99"], published["step_gap_ratio"]) == (
        None,
        None,
        200.0,
    )


def test_means_and_shares_over_lanes(row, corner):
    short = walk(corner[:2], TOKENS[:2], STEPS[:2], np.array([True, True]))
    found = summary([row, short])
    assert found["lanes"] == 2
    assert found["horizon"] == {"mean": 4.0, "std": pytest.approx(np.sqrt(8)), "count": 2}
    assert found["as_published"]["horizon"]["mean"] == 4.5
    assert (found["step_gap_ratio"]["count"], found["step_dwells"]) == (1, 0.0)
    assert found["below_random_walk"] == 1.0
    assert summary([])["horizon"]["mean"] is None


def test_components_less_those_of_random_walks_have_an_interval_over_texts(row):
    def lane(pca99, mean, low):
        walks = {"random_walk_pca99": mean, "random_walk_5": low}
        return {**row, "walk": {**row["walk"], "pca99": pca99, **walks}}

    lanes = [lane(2, 5.0, 4.0), lane(3, 5.0, 4.0), lane(6, 5.0, 4.0), lane(1, None, None)]
    found = summary(lanes, ["one", "one", "other", "third"])
    assert found["pca99_minus_random_walk"] == {
        **{"mean": pytest.approx(-4 / 3), "std": pytest.approx(np.sqrt(13 / 3)), "count": 3},
        "interval": [-2.5, 1.0],  # the two texts drawn twice
    }
    assert (found["below_random_walk"], found["below_random_walk_interval"]) == (2 / 3, [0.0, 1.0])
    assert summary(lanes, ["one"] * 4)["below_random_walk_interval"] is None


def growth(*points) -> list[dict]:
    return [{"stages": n, "tokens": n, "pca99": count} for n, count in points]


def test_fits_find_the_line_and_the_logarithm():
    line = fits([growth((4, 3), (8, 5), (16, 9)), growth((10, 6), (20, 11))])
    assert line["linear"] == {"a": pytest.approx(1), "b": pytest.approx(0.5), "r2": pytest.approx(1)}
    assert (line["points"], line["logarithmic_better"]) == (5, 0.0)
    x, y = np.log([4.0, 8, 16, 10, 20]), np.array([3.0, 5, 9, 6, 11])
    (a, b), (left,), *_ = np.linalg.lstsq(np.stack([np.ones(5), x], axis=1), y, rcond=None)
    r2 = 1 - left / np.sum((y - y.mean()) ** 2)
    assert line["logarithmic"] == {"a": pytest.approx(a), "b": pytest.approx(b), "r2": pytest.approx(r2)}
    curve = fits([growth((4, 3), (8, 5), (16, 7), (32, 9))])
    assert curve["logarithmic"]["b"] == pytest.approx(2 / np.log(2))
    assert curve["logarithmic_better"] == 1.0


def test_too_few_points_have_no_fit():
    assert fits([growth((4, 3), (8, 5))]) == {
        "logarithmic": None,
        "linear": None,
        "points": 2,
        "logarithmic_better": None,
    }
    assert fits([growth((4, 3), (5, 3), (6, 3))])["linear"] is None


def test_mean_growth_is_by_length():
    found = mean_growth([growth((4, 3), (8, 5)), growth((4, 4))])
    assert found == [
        {"tokens": 4, "lanes": 2, "pca99": 3.5, "std": pytest.approx(np.sqrt(0.5))},
        {"tokens": 8, "lanes": 1, "pca99": 5.0, "std": None},
    ]
