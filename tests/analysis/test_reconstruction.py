"""Embeddings rebuilt from components, against a covariance matrix and a Llama in plain NumPy."""

import numpy as np
import pytest

from jaxcram.analysis import reconstruction, trajectory
from tests.analysis.test_accuracy import greedy_text, plainly_right
from tests.analysis.test_basis import covariance_axes
from tests.cram.conftest import tiny  # noqa: F401


@pytest.mark.slow
def test_each_number_of_components_gives_the_text_that_the_plain_model_gives(tiny):  # noqa: F811
    rng = np.random.default_rng(7)
    steps = rng.normal(0, 0.5, (9, 2, tiny.config.width)) * np.linspace(1, 0.2, 9)[:, None, None]
    points = np.cumsum(steps, axis=0).astype(np.float32)
    target = greedy_text(tiny, points[-1], 7)
    rows = reconstruction.measure(tiny, points, target, (8, 3))

    flat = points.astype(np.float64).reshape(9, -1)
    mean, (values, axes) = flat.mean(axis=0), covariance_axes(points)
    assert [row["components"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    for row in rows:
        count = row["components"]
        rebuilt = mean + axes[:count].T @ (axes[:count] @ (flat[-1] - mean))
        memory = rebuilt.reshape(points.shape[1:])
        forced, greedy = plainly_right(tiny, memory, target), greedy_text(tiny, memory, 7) == target
        assert row["tf_wrong"] == np.flatnonzero(~forced).tolist()
        assert row["exact_wrong"] == np.flatnonzero(~greedy).tolist()
        assert (row["tf_accuracy"], row["exact_accuracy"]) == pytest.approx((forced.mean(), greedy.mean()))
        assert row["variance"] == pytest.approx(values[:count].sum() / values.sum())
        distance = np.linalg.norm(flat[-1] - rebuilt) / np.linalg.norm(flat[-1] - mean)
        assert row["distance"] == pytest.approx(distance, abs=1e-9)
        assert (row["pca99"], row["tokens"]) == (trajectory.components(points), 7)
    assert (rows[0]["tf_accuracy"] < 1, rows[-1]["exact_accuracy"]) == (True, 1.0)


def test_a_lane_with_one_point_is_its_mean(tiny):  # noqa: F811
    point = np.random.default_rng(0).normal(0, 1, (1, 1, tiny.config.width)).astype(np.float32)
    (row,) = reconstruction.measure(tiny, point, greedy_text(tiny, point[0], 3), (8, 2))
    assert row == {
        **{"components": 0, "pca99": 0, "variance": 0.0, "distance": 0.0, "tokens": 3},
        **{"tf_accuracy": 1.0, "exact_accuracy": 1.0, "tf_wrong": [], "exact_wrong": []},
    }


def test_small_numbers_are_all_tried_and_four_for_each_doubling():
    assert reconstruction.counts(3, 2) == [0, 1, 2, 3]
    assert reconstruction.counts(30, 11) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 14, 16, 20, 24, 28, 30]


def lane(pca99, tokens, *wrong):
    """Rows of 0, 1, .. components, with the tokens that are wrong in both decoders."""
    return [
        {
            **{"components": i, "pca99": pca99, "tokens": tokens},
            **{f"{name}_accuracy": 1 - len(here) / tokens for name in ("tf", "exact")},
            **{f"{name}_wrong": here for name in ("tf", "exact")},
        }
        for i, here in enumerate(wrong)
    ]


def test_lanes_are_compared_by_components_and_where_each_has_99_percent():
    short = lane(1, 4, [0, 1, 2, 3], [0, 1], [])
    long = lane(2, 5, [0, 1, 2, 3, 4], [], [0, 4], [])
    found = reconstruction.summarise([short, long])
    assert found["lanes"] == 2
    assert [list(point.values()) for point in found["curve"]] == [
        [0, 0.0, 0.0, 1.0],
        [1, 0.75, 0.75, 0.5],
        [2, pytest.approx(0.8), pytest.approx(0.8), 0.5],
        [3, 1.0, 1.0, 0.0],  # the short one has only two
    ]
    at_99 = found["pca99"]
    assert (at_99["components"], at_99["tf_accuracy"], at_99["first_wrong"]) == (
        1.5,
        pytest.approx(0.55),
        1.0,
    )
    assert at_99["tf_accuracy_interval"] == pytest.approx([0.5, 0.6])  # either lane twice: a quarter of draws
    assert at_99["first_wrong_interval"] == [1.0, 1.0]
    assert at_99["tf_mismatch"] == at_99["exact_mismatch"] == [1.0, 0.5, 0.0, 0.0, 1.0]
    assert at_99["error_position"] == pytest.approx((0.5 / 4 + 1.5 / 4 + 0.5 / 5 + 4.5 / 5) / 4)
    assert found["nearly"] == {"accuracy": 0.98, "components": 2.5, "interval": [2.0, 3.0]}
    one_text = reconstruction.summarise([short, long], [7, 7])
    assert one_text["curve"] == found["curve"]
    assert (one_text["pca99"]["tf_accuracy_interval"], one_text["nearly"]["interval"]) == (None, None)


def test_one_lane_without_errors_has_no_intervals_and_no_position():
    found = reconstruction.summarise([lane(1, 2, [1], [])])
    assert found["pca99"]["error_position"] is None
    assert found["pca99"]["tf_accuracy_interval"] is None
    assert found["nearly"] == {"accuracy": 0.98, "components": 1.0, "interval": None}
